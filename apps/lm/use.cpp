#include <apps/lm/use.hpp>

#include <algorithm>
#include <charconv>
#include <limits>

#include <CLI/CLI.hpp>
#include <fmt/color.h>
#include <fmt/format.h>
#include <unistd.h>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lm/data.hpp>
#include <apps/lm/depth.hpp>
#include <apps/lm/evaluate.hpp>
#include <apps/lm/sample.hpp>
#include <apps/lm/train.hpp>
#include <apps/report/format.hpp>
#include <banach/engine/error.hpp>

namespace banach::lm {
namespace {

struct UseOptions {
  std::string checkpoint = "out/lm/checkpoint.safetensors";
  std::string text = {};    // of one's own, to measure on
  std::string prompt = {};  // to go on with
  std::vector<double> tolerances = {};
  cli::CommonOptions common = {};  // its threads alone
  std::int64_t windows = 0;
  SampleSettings sample;
};

void add_use_options(CLI::App& app, UseOptions& o, bool several) {
  const auto group = cli::in_group("Model");
  group(app.add_option("--checkpoint", o.checkpoint, "Of banach lm train (default: " + o.checkpoint + ")"),
        "FILE")
      ->check(cli::path());
  group(app.add_option_function<std::string>(
            "--tolerance",
            [&o](const std::string& list) {
              for (const std::string& part : cli::split_list("--tolerance", "tolerance", list)) {
                double value = 0;
                const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
                if (error != std::errc() || end != part.data() + part.size() || !(value > 0 && value < 1e9))
                  throw cli::UsageError(fmt::format("--tolerance {}: must be above 0: got '{}'", list, part));
                o.tolerances.push_back(value);
              }
            },
            several ? "Of the equilibrium, one or several separated by commas:\nless is slower and better "
                      "(default: that of training)"
                    : "Of the equilibrium: less is slower and better (default: that of training)"),
        several ? "LIST" : "X");
  group(app.add_option("--threads", o.common.threads, "Threads, 0 for all cores (default)"), "N")
      ->check(cli::whole_number(0, 1024));
}

nn::Depth depth_of(const Trained& trained, double tolerance) {
  SolveSettings solve = trained.settings.solve;
  constexpr int enough = 200;  // the tolerance decides, not the limit of training
  if (tolerance < solve.tolerance) solve.max_steps = std::max(solve.max_steps, enough);
  solve.tolerance = tolerance;
  return parse_depth(trained.depth, solve);
}

/// For eval and sample, which take one model.
Trained load_single(const std::string& checkpoint) {
  Trained trained = load_trained(checkpoint);
  if (trained.one_of_several)
    fail<FileError>("lm",
                    fmt::format("{} must be of 'banach lm train': it is of 'banach lm compare', and has "
                                "the last of its models alone",
                                checkpoint));
  return trained;
}

void check_tolerance(const UseOptions& options, const Trained& trained) {
  if (is_explicit(trained.depth) && !options.tolerances.empty())
    throw cli::UsageError(
        fmt::format("--tolerance: goes with an equilibrium; {} is {}", options.checkpoint, trained.depth));
}

struct NamedPart {
  std::string name;
  nn::TextPart part;
};

/// What eval reads: --text, or the parts of the checkpoint's own text that it was not trained on.
std::vector<NamedPart> held_out(const UseOptions& options, const Trained& trained) {
  if (!options.text.empty()) {
    const Text text = load_text({.file = options.text});
    return {{"text", nn::make_part(text.name, text.content, *trained.vocabulary)}};
  }
  try {
    const Text text = load_text(trained.settings.text);
    if (text.identity() != trained.text)
      cli::note(fmt::format("the text {} is not what {} was trained on: {}, not {}", text.name,
                            options.checkpoint, text.identity(), trained.text));
    nn::Corpus corpus = nn::make_corpus(text.content, text.name, *trained.vocabulary);
    return {{"valid", std::move(corpus.valid)}, {"test", std::move(corpus.test)}};
  } catch (const FileError& error) {
    throw FileError(
        fmt::format("{}; {} was trained on it: --text FILE takes another", error.what(), options.checkpoint));
  }
}

void evaluate_checkpoint(const UseOptions& options) {
  const Trained trained = load_single(options.checkpoint);
  const bool layers = is_explicit(trained.depth);
  check_tolerance(options, trained);
  const std::vector<NamedPart> parts = held_out(options, trained);
  std::vector<std::string> head{"tolerance", "evaluations", "converged"};
  for (const char* unit : {"bits/char", "perplexity"})
    for (const NamedPart& p : parts) head.push_back(fmt::format("{} ({})", p.name, unit));
  head.emplace_back("seconds");
  for (const NamedPart& p : parts)
    if (const std::string text = unknown_in_words(p.part); !text.empty()) cli::note(text);
  std::vector<double> tolerances = options.tolerances;
  if (tolerances.empty()) tolerances = {trained.settings.solve.tolerance};
  std::vector<std::vector<std::string>> rows;
  for (const double tolerance : tolerances) {
    std::vector<std::string> bits, perplexities;
    double seconds = 0;
    Score score;
    for (const auto& [name, part] : parts) {
      score = evaluate(*trained.model, part, trained.settings.train.batch, trained.settings.train.length,
                       depth_of(trained, tolerance), options.windows);
      bits.push_back(report::format_fixed(part.bits_per_character(score.nats), 4));
      perplexities.push_back(report::format_fixed(score.perplexity(), 4));
      seconds += score.seconds;
    }
    std::vector<std::string> row{layers ? trained.depth : report::format_number(tolerance),
                                 report::format_fixed(score.evaluations, 2),
                                 layers ? "-" : report::format_percent(score.converged, 1)};
    row.insert(row.end(), bits.begin(), bits.end());
    row.insert(row.end(), perplexities.begin(), perplexities.end());
    row.push_back(report::format_fixed(seconds, 2));
    rows.push_back(std::move(row));
  }
  fmt::print("{}", cli::text_table(head, rows));
}

/// Throws for a prompt that is not UTF-8, or that says nothing to the model. It is read as a text is.
Tokens prompt_of(const std::string& given, const nn::Vocabulary& vocabulary) {
  const std::string text = nn::parse_text(nn::Bytes(given.begin(), given.end()), "--prompt");
  const Tokens tokens = vocabulary.encode(text);
  if (tokens.empty()) return line_end(vocabulary);
  const auto strange = std::count(tokens.begin(), tokens.end(), nn::Vocabulary::unknown);
  if (strange == std::ssize(tokens))
    fail<ValueError>("sample", fmt::format("the prompt must have a character or word that the vocabulary "
                                           "knows: got '{}'",
                                           text));
  if (strange > 0)
    cli::note(fmt::format("--prompt: {} of its {} characters or words are not in the vocabulary", strange,
                          tokens.size()));
  return tokens;
}

void sample_checkpoint(const UseOptions& options) {
  if (options.tolerances.size() > 1) throw cli::UsageError("--tolerance: sample takes one");
  const Trained trained = load_single(options.checkpoint);
  check_tolerance(options, trained);
  if (options.sample.compare && is_explicit(trained.depth))
    throw cli::UsageError(fmt::format("--compare-starts: goes with an equilibrium; {} is {}",
                                      options.checkpoint, trained.depth));
  const Tokens prompt = prompt_of(options.prompt, *trained.vocabulary);
  const double tolerance =
      options.tolerances.empty() ? trained.settings.solve.tolerance : options.tolerances.front();
  SampleCost cost;
  const Tokens added = sample(*trained.model, depth_of(trained, tolerance), prompt, options.sample, cost);
  fmt::print(isatty(STDOUT_FILENO) == 1 ? fmt::emphasis::bold : fmt::text_style(), "{}", options.prompt);
  fmt::print("{}\n", text_behind(*trained.vocabulary, prompt, added));
  std::string other;
  if (options.sample.compare)
    other = fmt::format(" ({:.2f} from a {} start)", cost.other_evaluations,
                        options.sample.warm ? "cold" : "warm");
  cli::note(fmt::format("{} tokens in {}, {:.2f} evaluations of the cell each{}", cost.tokens,
                        report::format_duration(cost.seconds), cost.evaluations, other));
  if (cost.unconverged > 0)
    cli::note(fmt::format("{} of them were drawn from a state that did not meet the tolerance of {}",
                          cost.unconverged, report::format_number(tolerance)));
}

void declare_eval(CLI::App& app, UseOptions& o) {
  add_use_options(app, o, true);
  const auto group = cli::in_group("Model");
  group(app.add_option("--text", o.text, "A text of your own, all of it (default: what was held out)"),
        "FILE")
      ->check(cli::path());
  group(app.add_option("--windows", o.windows, "Only the first so many of each text (default: all)"), "N")
      ->check(cli::whole_number(1, 1'000'000'000));
}

void declare_sample(CLI::App& app, UseOptions& o) {
  add_use_options(app, o, false);
  const auto group = cli::in_group("Text");
  group(app.add_option("--prompt", o.prompt, "What it goes on with (default: nothing, a new line)"), "TEXT");
  group(app.add_option("--tokens", o.sample.tokens, "Characters or words to add (default: 400)"), "N")
      ->check(cli::whole_number(1, 1'000'000));
  group(app.add_option("--temperature", o.sample.temperature, "0: the likeliest always (default: 0.8)"), "X")
      ->check(cli::number(false));
  group(app.add_option("--seed", o.sample.seed, "Of what is drawn (default: 0)"), "N")
      ->check(cli::whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  app.add_flag_callback(
         "--cold", [&o] { o.sample.warm = false; },
         "Start each equilibrium anew, not from the last position's")
      ->group("Text")
      ->disable_flag_override();
  app.add_flag("--compare-starts", o.sample.compare, "Count the evaluations from the other start, too")
      ->group("Text")
      ->disable_flag_override();
}

}  // namespace

cli::Subcommand add_eval(CLI::App& lm) {
  return cli::command<UseOptions>(
      lm, "eval", "Perplexity and bits per character of a trained model, at one tolerance or several",
      declare_eval, evaluate_checkpoint);
}

cli::Subcommand add_sample(CLI::App& lm) {
  return cli::command<UseOptions>(lm, "sample", "Text by a trained model", declare_sample, sample_checkpoint);
}

}  // namespace banach::lm
