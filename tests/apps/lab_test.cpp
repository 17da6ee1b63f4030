#include <apps/cli/run.hpp>
#include <apps/lab/findings.hpp>
#include <apps/lab/frontier.hpp>
#include <apps/lab/linear.hpp>
#include <apps/lab/linear_page.hpp>
#include <apps/lab/models.hpp>
#include <apps/lab/noise.hpp>
#include <apps/lab/page.hpp>
#include <apps/lab/pass.hpp>
#include <apps/lab/spectrum.hpp>
#include <apps/lab/train.hpp>
#include <apps/rules/rules.hpp>
#include <tests/apps/command.hpp>

#include <algorithm>
#include <cmath>
#include <regex>
#include <sstream>

#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <catch2/catch.hpp>

namespace {

using namespace banach;
using namespace banach::lab;

constexpr bool never() { return false; }

/// A small training on the embedded digits.
TrainSettings small_settings() {
  Options options;
  options.rules = {"implicit", "jfb", "phantom:3:0.5", "unrolled"};
  options.steps = 10;
  options.probe_every = 4;
  options.batch_size = 16;
  options.hidden = 12;
  return resolve(options, "digits", 1437);
}

Results train_small(const TrainSettings& settings, const std::string& checkpoint, bool resume = false,
                    const std::function<bool()>& stop = never) {
  Results results;
  train(settings, nn::load_digits(), {checkpoint, resume, stop}, results);
  return results;
}

std::vector<std::vector<std::string>> cells_of(const std::string& csv) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);) {
    rows.emplace_back();
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) rows.back().push_back(cell);
  }
  return rows;
}

/// Whether two metrics.csv tell the same: times apart, and what two threads hold at the same moment, which
/// may move a peak by some hundred bytes.
void check_same(const std::string& one, const std::string& other) {
  const auto a = cells_of(one), b = cells_of(other);
  REQUIRE(a.size() == b.size());
  for (std::size_t row = 0; row < a.size(); ++row) {
    REQUIRE(a[row].size() == b[row].size());
    for (std::size_t i = 0; i < a[row].size(); ++i) {
      const std::string &column = a[0][i], &x = a[row][i], &y = b[row][i];
      INFO(column << " of row " << row);
      if (column.find("seconds") != column.npos) continue;
      if (column == "peak_bytes" && row > 0 && !x.empty() && !y.empty())
        CHECK(std::stod(x) == Approx(std::stod(y)).epsilon(0.01));
      else
        CHECK(x == y);
    }
  }
}

const LinearRule& rule_of(const LinearResults& results, const std::string& spec) {
  return *std::find_if(results.rules.begin(), results.rules.end(),
                       [&](const LinearRule& r) { return r.spec == spec; });
}

LinearResults linear(double rho, const std::vector<std::string>& rules, bool nonnormal = false,
                     std::int64_t dimension = 0) {
  Options options;
  options.rho = rho;
  options.rules = rules;
  options.nonnormal = nonnormal;
  if (dimension > 0) options.dimension = dimension;
  return solve_linear_problem(resolve_linear(options));
}

}  // namespace

TEST_CASE("rules are read with their numbers") {
  CHECK(parse_rule("neumann:7").formula.find("i < 7") != std::string::npos);
  const std::string phantom = parse_rule("phantom-neumann:5:0.25").formula;
  CHECK(phantom.find("i < 5") != std::string::npos);
  CHECK(phantom.find("0.25 Jᵀ + 0.75 I") != std::string::npos);
  CHECK(solver_of(parse_rule("unrolled"), "anderson:5") == "picard");
  CHECK(solver_of(parse_rule("jfb"), "anderson:5") == "anderson:5");
  CHECK(parse_rule("phantom:5:0.5").backward(1e-6, 0).name() == "phantom");
  CHECK(parse_rule("unrolled").backward(1e-6, 0).iterates());

  // Of z = b - 6 z the damped series grows from its second term on.
  const auto slope = [](const char* rule) {
    const Tape tape;
    const Var b = leaf(Tensor::full({1, 1}, 7.0, DType::f64));
    const FixedPoint solved = fixed_point([&](const Var& z) { return b - 6.0 * z; }, ones_like(b),
                                          {.backward = parse_rule(rule).backward(1e-6, 0)});
    return grad(solved.z, {b}, {.cotangent = ones_like(b)})[0].item();
  };
  CHECK(parse_rule("phantom-guarded:4:0.5").formula.find("m ≤ 4") != std::string::npos);
  CHECK(slope("phantom-guarded:4:0.5") == 0.5);
  CHECK(slope("phantom-neumann:4:0.5") == 0.5 * (1.0 - 2.5 + 6.25 - 15.625));
}

