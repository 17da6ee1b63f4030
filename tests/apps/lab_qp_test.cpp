// `banach lab qp`: what the studies find, against closed forms and differences; the page; the command.
#include <apps/lab/qp/diagrams.hpp>
#include <apps/lab/qp/geometry.hpp>
#include <apps/lab/qp/page.hpp>
#include <apps/lab/qp/scales.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/safetensors.hpp>
#include <tests/apps/command.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace banach;
using namespace banach::lab::qp;

namespace {

Study study_of(const std::string& name) {
  for (const Problem& problem : known_problems())
    if (problem.name == name) return study(problem);
  throw std::runtime_error("no problem " + name);
}

const Derivative& by(const Study& s, const std::string& entry) {
  return *std::find_if(s.derivatives.begin(), s.derivatives.end(),
                       [&](const Derivative& d) { return d.by == entry; });
}

void check_near(const Vector& found, const Vector& expected) {
  CHECK(found[0] == Approx(expected[0]).margin(1e-6));
  CHECK(found[1] == Approx(expected[1]).margin(1e-6));
}

Results all_results() {
  Results results;
  for (const Problem& problem : known_problems()) results.studies.push_back(study(problem));
  results.estimates.push_back(estimates(results.studies.front().problem));
  return results;
}

bool contains(const std::string& text, const std::string& word) { return text.find(word) != text.npos; }

}  // namespace

TEST_CASE("the drawn problems end as their titles say", "[qp]") {
  const std::vector<std::array<std::string, 3>> expected{
      {"interior", "solved", "exact"},
      {"edge", "solved", "exact"},
      {"vertex", "solved", "exact"},
      {"almost", "solved", "exact"},
      {"near", "solved", "exact"},
      {"weak", "solved", "non_differentiable"},
      {"repeated", "solved", "least_squares"},
      {"three", "solved", "least_squares"},
      {"pinned", "solved", "least_squares"},
      {"equalities", "solved", "least_squares"},
      {"flat", "solved", "least_squares (z1), non_differentiable (z2)"},
      {"infeasible", "primal_infeasible", "none"},
      {"unbounded", "dual_infeasible", "none"},
      {"non-convex", "non_convex", "none"}};
  REQUIRE(known_problems().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Study s = study(known_problems()[i]);
    INFO(s.problem.name);
    CHECK(s.problem.name == expected[i][0]);
    CHECK(name(s.report.status) == expected[i][1]);
    CHECK(gradient_words(s) == expected[i][2]);
    CHECK(s.derivatives.empty() == !s.solved());
  }
}

TEST_CASE("where the gradient is called exact, arrows and differences agree", "[qp]") {
  int arrows = 0, places = 0;
  for (const Problem& problem : known_problems()) {
    const Study s = study(problem);
    INFO(problem.name);
    if (exact(s))
      for (const Derivative& d : s.derivatives) {
        CHECK(d.largest_difference() <= 1e-6);
        ++arrows;
      }
    for (const PathPoint& p : s.path) {
      if (p.gradient != GradientKind::exact) continue;
      for (std::size_t k = 0; k < 2; ++k) CHECK(std::abs(p.reported[k] - p.difference[k]) <= 1e-6);
      ++places;
    }
  }
  CHECK(arrows == 26);
  CHECK(places > 350);
}

