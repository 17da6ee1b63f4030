#include <apps/flow/drawing.hpp>
#include <apps/flow/page.hpp>
#include <apps/flow/sets.hpp>
#include <apps/flow/train.hpp>
#include <tests/apps/command.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <regex>
#include <set>

#include <apps/cli/run.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/checkpoint.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/reduce.hpp>
#include <catch2/catch.hpp>

namespace {

using namespace banach;
using namespace banach::flow;
using Catch::Matchers::Contains;

Options small_options() {
  Options options;
  options.data = {"moons"};
  options.architecture = {.blocks = 2, .hidden = {8}};
  options.steps = 6;
  options.batch_size = 16;
  options.test = 120;
  return options;
}

Results train_small(
    const Options& options, const std::string& checkpoint, bool resume = false,
    const std::function<bool()>& stop = [] { return false; }) {
  Results results;
  train(resolve(options), {checkpoint, resume, stop}, results);
  return results;
}

std::string without_times(const std::string& csv) {
  return std::regex_replace(csv, std::regex("(step|probe),([0-9]+),[^,]*,"), "$1,$2,,");
}

}  // namespace

TEST_CASE("sets in the plane are decided by seed and stream, and have the moments of their definitions") {
  for (const std::string& set : set_names()) {
    INFO(set);
    const Points points = draw_points(set, 20000, 3, 4);
    REQUIRE(points.x.shape() == Shape{20000, 2});
    std::vector<double> seen(static_cast<std::size_t>(classes_of(set)));
    double x = 0.0, y = 0.0, radius = 0.0;
    for (std::int64_t i = 0; i < 20000; ++i) {
      seen.at(static_cast<std::size_t>(points.labels.data<std::int64_t>()[i])) += 1.0 / 20000.0;
      x += points.x.at(2 * i) / 20000.0;
      y += points.x.at(2 * i + 1) / 20000.0;
      radius = std::max({radius, std::abs(points.x.at(2 * i)), std::abs(points.x.at(2 * i + 1))});
    }
    for (const double share : seen)
      CHECK(share == Approx(1.0 / static_cast<double>(seen.size())).margin(0.015));
    CHECK(radius < density_reach);
    if (set != "moons") {
      CHECK(x == Approx(0.0).margin(0.08));
      CHECK(y == Approx(0.0).margin(0.08));
    }
    const Points again = draw_points(set, 20000, 3, 4), other = draw_points(set, 20000, 3, 5);
    CHECK(again.x.at(39999) == points.x.at(39999));
    CHECK(other.x.at(39999) != points.x.at(39999));
  }
  CHECK_THROWS_AS(draw_points("circles", 1, 0, 0), ValueError);
}

TEST_CASE("true densities integrate to 1 and agree with the points drawn") {
  for (const char* set : {"8-gaussians", "checkerboard"}) {
    INFO(set);
    const Points points = draw_points(set, 200000, 1, 2);
    const Tensor counted = histogram(points.x, 24, 4.8);
    if (std::string(set) == "8-gaussians") {
      const Tensor log_p = *true_log_density(set, grid_points(200, 4.8));
      CHECK(sum(exp(Var(log_p))).item() * (9.6 / 200.0) * (9.6 / 200.0) == Approx(1.0).epsilon(1e-5));
      const Tensor p = exp(Var(*true_log_density(set, grid_points(240, 4.8)))).value();
      for (std::int64_t cell = 0; cell < 24 * 24; ++cell) {  // the mean over each cell
        double mean = 0.0;
        for (std::int64_t i = 0; i < 100; ++i)
          mean += p.at((cell / 24 * 10 + i / 10) * 240 + cell % 24 * 10 + i % 10) / 100.0;
        const double error = std::sqrt(mean / 200000.0 / 0.16);  // of a count
        CHECK(std::abs(counted.at(cell) - mean) < 5.0 * error + 2.0 / 200000.0 / 0.16);
      }
    } else {
      for (std::int64_t i = 0; i < points.x.size(0); ++i) {
        const double column = std::floor(points.x.at(2 * i) / 2.0),
                     row = std::floor(points.x.at(2 * i + 1) / 2.0);
        REQUIRE(static_cast<std::int64_t>(column + row) % 2 == 0);
        REQUIRE(std::abs(points.x.at(2 * i)) <= 4.0);
      }
      const Tensor at_points = *true_log_density(set, points.x);
      for (std::int64_t i = 0; i < at_points.size(); ++i) REQUIRE(at_points.at(i) == Approx(-std::log(32.0)));
      const Tensor log_p = *true_log_density(set, grid_points(240, 4.8));  // whose lines are the squares'
      CHECK(sum(exp(Var(log_p))).item() * 0.04 * 0.04 == Approx(1.0).epsilon(1e-12));
    }
  }
  CHECK_FALSE(true_log_density("moons", Tensor::zeros({1, 2}, DType::f64)));
}

