// Exit codes and messages of the command: 0 done, 1 failed, 2 bad usage; a failure is one line on stderr.

#include <tests/apps/command.hpp>

#include <algorithm>
#include <fstream>
#include <string>

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
  for (const char* option :
       {"--data", "--model", "--rules", "--solver", "--epochs", "--steps", "--out", "--resume", "--problem"})
    CHECK(contains(help.out, option));
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
  check_failure("lab --problem linear --resume", 2, "--resume");
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
}

TEST_CASE("a text table aligns its columns by characters") {
  CHECK(banach::cli::text_table({"rule", "λ"}, {{"a", "1.25"}, {"longer"}}) ==
        "rule       λ\na       1.25\nlonger\n");
}