TEST_CASE("the drawn derivatives are those of the closed forms", "[qp]") {
  const Study interior = study_of("interior");  // -Q^-1
  check_near(by(interior, "p1").reported, {-1.0 / 1.64, 0.6 / 1.64});
  check_near(by(interior, "p2").reported, {0.6 / 1.64, -2.0 / 1.64});
  const Study vertex = study_of("vertex");  // x1 = h1, 0.3 x1 + x2 = h2
  check_near(by(vertex, "p1").reported, {0, 0});
  check_near(by(vertex, "h1").reported, {1, -0.3});
  check_near(by(vertex, "h2").reported, {0, 1});
  const Study near = study_of("near");  // x1 = h1, x1 + 0.1 x2 = h2
  check_near(by(near, "h1").reported, {1, -10});
  check_near(by(near, "h2").reported, {0, 10});

  const Study weak = study_of("weak");  // free on one side, held on the other
  CHECK(weak.weak == std::vector<bool>{true, false, false, false});
  CHECK(weak.active == std::vector<bool>{false, false, false, false});
  check_near(by(weak, "p1").reported, by(interior, "p1").reported);
  check_near(by(weak, "p1").right, by(interior, "p1").reported);
  check_near(by(weak, "p1").left, {0, 0});

  const Study repeated = study_of("repeated");
  check_near(by(repeated, "h1").reported, {0.5, 0});
  check_near(by(repeated, "h2").reported, {0.5, 0});
  check_near(by(repeated, "h1").right, {0, 0});
  check_near(by(repeated, "h1").left, {1, 0});
  const Study three = study_of("three");  // the pseudoinverse of [1 0; 0 1; 1 1]
  check_near(by(three, "h1").reported, {2.0 / 3, -1.0 / 3});
  check_near(by(three, "h3").reported, {1.0 / 3, 1.0 / 3});
  const Study pinned = study_of("pinned");  // differences on one side only
  CHECK(std::isnan(by(pinned, "h1").left[0]));
  check_near(by(pinned, "h1").right, {1, 0});
  CHECK(std::isnan(by(study_of("equalities"), "b1").right[0]));
}

TEST_CASE("certificates that are drawn hold", "[qp]") {
  const Study infeasible = study_of("infeasible");
  Vector sum{};
  double right = 0.0;
  const auto planes = rows(infeasible.problem.data.G, infeasible.problem.data.h);
  for (std::size_t i = 0; i < planes.size(); ++i) {
    CHECK(infeasible.lambda[i] > 0.0);
    for (std::size_t k = 0; k < 2; ++k) sum[k] += infeasible.lambda[i] * planes[i].a[k];
    right += infeasible.lambda[i] * planes[i].h;
  }
  check_near(sum, {0, 0});
  CHECK(right == Approx(-1.0));
  CHECK(feasible_set(infeasible.problem.data, infeasible.view).empty());

  const Study unbounded = study_of("unbounded");
  const Tensor& p = unbounded.problem.data.p;
  CHECK(p.at(0) * unbounded.z[0] + p.at(1) * unbounded.z[1] == Approx(-1.0));
  for (const HalfPlane& plane : rows(unbounded.problem.data.G, unbounded.problem.data.h))
    CHECK(plane.a[0] * unbounded.z[0] + plane.a[1] * unbounded.z[1] <= 1e-9);
}

TEST_CASE("feasible sets and level curves are where they should be", "[qp]") {
  const QpData triangle = study_of("edge").problem.data;
  const Points corners = feasible_set(triangle, {{1, 1}, {2, 2}});
  CHECK(corners.size() == 3);
  double area = 0.0;
  for (std::size_t i = 0; i < corners.size(); ++i) {
    const auto &a = corners[i], &b = corners[(i + 1) % corners.size()];
    area += 0.5 * (a.x * b.y - a.y * b.x);
  }
  CHECK(area == Approx(2.0));
  CHECK_FALSE(feasible_set(study_of("pinned").problem.data, {{1, 0}, {1, 1}}).empty());  // a line
  const QpData circle{.Q = tensor({1.0, 0.0, 0.0, 1.0}, {2, 2}), .p = tensor({0.0, 0.0})};
  const Points pieces = level_curve(circle, 0.5, {{0, 0}, {2, 2}});
  REQUIRE(pieces.size() > 60);
  for (const auto& z : pieces) CHECK(std::hypot(z.x, z.y) == Approx(1.0).epsilon(0.01));
}

TEST_CASE("truncated gradients come near to the exact one, step by step", "[qp]") {
  for (const char* name : {"edge", "almost"}) {
    const Estimates e = estimates(study_of(name).problem);
    INFO(name);
    CHECK(e.converged);
    const auto error = [&](const std::string& rule, int steps) {
      for (const Estimate& one : e.all)
        if (one.rule == rule && one.steps == steps) return one.error;
      return std::nan("");
    };
    CHECK(error("jfb", 1) == Approx(error("neumann", 1)));
    CHECK(error("jfb", 1) > 0.01);
    for (const char* rule : {"neumann", "phantom", "truncated"}) {
      CHECK(error(rule, 256) < 1e-4);
      CHECK(error(rule, 16) < error(rule, 1));
      CHECK(steps_to(e, rule, 0.01) > 1);
    }
    CHECK(steps_to(e, "neumann", 1e-30) == 0);
  }
}

