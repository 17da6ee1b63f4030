// `banach lab logdet`: the answers against dense Jacobians, moments against closed forms, the page, the
// command.
#include <apps/lab/logdet/page.hpp>
#include <banach/engine/error.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <tests/apps/command.hpp>
#include <tests/threads.hpp>

#include <algorithm>
#include <cmath>
#include <regex>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace banach;
using namespace banach::lab::logdet;

namespace {

bool contains(const std::string& text, const std::string& word) { return text.find(word) != text.npos; }

Problem problem_of(const std::string& name) {
  for (const Problem& problem : known_problems())
    if (problem.name == name) return problem;
  throw std::runtime_error("no problem " + name);
}

Var dense(const Problem& problem) {
  return reshape(jacobian(problem.map, Var(problem.at)), {problem.d(), problem.d()});
}

double log_det_along(const Problem& problem, double s) {
  const Var eye(Tensor::eye(problem.d(), DType::f64));
  return slogdet(eye + dense(problem) + s * Var(problem.direction)).log_abs.item();
}

/// sum_{k <= terms} (-1)^(k+1) J^k / k, and its symmetric part.
Var symmetric_series(const Problem& problem, int terms) {
  const Var j = dense(problem);
  Var power = j, sum = j;
  for (int k = 2; k <= terms; ++k) {
    power = matmul(power, j);
    sum = sum + power * ((k % 2 == 1 ? 1.0 : -1.0) / k);
  }
  return 0.5 * (sum + transpose(sum));
}

void check_variance(const Moments& found, double expected) {
  CHECK(found.variance_error < 0.2 * expected);
  CHECK(std::abs(found.variance - expected) < 4.0 * found.variance_error);
}

}  // namespace

TEST_CASE("the answers are those of the dense Jacobian", "[logdet]") {
  for (const Problem& problem : known_problems()) {
    INFO(problem.name);
    const Answer exact = problem.exact();
    CHECK(exact.value == Approx(log_det_along(problem, 0.0)).epsilon(1e-12));
    constexpr double h = 1e-5;
    CHECK(exact.derivative ==
          Approx((log_det_along(problem, h) - log_det_along(problem, -h)) / (2 * h)).epsilon(1e-7));
    const Var j = dense(problem);
    const Tensor squares = eigh(matmul(j, j, {.transpose_a = true})).values.value();
    CHECK(std::sqrt(squares.at(problem.d() - 1)) <= problem.lipschitz * (1.0 + 1e-12));
    CHECK(problem.cut(5).value ==
          Approx(trace(symmetric_series(problem, 5)).item()).epsilon(1e-12).margin(1e-12));
    for (const int terms : {1, 5, 20}) {
      const Answer cut = problem.cut(terms), bound = problem.bound(terms);
      CHECK(std::abs(cut.value - exact.value) <= bound.value + 1e-12);
      CHECK(std::abs(cut.derivative - exact.derivative) <= bound.derivative + 1e-12);
    }
  }
  const Problem scaled = problem_of("scaled");
  CHECK(scaled.exact().value == Approx(8 * std::log(0.1)).epsilon(1e-14));
  CHECK(scaled.exact().derivative == Approx(80.0).epsilon(1e-13));
  CHECK(scaled.cut(5).value - scaled.exact().value == Approx(scaled.bound(5).value).epsilon(1e-12));
}

TEST_CASE("moments of few numbers", "[logdet]") {
  Moments m = moments({0.0, 0.0, 0.0, 4.0});
  CHECK(m.mean == 1.0);
  CHECK(m.variance == 4.0);
  CHECK(m.error == 1.0);
  CHECK(m.variance_error == Approx(std::sqrt((21.0 - 16.0) / 4.0)));
  CHECK(std::isnan(m.t()));
  m.exact = 0.5, m.expected = 3.0;
  CHECK(m.bias() == 0.5);
  CHECK(m.t() == -2.0);
  CHECK(m.rms() == Approx(std::sqrt(4.25)));
  CHECK_FALSE(moments({1.0, 1.0}).varies());
  CHECK(moments({5.0}).variance == 0.0);
}

