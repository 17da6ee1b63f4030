#include <apps/lab/spectrum_command.hpp>

#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/check.hpp>
#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/lab/checkpoint.hpp>
#include <apps/lab/data.hpp>
#include <apps/lab/spectrum_page.hpp>
#include <apps/lab/train.hpp>

namespace banach::lab {
namespace {

struct SpectrumOptions {
  Options training;
  std::string checkpoint;
  std::optional<std::int64_t> samples;
};

void add_options(CLI::App& app, SpectrumOptions& o) {
  o.training.rules = {"implicit:gmres"};
  app.add_option("--samples", o.samples, "Test images to look at (default: mlp 6, conv 1)")
      ->option_text("N")
      ->group("What is looked at")
      ->check(cli::whole_number(1, 50));
  app.add_option("--checkpoint", o.checkpoint,
                 "Of banach lab: look at its model instead of training one;\nthe settings are its own")
      ->option_text("FILE")
      ->group("What is looked at")
      ->check(cli::path());
  add_model_options(app, o.training);
  add_solving_options(app, o.training);
  app.add_option("--rule", o.training.rules.front(),
                 "Backward rule of the training (default: implicit:gmres)")
      ->option_text("NAME")
      ->group("Rules and solving");
  add_schedule_options(app, o.training);
  cli::add_common_options(app, o.training.common, "out/spectrum");
}

void check_combinations(const CLI::App& app, const SpectrumOptions& o) {
  for (const CLI::Option* option : app.get_parent()->get_options())
    if (option->count() > 0)
      throw cli::UsageError(
          fmt::format("{} stands before 'spectrum': its own options stand after it", option->get_name()));
  if (!o.checkpoint.empty()) {
    const std::vector<std::string> useful{"--samples", "--checkpoint", "--data-dir", "--out", "--threads"};
    for (const CLI::Option* option : app.get_options())
      if (option->count() > 0 && std::find(useful.begin(), useful.end(), option->get_name()) == useful.end())
        throw cli::UsageError(
            fmt::format("{} goes with training, not with --checkpoint, which has settings of its own",
                        option->get_name()));
  }
  lab::check_combinations(app, o.training);
}

struct Trained {
  std::unique_ptr<Classifier> before, after;
  TrainSettings settings;
  SpectrumResults results;
  nn::ImageDataset data;
};

/// Trains as `banach lab` does with one rule, or goes on with that.
Trained train_model(const SpectrumOptions& o, const cli::OutputFolder& folder) {
  ChosenData data = choose_data(o.training);
  TrainSettings settings = resolve(o.training, data.name, data.images.train.size());
  settings.probe_every = settings.steps;  // at the start and at the end
  settings.probe_batches = 0;
  const cli::CommonOptions& common = o.training.common;

  Results trained;
  const cli::Interrupt interrupt;
  const training::Place place = training::place_of(folder, common, interrupt);
  train(settings, data.images, place, trained);
  const RuleResult& rule = trained.rules.front();
  SpectrumResults results{.settings = describe(settings),
                          .rule = rule.spec,
                          .steps = static_cast<std::int64_t>(rule.steps.size()),
                          .accuracy_before = rule.probes.front().test_accuracy,
                          .accuracy_after = rule.accuracy};
  if (!data.notice.empty()) results.notices.push_back(data.notice);
  if (!rule.failure.empty()) results.notices.push_back(rule.spec + ": " + rule.failure + ".");
  const Shape image = data.images.train.image_shape();
  auto after = make_classifier(settings, image, data.images.train.classes());
  nn::load_checkpoint(place.checkpoint, *after);
  return {make_classifier(settings, image, data.images.train.classes()), std::move(after),
          std::move(settings), std::move(results), std::move(data.images)};
}

Trained load_model(const SpectrumOptions& o) {
  SavedRun run = saved_run(o.checkpoint);
  if (!o.training.data_dir.empty()) run.settings.data_dir = o.training.data_dir;
  nn::ImageDataset data = nn::load_images(run.settings.data, run.settings.data_dir);
  const Shape image = data.train.image_shape();
  auto after = make_classifier(run.settings, image, data.train.classes());
  nn::load_checkpoint(o.checkpoint, *after);
  SpectrumResults results{.settings = run.entries, .rule = run.rule, .steps = run.step};
  results.settings.insert(results.settings.begin(), {"--checkpoint", o.checkpoint});
  return {make_classifier(run.settings, image, data.train.classes()), std::move(after),
          std::move(run.settings), std::move(results), std::move(data)};
}

void look(const SpectrumOptions& o) {
  const std::string out = o.training.common.out.value_or("out/spectrum");
  const bool trains = o.checkpoint.empty();
  std::vector<std::string> names{"report.html", "summary.json"};
  if (trains) names.push_back("checkpoint.safetensors");
  parse_rule(o.training.rules.front());  // one only; complain before loading anything
  parse_solver(o.training.solver);
  const cli::OutputFolder folder(out, names);
  Trained model = trains ? train_model(o, folder) : load_model(o);

  SpectrumResults& results = model.results;
  const std::int64_t wanted = o.samples.value_or(model.settings.model == "conv" ? 1 : 6);
  const std::int64_t count = std::min(wanted, model.data.test.size());
  const Tensor x = model.data.test.range(0, count).x;
  results.environment = cli::environment();
  results.settings.insert(results.settings.begin(), {"--samples", std::to_string(count)});
  results.class_names = model.data.class_names;
  results.samples = sample_images(model.data.test, count);
  results.before = spectra_at(*model.before, x, results.forward_residual);
  results.after = spectra_at(*model.after, x, results.forward_residual);

  std::vector<std::string> sentences = results.notices;
  for (const std::string& text : findings(results)) sentences.push_back(text);
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = sentences});
}

}  // namespace

cli::Subcommand add_spectrum(CLI::App& lab) {
  CLI::App* command = lab.add_subcommand(
      "spectrum",
      "Draw the eigenvalues of df/dz at the solutions on the unit disc,\nbefore and after a training");
  command->get_formatter()->column_width(24);
  const auto options = std::make_shared<SpectrumOptions>();
  add_options(*command, *options);
  const auto job = [options, command] {
    check_combinations(*command, *options);
    cli::use_threads(options->training.common.threads);
    look(*options);
  };
  return {command, job};
}

}  // namespace banach::lab
