#include <banach/engine/error.hpp>
#include <banach/engine/status.hpp>

#include <catch2/catch.hpp>

#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace banach;

TEST_CASE("statuses and kinds have the names of the documentation") {
  CHECK(name(Status::converged) == "converged");
  CHECK(name(Status::non_finite) == "non_finite");
  CHECK(name(Status::singular) == "singular");
  CHECK(name(GradientKind::exact) == "exact");
  CHECK(name(GradientKind::non_differentiable) == "non_differentiable");
}

TEST_CASE("every status and kind has a name of its own") {
  const std::vector<std::pair<Status, std::string_view>> statuses{
      {Status::converged, "converged"},  {Status::max_steps, "max_steps"},   {Status::diverged, "diverged"},
      {Status::stagnated, "stagnated"},  {Status::non_finite, "non_finite"}, {Status::singular, "singular"},
      {Status::indefinite, "indefinite"}};
  for (const auto& [status, text] : statuses) {
    CHECK(name(status) == text);
    SolveReport report;
    report.samples.assign(1, {.status = status});
    CHECK(report.to_string() == "1 sample: 1 " + std::string(text) + "; largest relative residual 0.0e+00");
  }
  const std::vector<std::pair<GradientKind, std::string_view>> kinds{
      {GradientKind::exact, "exact"},
      {GradientKind::approximate, "approximate"},
      {GradientKind::least_squares, "least_squares"},
      {GradientKind::non_differentiable, "non_differentiable"},
      {GradientKind::unbiased, "unbiased"}};
  for (const auto& [kind, text] : kinds) CHECK(name(kind) == text);
  SolveReport report;
  report.samples.assign(3, {.status = Status::converged, .spectral_radius = 0.5});
  report.samples[1].spectral_radius = 1.5;
  report.samples[2].spectral_radius = 1.0;
  CHECK(report.to_string() == "3 samples: 3 converged; largest relative residual 0.0e+00; 1 unstable");
  CHECK((AdjointReport{.rule = "neumann", .samples = {}}.to_string()) == "neumann: 0 samples");
}

TEST_CASE("a solve report counts its statuses") {
  SolveReport report;
  CHECK(report.converged());
  CHECK(report.to_string() == "0 samples");
  report.samples.assign(126, {.status = Status::converged, .rel_lowest = 1e-5});
  CHECK(report.converged());
  CHECK(report.to_string() == "126 samples: 126 converged; largest relative residual 1.0e-05");
  report.samples.push_back({.status = Status::max_steps, .rel_lowest = 3.1e-4});
  report.samples.push_back({.status = Status::max_steps, .rel_lowest = 2e-4});
  CHECK_FALSE(report.converged());
  CHECK(report.count(Status::converged) == 126);
  CHECK(report.count(Status::diverged) == 0);
  CHECK(report.to_string() == "128 samples: 126 converged, 2 max_steps; largest relative residual 3.1e-04");
  report.samples[7].rel_lowest = std::numeric_limits<double>::quiet_NaN();
  CHECK(report.to_string() == "128 samples: 126 converged, 2 max_steps; largest relative residual nan");
}

TEST_CASE("an adjoint report is exact only if every sample is") {
  AdjointReport report{.rule = "implicit", .samples = {}, .evaluations = 12};
  report.samples.assign(2, {GradientKind::exact, Status::converged, Status::converged, 1e-7});
  CHECK(report.exact());
  CHECK(report.to_string() ==
        "implicit: 2 samples: 2 exact; adjoint 2 converged; 12 products; largest residual 1.0e-07");
  report.samples[1] = {GradientKind::approximate, Status::converged, Status::stagnated, 2e-3};
  CHECK_FALSE(report.exact());
  CHECK(report.to_string() ==
        "implicit: 2 samples: 1 exact, 1 approximate; adjoint 1 converged, 1 stagnated; "
        "12 products; largest residual 2.0e-03");
}

TEST_CASE("an adjoint report says where max_steps is how a rule ends, and where not") {
  AdjointReport report{.rule = "phantom", .samples = {}, .evaluations = 5};
  report.samples.assign(2, {GradientKind::approximate, Status::converged, Status::max_steps, 1e-2});
  CHECK(report.to_string() ==
        "phantom: 2 samples: 2 approximate; adjoint 2 max_steps; 5 products; largest residual 1.0e-02");
  report.truncated = true;
  CHECK(report.to_string() ==
        "phantom: 2 samples: 2 approximate; adjoint 2 max_steps (by design: a fixed number of terms); "
        "5 products; largest residual 1.0e-02");
  for (GradientStatus& sample : report.samples) sample.adjoint = Status::diverged;
  CHECK(report.to_string() ==
        "phantom: 2 samples: 2 approximate; adjoint 2 diverged; 5 products; largest residual 1.0e-02");
}

TEST_CASE("an adjoint log is shared by its copies") {
  const AdjointLog log, copy = log;
  CHECK_FALSE(log.run());
  CHECK_THROWS_AS(log.last(), ValueError);
  copy.add({.rule = "neumann", .samples = {}, .evaluations = 3});
  CHECK(log.run());
  CHECK(log.last().evaluations == 3);
}