TEST_CASE("on J = -cI biases are bounds, and variances known", "[logdet]") {
  const Study s = study(problem_of("scaled"), {.draws = 1500, .seed = 3});
  CHECK(s.of("exact").value.bias() == Approx(0.0).margin(1e-12));
  CHECK(s.of("exact").derivative.bias() == Approx(0.0).margin(1e-11));
  for (const Measured& m : s.measured) {
    if (!m.series()) continue;
    INFO(m.estimator.name);
    CHECK(m.value.bias() == Approx(m.value.bound).epsilon(1e-11));
    CHECK(m.derivative.bias() == Approx(-m.derivative.bound).epsilon(1e-11));
  }
  // a |v|^2 of normal v.
  const double a = s.problem.cut(20).value / 8.0;
  check_variance(s.of("Gaussian, 1 probe").value, 16.0 * a * a);
  check_variance(s.of("Gaussian, 4 probes").value, 4.0 * a * a);
  CHECK_FALSE(s.of("Rademacher, 1 probe").value.varies());
  CHECK(s.of("Rademacher, 2 probes").products == 40.0);
  CHECK(s.of("Hutch++, sketch 1").products == 41.0);
  CHECK(s.of("Lanczos 8").value.bias() == Approx(0.0).margin(1e-10));

  // The sum over the number of terms N of a geometric roulette, which takes two at least.
  double value = 8.0 * 0.9, square = 0.0, mean = 0.0, left = 1.0, count = 0.0;
  for (int n = 2; n < 2000; ++n) {
    value += 8.0 * std::pow(0.9, n) / n / left;
    mean += 0.1 * left * value, square += 0.1 * left * value * value, count += 0.1 * left * n;
    left *= 0.9;
  }
  const Measured& roulette = s.of("roulette, geometric 0.1");
  CHECK(roulette.finite_variance);
  CHECK(-mean == Approx(s.problem.exact().value).epsilon(1e-10));
  CHECK(roulette.products == Approx(count).epsilon(0.05));
  check_variance(roulette.value, square - mean * mean);
  CHECK(std::abs(roulette.value.t()) < 4.0);
  CHECK(roulette.told_infinite == 0.0);
  CHECK(roulette.running.back().first == 1500);
  CHECK(roulette.running.back().second == Approx(roulette.value.variance).epsilon(1e-10));
  for (const char* name : {"roulette, geometric 0.5", "roulette, Poisson 2"}) {
    CHECK_FALSE(s.of(name).finite_variance);
    CHECK(s.of(name).told_infinite == 1.0);
  }
  CHECK_THROWS_AS(s.of("none"), ValueError);
}

TEST_CASE("of a normal J, probes have the variances of their theory, and means are right",
          "[logdet][unsanitized]") {
  const Study s = study(problem_of("normal"), {.draws = 1500});
  const Var a = symmetric_series(s.problem, probe_terms);
  const double all = sum(square(a)).item(), diagonals = sum(square(diagonal(a))).item();
  check_variance(s.of("Gaussian, 1 probe").value, 2.0 * all);
  check_variance(s.of("Rademacher, 1 probe").value, 2.0 * (all - diagonals));
  check_variance(s.of("Rademacher, 4 probes").value, 0.5 * (all - diagonals));
  CHECK(s.of("Hutch++, sketch 4").value.variance < s.of("Rademacher, 1 probe").value.variance);
  for (const Measured& m : s.measured) {
    INFO(m.estimator.name);
    if (!m.finite_variance) continue;
    if (m.value.varies() && std::isfinite(m.value.expected)) CHECK(std::abs(m.value.t()) < 4.5);
    if (m.derivative.varies() && std::isfinite(m.derivative.expected))
      CHECK(std::abs(m.derivative.t()) < 4.5);
  }
}

TEST_CASE("the same numbers with any number of threads", "[logdet]") {
  const test::KeepThreads keep;
  const auto numbers = [](int threads) {
    set_threads(threads);
    return summary_json({.studies = {study(problem_of("block"), {.draws = 50, .seed = 1})}});
  };
  CHECK(numbers(1) == numbers(3));
}

TEST_CASE("the page and the file of log determinants hold no NaN, and load nothing", "[logdet]") {
  Results results{.options = {.draws = 60}};
  for (const Problem& problem : known_problems()) results.studies.push_back(study(problem, results.options));
  const std::string html = report::render(make_page(results)), json = summary_json(results);
  const std::string words = html.substr(0, html.find("\"palette\""));
  CHECK_FALSE(std::regex_search(words, std::regex(R"([^a-zA-Z]nan[^a-zA-Z])", std::regex::icase)));
  CHECK_FALSE(contains(json, "nan"));
  CHECK_FALSE(std::regex_search(
      words, std::regex(R"((src|href)\s*=\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//)")));
  for (const Problem& problem : known_problems()) CHECK(contains(words, problem.title));
  const nlohmann::json read = nlohmann::json::parse(json);
  REQUIRE(read["problems"].size() == 4);
  CHECK(read["problems"][1]["estimators"].size() == estimators().size());
  CHECK(findings(results).size() == 1 + 4 * 5);
  CHECK(contains(findings(results)[1], "are their bounds"));
  CHECK(tested(results).size() > 100);
}

TEST_CASE("the command weighs estimators on one problem", "[logdet]") {
  const files::Folder folder;
  const std::string out = folder / "out";
  const command::Outcome known =
      command::run("lab logdet --problem non-normal --draws 40 --out '" + out + "'");
  INFO(known.err);
  REQUIRE(known.code == 0);
  CHECK(contains(known.out, "Hutch++, sketch 2"));
  const nlohmann::json read = nlohmann::json::parse(files::text_of(nn::read_file(out + "/summary.json")));
  CHECK(read["draws"] == 40);
  CHECK(contains(files::text_of(nn::read_file(out + "/report.html")), "Non-normal J"));
  for (const char* arguments : {"--problem round", "--draws 1", "--draws x"}) {
    const command::Outcome refused = command::run("lab logdet --out '" + out + "' " + std::string(arguments));
    CHECK(refused.code == 2);
    CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
  }
}
