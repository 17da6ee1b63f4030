#include <apps/flow/options.hpp>

#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <apps/flow/data.hpp>
#include <apps/rules/spec.hpp>

namespace banach::flow {
namespace {

constexpr std::string_view allowed =
    "exact, series:N, roulette[:P[:TERMS]], poisson[:LAMBDA[:TERMS]], lanczos:K";

}  // namespace

void add_train_options(CLI::App& app, Options& o) {
  const auto what = cli::in_group("What is trained"), model = cli::in_group("Model"),
             estimate = cli::in_group("Log-determinant"), training = cli::in_group("Training");
  what(
      app.add_option_function<std::string>(
          "--data",
          [&o](const std::string& list) { o.data = cli::split_choices("--data", "set", list, data_names()); },
          "Out of, separated by commas (default: 8-gaussians); points: 8-gaussians,\n"
          "checkerboard, two-spirals, pinwheel, moons; images: digits, mnist, fashion-mnist"),
      "LIST");
  what(app.add_option_function<std::string>(
           "--estimators",
           [&o](const std::string& list) {
             o.estimators = cli::split_list("--estimators", "estimator", list);
           },
           "One model for each set and each of these, separated by commas\n"
           "(default: exact for points, roulette:0.15:4 for images)\n"
           "  exact             the dense Jacobian's determinant\n"
           "  series:N          the power series cut after N terms; biased, by a bound that is told\n"
           "  roulette[:P[:T]]  Russian roulette, geometric: unbiased (P 0.5), from T terms on (T 2),\n"
           "                    each batch with a number of terms of its own\n"
           "  poisson[:L[:T]]   the same by Poisson's distribution, whose variance is infinite (L 2)\n"
           "  lanczos:K         stochastic Lanczos quadrature of K steps"),
       "LIST");
  what(app.add_option("--classify", o.classify,
                      "Weight of the cross entropy of a classifier of z beside -log p: one model\n"
                      "that classifies and weighs (default: 0, no classifier)"),
       "X")
      ->check(cli::number(false));
  what(app.add_option("--density", o.density,
                      "Weight of -log p, of images in nats a pixel (default: 1; 0: only classify)"),
       "X")
      ->check(cli::number(false));
  what(app.add_option("--folder", o.source.folder,
                      "Of the images' IDX files (default: where they usually are)"),
       "DIR")
      ->check(cli::path());
  what(app.add_option("--reduce", o.source.reduce, "Average squares of N x N pixels of images (default: 1)"),
       "N")
      ->check(cli::whole_number(1, 4));
  model(app.add_option("--blocks", o.architecture.blocks,
                       "Residual blocks, of images for each resolution (default: 10)"),
        "N")
      ->check(cli::whole_number(1, 1000));
  model(app.add_option("--scales", o.architecture.scales,
                       "Of images: at each but the last, half of the channels leave for the normal\n"
                       "distribution, and the others are squeezed on (default: 1, all stay to the end)"),
        "N")
      ->check(cli::whole_number(1, 16));
  model(cli::add_numbers(app, "--hidden", o.architecture.hidden,
                         "Widths or channels of the layers in each, separated by commas (default: 64,64)", 1,
                         65'536),
        "LIST");
  model(app.add_option("--lipschitz", o.architecture.lipschitz,
                       "Constant c of each block's g, below 1 (default: 0.9)"),
        "C")
      ->check(cli::number(0.01, 0.9999));
  model(app.add_option("--dtype", o.architecture.dtype, "f32 (default) or f64"), "NAME")
      ->check(cli::one_of({"f32", "f64"}));
  estimate(app.add_option("--probes", o.estimator.probes, "Random vectors a sample (default: 1)"), "N")
      ->check(cli::whole_number(1, 10'000));
  estimate(app.add_option("--probe", o.estimator.probe, "rademacher (default) or gaussian"), "NAME")
      ->check(cli::one_of({"rademacher", "gaussian"}));
  estimate(app.add_option("--sketch", o.estimator.sketch,
                          "Products that find the space whose trace Hutch++ takes exactly (default: 0)"),
           "N")
      ->check(cli::whole_number(0, 10'000));
  estimate(app.add_option("--gradient", o.estimator.gradient,
                          "neumann (default): constant memory; series: through every term"),
           "NAME")
      ->check(cli::one_of({"series", "neumann"}));
  training(app.add_option("--steps", o.steps, "Steps of Adam for each model (default: 2000)"), "N")
      ->check(cli::whole_number(1, 10'000'000));
  training(app.add_option("--batch-size", o.batch_size, "Samples a step (default: 256)"), "N")
      ->check(cli::whole_number(2, 1'000'000));
  training(app.add_option("--learning-rate", o.learning_rate,
                          "Peak of Adam's, to zero along a cosine (default: 0.01)"),
           "X")
      ->check(cli::number(true));
  training(app.add_option("--test", o.test, "Points or images held out (default: 10000 or 1000)"), "N")
      ->check(cli::whole_number(100, 10'000'000));
  cli::add_common_options(app, o.common, "out/flow");
}

Options resolve(Options o) {
  const auto points = std::count_if(o.data.begin(), o.data.end(), is_points);
  if (points != 0 && points != std::ssize(o.data))
    throw cli::UsageError("--data: points and images need settings of their own, and so a run each");
  if (o.estimators.empty()) o.estimators = {points ? "exact" : "roulette:0.15:4"};
  if (o.test == 0) o.test = points ? 10'000 : 1'000;
  bool draws = false, sums = false;
  for (std::size_t i = 0; i < o.estimators.size(); ++i) {
    const LogDetEstimator estimator = parse_estimator(o.estimators[i], o.estimator);
    draws = draws || !std::holds_alternative<Exact>(estimator);
    sums =
        sums || std::holds_alternative<PowerSeries>(estimator) || std::holds_alternative<Roulette>(estimator);
    for (std::size_t k = 0; k < i; ++k)
      if (o.estimators[i] == o.estimators[k])
        throw cli::UsageError(fmt::format("--estimators: '{}' stands there twice", o.estimators[i]));
  }
  const EstimatorSettings &given = o.estimator, plain;
  if (!draws && (given.probes != plain.probes || given.probe != plain.probe))
    throw cli::UsageError("--probes and --probe: exact draws nothing; they go with the other estimators");
  if (!sums && (given.sketch != plain.sketch || given.gradient != plain.gradient))
    throw cli::UsageError("--sketch and --gradient go with series, roulette and poisson");
  if (o.density == 0.0 && o.classify == 0.0)
    throw cli::UsageError("--density 0 leaves nothing to learn without --classify");
  if (o.density == 0.0 && o.estimators.size() > 1)
    throw cli::UsageError("--density 0 estimates nothing: --estimators makes no difference");
  if (points && (o.source.reduce != 1 || !o.source.folder.empty()))
    throw cli::UsageError("--reduce and --folder go with images");
  if (points && o.architecture.scales != 1)
    throw cli::UsageError("--scales goes with images, whose channels can leave by halves");
  return o;
}

cli::Entries describe(const Options& o) {
  return {{"--data", fmt::format("{}", fmt::join(o.data, ","))},
          {"--estimators", fmt::format("{}", fmt::join(o.estimators, ","))},
          {"--density", fmt::format("{:g}", o.density)},
          {"--classify", fmt::format("{:g}", o.classify)},
          {"--reduce", std::to_string(o.source.reduce)},
          {"--blocks", std::to_string(o.architecture.blocks)},
          {"--scales", std::to_string(o.architecture.scales)},
          {"--hidden", fmt::format("{}", fmt::join(o.architecture.hidden, ","))},
          {"--lipschitz", fmt::format("{:g}", o.architecture.lipschitz)},
          {"--dtype", o.architecture.dtype},
          {"--probes", std::to_string(o.estimator.probes)},
          {"--probe", o.estimator.probe},
          {"--sketch", std::to_string(o.estimator.sketch)},
          {"--gradient", o.estimator.gradient},
          {"--steps", std::to_string(o.steps)},
          {"--batch-size", std::to_string(o.batch_size)},
          {"--learning-rate", fmt::format("{:g}", o.learning_rate)},
          {"--test", std::to_string(o.test)},
          {"--seed", std::to_string(o.common.seed)}};
}

LogDetEstimator parse_estimator(const std::string& text, const EstimatorSettings& s) {
  const rules::Spec spec("--estimators", text, allowed);
  const Probe probe = s.probe == "gaussian" ? Probe::gaussian : Probe::rademacher;
  const SeriesGradient gradient = s.gradient == "neumann" ? SeriesGradient::neumann : SeriesGradient::series;
  const auto roulette = [&](std::variant<Geometric, Poisson> further) {
    const int terms = spec.has(2) ? spec.count(2, "TERMS") : Roulette{}.min_terms;
    if (terms > Roulette{}.max_terms)
      spec.refuse(fmt::format("TERMS must be at most {}: no draw takes more", Roulette{}.max_terms));
    return Roulette{.further = further,
                    .min_terms = terms,
                    .shared = true,
                    .probes = s.probes,
                    .probe = probe,
                    .sketch = s.sketch,
                    .gradient = gradient};
  };
  const std::string& name = spec.name();
  if (name == "exact") {
    spec.expect_parts(0, 0);
    return Exact{};
  }
  if (name == "series") {
    spec.expect_parts(1, 1);
    return PowerSeries{.terms = spec.count(1, "N"),
                       .probes = s.probes,
                       .probe = probe,
                       .sketch = s.sketch,
                       .gradient = gradient};
  }
  if (name == "lanczos") {
    spec.expect_parts(1, 1);
    return LanczosQuadrature{.steps = spec.count(1, "K"), .probes = s.probes, .probe = probe};
  }
  spec.expect_parts(0, 2);
  if (name == "roulette") {
    const double p = spec.has(1) ? spec.fraction(1, "P") : Geometric{}.p;
    if (p >= 1.0) spec.refuse("P must be below 1: the chance to stop after each term");
    return roulette(Geometric{p});
  }
  if (name == "poisson") {
    const double lambda = spec.has(1) ? spec.positive(1, "LAMBDA") : Poisson{}.lambda;
    if (lambda > 100.0) spec.refuse("LAMBDA must be at most 100: the mean of the further terms");
    return roulette(Poisson{lambda});
  }
  spec.refuse(fmt::format("there is no estimator '{}'", name));
}

}  // namespace banach::flow