TEST_CASE("estimators by name") {
  const EstimatorSettings settings{.probe = "gaussian", .probes = 3, .gradient = "neumann"};
  CHECK(std::holds_alternative<Exact>(parse_estimator("exact", settings)));
  const auto series = std::get<PowerSeries>(parse_estimator("series:7", settings));
  CHECK(series.terms == 7);
  CHECK(series.probes == 3);
  CHECK(series.probe == Probe::gaussian);
  CHECK(series.gradient == SeriesGradient::neumann);
  const auto roulette = std::get<Roulette>(parse_estimator("roulette:0.2:4", settings));
  CHECK(std::get<Geometric>(roulette.further).p == 0.2);
  CHECK(roulette.min_terms == 4);
  CHECK(std::get<Poisson>(std::get<Roulette>(parse_estimator("poisson:3", settings)).further).lambda == 3.0);
  CHECK(std::get<LanczosQuadrature>(parse_estimator("lanczos:2", settings)).steps == 2);
  for (const char* bad : {"", "series", "series:0", "exact:1", "roulette:1", "lanczos", "newton",
                          "series:3:2", "poisson:200", "poisson:inf", "roulette:0.5:2000", "poisson:2:1001"})
    CHECK_THROWS_AS(parse_estimator(bad, settings), cli::UsageError);
  // What is taken runs: the limits are those of log_det.
  const Var x(Tensor::zeros({1, 2}, DType::f64));
  for (const char* good : {"poisson:100", "roulette:0.5:1000"})
    CHECK(log_det([](const Var& z) { return 0.5 * z; }, x, {.estimator = parse_estimator(good, settings)})
              .value.size() == 1);
}

TEST_CASE("each image of more than 64 pixels is weighed by a draw of its own, whose variance is told") {
  const std::int64_t n = 32;
  const Tensor x = Tensor::full({n, 1, 10, 10}, 2.0);
  for (const double c : {0.5, 0.9, 0.99, 0.9999}) {
    INFO(c);
    const auto roulette = std::get<Roulette>(evaluation_estimator(100, c));
    const double p = std::get<Geometric>(roulette.further).p;
    CHECK((c * c < 1.0 - p) == (c <= 0.99));  // finite where g keeps to c
    CHECK(p >= 0.01);
    FlowModel model({.blocks = 1, .hidden = {4}, .lipschitz = c, .sample = {1, 10, 10}, .levels = 4},
                    Roulette{.further = Poisson{}}, 7);
    const Weighed weighed = weigh(model, x);
    CHECK(weighed.infinite_variance == 0.0);  // of a model that has learned nothing, g is far below c
    CHECK(log_densities(model, x).shape() == Shape{n});
    nn::eval(model);
    const NoGrad off;
    const FlowModel::Transformed at = model.forward(Var(x));
    REQUIRE(at.reports.size() == 1);
    std::set<int> terms;
    for (const LogDetSample& sample : at.reports[0].samples) terms.insert(sample.terms);
    CHECK(terms.size() > 4);
    // That of training, too: Poisson's is infinite.
    const EstimatorCheck check = check_estimator(model, Roulette{.further = Poisson{}}, x.rows(0, 4));
    CHECK(check.infinite_variance == Approx(1.0));
    CHECK(std::isnan(check.bias.value));
  }
}