TEST_CASE("one rule of each family can be asked for at once") {
  const std::vector<Rule> all = parse_rules({"all"});
  REQUIRE(all.size() == rule_syntax().size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    INFO(all[i].spec);
    CHECK(all[i].spec.starts_with(rule_syntax()[i].substr(0, rule_syntax()[i].find_first_of("[:"))));
    CHECK_FALSE(all[i].formula.empty());
    CHECK_FALSE(all[i].paper.empty());
  }
  CHECK_THROWS_AS(parse_rules({"jfb", "all"}), cli::UsageError);
  // Every family serves its closed form, or says that it has none.
  const LinearResults results = linear(0.7, {"all"}, false, 3);
  CHECK(results.all_match());
}

TEST_CASE("rules that cannot be read name the bad part and what is allowed") {
  const auto refused = [](const std::string& spec, const std::string& why) {
    try {
      parse_rule(spec);
      FAIL(spec << " was accepted");
    } catch (const cli::UsageError& error) {
      INFO(error.what());
      CHECK(std::string(error.what()).find(why) != std::string::npos);
      CHECK(std::string(error.what()).find("neumann:K") != std::string::npos);
    }
  };
  refused("", "there is no rule ''");
  refused("Implicit", "there is no rule 'Implicit'");
  refused("implicit:gmres:3:1", "'1' is one part too many");
  refused("implicit:gmres:1", "K must be at least 2");
  refused("implicit:dense:5", "only gmres takes a number of products");
  refused("jfb:scaled:1", "'1' is one part too many");
  refused("neumann:", "K must be a number");
  refused("neumann:5x", "K must be a number, not '5x'");
  refused("neumann:-1", "K must lie in");
  refused("phantom:5", "needs 2 numbers");
  refused("phantom:5:0", "TAU must lie in (0, 1]");
  refused("phantom:5:nan", "TAU must lie in (0, 1]");
  refused("phantom-guarded:5", "needs 2 numbers");
  refused("phantom-guarded:5:2", "TAU must lie in (0, 1]");
  refused("reversible:1", "B must lie in (0, 2)");
  refused("reversible:inf", "B must be finite");
  refused("random-neumann:1", "P must be below 1");
  refused("shine:0", "FALLBACK must be positive");
  refused("jfb:diagonal", "'diagonal' is not known after 'jfb'");
}

TEST_CASE("linear problems match the closed forms and the numbers known") {
  const LinearResults stiff = linear(0.999, {"implicit:gmres", "implicit:dense", "neumann:10", "jfb"});
  CHECK(stiff.all_match());
  CHECK(rule_of(stiff, "implicit:gmres").computed.front() == Approx(1000.0).epsilon(1e-8));
  CHECK(rule_of(stiff, "implicit:dense").computed.front() == Approx(1000.0).epsilon(1e-8));
  CHECK(rule_of(stiff, "neumann:10").computed.front() == Approx(9.955119790).epsilon(1e-9));
  CHECK(rule_of(stiff, "jfb").computed.front() == 1.0);

  const LinearResults phantom = linear(0.9, {"phantom-neumann:5:0.5", "phantom:5:0.5"});
  CHECK(phantom.all_match());
  for (const LinearRule& rule : phantom.rules)
    CHECK(rule.computed.front() == Approx(2.262190625).epsilon(1e-12));

  const LinearResults sheared = linear(0.5, {"implicit", "jfb", "neumann:3", "unrolled"}, true);
  CHECK(sheared.all_match());
  CHECK(sheared.exact[0] == Approx(2.0).epsilon(1e-14));
  CHECK(sheared.exact[1] == Approx(-38.0).epsilon(1e-14));
  CHECK_FALSE(rule_of(sheared, "jfb").quality.descent);
  CHECK(rule_of(sheared, "jfb").quality.cosine ==
        Approx(-36.0 / std::sqrt(2.0 * (4.0 + 38.0 * 38.0))).epsilon(1e-12));
  CHECK(to_text(sheared).find("jfb points uphill") != std::string::npos);
}

TEST_CASE("linear problems of any size and radius match") {
  const double rho = GENERATE(0.0, 0.3, 0.95, 1.5);
  const std::int64_t dimension = GENERATE(1, 2, 7);
  CAPTURE(rho, dimension);
  const LinearResults results = linear(rho,
                                       {"implicit", "implicit:dense", "jfb", "neumann:4", "phantom:3:0.7",
                                        "phantom-neumann:6:0.5", "unrolled"},
                                       false, dimension);
  for (const LinearRule& rule : results.rules) {
    INFO(rule.spec << ": " << rule.difference);
    CHECK(rule.matches);
  }
}

TEST_CASE("a reversible iteration is differentiated, of as many steps as it may take") {
  for (const std::int64_t dimension : {1, 2, 7})
    CHECK(linear(0.5, {"reversible:0.8", "reversible:0.5", "reversible:1.2"}, false, dimension).all_match());
  CHECK(linear(0.5, {"reversible:0.5"}, true).all_match());
  const LinearResults few = linear(0.9, {"reversible:0.8:4"});
  CHECK(few.rules.front().forward_evaluations == 4);
  CHECK(few.rules.front().forward_status == "max_steps");
  CHECK(few.all_match());
}

