// Exit codes and messages of the command: 0 done, 1 failed, 2 bad usage; a failure is one line on stderr.

#include <tests/apps/command.hpp>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <apps/cli/interrupt.hpp>
#include <apps/cli/text_table.hpp>
#include <catch2/catch.hpp>

namespace {

using command::Outcome;
using command::run;

bool contains(const std::string& text, const std::string& word) { return text.find(word) != text.npos; }

/// Ends with `code`, says nothing on stdout, and one line beginning with "banach: " on stderr that holds
/// `word`.
void check_failure(const std::string& arguments, int code, const std::string& word) {
  const Outcome outcome = run(arguments);
  INFO(arguments << "\nstdout: " << outcome.out << "\nstderr: " << outcome.err);
  CHECK(outcome.code == code);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.rfind("banach: ", 0) == 0);
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  CHECK(contains(outcome.err, word));
}

}  // namespace

TEST_CASE("the command alone prints its help") {
  const Outcome alone = run("");
  CHECK(alone.code == 0);
  CHECK(contains(alone.out, "lab"));
  CHECK(contains(alone.out, "--version"));
  CHECK(alone.err.empty());
  CHECK(run("--help").out == alone.out);
}

TEST_CASE("version and help of a subcommand") {
  const Outcome version = run("--version");
  CHECK(version.code == 0);
  CHECK(version.out.rfind("banach ", 0) == 0);
  const Outcome help = run("lab --help");
  CHECK(help.code == 0);
  for (const char* option : {"--data", "--model", "--rules", "--solver", "--epochs", "--steps", "--out",
                             "--resume", "--overwrite", "--problem"})
    CHECK(contains(help.out, option));
  CHECK_FALSE(contains(help.out, "\n\n\n"));
  CHECK(contains(run("lab spectrum --help").out, "--checkpoint"));
}

TEST_CASE("bad usage ends with 2 and says what is wrong") {
  check_failure("labb", 2, "unknown subcommand 'labb'");
  check_failure("--frobnicate", 2, "--frobnicate");
  check_failure("lab --frobnicate", 2, "--frobnicate");
  check_failure("lab --epochs", 2, "--epochs");
  check_failure("lab --epochs many", 2, "many");
  check_failure("lab --epochs 0", 2, "--epochs");
  check_failure("lab --epochs 2 --steps 3", 2, "--steps");
  check_failure("lab --data cifar", 2, "cifar");
  check_failure("lab --model transformer", 2, "transformer");
  check_failure("lab --learning-rate -1", 2, "--learning-rate");
  check_failure("lab --rules implicit:lu", 2, "'lu' is not known after 'implicit'");
  check_failure("lab --rules newman:5", 2, "there is no rule 'newman'");
  check_failure("lab --rules neumann", 2, "'neumann' needs 1 number");
  check_failure("lab --rules neumann:0", 2, "K must lie in");
  check_failure("lab --rules phantom:5:2", 2, "TAU must lie in (0, 1]");
  check_failure("lab --rules jfb,jfb", 2, "'jfb' stands there twice");
  check_failure("lab --solver newton", 2, "there is no solver 'newton'");
  check_failure("lab --rho 0.5", 2, "--rho");
  check_failure("lab --problem linear --rho 1", 2, "singular");
  check_failure("lab --problem linear --nonnormal --dimension 3", 2, "even");
  check_failure("help", 2, "see banach --help");
  check_failure("lab spectre", 2,
                "unknown subcommand 'spectre' (there is: spectrum, qp, logdet; see banach lab --help)");
  check_failure("lab spectrum spectrum", 2,
                "unexpected argument 'spectrum' (see banach lab spectrum --help)");
  check_failure("lab spectrum --sample 3 --frob", 2, "see banach lab spectrum --help");
  check_failure("lab --data digits spectrum", 2, "--data stands before 'spectrum'");
  check_failure("lab spectrum --rule all", 2, "there is no rule 'all'");
  check_failure("lab spectrum --checkpoint x --steps 3", 2, "--steps goes with training");
  check_failure("lab --model conv --bound 0.5", 2, "--bound goes with --model mlp");
  check_failure("lab --out ''", 2, "--out: must be a name");
  check_failure("lab --rules ,,", 2, "--rules ',,': a rule is missing");
  check_failure("lab --epochs 2 --epochs 3", 2, "--epochs is given 2 times");
  check_failure("lab --epochs", 2, "--epochs needs a value");
  check_failure("lab --resume=maybe", 2, "--resume takes no value");
  check_failure("lab --data digits stray", 2, "unexpected argument 'stray'");
}

TEST_CASE("a misspelt option is answered with the one that was meant") {
  check_failure("lab --epoch 2", 2, "unknown option '--epoch': did you mean --epochs?");
  check_failure("lab --learningrate=2", 2, "did you mean --learning-rate?");
  check_failure("lab --batch 2", 2, "did you mean --batch-size?");
  check_failure("lab -epochs 2", 2, "did you mean --epochs?");
  check_failure("lab --foo 2", 2, "unknown option '--foo' (");
}