TEST_CASE("the page and the file hold no NaN, and load nothing from elsewhere", "[qp]") {
  const Results results = all_results();
  const std::string html = report::render(make_page(results)), json = summary_json(results);
  const std::string words = html.substr(0, html.find("\"palette\""));
  CHECK_FALSE(std::regex_search(words, std::regex(R"([^a-zA-Z]-?(nan|inf)[^a-zA-Z])", std::regex::icase)));
  CHECK_FALSE(contains(json, "nan"));
  CHECK_FALSE(std::regex_search(
      words, std::regex(R"((src|href)\s*=\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//)")));
  for (const Study& s : results.studies) CHECK(contains(words, s.problem.title));
  for (const char* part : {"<svg viewBox", "The path of the solution", "How z moves with h", "free optimum"})
    CHECK(contains(words, part));
  const nlohmann::json read = nlohmann::json::parse(json);
  CHECK(read["problems"].size() == known_problems().size());
  CHECK(read["problems"][5]["path"].size() == 81);
  CHECK(read["problems"][13]["z"][0].is_null());
  CHECK(findings(results).size() == 2 + 9 + 1);  // about all that is exact, each other problem, the estimates
}

TEST_CASE("findings tell of infinite bounds and of ADMM without an end", "[qp]") {
  const double inf = std::numeric_limits<double>::infinity();
  const auto said = [](const std::vector<double>& h) {
    const QpData data{.Q = Tensor::zeros({2, 2}, DType::f64),
                      .p = Tensor::from<double>(Vector{-1.0, 0.0}, {2}),
                      .G = Tensor::from<double>(std::vector<double>{5.0, 0.0, -1.0, 0.0}, {2, 2}),
                      .h = Tensor::from<double>(h, {2})};
    return findings({.studies = {study({.name = "a", .title = "A", .data = data})}}).back();
  };
  CHECK(contains(said({inf, 0.0}), "no constraint stops it (the largest Gᵢ z is -1)"));
  const std::string free = said({inf, inf});
  CHECK(contains(free, "dual_infeasible"));
  CHECK_FALSE(contains(free, "stops it"));
  CHECK(contains(said({1.0, -inf}), "constraint 2 asks for less than -infinity"));
  const auto told = [](bool converged) {
    return findings(
        {.estimates = {{.problem = "a", .forward_steps = 7, .rate = 0.5, .converged = converged}}});
  };
  CHECK(contains(told(true).back(), "the fixed point takes 7 steps (rate 0.5)"));
  CHECK(contains(told(false).back(), "ADMM did not reach its fixed point in 7 steps (rate 0.5)"));
}

TEST_CASE("what is weakly active does not depend on a constraint's units", "[qp]") {
  for (const double unit : {1e-6, 1.0, 1e6}) {
    const Study s =
        study({.name = "a",
               .title = "A",
               .data = {.Q = Tensor::eye(2, DType::f64),
                        .p = Tensor::from<double>(Vector{-1.0, 0.0}, {2}),
                        .G = Tensor::from<double>(std::vector<double>{unit, 0.0, 0.0, unit}, {2, 2}),
                        .h = Tensor::from<double>(std::vector<double>{unit, 1e-3 * unit}, {2})}});
    CHECK(s.weak == std::vector<bool>{true, false});
    CHECK(s.active == std::vector<bool>{false, false});
  }
}

namespace {

/// "edge" with its variables in other units, and its objective, as a file's problem.
Problem in_units(const Vector& u, double objective) {
  QpData other = study_of("edge").problem.data;
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t j = 0; j < 2; ++j)
      other.Q.mutable_data<double>()[2 * i + j] *=
          objective / (u[static_cast<std::size_t>(i)] * u[static_cast<std::size_t>(j)]);
    other.p.mutable_data<double>()[i] *= objective / u[static_cast<std::size_t>(i)];
  }
  for (std::int64_t i = 0; i < other.G.size(); ++i)
    other.G.mutable_data<double>()[i] /= u[static_cast<std::size_t>(i % 2)];
  return {.name = "a", .title = "A", .data = other};
}

}  // namespace