TEST_CASE("settings that no estimator of a run takes are refused") {
  const auto resolves = [](const std::vector<std::string>& estimators, const EstimatorSettings& settings) {
    Options options = small_options();
    options.estimators = estimators;
    options.estimator = settings;
    resolve(options);
  };
  for (const EstimatorSettings& drawn :
       {EstimatorSettings{.probes = 2}, EstimatorSettings{.probe = "gaussian"}}) {
    CHECK_THROWS_AS(resolves({"exact"}, drawn), cli::UsageError);
    CHECK_NOTHROW(resolves({"lanczos:2"}, drawn));
    CHECK_NOTHROW(resolves({"exact", "roulette"}, drawn));
  }
  for (const EstimatorSettings& summed :
       {EstimatorSettings{.sketch = 1}, EstimatorSettings{.gradient = "series"}}) {
    CHECK_THROWS_AS(resolves({"exact", "lanczos:2"}, summed), cli::UsageError);
    CHECK_NOTHROW(resolves({"lanczos:2", "series:3"}, summed));
  }
}

TEST_CASE("exact determinants of large images are refused before any training") {
  using namespace std::string_literals;
  const files::Folder folder;
  for (const std::string part : {"train", "t10k"}) {  // one image of 28 x 28
    folder.write(part + "-images-idx3-ubyte",
                 files::bytes_of("\0\0\x08\x03\0\0\0\1\0\0\0\x1c\0\0\0\x1c"s + std::string(784, '\7')));
    folder.write(part + "-labels-idx1-ubyte", files::bytes_of("\0\0\x08\1\0\0\0\1\3"s));
  }
  Options options = small_options();
  options.data = {"mnist"};
  options.source.folder = folder.path();
  options.estimators = {"roulette", "exact"};
  CHECK_THROWS_WITH(train_small(options, folder / "c"), Contains("--reduce"));
  CHECK_THROWS_AS(train_small(options, folder / "c"), cli::UsageError);
  CHECK_FALSE(std::filesystem::exists(folder / "c"));
}

TEST_CASE("an infinite variance is among the findings of a flow") {
  const files::Folder folder;
  Options options = small_options();
  options.estimators = {"poisson", "roulette:0.1"};
  Results results = train_small(options, folder / "c");
  for (const ModelResult& model : results.models) results.examined.push_back(examine(model));
  CHECK_THAT(findings(results)[0],
             Contains("The variance of poisson, as in training, is, or may be, infinite for 100.0 %"));
  CHECK_THAT(findings(results)[1], !Contains("variance"));
  results.examined[1].infinite_variance = 0.25;
  CHECK_THAT(findings(results)[1], Contains("these log-determinants is, or may be, infinite for 25.0 %"));
  CHECK_THAT(summary_json(results), Contains("\"infinite_variance\": 0.25"));
}