TEST_CASE("a rule that draws is held against its mean, where there is one") {
  const LinearResults results = linear(0.8, {"random-neumann:0.9", "random_neumann:0.75:3"}, false, 3);
  for (const LinearRule& rule : results.rules) {
    INFO(rule.spec);
    CHECK(rule.matches);
    CHECK(rule.difference > 1e-8);  // a mean of draws, not the closed form itself
    CHECK(rule.gradient_kind == "unbiased");
  }
  CHECK(to_text(results).find("mean of 1000 draws") != std::string::npos);
  // Where its variance is infinite, a mean says nothing, and no match is claimed.
  const LinearResults wild = linear(0.99, {"random-neumann:0.9"});
  CHECK(wild.rules.front().closed_form.empty());
  CHECK(wild.all_match());
}

TEST_CASE("jfb scaled takes the length of least residual") {
  // In one dimension that is the exact gradient; in more, it is no function of A.
  const LinearResults one = linear(0.9, {"jfb:scaled"});
  CHECK(one.rules.front().computed.front() == Approx(10.0).epsilon(1e-12));
  CHECK(one.rules.front().closed_form.empty());
  const LinearResults some = linear(0.9, {"jfb", "jfb:scaled"}, false, 5);
  CHECK(some.rules[1].quality.cosine == Approx(some.rules[0].quality.cosine).epsilon(1e-12));
  CHECK(some.rules[1].backward_evaluations == 2);
}

TEST_CASE("gmres cut takes the polynomial of least residual") {
  // z = A z + b, A diagonal. Of three products two make the space of g and A g, one tells the residual.
  const double a[] = {0.5, -3.0, 0.8};
  const auto gradient = [&](const char* rule) {
    const Tape tape;
    const Var b = leaf(Tensor::zeros({1, 3}, DType::f64));
    const Var slopes(Tensor::from<double>(a, {1, 3}));
    const FixedPoint solved = fixed_point([&](const Var& z) { return slopes * z + b; }, zeros_like(b),
                                          {.backward = parse_rule(rule).backward(1e-12, 0)});
    const Tensor found = grad(solved.z, {b}, {.cotangent = ones_like(b)})[0].value();
    return std::array{found.at(0), found.at(1), found.at(2)};
  };
  // Normal equations of p + q A against (I - A)(p + q A) = 1, entry by entry.
  double s00 = 0.0, s01 = 0.0, s11 = 0.0, r0 = 0.0, r1 = 0.0;
  for (const double x : a) {
    const double u = 1.0 - x, v = u * x;
    s00 += u * u;
    s01 += u * v;
    s11 += v * v;
    r0 += u;
    r1 += v;
  }
  const double det = s00 * s11 - s01 * s01, p = (r0 * s11 - r1 * s01) / det, q = (r1 * s00 - r0 * s01) / det;
  const auto cut = gradient("implicit:gmres:3"), whole = gradient("implicit:gmres:5");
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(cut[i] == Approx(p + q * a[i]).epsilon(1e-12));
    CHECK(whole[i] == Approx(1.0 / (1.0 - a[i])).epsilon(1e-12));
  }
  CHECK(adjoint_in_words("implicit:gmres:3", "max_steps") == "truncated by design");
  CHECK(linear(0.9, {"implicit:gmres:5"}, false, 8).all_match());
}

TEST_CASE("rules that share the solver's inverse solve by that solver, and count their fallbacks") {
  // In one dimension, and where it has looked everywhere, a Broyden inverse is exact.
  const LinearResults one = linear(0.9, {"shine:inf", "adjoint-broyden:inf", "adjoint_broyden:inf:2"});
  for (const LinearRule& rule : one.rules) CHECK(rule.computed.front() == Approx(10.0).epsilon(1e-8));
  CHECK(rule_of(linear(0.9, {"shine"}), "shine").computed.front() == 1.0);  // longer than 1.3 |g|: fell back
  CHECK(solver_of(parse_rule("shine"), "anderson:5") == "broyden");
  CHECK(solver_of(parse_rule("adjoint-broyden"), "anderson:5") == "adjoint-broyden");
  CHECK(forward_solver(parse_rule("adjoint_broyden"), "anderson:5").keeps_inverse());
  CHECK(parse_solver("adjoint_broyden:7").get_if<AdjointBroyden>()->memory == 7);
  CHECK(solver_notices(parse_rules({"shine", "jfb", "unrolled", "truncated:3"}), "anderson:5").size() == 2);
  CHECK(solver_notices(parse_rules({"jfb", "unrolled"}), "picard").empty());

  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules = parse_rules({"shine", "shine:inf", "adjoint-broyden:inf"});
  const Results results = train_small(settings, folder / "checkpoint.safetensors");
  CHECK(results.rules[0].figures.at("fallbacks").mean > 0.0);
  CHECK(results.rules[1].figures.at("fallbacks").largest == 0.0);
  CHECK(results.rules[2].own_summary().cosine_mean > results.rules[0].own_summary().cosine_mean);
  CHECK(results.rules[0].solver == "broyden");
  CHECK(adjoint_in_words("shine", "max_steps") == "estimated by design");
}

