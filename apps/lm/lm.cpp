#include <apps/lm/lm.hpp>

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/check.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lm/cost.hpp>
#include <apps/lm/data.hpp>
#include <apps/lm/depth.hpp>
#include <apps/lm/evaluate.hpp>
#include <apps/lm/page.hpp>
#include <apps/lm/sample.hpp>
#include <apps/lm/train.hpp>
#include <apps/report/format.hpp>
#include <banach/engine/error.hpp>

namespace banach::lm {
namespace {

/// Memory and time of the model trained last, made to run at several depths.
void add_curves(const Settings& settings, const std::string& checkpoint, Results& results) {
  const Trained trained = load_trained(checkpoint);
  const nn::Corpus corpus = load_corpus(settings.text, *trained.vocabulary);
  nn::TextStream stream(corpus.train, {.batch = settings.train.batch, .length = settings.train.length});
  const NoGrad off;
  const nn::Depth depth = parse_depth(trained.depth, settings.solve);
  const nn::SegmentMemory memory =
      trained.model->read(trained.model->embed(stream.next().inputs), {}, depth).memory;
  const EnableGrad on;
  results.curves =
      measure_curves(*trained.model, stream.next().inputs, memory, settings.solve, settings.depths);
}

/// What the model writes after the first words of the test text.
void add_sample_of(const std::string& checkpoint, Results& results) {
  const Trained trained = load_trained(checkpoint);
  const nn::Corpus corpus = load_corpus(trained.settings.text, *trained.vocabulary);
  const std::vector<std::int64_t>& test = *corpus.test.tokens;
  const auto words = std::min<std::ptrdiff_t>(40, std::ssize(test));
  SampleSettings settings{.prompt = trained.vocabulary->decode({test.begin(), test.begin() + words})};
  SampleCost cost;
  results.sample =
      settings.prompt + sample(*trained.model, *trained.vocabulary,
                               parse_depth(trained.depth, trained.settings.solve), settings, cost);
}

/// `command` is "train" or "compare".
void learn(const std::string& command, const Settings& settings) {
  check(settings);
  const bool several = command == "compare";
  const cli::OutputFolder folder =
      training::folder_of(settings.common, several ? "out/lm-compare" : "out/lm");
  const cli::Interrupt interrupt;
  const training::Place place = training::place_of(folder, settings.common, interrupt);
  Results results;
  results.environment = cli::environment();
  train("lm-" + command, settings, place, results);
  if (several)
    add_curves(settings, place.checkpoint, results);
  else if (results.models.front().divergence().empty())
    add_sample_of(place.checkpoint, results);
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results, "lm " + command),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
  if (!several && !results.models.front().divergence().empty())
    throw Error(fmt::format("{} diverged", results.models.front().name));
}

struct UseOptions {
  std::string checkpoint = "out/lm/checkpoint.safetensors";
  std::string text = {};  // of one's own, to measure on
  std::vector<double> tolerances = {};
  int threads = 0;
  std::int64_t windows = 0;
  SampleSettings sample;
};

void add_use_options(CLI::App& app, UseOptions& o, bool several) {
  const std::string group = "Model";
  app.add_option("--checkpoint", o.checkpoint, "Of banach lm train (default: " + o.checkpoint + ")")
      ->option_text("FILE")
      ->group(group)
      ->check(cli::path());
  app.add_option_function<std::string>(
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
                 : "Of the equilibrium: less is slower and better (default: that of training)")
      ->option_text(several ? "LIST" : "X")
      ->group(group);
  app.add_option("--threads", o.threads, "Threads, 0 for all cores (default)")
      ->option_text("N")
      ->group(group)
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
  for (const auto& [name, part] : parts)
    if (100 * part.unknown > part.size())
      cli::note(fmt::format(
          "{}: {} of the tokens are unknown and count as one symbol: bits and perplexity are "
          "too low",
          part.name,
          report::format_percent(static_cast<double>(part.unknown) / static_cast<double>(part.size()), 1)));
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

void sample_checkpoint(const UseOptions& options) {
  if (options.tolerances.size() > 1) throw cli::UsageError("--tolerance: sample takes one");
  const Trained trained = load_single(options.checkpoint);
  check_tolerance(options, trained);
  if (options.sample.compare && is_explicit(trained.depth))
    throw cli::UsageError(fmt::format("--compare-starts: goes with an equilibrium; {} is {}",
                                      options.checkpoint, trained.depth));
  const std::string& prompt = options.sample.prompt;
  nn::parse_text(nn::Bytes(prompt.begin(), prompt.end()), "--prompt");  // complains if it is not UTF-8
  const std::vector<std::int64_t> tokens = trained.vocabulary->encode(prompt);
  if (const auto strange = std::count(tokens.begin(), tokens.end(), nn::Vocabulary::unknown); strange > 0)
    cli::note(fmt::format("--prompt: {} of its {} characters or words are not in the vocabulary", strange,
                          tokens.size()));
  const double tolerance =
      options.tolerances.empty() ? trained.settings.solve.tolerance : options.tolerances.front();
  SampleCost cost;
  const std::string text =
      sample(*trained.model, *trained.vocabulary, depth_of(trained, tolerance), options.sample, cost);
  fmt::print("{}{}\n", options.sample.prompt, text);
  std::string other;
  if (options.sample.compare)
    other = fmt::format(" ({:.2f} from a {} start)", cost.other_evaluations,
                        options.sample.warm ? "cold" : "warm");
  cli::note(fmt::format("{} tokens in {}, {:.2f} evaluations of the cell each{}", cost.tokens,
                        report::format_duration(cost.seconds), cost.evaluations, other));
}

cli::Subcommand add_learning(CLI::App& app, const std::string& name, const std::string& what) {
  CLI::App* command = app.add_subcommand(name, what);
  command->get_formatter()->column_width(26);
  const auto settings = std::make_shared<Settings>();
  if (name == "compare")
    settings->depths = {"implicit",          "jfb",         "phantom:5:0.5", "phantom-neumann:5:0.5",
                        "reversible:0.8:12", "explicit:12", "explicit:24",   "explicit:48",
                        "explicit:48:7"};
  add_train_options(*command, *settings, name == "compare");
  return {command, [settings, name, command] {
            check_given(*command, *settings);
            cli::use_threads(settings->common.threads);
            learn(name, *settings);
          }};
}

cli::Subcommand add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "eval", "Perplexity and bits per character of a trained model, at one tolerance or several");
  command->get_formatter()->column_width(26);
  const auto options = std::make_shared<UseOptions>();
  add_use_options(*command, *options, true);
  command->add_option("--text", options->text, "A text of your own, all of it (default: what was held out)")
      ->option_text("FILE")
      ->group("Model")
      ->check(cli::path());
  command->add_option("--windows", options->windows, "Only the first so many of each text (default: all)")
      ->option_text("N")
      ->group("Model")
      ->check(cli::whole_number(1, 1'000'000'000));
  return {command, [options] {
            cli::use_threads(options->threads);
            evaluate_checkpoint(*options);
          }};
}

cli::Subcommand add_sample(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sample", "Text by a trained model");
  command->get_formatter()->column_width(26);
  const auto options = std::make_shared<UseOptions>();
  add_use_options(*command, *options, false);
  SampleSettings& o = options->sample;
  const std::string group = "Text";
  command->add_option("--prompt", o.prompt, "What it goes on with (default: 'Call me ')")
      ->option_text("TEXT")
      ->group(group);
  command->add_option("--tokens", o.tokens, "Characters or words to add (default: 400)")
      ->option_text("N")
      ->group(group)
      ->check(cli::whole_number(1, 1'000'000));
  command->add_option("--temperature", o.temperature, "0: the likeliest always (default: 0.8)")
      ->option_text("X")
      ->group(group)
      ->check(cli::number(false));
  command->add_option("--seed", o.seed, "Of what is drawn (default: 0)")
      ->option_text("N")
      ->group(group)
      ->check(cli::whole_number(0, std::numeric_limits<std::uint64_t>::max()));
  command
      ->add_flag_callback(
          "--cold", [&o] { o.warm = false; }, "Start each equilibrium anew, not from the last position's")
      ->group(group)
      ->disable_flag_override();
  command->add_flag("--compare-starts", o.compare, "Count the evaluations from the other start, too")
      ->group(group)
      ->disable_flag_override();
  return {command, [options] {
            cli::use_threads(options->threads);
            sample_checkpoint(*options);
          }};
}

}  // namespace

cli::Subcommand add_lm(CLI::App& app) {
  CLI::App* command = app.add_subcommand("lm",
                                         "Language models as equilibria: train one, measure it, let it "
                                         "write,\nor compare it with explicit networks");
  command->get_formatter()->column_width(24);
  command->require_subcommand(1);
  return {command,
          [] {},
          {add_learning(*command, "train", "Train a language model on characters or words"),
           add_eval(*command), add_sample(*command),
           add_learning(
               *command, "compare",
               "Train the same cell as an equilibrium, by several backward rules, and as\nexplicit layers: "
               "quality, time and memory side by side")}};
}

}  // namespace banach::lm
