// Operator splitting against its definition: the one z with z = relu(z W^T + c).

#include <banach/solvers/splitting.hpp>
#include "maps.hpp"

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

namespace {

const StopOptions tight{.max_steps = 100000, .tolerance = 1e-12};

// W with I - W strongly monotone: the symmetric part of I - W is at least m, and its antisymmetric part free.
Tensor monotone_weight(std::int64_t n, double m, std::uint64_t seed) {
  Random random(seed);
  const Matrix a = random_matrix(n, random, 0.4), skew = random_matrix(n, random, 0.2);
  Tensor w = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double square = 0.0;
      for (std::int64_t k = 0; k < n; ++k) square += a(k, i) * a(k, j);
      w.mutable_data<double>()[i * n + j] = (i == j ? 1.0 - m : 0.0) - square + skew(i, j) - skew(j, i);
    }
  return w;
}

// The largest entry of |relu(z W^T + c) - z|.
double violation(const Tensor& w, const Tensor& c, const Tensor& z) {
  const std::int64_t batch = z.shape()[0], n = z.shape()[1];
  double largest = 0.0;
  for (std::int64_t s = 0; s < batch; ++s)
    for (std::int64_t i = 0; i < n; ++i) {
      double sum = c.at(s * n + i);
      for (std::int64_t j = 0; j < n; ++j) sum += w.at(i * n + j) * z.at(s * n + j);
      largest = std::max(largest, std::abs(std::max(0.0, sum) - z.at(s * n + i)));
    }
  return largest;
}

}  // namespace

TEST_CASE("splittings find the monotone equilibrium of every sample, from any start", "[splitting]") {
  const std::int64_t batch = 4, n = GENERATE(1, 3, 6);
  const double m = GENERATE(0.3, 1.0);
  const Tensor w = monotone_weight(n, m, 3), c = normal({batch, n}, 4, 2.0);
  const Tensor zero = Tensor::zeros({batch, n}, DType::f64), far = normal({batch, n}, 5, 10.0);
  const auto reference = solve_splitting(PeacemanRachford{}, w, c, zero, tight);
  CHECK(reference.report.converged());
  CHECK(reference.report.solver == "peaceman_rachford");
  CHECK(violation(w, c, reference.z) < 1e-10);
  for (const Splitting& splitting : {Splitting(ForwardBackward{}), Splitting(PeacemanRachford{}),
                                     Splitting(PeacemanRachford{.step = 0.3})})
    for (const Tensor& start : {zero, far}) {
      const auto found = solve_splitting(splitting, w, c, start, tight);
      CHECK(found.report.converged());
      CHECK(largest_difference(found.z, reference.z) < 1e-8);
    }
  // A sample alone has the answer that it has among others.
  for (std::int64_t s = 0; s < batch; ++s) {
    const auto alone =
        solve_splitting(PeacemanRachford{}, w, c.rows(s, s + 1).clone(), zero.rows(s, s + 1).clone(), tight);
    CHECK(largest_difference(alone.z, reference.z.rows(s, s + 1)) < 1e-12);
  }
}

TEST_CASE("forward-backward chooses its step wherever I - W is strongly monotone, and nowhere else",
          "[splitting]") {
  const Tensor c = Tensor::ones({1, 3}, DType::f64), z0 = Tensor::zeros({1, 3}, DType::f64);
  for (const double m : {0.2, 0.5, 2.0})
    CHECK(solve_splitting(ForwardBackward{}, monotone_weight(3, m, 7), c, z0, tight).report.converged());
  const Tensor eye = Tensor::eye(3, DType::f64);  // I - W = 0
  CHECK_THROWS_AS(solve_splitting(ForwardBackward{}, eye, c, z0, tight), ValueError);
  Tensor negative = Tensor::eye(3, DType::f64);
  for (int i = 0; i < 9; ++i) negative.mutable_data<double>()[i] *= 1.5;
  CHECK_THROWS_AS(solve_splitting(ForwardBackward{}, negative, c, z0, tight), ValueError);
}
