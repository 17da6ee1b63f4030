// The trust region itself: how it grows, and that samples do not touch each other.

#include <banach/solvers/minimize.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace banach;
using namespace banach::test;

namespace {

const StopOptions stop{.max_steps = 200, .tolerance = 0.0, .absolute_tolerance = 1e-9};

// phi(z) = ||z - c||^2 / 2, for one c a sample; `spoil` may change what is found.
template <class Spoil>
FixedPointSolution nearest(const Tensor& c, const Spoil& spoil, const TrustRegion& solver = {}) {
  const std::int64_t batch = c.shape()[0], n = c.shape()[1];
  return solve_minimum(solver,
                       {[&](const Tensor& z) {
                          MinimizationProblem::Point at{Tensor::zeros({batch}, DType::f64),
                                                        Tensor::empty(z.shape(), DType::f64)};
                          for (std::int64_t i = 0; i < z.size(); ++i) {
                            const double g = z.at(i) - c.at(i);
                            at.gradient.mutable_data<double>()[i] = g;
                            at.value.mutable_data<double>()[i / n] += 0.5 * g * g;
                          }
                          spoil(z, at);
                          return at;
                        },
                        [](const Tensor&) -> StateMap { return [](const Tensor& v) { return v; }; }},
                       Tensor::zeros(c.shape(), DType::f64), stop);
}

}  // namespace

TEST_CASE("the trust region grows as fast as the model is right", "[minimize]") {
  const Tensor far = Tensor::full({1, 2}, 1e6, DType::f64);
  const auto found = nearest(far, [](const Tensor&, MinimizationProblem::Point&) {});
  CHECK(found.report.converged());
  CHECK(largest_difference(found.z, far) < 1e-6);
  CHECK(found.report.nstep <= 40);  // 1, 2, 4... 2^20
  // It does not grow beyond its limit: then the way takes as many steps as it is long.
  const auto narrow = nearest(Tensor::full({1, 1}, 50.0, DType::f64),
                              [](const Tensor&, MinimizationProblem::Point&) {}, {.max_radius = 1.0});
  CHECK(narrow.report.converged());
  CHECK(narrow.report.nstep >= 50);
}

TEST_CASE("a sample whose gradient fails does not keep the others from their minima", "[minimize]") {
  const Tensor c = normal({3, 2}, 1, 5.0);
  const auto found = nearest(c, [](const Tensor& z, MinimizationProblem::Point& at) {
    if (z.at(0) != 0.0) at.gradient.mutable_data<double>()[0] = std::numeric_limits<double>::quiet_NaN();
  });
  CHECK(found.report.samples[0].status != Status::converged);
  for (std::int64_t s = 1; s < 3; ++s) {
    CHECK(found.report.samples[static_cast<std::size_t>(s)].status == Status::converged);
    CHECK(largest_difference(found.z.rows(s, s + 1), c.rows(s, s + 1)) < 1e-8);
  }
}