TEST_CASE("what only some rules can tell is recorded") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules = parse_rules({"jfb", "reversible:0.8:8", "reversible:0.8"});
  const Results results = train_small(settings, folder / "checkpoint.safetensors");
  CHECK(results.rules[0].figures.empty());
  const FigureSummary& error = results.rules[1].figures.at("reconstruction error");
  CHECK(error.steps == settings.steps);
  CHECK(error.mean > 0.0);
  CHECK(error.largest < 1e-3);
  // Rounding errors grow with the number of steps to be inverted, and the rule says so.
  CHECK(results.rules[2].figures.at("reconstruction error").largest > 1.0);
  CHECK(results.rules[2].adjoint_statuses.at("diverged") > 0);
  const std::vector<std::string> said = warnings(results);
  CHECK(std::any_of(said.begin(), said.end(),
                    [](const std::string& text) { return text.starts_with("reversible:0.8: says itself"); }));
  CHECK(results.rules[1].probes.front().figures.at("reconstruction error") > 0.0);
  // It survives the checkpoint, and stands in the summary.
  const RuleResult read = from_text(to_text(results.rules[1]));
  CHECK(read.figures.at("reconstruction error").largest == error.largest);
  CHECK(summary_json(results).find("\"reconstruction error\"") != std::string::npos);

  FigureSummary summary;
  for (const double value : {1.0, unknown, 3.0}) summary.add(value);
  CHECK(std::isnan(summary.largest));
}

TEST_CASE("an iteration that diverges at once has no gradient, and the lab says so") {
  const LinearResults results = linear(1.5, {"unrolled"});
  CHECK(results.rules.front().computed == std::vector<double>{0.0});
  CHECK(to_text(results).find("unrolled gives no gradient at all") != std::string::npos);
}

TEST_CASE("plain iteration reports that it ran out of steps") {
  Options options;
  options.rho = 0.999;
  options.solver = "picard";
  options.rules = {"unrolled", "jfb"};
  const LinearResults results = solve_linear_problem(resolve_linear(options));
  CHECK(results.all_match());
  for (const LinearRule& rule : results.rules) CHECK(rule.forward_status == "max_steps");
}

TEST_CASE("the exact gradient of the lab is that of finite differences") {
  TrainSettings settings = small_settings();
  const nn::ImageDataset data = nn::load_digits();
  const auto model = in_double(*make_classifier(settings, data.train.image_shape(), 10));
  const nn::Minibatch batch = data.train.range(0, 5, DType::f64);
  const ExactGradient exact = exact_gradient(*model, batch);
  CHECK(exact.adjoint_residual < 1e-10);
  CHECK(exact.forward_residual < 1e-10);

  // Along a direction in all parameters.
  const FixedPointOptions tight{.tolerance = 1e-13, .max_steps = 1000};
  const auto loss_at = [&](double t) {
    const auto moved = model->clone();
    std::size_t position = 0;
    for (const nn::NamedParameter& p : nn::parameters(*moved))
      p.parameter->update([&](Tensor& value) {
        double* v = value.mutable_data<double>();
        for (std::int64_t i = 0; i < value.size(); ++i) v[i] += t * std::sin(static_cast<double>(position++));
      });
    return run_pass(*moved, batch, tight).loss;
  };
  double slope = 0.0;
  for (std::size_t i = 0; i < exact.values.size(); ++i)
    slope += exact.values[i] * std::sin(static_cast<double>(i));
  const double h = 1e-4;
  const double measured = (loss_at(-2 * h) - 8 * loss_at(-h) + 8 * loss_at(h) - loss_at(2 * h)) / (12 * h);
  CHECK(slope == Approx(measured).epsilon(1e-7));
}

