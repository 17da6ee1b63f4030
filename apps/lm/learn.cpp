#include <apps/lm/learn.hpp>

#include <algorithm>

#include <apps/lm/cost.hpp>
#include <apps/lm/depth.hpp>
#include <apps/lm/page.hpp>
#include <apps/lm/sample.hpp>
#include <apps/lm/train.hpp>
#include <apps/training/command.hpp>

namespace banach::lm {
namespace {

/// What the model writes after the first tokens of the test text.
void write_sample(const std::string& checkpoint, const nn::Corpus& corpus, Results& results) {
  const Trained trained = load_trained(checkpoint);
  const Tokens& test = *corpus.test.tokens;
  const Tokens prompt(test.begin(), test.begin() + std::min<std::ptrdiff_t>(40, std::ssize(test)));
  SampleCost cost;
  const Tokens added =
      sample(*trained.model, parse_depth(trained.depth, trained.settings.solve), prompt, {}, cost);
  results.prompt = corpus.vocabulary.decode(prompt);
  results.sample = text_behind(corpus.vocabulary, prompt, added);
}

void train_one(const Settings& settings) {
  training::carry_out(settings.common, "out/lm", &Results::models,
                      [&](const training::Place& place, Results& results) {
                        results.command = "lm train";
                        const nn::Corpus corpus = train("lm-train", settings, place, results);
                        if (results.models.front().failure.empty())
                          write_sample(place.checkpoint, corpus, results);
                      });
}

/// Memory and time of the model trained last, made to run at several depths.
void add_curves(const Settings& settings, const std::string& checkpoint, const nn::Corpus& corpus,
                Results& results) {
  const Trained trained = load_trained(checkpoint);
  nn::TextStream stream(corpus.train, {.batch = settings.train.batch, .length = settings.train.length});
  const NoGrad off;
  const nn::Depth depth = parse_depth(trained.depth, settings.solve);
  const nn::SegmentMemory memory =
      trained.model->read(trained.model->embed(stream.next().inputs), {}, depth).memory;
  const EnableGrad on;
  results.curves =
      measure_curves(*trained.model, stream.next().inputs, memory, settings.solve, settings.depths);
}

void compare(const Settings& settings) {
  training::carry_out(settings.common, "out/lm-compare", &Results::models,
                      [&](const training::Place& place, Results& results) {
                        results.command = "lm compare";
                        const nn::Corpus corpus = train("lm-compare", settings, place, results);
                        add_curves(settings, place.checkpoint, corpus, results);
                      });
}

}  // namespace

cli::Subcommand add_train(CLI::App& lm) {
  return cli::command<Settings>(
      lm, "train", "Train a language model on characters or words",
      [](CLI::App& app, Settings& settings) { add_train_options(app, settings, false); }, train_one);
}

cli::Subcommand add_compare(CLI::App& lm) {
  return cli::command<Settings>(
      lm, "compare",
      "Train the same cell as an equilibrium, by several backward rules, and as\nexplicit layers: quality, "
      "time and memory side by side",
      [](CLI::App& app, Settings& settings) {
        settings.depths = {"implicit",          "jfb",         "phantom:5:0.5", "phantom-neumann:5:0.5",
                           "reversible:0.8:12", "explicit:12", "explicit:24",   "explicit:48",
                           "explicit:48:7"};
        add_train_options(app, settings, true);
      },
      compare);
}

}  // namespace banach::lm