TEST_CASE("differences and drawings do not depend on the units of a problem", "[qp]") {
  const Study plain = study(in_units({1, 1}, 1));
  CHECK(plain.view.one_scale());
  const std::vector<std::pair<Vector, double>> units{
      {{1e6, 1e6}, 1}, {{1e-6, 1e-6}, 1e6}, {{1, 1}, 1e-9}, {{1e4, 1e-3}, 1e3}};
  for (const auto& [u, objective] : units) {
    const Study s = study(in_units(u, objective));
    INFO(u[0] << " " << u[1] << " " << objective);
    REQUIRE(exact(s));
    CHECK(s.view.one_scale() == (u[0] == u[1]));
    REQUIRE(s.derivatives.size() == plain.derivatives.size());
    for (const Derivative& d : s.derivatives) {
      CHECK(d.largest_difference() <= 1e-9);
      CHECK(d.moved.size() == 61);
      CHECK(s.view.length(d.reported) * d.reach <= 0.25 * (1 + 1e-9));
    }
    std::size_t places = 0;
    for (std::size_t i = 0; i < s.path.size(); ++i) {
      CHECK(s.path[i].active == plain.path[i].active);
      if (s.path[i].gradient != GradientKind::exact) continue;
      CHECK(relative_distance(s.path[i].reported, s.path[i].difference, s.view.reach) <= 1e-9);
      ++places;
    }
    CHECK(places > 70);
    const std::string note = problem_diagram(s).note;
    CHECK(contains(note, "Each axis has a scale of its own") == (u[0] != u[1]));
    CHECK_FALSE(feasible_set(s.problem.data, s.view).empty());
    CHECK(level_curve(s.problem.data, s.report.objective, s.view).size() > 20);
    const auto told = findings({.studies = {s}});
    CHECK(contains(told[0], "called exact (1 problem, 5 derivatives)"));
  }
}

TEST_CASE("differences keep to the active set where there is a derivative", "[qp]") {
  // 1e6 <= x1 <= 1e6 + 1: a step by the scale of x1 would leave that room.
  const Study s = study({.name = "a",
                         .title = "A",
                         .data = {.Q = Tensor::eye(2, DType::f64),
                                  .p = tensor({-1e6 - 0.5, -1.0}),
                                  .G = tensor({1.0, 0.0, -1.0, 0.0}, {2, 2}),
                                  .h = tensor({1e6 + 1.0, -1e6})}});
  REQUIRE(exact(s));
  CHECK(by(s, "p1").step < 0.5);
  for (const Derivative& d : s.derivatives) CHECK(d.largest_difference() <= 1e-6);
}

TEST_CASE("a free optimum far away, and an axis along which nothing is seen, leave the drawing readable",
          "[qp]") {
  const Study far = study({.name = "a",
                           .title = "A",
                           .data = {.Q = tensor({1e-3, 0.0, 0.0, 1e-3}, {2, 2}),
                                    .p = tensor({-1.0, -2.0}),
                                    .G = tensor({1.0, 0.0, 0.0, 1.0}, {2, 2}),
                                    .h = tensor({1.0, 1.0})}});
  CHECK(far.view.reach[0] < 5);
  CHECK(contains(problem_diagram(far).note, "The free optimum, (1000, 2000), lies outside"));
  for (const Derivative& d : far.derivatives) CHECK(d.largest_difference() <= 1e-9);

  const QpData still{.Q = Tensor::eye(2, DType::f64),
                     .p = tensor({0.0, -1e3}),
                     .G = tensor({1.0, 0.0, 0.0, 1.0}, {2, 2}),
                     .h = tensor({1e-3, 1e9})};
  const View view = fitting(still, {{1e-14, 1e3}}, std::nullopt);
  CHECK(view.reach[0] == Approx(0.9e-3));
  CHECK(view.reach[1] == Approx(0.9e3));
  // Of an open set its point is the origin, but for rounding.
  const View open = fitting({.Q = still.Q, .p = still.p, .G = still.G, .h = tensor({0.0, 1e-3})},
                            {{1e-21, 1e-23}}, std::nullopt);
  CHECK(open.one_scale());
  CHECK(open.reach[0] == Approx(0.9e-3));
  const View nothing = fitting({.Q = still.Q, .p = tensor({0.0, 0.0})}, {{0, 0}}, std::nullopt);
  CHECK(nothing.reach == Vector{1.5, 1.5});
}