TEST_CASE("an interrupted flow training goes on to the very same results") {
  const files::Folder folder;
  Options options = small_options();
  options.estimators = {"exact", "roulette"};
  options.classify = 0.5;
  const Results whole = train_small(options, folder / "whole");
  const std::string checkpoint = folder / "parts";
  bool resume = false;
  for (int steps : {1, 3, 4}) {
    int left = steps;
    CHECK_THROWS_WITH(train_small(options, checkpoint, resume, [&] { return left-- == 0; }),
                      Contains("--resume goes on"));
    resume = true;
  }
  const Results resumed = train_small(options, checkpoint, true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  for (std::size_t i = 0; i < 2; ++i)
    for (const auto& [name, value] : whole.models[i].learned)
      CHECK(max(abs(Var(value.to(DType::f64)) - Var(resumed.models[i].learned.at(name).to(DType::f64))))
                .item() == 0.0);
  // Each model can be had from the checkpoint of all.
  CHECK(load_model(checkpoint, "").name == "moons, exact");
  ModelResult second = load_model(checkpoint, "moons, roulette");
  FlowModel model = restore(second);
  const Tensor test = source_of(second)->held_out(second.test).x;
  CHECK(mean_of(log_densities(model, test)).value == second.last().nats);
  CHECK_THROWS_WITH(load_model(checkpoint, "pinwheel, exact"), Contains("moons, exact; moons, roulette"));
}

TEST_CASE("what is measured of a trained flow") {
  const files::Folder folder;
  Options options = small_options();
  options.architecture.dtype = GENERATE(as<std::string>{}, "f32", "f64");
  options.estimators = {"series:3"};
  options.steps = 40;
  options.batch_size = 64;
  options.learning_rate = 0.02;
  const Results results = train_small(options, folder / "c");
  CHECK(results.models[0].last().nats > results.models[0].probes.front().nats + 0.2);
  FlowModel model = restore(results.models[0]);
  const Tensor x = source_of(results.models[0])->held_out(120).x;

  const Reconstruction r = reconstruct(model, x);
  const double limit = options.architecture.dtype == "f64" ? 1e-12 : 1e-5;
  CHECK(r.worst_block() <= limit);
  CHECK(r.worst_block() > 0.0);
  CHECK(r.network <= r.bound);
  CHECK(r.statuses.size() == 1);
  CHECK(r.statuses.at("converged") == 2 * 120);

  const Constants constants = constants_of(model);
  CHECK(constants.bound == Approx(0.9));
  CHECK(constants.layers <= 1.0 + 1e-3);
  CHECK(constants.layers > 0.5);
  CHECK(constants.certified <= 0.9 * (1.0 + 1e-3));

  const EstimatorCheck check = check_estimator(model, PowerSeries{.terms = 3}, x);
  CHECK(std::abs(check.bias.value) < check.bound);
  CHECK(check.bound == Approx(2 * 2 * (-std::log(0.1) - 0.9 - 0.405 - 0.243)));
  CHECK(check.deviation > std::abs(check.bias.value));
  CHECK(check_estimator(model, Exact{}, x).deviation < 1e-6);
}

TEST_CASE("images come as whole grey levels, each epoch in an order of its own") {
  const std::unique_ptr<Source> digits = open_source("digits", {}, 5);
  const DataKind kind = digits->kind();
  CHECK(kind.entries() == 64);
  CHECK(kind.levels == 17);
  CHECK(kind.classes == 10);
  const Labelled first = digits->batch(100, 0), again = open_source("digits", {}, 5)->batch(100, 0);
  REQUIRE(first.x.shape() == Shape{100, 1, 8, 8});
  double most = 0.0;
  for (std::int64_t i = 0; i < first.x.size(); ++i) {
    REQUIRE(first.x.at(i) == std::round(first.x.at(i)));
    most = std::max(most, first.x.at(i));
    REQUIRE(again.x.at(i) == first.x.at(i));
  }
  CHECK(most == 16.0);
  // An epoch of 14 batches takes 1,400 of the 1,437 images once each; the next one begins anew.
  double sum = 0.0, other = 0.0;
  for (std::uint64_t step = 0; step < 14; ++step) {
    sum += banach::sum(Var(digits->batch(100, step).x)).item();
    other += banach::sum(Var(digits->batch(100, step + 14).x)).item();
  }
  CHECK(other == Approx(sum).epsilon(0.01));
  CHECK(digits->batch(100, 14).labels.data<std::int64_t>()[0] >= 0);
  CHECK(digits->held_out(1000).x.size(0) == 360);

  const std::unique_ptr<Source> reduced = open_source("digits", {.folder = {}, .reduce = 2}, 5);
  CHECK(reduced->kind().sample == std::vector<std::int64_t>{1, 4, 4});
  const Tensor small = reduced->held_out(1).x, whole = digits->held_out(1).x;
  const double mean = (whole.at(0) + whole.at(1) + whole.at(8) + whole.at(9)) / 4.0;
  CHECK(std::abs(small.at(0) - mean) <= 0.5);
  CHECK_THROWS_AS(open_source("digits", {.folder = {}, .reduce = 3}, 5), cli::UsageError);
}

TEST_CASE("a flow of images: log-determinant, inverse, both kinds of training") {
  const files::Folder folder;
  Options options;
  options.data = {"digits"};
  options.architecture = {.blocks = 1, .hidden = {8}};
  options.steps = 30;
  options.batch_size = 50;
  options.test = 60;
  options.learning_rate = 0.02;
  options.classify = 1.0;
  SECTION("weighs and classifies, at one scale or at several") {
    options.architecture.scales = GENERATE(1, 2);
    const Results results = train_small(options, folder / "c");
    const ModelResult& result = results.models[0];
    CHECK(result.name == "digits, roulette:0.15:4");
    CHECK(result.bits(result.last().nats) < result.bits(result.probes.front().nats));
    CHECK(result.bits(result.last().nats) < std::log2(17.0));  // better than knowing nothing
    CHECK(result.last().correct > 0.5);
    FlowModel model = restore(result);
    CHECK(model.scales() == options.architecture.scales);
    CHECK(model.blocks() == model.scales());
    const Tensor x = source_of(result)->held_out(10).x;
    const Reconstruction r = reconstruct(model, x);
    CHECK(r.worst_block() <= 1e-5);
    CHECK(r.network <= r.bound);
    CHECK(r.statuses.size() == 1);
    const Constants constants = constants_of(model);
    CHECK(constants.layers <= 1.0 + 1e-3);
    CHECK(constants.layers > 0.2);
    CHECK(constants.certified <= 0.9 * (1.0 + 1e-3));  // zeros at the borders of small images included
    // Dequantised images come back as the levels that they were.
    nn::eval(model);
    const Tensor back = model.inverse(model.transform(Var(x))).x.value();
    for (std::int64_t i = 0; i < x.size(); ++i) REQUIRE(back.at(i) == x.at(i));
  }
  SECTION("only classifies") {
    options.density = 0.0;
    const Results results = train_small(options, folder / "c");
    CHECK(results.models[0].name == "digits");
    CHECK(results.models[0].last().correct > 0.5);
  }
}

TEST_CASE("a flow of several scales: log-determinant and inverse, and what leaves where") {
  const std::int64_t scales = GENERATE(1, 2, 3);
  const std::string dtype = GENERATE(as<std::string>{}, "f32", "f64");
  INFO(scales << " scales in " << dtype);
  FlowModel model(
      {.blocks = 1, .scales = scales, .hidden = {6}, .dtype = dtype, .sample = {1, 8, 8}, .weigh = false},
      Exact{}, 7);
  CHECK(model.scales() == scales);
  CHECK(model.blocks() == scales);
  for (const auto& entry : nn::parameters(model))  // every layer at its bound, where power iteration took it
    if (entry.name.ends_with("weight")) entry.parameter->set((Var(entry.parameter->value()) * 5.0).value());
  Tensor pixels = Tensor::empty({4, 1, 8, 8}, DType::f64);
  Random(3).fill_normal(pixels.mutable_data<double>(), pixels.size());
  const Var x(pixels.to(model.dtype()));
  model.forward(x);  // starts ActNorm
  nn::eval(model);
  const FlowModel::Transformed at = model.forward(x);
  REQUIRE(at.y.shape() == Shape{4, 64});
  CHECK(max(abs(at.y - model.transform(x))).item() <= (dtype == "f64" ? 1e-14 : 1e-6));

  const FlowModel::Inverted back = model.inverse(at.y);
  CHECK(back.failed() == 0);
  const double limit = dtype == "f64" ? 1e-12 : 1e-5;
  CHECK(max(abs(back.x - x)).item() <= limit);
  const Reconstruction r = reconstruct(model, x.value());
  CHECK(r.worst_block() <= limit);
  CHECK(r.network <= r.bound);
  CHECK(constants_of(model).layers == Approx(1.0).epsilon(1e-3));

  if (dtype == "f32") return;
  for (std::int64_t s = 0; s < 4; ++s) {
    const Var j =
        jacobian([&](const Var& one) { return model.transform(one); }, Var(x.value().rows(s, s + 1)));
    CHECK(at.log_det.value().at(s) == Approx(slogdet(reshape(j, {64, 64})).log_abs.item()).margin(1e-10));
  }
  // The density of x is that of all of z.
  const Var normal = -0.5 * sum(square(at.y), {1}) - 32.0 * std::log(2.0 * std::numbers::pi);
  CHECK(max(abs(model.log_density(at) - at.log_det - normal)).item() <= 1e-12);
  // Half of the entries leave at each scale but the last, and later blocks do not reach them.
  nn::Parameter* bias = nullptr;  // of the last layer
  for (const auto& entry : nn::parameters(model))
    if (entry.name.ends_with("bias")) bias = entry.parameter;
  REQUIRE(bias != nullptr);
  bias->set((Var(bias->value()) + 1.0).value());
  const Tensor moved = abs(model.transform(x) - at.y).value();
  const std::int64_t stay = 64 >> (scales - 1);
  for (std::int64_t i = 0; i < moved.size(); ++i) {
    if (i % 64 < 64 - stay)
      REQUIRE(moved.at(i) == 0.0);
    else
      REQUIRE(moved.at(i) > 0.0);
  }
}

TEST_CASE("scales that cannot be are refused by name, before any training") {
  const files::Folder folder;
  Options options = small_options();
  options.architecture.scales = 2;
  CHECK_THROWS_WITH(resolve(options), Contains("--scales goes with images"));
  options.data = {"digits"};
  CHECK_NOTHROW(resolve(options));
  options.architecture.scales = 4;
  CHECK_THROWS_WITH(train_small(options, folder / "c"),
                    Contains("--scales 4: images of 8 x 8 pixels have 3 at most"));
  CHECK_THROWS_AS(train_small(options, folder / "c"), cli::UsageError);
  CHECK_FALSE(std::filesystem::exists(folder / "c"));
}

TEST_CASE("an interrupted training of several scales goes on to the same bits, and is told from others") {
  const files::Folder folder;
  Options options = small_options();
  options.data = {"digits"};
  options.architecture.scales = 2;
  options.classify = 0.5;
  const Results whole = train_small(options, folder / "whole");
  int left = 3;
  CHECK_THROWS_WITH(train_small(options, folder / "parts", false, [&] { return left-- == 0; }),
                    Contains("--resume goes on"));
  Options other = options;
  other.architecture.scales = 1;
  CHECK_THROWS_WITH(train_small(other, folder / "parts", true), Contains("--scales 2, not 1"));
  const Results resumed = train_small(options, folder / "parts", true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  for (const auto& [name, value] : whole.models[0].learned)
    CHECK(
        max(abs(Var(value.to(DType::f64)) - Var(resumed.models[0].learned.at(name).to(DType::f64)))).item() ==
        0.0);
  const ModelResult loaded = load_model(folder / "parts", "");
  CHECK(loaded.architecture.scales == 2);
  CHECK(restore(loaded).scales() == 2);
}

TEST_CASE("models of checkpoints that say nothing of scales have one") {
  ModelResult result;
  result.architecture.scales = 3;
  std::string text = to_text(result);
  CHECK(from_text(text).architecture.scales == 3);
  text = std::regex_replace(text, std::regex("\"scales\":3,"), "");
  CHECK_THAT(text, !Contains("scales"));
  CHECK(from_text(text).architecture.scales == 1);
  CHECK_THROWS_AS(from_text("{}"), FileError);
}

TEST_CASE("curves of looks at some held-out samples say that the last is at all") {
  const files::Folder folder;
  Options options = small_options();
  options.data = {"digits"};
  options.classify = 1.0;
  options.steps = 1;
  options.test = 300;
  Results results = train_small(options, folder / "c");
  results.examined.push_back(examine(results.models[0]));
  const auto notes = [&] {
    std::vector<std::string> found;
    for (const report::Section& section : make_page(results).sections)
      for (const report::Block& block : section.blocks)
        if (const auto* chart = std::get_if<report::Chart>(&block)) found.push_back(chart->note);
    return found;
  }();
  REQUIRE(notes.size() == 2);
  CHECK(notes[0] == "On the way the first 200 of the 300 held-out images; the last point is of them all.");
  CHECK(notes[1].empty());  // all 300 labels, each time
}

TEST_CASE("banach flow: train, then sample, density, classify and reconstruct", "[command]") {
  const files::Folder folder;
  const std::string out = folder / "t";
  const auto trained = command::run(
      "flow train --data moons,pinwheel --estimators exact,series:2 --classify 1 --blocks 2 "
      "--hidden '8, 8' --steps 4 --batch-size 16 --test 100 --out '" +
      out + "'");
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  CHECK_THAT(trained.out, Contains("pinwheel, series:2"));
  for (const std::string job : {"sample --count 50", "density --grid 20", "classify --count 50",
                                "reconstruct --count 50 --model 'pinwheel, exact'"}) {
    const auto used = command::run("flow " + job + " --checkpoint '" + out +
                                   "/checkpoint.safetensors' --out '" + (folder / "u") + "'");
    INFO(job << used.err);
    CHECK(used.code == 0);
    CHECK_THAT(used.out, Contains("report.html"));
  }
  const auto none =
      command::run("flow sample --checkpoint '" + (folder / "none") + "' --out '" + (folder / "u") + "'");
  CHECK(none.code == 1);
  CHECK_THAT(none.err, Contains("there is no checkpoint") && Contains("first run 'banach flow train'"));
  CHECK(command::run("flow train --estimators series --out '" + out + "'").code == 2);
  CHECK(command::run("flow train --data circles --out '" + out + "'").code == 2);
  for (const char* bad : {"--estimators exact,poisson:200", "--data digits --reduce 3", "--probes 3"})
    CHECK(command::run("flow train " + std::string(bad) + " --out '" + (folder / "n") + "'").code == 2);
}

TEST_CASE("banach flow: images at several scales, by every command", "[command]") {
  const files::Folder folder;
  const std::string out = folder / "t";
  const auto trained = command::run(
      "flow train --data digits --scales 2 --classify 1 --blocks 1 --hidden 4 --steps 4 --batch-size 16 "
      "--test 100 --out '" +
      out + "'");
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  for (const std::string job :
       {"sample --count 50", "density", "classify --count 50", "reconstruct --count 50"}) {
    const auto used = command::run("flow " + job + " --checkpoint '" + out +
                                   "/checkpoint.safetensors' --out '" + (folder / "u") + "'");
    INFO(job << used.err);
    CHECK(used.code == 0);
  }
  for (const char* bad :
       {"--scales 2", "--data digits --scales 0", "--data digits --scales 4", "--data digits --scales two"}) {
    const auto refused = command::run("flow train " + std::string(bad) + " --out '" + (folder / "n") + "'");
    CHECK(refused.code == 2);
    CHECK_THAT(refused.err, Contains("--scales"));
  }
}

TEST_CASE("banach flow sample fails where draws are not inverted, its files written", "[command]") {
  const files::Folder folder;
  const std::string checkpoint = folder / "t/checkpoint.safetensors";
  REQUIRE(command::run("flow train --data moons --blocks 1 --hidden 4 --steps 1 --batch-size 16 --test 100 "
                       "--out '" +
                       (folder / "t") + "'")
              .code == 0);
  nn::Progress progress = nn::load_progress(checkpoint);
  for (auto& [name, tensor] : progress.extra)
    if (name.starts_with("learned.") && name.ends_with("bias"))
      tensor = Tensor::full(tensor.shape(), std::nan(""), tensor.dtype());
  nn::detail::write_checkpoint(checkpoint, {}, {}, progress);
  const auto used =
      command::run("flow sample --count 20 --checkpoint '" + checkpoint + "' --out '" + (folder / "u") + "'");
  CHECK(used.code == 1);
  CHECK_THAT(used.err, Contains("20 of 20 draws are no samples of moons, exact"));
  for (const char* name : {"report.html", "summary.json", "metrics.csv"})
    CHECK(std::filesystem::exists(folder / ("u/" + std::string(name))));
}

TEST_CASE("banach flow: what has diverged is not used, what does not go with images is refused",
          "[command]") {
  const files::Folder folder;
  const std::string out = " --out '" + (folder / "t") + "'", use = " --checkpoint '" +
                                                                   (folder / "t/checkpoint.safetensors") +
                                                                   "' --out '" + (folder / "u") + "'";
  const std::string small = " --blocks 1 --hidden 4 --batch-size 16 --test 100" + out;
  const auto trained = command::run("flow train --data moons --steps 1 --learning-rate 1e9" + small);
  CHECK(trained.code == 1);
  CHECK_THAT(trained.err, Contains("diverged"));
  for (const std::string job : {"sample", "density", "reconstruct"}) {
    const auto used = command::run("flow " + job + use);
    CHECK(used.code == 1);
    CHECK_THAT(used.err, Contains("moons, exact diverged"));
  }
  REQUIRE(command::run("flow train --data digits --dtype f64 --steps 1 --overwrite" + small).code == 0);
  for (const char* job : {"density", "reconstruct"})
    CHECK(command::run("flow " + std::string(job) + use).code == 0);
  CHECK(command::run("flow density --grid 20" + use).code == 2);
  CHECK(command::run("flow density --reach 2" + use).code == 2);
}