TEST_CASE("a training measures every rule and is reproducible") {
  const files::Folder folder;
  const TrainSettings settings = small_settings();
  const Results results = train_small(settings, folder / "checkpoint.safetensors");
  REQUIRE(results.rules.size() == 4);
  for (const RuleResult& rule : results.rules) {
    INFO(rule.spec);
    CHECK(rule.failure.empty());
    CHECK(rule.steps.size() == 10);
    REQUIRE(rule.probes.size() == 4);  // steps 0, 4, 8 and 10
    REQUIRE(rule.same_point.size() == 4);
    CHECK(rule.probes.back().step == 10);
    CHECK(rule.probes.front().adjoint_residual < 1e-10);
    CHECK(rule.probes.front().test_accuracy == results.rules.front().probes.front().test_accuracy);
    for (const Probe& probe : rule.probes) CHECK(probe.quality.descent);
    CHECK(rule.median_cost().peak_bytes > 0.0);
    // The same model on the same batch, up to the solver's tolerance.
    CHECK(rule.steps.front().loss == Approx(results.rules.front().steps.front().loss).epsilon(1e-3));
    CHECK_FALSE(rule.convergence.median.empty());
  }
  const RuleResult &implicit = results.rules[0], &jfb = results.rules[1];
  CHECK(implicit.own_summary().cosine_smallest > 0.99999);
  CHECK(jfb.own_summary().cosine_mean < implicit.own_summary().cosine_mean);
  CHECK(jfb.median_cost().backward_evaluations == 1.0);
  CHECK(results.rules[2].median_cost().backward_evaluations == 4.0);  // three steps, and one for the residual
  CHECK(implicit.gradient_kinds.at("exact") == 160);

  const Results again = train_small(settings, folder / "again.safetensors");
  check_same(metrics_csv(again), metrics_csv(results));
}

TEST_CASE("a stopped training goes on to the very same results") {
  const files::Folder folder;
  const TrainSettings settings = small_settings();
  const Results whole = train_small(settings, folder / "whole.safetensors");

  // Stopped in the first rule, at a probe of the second, and in the last one.
  const std::string checkpoint = folder / "checkpoint.safetensors";
  bool resume = false;
  for (const int steps : {3, 12, 20}) {
    int left = steps;
    CHECK_THROWS_AS(train_small(settings, checkpoint, resume, [&] { return left-- == 0; }), Error);
    resume = true;
  }
  const Results resumed = train_small(settings, checkpoint, true);
  check_same(metrics_csv(resumed), metrics_csv(whole));
  for (std::size_t i = 0; i < whole.rules.size(); ++i) {
    CHECK(resumed.rules[i].predictions == whole.rules[i].predictions);
    CHECK(resumed.rules[i].forward_statuses == whole.rules[i].forward_statuses);
    CHECK(resumed.rules[i].convergence.median == whole.rules[i].convergence.median);
  }
  // Nothing is left to do, and all results are still there.
  CHECK(metrics_csv(train_small(settings, checkpoint, true)) == metrics_csv(resumed));
}

TEST_CASE("a finished run is told again only from an undamaged checkpoint") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules.resize(1);
  settings.steps = 2;
  const std::string checkpoint = folder / "checkpoint.safetensors";
  train_small(settings, checkpoint);
  nn::Bytes bytes = nn::read_file(checkpoint);
  SECTION("in the losses") { bytes[bytes.size() - 3] ^= 1; }
  SECTION("in the results") {
    const std::string text(bytes.begin(), bytes.end());
    const std::size_t accuracy = text.find("test_accuracy");
    REQUIRE(accuracy != text.npos);
    std::uint8_t& digit = bytes[text.find("0.", accuracy) + 2];
    digit = digit == '9' ? '8' : '9';
  }
  folder.write("checkpoint.safetensors", bytes);
  CHECK(files::message<FileError>([&] { train_small(settings, checkpoint, true); }).find("damaged") !=
        std::string::npos);
}

TEST_CASE("losses that are not finite are announced") {
  RuleResult rule{.spec = "jfb"};
  for (const double loss : {1.0, 2.0, unknown, unknown}) rule.steps.push_back({.loss = loss, .cost = {}});
  rule.probes.push_back({.step = 4});  // of a model that no longer gives numbers
  rule.forward_statuses["converged"] = 1;
  Results results;
  results.rules.push_back(rule);
  const std::string words = "jfb: the loss is not finite in 2 of 4 steps, first in step 3.";
  const std::vector<std::string> texts = warnings(results);
  REQUIRE(texts.size() == 2);
  CHECK(texts[0] == words);
  CHECK(texts[1].find("not finite") != std::string::npos);  // and not "uphill"
  CHECK(summary_json(results).find(words) != std::string::npos);
  CHECK(summary_json(results).find("\"steps_without_finite_loss\": 2") != std::string::npos);
  const cli::SummaryTable table = summary_table(results);
  for (const std::string& cell : table.rows.front()) CHECK(cell.find("-nan") == std::string::npos);
}