TEST_CASE("the command takes problems with equations, with and without inequalities", "[qp]") {
  const files::Folder folder;
  const std::string out = folder / "out", path = folder / "p.safetensors";
  for (const bool inequalities : {false, true}) {
    nn::NamedTensors parts{{"Q", tensor({1.0, 0.0, 0.0, 1.0}, {2, 2})},
                           {"p", tensor({0.1, 0.0})},
                           {"A", tensor({1.0, 1.0}, {1, 2})},
                           {"b", tensor({1.0})}};
    if (inequalities) parts["G"] = tensor({1.0, 0.0}, {1, 2}), parts["h"] = tensor({0.2});
    nn::save_safetensors(path, parts);
    const command::Outcome outcome = command::run("lab qp --file '" + path + "' --out '" + out + "'");
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const nlohmann::json read = nlohmann::json::parse(files::text_of(nn::read_file(out + "/summary.json")));
    CHECK(read["problems"][0]["status"] == "solved");
    CHECK(read["problems"][0]["gradient"]["z1"]["kind"] == "exact");
    REQUIRE(read["estimates"].size() == 1);
    CHECK(read["estimates"][0]["converged"] == true);
    double best = 1.0;
    for (const auto& estimate : read["estimates"][0]["estimates"])
      if (estimate["rule"] == "unrolled") best = std::min(best, estimate["error"].get<double>());
    CHECK(best < 1e-6);
  }
}

TEST_CASE("the command draws known problems, or those of a file", "[qp]") {
  const files::Folder folder;
  const std::string out = folder / "out", path = folder / "p.safetensors";
  const command::Outcome known = command::run("lab qp --problem repeated --out '" + out + "'");
  INFO(known.err);
  REQUIRE(known.code == 0);
  CHECK(contains(known.out, "least_squares"));
  CHECK(contains(files::text_of(nn::read_file(out + "/report.html")), "A constraint given twice"));

  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  // Regular with an infinite h; infeasible; not finite.
  nn::save_safetensors(path, {{"Q", tensor({2.0, 0.0, 0.0, 1.0}, {2, 2})},
                              {"p", tensor({-2.0, -3.0, 0.0, 0.0, nan, 0.0}, {3, 2})},
                              {"G", tensor({1.0, 1.0, -1.0, -1.0}, {2, 2})},
                              {"h", tensor({1.0, inf, 1.0, -2.0, 1.0, 1.0}, {3, 2})}});
  const command::Outcome own = command::run("lab qp --file '" + path + "' --out '" + out + "'");
  INFO(own.err);
  REQUIRE(own.code == 0);
  CHECK(contains(own.out, "problem-1"));
  const nlohmann::json read =
      nlohmann::json::parse(files::text_of(nn::read_file(out + "/summary.json")))["problems"];
  CHECK(read[0]["status"] == "solved");
  CHECK(read[0]["gradient"]["z1"]["kind"] == "exact");
  CHECK(read[1]["status"] == "primal_infeasible");
  CHECK(read[2]["status"] == "non_finite");

  const auto refused = [&](const std::string& arguments, int code, const std::string& words) {
    const command::Outcome outcome = command::run("lab qp --out '" + out + "' " + arguments);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    CHECK(contains(outcome.err, words));
  };
  refused("--problem round", 2, "weak");
  refused("--problem weak --file '" + path + "'", 2, "--file");
  refused("--file '" + (folder / "none") + "'", 1, "none");
  nn::save_safetensors(path, {{"Q", tensor({1.0}, {1, 1})}, {"p", tensor({1.0})}});
  refused("--file '" + path + "'", 1, "two variables");
  nn::save_safetensors(path, {{"Q", tensor({1.0}, {1, 1})}});
  refused("--file '" + path + "'", 1, "tensor 'p' is missing");
}
