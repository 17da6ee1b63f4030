#include <apps/lab/options.hpp>

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>

namespace banach::lab {
namespace {

const std::vector<std::string> default_rules{"implicit:gmres",        "jfb",     "neumann:5", "phantom:5:0.5",
                                             "phantom-neumann:5:0.5", "unrolled"};

/// What a model is trained with unless told otherwise.
struct Defaults {
  std::int64_t epochs, batch_size;
  double learning_rate, weight_decay;
  bool cosine_schedule;
  double tolerance;
};

Defaults defaults_for(const std::string& model, const std::string& data) {
  // Fung, Heaton et al. 2021, the settings of their MNIST run.
  if (model == "conv") return {3, 100, 2e-4, 1e-6, false, 0.1};
  if (data == "digits") return {30, 64, 3e-3, 0.0, true, 1e-4};
  return {6, 128, 2e-3, 0.0, true, 1e-4};
}

// The options of a group go with one of the two problems.
const std::string training_group = "What is trained", solving_group = "Rules and solving",
                  schedule_group = "Training",
                  linear_group = "A problem with known answers, instead of training";

CLI::Validator count() { return cli::whole_number(1, 1'000'000'000); }

}  // namespace

void add_model_options(CLI::App& app, Options& o) {
  const auto what = cli::in_group(training_group);
  what(app.add_option("--data", o.data,
                      "Images: digits, fashion-mnist or mnist\n(default: fashion-mnist; digits if that is "
                      "not installed)"),
       "NAME")
      ->check(cli::one_of({"digits", "fashion-mnist", "mnist"}));
  what(
      app.add_option("--data-dir", o.data_dir, "Folder of the image files (default: where they usually are)"),
      "DIR")
      ->check(cli::path());
  what(app.add_option("--model", o.model,
                      "mlp: z = tanh(W z + u(x)) (default)\n"
                      "conv: the 54,352 parameters of the JFB paper's MNIST network"),
       "NAME")
      ->check(cli::one_of({"mlp", "conv"}));
  what(app.add_option("--hidden", o.hidden, "Size of the mlp's state (default: 128)"), "N")
      ->check(cli::whole_number(1, 100'000));
  what(app.add_option("--bound", o.bound,
                      "Of the mlp's ||W||; from 1 on f need not be a contraction (default: 0.9)"),
       "X")
      ->check(cli::number(true));
}

void add_solving_options(CLI::App& app, Options& o) {
  const auto solving = cli::in_group(solving_group);
  solving(app.add_option("--solver", o.solver,
                         "anderson[:MEMORY], picard[:DAMPING], broyden[:MEMORY] or\nadjoint-broyden[:MEMORY] "
                         "(default: anderson:5)"),
          "NAME");
  solving(app.add_option("--tolerance", o.tolerance,
                         "On ||f(z) - z|| / ||f(z)|| (default: mlp 1e-4, conv 0.1, linear 1e-10)"),
          "X")
      ->check(cli::number(true));
  solving(app.add_option("--max-steps", o.max_steps,
                         "Most evaluations of f in a solve (default: 50, linear 1000)"),
          "N")
      ->check(cli::whole_number(1, 1'000'000));
}

void add_schedule_options(CLI::App& app, Options& o) {
  const auto training = cli::in_group(schedule_group);
  training(app.add_option("--epochs", o.epochs,
                          "Passes over the images for each rule (default: digits 30, mlp 6, conv 3)"),
           "N")
      ->check(count());
  training(app.add_option("--steps", o.steps, "Steps for each rule, instead of --epochs"), "N")
      ->check(count());
  training(
      app.add_option("--batch-size", o.batch_size, "Images a step (default: digits 64, mlp 128, conv 100)"),
      "N")
      ->check(count());
  training(app.add_option(
               "--learning-rate", o.learning_rate,
               "Of Adam (default: digits 3e-3 and mlp 2e-3, to zero along a cosine;\nconv 2e-4, constant)"),
           "X")
      ->check(cli::number(true));
}

void add_options(CLI::App& app, Options& o) {
  add_model_options(app, o);
  cli::in_group(solving_group)(
      app.add_option_function<std::string>(
          "--rules", [&o](const std::string& list) { o.rules = cli::split_list("--rules", "rule", list); },
          fmt::format(
              "Backward rules, separated by commas, out of\n  {}\n  all (one of each)\n"
              "All are compared along the first one's training.\n(default: implicit:gmres, jfb, neumann:5, "
              "phantom:5:0.5,\nphantom-neumann:5:0.5, unrolled)",
              fmt::join(rule_syntax(), "\n  "))),
      "LIST");
  add_solving_options(app, o);
  add_schedule_options(app, o);

  const auto probing = cli::in_group(schedule_group);
  probing(app.add_option(
              "--probe-every", o.probe_every,
              "Steps between two comparisons with the exact gradient\n(default: a sixteenth of the steps)"),
          "N")
      ->check(count());
  probing(app.add_option("--probe-batches", o.probe_batches,
                         "Minibatches over which bias and variance are measured, 0 for none\n"
                         "(default: mlp 4, conv 2)"),
          "N")
      ->check(cli::whole_number(0, 1000));
  probing(app.add_option("--probe-seeds", o.probe_seeds,
                         "Draws on each of them, of rules that draw numbers (default: 4)"),
          "N")
      ->check(cli::whole_number(1, 1000));

  const auto known = cli::in_group(linear_group);
  known(app.add_option("--problem", o.problem, "linear: z = A z + b"), "NAME")
      ->check(cli::one_of({"linear"}));
  known(app.add_option("--rho", o.rho, "Spectral radius of A (default: 0.9)"), "R")
      ->check(cli::number(false));
  known(app.add_flag("--nonnormal", o.nonnormal, "A of blocks [[R, -10], [0, R]]"), " ")
      ->disable_flag_override();
  known(app.add_option("--dimension", o.dimension, "Size of z (default: 1, nonnormal 2)"), "N")
      ->check(cli::whole_number(1, 2000));

  cli::add_common_options(app, o.common, "out/lab, linear out/linear");
}

void check_combinations(const CLI::App& app, const Options& o) {
  const auto given = [&](const std::string& name) { return app.count(name) > 0; };
  const auto refuse = [](const std::string& name, std::string_view where) {
    throw cli::UsageError(fmt::format("{} goes with {}", name, where));
  };
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() == 0) continue;
    const std::string &name = option->get_name(), &group = option->get_group();
    const bool of_training = group == training_group || group == schedule_group || name == "--resume" ||
                             name == "--overwrite";  // of a checkpoint, that is
    if (o.problem && of_training) refuse(name, "training, not with --problem linear");
    if (!o.problem && group == linear_group) refuse(name, "--problem linear only");
  }
  if (given("--epochs") && given("--steps"))
    throw cli::UsageError("--epochs and --steps exclude each other: both say how long to train");
  if (given("--data-dir") && o.data == "digits")
    refuse("--data-dir", "--data fashion-mnist or mnist, not with the digits, which are embedded");
  for (const char* name : {"--hidden", "--bound"})
    if (given(name) && o.model == "conv") refuse(name, "--model mlp, not with conv, whose f is given");
}

TrainSettings resolve(const Options& o, const std::string& data, std::int64_t training_images) {
  const Defaults d = defaults_for(o.model, data);
  TrainSettings s;
  s.data = data;
  s.data_dir = o.data_dir;
  s.model = o.model;
  s.rules = parse_rules(o.rules.empty() ? default_rules : o.rules);
  parse_solver(o.solver);
  s.solver = o.solver;
  s.batch_size = o.batch_size.value_or(d.batch_size);
  if (s.batch_size > training_images)
    throw cli::UsageError(
        fmt::format("--batch-size {}: {} has only {} training images", s.batch_size, data, training_images));
  s.steps = o.steps ? *o.steps : o.epochs.value_or(d.epochs) * (training_images / s.batch_size);
  s.learning_rate = o.learning_rate.value_or(d.learning_rate);
  s.weight_decay = d.weight_decay;
  s.cosine_schedule = d.cosine_schedule;
  s.hidden = o.hidden;
  s.bound = o.bound;
  s.tolerance = o.tolerance.value_or(d.tolerance);
  s.max_steps = o.max_steps.value_or(50);
  s.probe_every = o.probe_every.value_or(std::max<std::int64_t>(1, (s.steps + 15) / 16));
  s.probe_batches = o.probe_batches.value_or(s.model == "conv" ? 2 : 4);
  s.probe_seeds = o.probe_seeds.value_or(4);
  s.seed = o.common.seed;
  if (s.model == "conv" && data == "digits")
    throw cli::UsageError("--model conv needs images of 28 x 28: use --data fashion-mnist or mnist");
  return s;
}

Entries describe(const TrainSettings& s) {
  std::string rules;
  for (const Rule& rule : s.rules) rules += (rules.empty() ? "" : ",") + rule.spec;
  Entries entries{{"--data", s.data},
                  {"--data-dir", s.data_dir.empty() ? "default" : s.data_dir},
                  {"--model", s.model},
                  {"--rules", rules},
                  {"--solver", s.solver},
                  {"--tolerance", fmt::format("{:g}", s.tolerance)},
                  {"--max-steps", std::to_string(s.max_steps)},
                  {"--steps", std::to_string(s.steps)},
                  {"--batch-size", std::to_string(s.batch_size)},
                  {"--learning-rate", fmt::format("{:g}", s.learning_rate)},
                  {"--probe-every", std::to_string(s.probe_every)},
                  {"--probe-batches", std::to_string(s.probe_batches)},
                  {"--probe-seeds", std::to_string(s.probe_seeds)},
                  {"--seed", std::to_string(s.seed)}};
  if (s.model == "mlp")
    entries.insert(entries.begin() + 3,
                   {{"--hidden", std::to_string(s.hidden)}, {"--bound", fmt::format("{:g}", s.bound)}});
  return entries;
}

}  // namespace banach::lab