TEST_CASE("a series truncated by design is not said to have run out of steps") {
  CHECK(adjoint_in_words("neumann:5", "max_steps") == "truncated by design");
  CHECK(adjoint_in_words("phantom:5:0.5", "max_steps") == "truncated by design");
  CHECK(adjoint_in_words("phantom:5:0.5", "diverged") == "diverged");
  CHECK(adjoint_in_words("implicit:gmres", "max_steps") == "max_steps");
  CHECK(adjoint_in_words("unrolled", "converged") == "none: its own iteration");
  const LinearResults results = linear(0.9, {"neumann:5"});
  CHECK(to_text(results).find("max_steps") == std::string::npos);
  CHECK(summary_json(results).find("\"adjoint_status\": \"max_steps\"") != std::string::npos);
}

TEST_CASE("a checkpoint of other settings is refused, naming the first that differs") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules.resize(1);
  settings.steps = 2;
  const std::string checkpoint = folder / "checkpoint.safetensors";
  train_small(settings, checkpoint);
  settings.batch_size = 32;
  try {
    train_small(settings, checkpoint, true);
    FAIL("was accepted");
  } catch (const FileError& error) {
    const std::string text = error.what();
    INFO(text);
    CHECK(text.find("--batch-size 16, not 32") != text.npos);
  }
}

TEST_CASE("results survive being written") {
  RuleResult result{.spec = "jfb"};
  result.probes.push_back({.step = 3, .seconds = 0.1, .test_accuracy = 1.0 / 3.0});
  result.forward_statuses["converged"] = 7;
  result.failure = "\"quoted\"";
  const RuleResult read = from_text(to_text(result));
  CHECK(read.probes.front().test_accuracy == 1.0 / 3.0);
  CHECK(std::isnan(read.probes.front().radius_median));
  CHECK(read.forward_statuses == result.forward_statuses);
  CHECK(read.failure == result.failure);
  CHECK_THROWS_AS(from_text("{}"), FileError);
  CHECK_THROWS_AS(from_text("{"), FileError);
}

TEST_CASE("the pages load nothing from elsewhere and hold their charts") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.steps = 4;
  const Results results = train_small(settings, folder / "checkpoint.safetensors");
  const std::string html = report::render(make_page(results));
  const std::string small = report::render(make_page(linear(0.5, {"implicit", "jfb"}, true)));
  const std::regex reference(R"((src|href)\s*=\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//|@import)");
  CHECK_FALSE(std::regex_search(html, reference));
  CHECK_FALSE(std::regex_search(small, reference));
  for (const char* title :
       {"Test accuracy against training time", "Cosine to the exact gradient", "Peak memory of a step",
        "Spectral radius", "Convergence of the forward solve", "What a backward pass buys",
        "What a training buys", "The squared error of one gradient"})
    CHECK(html.find(title) != html.npos);
  CHECK(small.find("points uphill") != small.npos);
  CHECK_FALSE(findings(results).empty());
}

TEST_CASE("the command trains, resumes and leaves its files") {
  const files::Folder folder;
  const std::string arguments =
      "lab --data digits --rules jfb,neumann:3 --steps 4 --hidden 8 --batch-size 16 --probe-every 2 --out '" +
      folder.path() + "'";
  const command::Outcome first = command::run(arguments);
  INFO(first.err);
  CHECK(first.code == 0);
  CHECK(first.out.find("neumann:3") != first.out.npos);
  CHECK(folder.names() ==
        std::vector<std::string>{"checkpoint.safetensors", "metrics.csv", "report.html", "summary.json"});
  CHECK(command::run(arguments + " --resume").out == first.out);
  CHECK(command::run(arguments + " --resume --seed 1").code == 1);

  // The same run again destroys nothing; another one would.
  CHECK(command::run(arguments).code == 0);
  const command::Outcome other = command::run(arguments + " --seed 1");
  CHECK(other.code == 1);
  CHECK(other.err.find("is of another run (--seed 0, not 1): start anew with --overwrite") != other.err.npos);
  CHECK(command::run(arguments + " --seed 1 --overwrite").code == 0);
  folder.write("checkpoint.safetensors", files::bytes_of("not a checkpoint"));
  CHECK(command::run(arguments + " --seed 1").err.find("cannot be read") != std::string::npos);
}

TEST_CASE("a run that the end of its terminal interrupts goes on to the very same results") {
  const files::Folder folder;
  const std::string arguments =
      "lab --data digits --rules jfb --steps 2000 --hidden 8 --batch-size 16 "
      "--probe-every 1000 --out '";
  const std::string whole = folder / "whole", parts = folder / "parts";
  REQUIRE(command::run(arguments + whole + "'").code == 0);
  // The checkpoint appears with the first probe.
  const std::string interrupted =
      "(" BANACH_COMMAND " " + arguments + parts + "' 2>/dev/null & child=$!; while ! test -e '" + parts +
      "/checkpoint.safetensors' && kill -0 $child; do sleep 0.01; done; kill -HUP $child; wait $child)";
  CHECK(WEXITSTATUS(std::system(interrupted.c_str())) == 1);
  const command::Outcome refused = command::run(arguments + parts + "'");
  CHECK(refused.code == 1);
  CHECK(refused.err.find("unfinished run: go on with --resume") != refused.err.npos);
  REQUIRE(command::run(arguments + parts + "' --resume").code == 0);
  const auto metrics = [](const std::string& path) {
    return files::text_of(nn::read_file(path + "/metrics.csv"));
  };
  check_same(metrics(parts), metrics(whole));
}