TEST_CASE("numbers out of range are told the range in plain digits") {
  check_failure("lab --epochs 0", 2, "--epochs: must be a whole number from 1 to 1000000000: got '0'");
  check_failure("lab --epochs 1.5", 2, "got '1.5'");
  check_failure("lab --seed -1", 2, "from 0 to 2^64 - 1: got '-1'");
  check_failure("lab --threads 1025", 2, "from 0 to 1024");
  check_failure("lab --learning-rate nan", 2, "must be a number above 0, at most 1e9: got 'nan'");
  check_failure("lab --problem linear --rho inf", 2, "must be a number from 0 to 1e9: got 'inf'");
}

TEST_CASE("an option that the problem has no use for is refused") {
  for (const char* option :
       {"--data digits", "--data-dir /", "--model mlp", "--hidden 3", "--epochs 2", "--steps 2",
        "--batch-size 2", "--learning-rate 1", "--probe-every 1", "--resume", "--overwrite"}) {
    const std::string name = std::string(option).substr(0, std::string(option).find(' '));
    check_failure("lab --problem linear " + std::string(option), 2, name + " goes with training");
  }
  for (const char* option : {"--rho 0.5", "--nonnormal", "--dimension 2"})
    check_failure("lab " + std::string(option), 2, "goes with --problem linear only");
  check_failure("lab --data digits --data-dir /", 2, "--data-dir goes with --data fashion-mnist or mnist");
  check_failure("lab --model conv --hidden 3", 2, "--hidden goes with --model mlp");
  check_failure("lab --resume --overwrite", 2, "exclude each other");
}

TEST_CASE("more threads than processors are used, and noted") {
  const files::Folder folder;
  const Outcome outcome =
      run("lab --problem linear --rules jfb --threads 1000 --out '" + folder.path() + "'");
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.err, "--threads 1000: more than the "));
}

TEST_CASE("signals that end a program ask to stop first") {
  const int signal = GENERATE(SIGINT, SIGTERM, SIGHUP);
  const banach::cli::Interrupt interrupt;
  CHECK_FALSE(interrupt.requested());
  std::raise(signal);
  CHECK(interrupt.requested());
}

TEST_CASE("the end of the terminal stays ignored where it was") {
  std::signal(SIGHUP, SIG_IGN);
  {
    const banach::cli::Interrupt interrupt;
    std::raise(SIGHUP);
    CHECK_FALSE(interrupt.requested());
  }
  CHECK(std::signal(SIGHUP, SIG_DFL) == SIG_IGN);
}

TEST_CASE("files that are missing, damaged or cannot be written end with 1") {
  const files::Folder folder;
  const std::string out = " --out '" + (folder / "out") + "'";
  check_failure("lab --data mnist --data-dir '" + folder.path() + "'" + out, 1, "get-mnist");
  check_failure("lab --data fashion-mnist --data-dir '" + folder.path() + "'" + out, 1,
                "dataset-fashion-mnist");
  check_failure("lab --data digits --resume" + out, 1, "there is no checkpoint");

  // The header promises 60,000 images, of which there are none.
  for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                           "t10k-labels-idx1-ubyte"})
    std::ofstream(folder / name, std::ios::binary)
        << std::string("\0\0\x08\x03\0\0\xea\x60\0\0\0\x1c\0\0\0\x1c", 16);
  check_failure("lab --data mnist --data-dir '" + folder.path() + "'" + out, 1, "train-images-idx3-ubyte");

  std::ofstream(folder / "file") << "not a folder";
  check_failure("lab --data digits --out '" + (folder / "file/out") + "'", 1, "file/out");
  check_failure("lab --problem linear --out /proc/banach", 1, "/proc/banach");
  check_failure("lab --data mnist --data-dir '" + (folder / "none") + "'" + out, 1, "there is no folder ");

  // Before the run, not after it: stderr has one line, and no progress.
  for (const char* name : {"report.html", "summary.json", "metrics.csv", "checkpoint.safetensors"}) {
    const std::string taken = folder / (std::string("taken-") + name);
    std::filesystem::create_directories(taken + "/" + name);
    check_failure("lab --data digits --out '" + taken + "'", 1, std::string(name) + ": Is a directory");
  }
  check_failure("lab --problem linear --out '" + (folder / "taken-report.html") + "'", 1, "Is a directory");
}

TEST_CASE("a text table aligns its columns by characters") {
  CHECK(banach::cli::text_table({"rule", "λ"}, {{"a", "1.25"}, {"longer"}}) ==
        "rule       λ\na       1.25\nlonger\n");
  CHECK(banach::cli::text_table({.head = {{"rule"}, {"time", "s", "of a step"}}, .rows = {{"a", "2"}}}) ==
        "rule  time (s)\na            2\n");
}