TEST_CASE("the command prints the numbers of a linear problem") {
  const files::Folder folder;
  const command::Outcome outcome =
      command::run("lab --problem linear --rho 0.999 --out '" + folder.path() + "'");
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("9.95511979") != outcome.out.npos);
  CHECK(outcome.err.find("implicit:gmres") != outcome.err.npos);  // its progress
  CHECK(folder.names() == std::vector<std::string>{"report.html", "summary.json"});
}

TEST_CASE("the convolutional network has the parameters of its paper") {
  TrainSettings settings;
  settings.model = "conv";
  const auto model = make_classifier(settings, {1, 28, 28}, 10);
  CHECK(nn::count(nn::parameters(*model)) == 54'352);
  const Var x(Tensor::full({2, 1, 28, 28}, 0.5));
  const Equation equation = model->equation(x);
  CHECK(equation.batch == Batch::none);
  CHECK(equation.z0.shape() == Shape{2, 32, 9, 9});
  CHECK(model->head(equation.f(equation.z0)).shape() == Shape{2, 10});
  nn::eval(*model);
  CHECK(model->equation(x).batch == Batch::axis0);
}

TEST_CASE("a gradient's bias and variance add up, and chance is told from bias") {
  // Two minibatches, two draws each; G = (1, 0), so lengths are relative to 1.
  const std::vector<Gradient> exact{{2.0, 0.0}, {0.0, 0.0}};
  const std::vector<std::vector<Gradient>> estimates{{{2.5, 1.0}, {2.5, -1.0}}, {{0.5, 2.0}, {0.5, -2.0}}};
  const Noise noise = noise_of(estimates, exact);
  CHECK(noise.bias == Approx(0.5));                    // the means are (2.5, 0) and (0.5, 0)
  CHECK(noise.own_variance == Approx((2 + 8) / 2.0));  // sum of squares over draws - 1, mean of both
  CHECK(noise.chance == Approx(std::sqrt(5.0 / 4.0)));
  CHECK(noise.batch_variance == 0.0);  // 2, of which the draws explain 2.5
  CHECK(noise.exact_batch_variance == Approx(2.0));

  // Without draws there is no variance of its own, and one minibatch tells none of minibatches.
  const Noise single = noise_of({{{3.0, 0.0}}, {{0.0, 0.0}}}, exact);
  CHECK(single.bias == Approx(0.5));
  CHECK(std::isnan(single.own_variance));
  CHECK(single.batch_variance == Approx(4.5));
  CHECK(std::isnan(noise_of({{{3.0, 0.0}}}, {{1.0, 0.0}}).batch_variance));
}

TEST_CASE("an unbiased estimate shows no bias beyond chance, a truncated one does", "[unsanitized]") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules = parse_rules({"random-neumann:0.8", "neumann:2", "implicit"});
  settings.steps = 2;
  settings.probe_every = 2;
  settings.probe_batches = 3;
  settings.probe_seeds = 200;
  const Results results = train_small(settings, folder / "checkpoint.safetensors");
  const Noise random = results.rules[0].mean_noise(), cut = results.rules[1].mean_noise(),
              exact = results.rules[2].mean_noise();
  CHECK(random.own_variance > 0.0);
  CHECK(random.bias < 3.0 * random.chance);
  CHECK(random.bias < 0.2 * cut.bias);
  CHECK(cut.bias > 0.05);
  CHECK(exact.bias < 1e-3);
  CHECK(exact.batch_variance == Approx(exact.exact_batch_variance).epsilon(1e-2));
  CHECK(results.rules[0].figures.at("variance of λ").steps == 2);
  CHECK(results.rules[0].gradient_kinds.contains("unbiased"));
  // Draws depend on the seed and the step alone.
  const Results again = train_small(settings, folder / "again.safetensors");
  check_same(metrics_csv(again), metrics_csv(results));
  settings.probe_batches = 0;
  const Results none = train_small(settings, folder / "none.safetensors");
  CHECK(std::isnan(none.rules[0].mean_noise().bias));
  CHECK(report::render(make_page(none)).find("Bias and variance") == std::string::npos);
}

TEST_CASE("a run with rules that draw goes on to the very same results") {
  const files::Folder folder;
  TrainSettings settings = small_settings();
  settings.rules = parse_rules({"random-neumann:0.7:2", "reversible:0.8:6"});
  const Results whole = train_small(settings, folder / "whole.safetensors");
  int left = 5;
  const std::string checkpoint = folder / "checkpoint.safetensors";
  CHECK_THROWS_AS(train_small(settings, checkpoint, false, [&] { return left-- == 0; }), Error);
  const Results resumed = train_small(settings, checkpoint, true);
  check_same(metrics_csv(resumed), metrics_csv(whole));
}

TEST_CASE("the Pareto front holds those that none beats in both") {
  const std::vector<Offer> front = pareto_front({{"slow and good", 10.0, 0.01},
                                                 {"cheap", 1.0, 0.5},
                                                 {"beaten", 2.0, 0.6},
                                                 {"middle", 3.0, 0.1},
                                                 {"hardly better", 4.0, 0.0995},
                                                 {"same cost", 3.0, 0.2},
                                                 {"broken", 0.5, unknown}});
  std::vector<std::string> names;
  for (const Offer& offer : front) names.push_back(offer.rule);
  CHECK(names == std::vector<std::string>{"cheap", "middle", "slow and good"});
  CHECK(pareto_front({}).empty());
}

TEST_CASE("spectra are those of the matrix, and shrink with its bound") {
  TrainSettings settings = small_settings();
  const nn::ImageDataset data = nn::load_digits();
  const Tensor x = data.test.range(0, 3).x;
  double residual = 0.0;
  const auto at_bound = [&](double bound) {
    settings.bound = bound;
    return spectra_at(*make_classifier(settings, data.test.image_shape(), 10), x, residual);
  };
  const std::vector<Spectrum> spectra = at_bound(0.9), small = at_bound(0.09);
  REQUIRE(spectra.size() == 3);
  CHECK(residual < 1e-11);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(spectra[i].eigenvalues.size() == 12);
    CHECK(spectra[i].radius() <= 0.85);  // ||J|| <= ||W|| = 0.85, tanh being 1-Lipschitz
    CHECK(spectra[i].radius() > 0.3);
    CHECK(small[i].radius() <= 0.085);
    CHECK(spectra[i].outside() == 0);
    // J is real: its eigenvalues come in conjugate pairs, and their sum is real.
    std::complex<double> trace = 0.0;
    for (const auto& value : spectra[i].eigenvalues) trace += value;
    CHECK(std::abs(trace.imag()) < 1e-12);
  }
  // The same radius by Arnoldi's method.
  const nn::Minibatch batch = data.test.range(0, 3);
  settings.bound = 0.9;
  const auto model = make_classifier(settings, data.test.image_shape(), 10);
  const std::vector<double> radii = spectral_radii(*model, batch, exact_gradient(*model, batch));
  for (std::size_t i = 0; i < 3; ++i) CHECK(radii[i] == Approx(spectra[i].radius()).epsilon(1e-8));
  CHECK(Spectrum{{{0.0, 1.5}, {0.5, 0.0}}}.outside() == 1);
}

TEST_CASE("the command draws spectra, of its own training or of a checkpoint") {
  const files::Folder folder;
  const std::string lab = folder / "lab", own = folder / "own", loaded = folder / "loaded";
  const std::string small = " --data digits --steps 3 --hidden 8 --batch-size 16 --bound 0.7";
  const command::Outcome first =
      command::run("lab spectrum --rule neumann:3 --samples 2" + small + " --out '" + own + "'");
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK(first.out.find("image 2") != first.out.npos);
  CHECK(first.out.find("of 16 eigenvalues") != first.out.npos);

  // The same rule, last in a lab of two, leads to the same model.
  REQUIRE(command::run("lab --rules jfb,neumann:3 --probe-batches 0" + small + " --out '" + lab + "'").code ==
          0);
  const command::Outcome second = command::run("lab spectrum --samples 2 --checkpoint '" + lab +
                                               "/checkpoint.safetensors' --out '" + loaded + "'");
  INFO(second.err);
  REQUIRE(second.code == 0);
  CHECK(second.out.substr(0, second.out.find("/report")).find("of 16 eigenvalues") != std::string::npos);
  const auto eigenvalues = [](const std::string& path) {
    const std::string text = files::text_of(nn::read_file(path + "/summary.json"));
    return text.substr(text.find("\"labels\""));
  };
  CHECK(eigenvalues(loaded) == eigenvalues(own));
  const std::string page = files::text_of(nn::read_file(loaded + "/report.html"));
  CHECK(page.find("after 3 steps of training with neumann:3") != page.npos);
  CHECK(page.find("unit circle") != page.npos);

  folder.write("not.safetensors", files::bytes_of("not a checkpoint"));
  CHECK(
      command::run("lab spectrum --checkpoint '" + (folder / "not.safetensors") + "' --out '" + loaded + "'")
          .code == 1);
  CHECK(command::run("lab spectrum --checkpoint '" + (folder / "none") + "' --out '" + loaded + "'")
            .err.find("first run 'banach lab'") != std::string::npos);
}
