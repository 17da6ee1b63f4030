// Operator splitting against its definition: the one z with z = relu(z W^T + c).

#include <banach/solvers/splitting.hpp>
#include "maps.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

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

TEST_CASE("splittings take the steps of the paper", "[splitting]") {
  // Two coupled unknowns a sample, by hand; the residuals along the way tell where they have been.
  const double a = 0.8, b = 0.5;  // I - W = [[a, b], [-b, a]]: m = a, L^2 = a^2 + b^2
  const Tensor w = tensor({1.0 - a, -b, b, 1.0 - a}, {2, 2}), c = tensor({1.0, -0.3, -0.5, 2.0}, {2, 2});
  const Tensor z0 = tensor({0.4, 0.0, 1.5, 0.2}, {2, 2});
  const int steps = 6;
  struct Row {
    double x, y;
  };
  const auto relu = [](const Row& u) { return Row{std::max(0.0, u.x), std::max(0.0, u.y)}; };
  const auto check = [&](const Splitting& splitting,
                         const std::function<Row(Row & u, const Row& z, const Row& shift)>& step) {
    const auto found =
        solve_splitting(splitting, w, c, z0, {.max_steps = steps, .tolerance = 0.0, .whole_trace = true});
    REQUIRE(found.report.trace.steps.size() == steps);
    for (std::size_t s = 0; s < 2; ++s) {
      const auto at = static_cast<std::int64_t>(2 * s);
      const Row shift{c.at(at), c.at(at + 1)};
      Row z{z0.at(at), z0.at(at + 1)}, u = z;
      for (std::size_t k = 0; k < steps; ++k) {
        const Row f = relu({(1.0 - a) * z.x - b * z.y + shift.x, b * z.x + (1.0 - a) * z.y + shift.y});
        INFO("sample " << s << ", step " << k);
        CHECK(found.report.trace.abs_trace[2 * k + s] ==
              Approx(std::hypot(f.x - z.x, f.y - z.y)).epsilon(1e-9));
        z = relu(step(u, z, shift));
      }
    }
  };
  for (const double given : {0.3, a / (a * a + b * b)}) {
    const auto forward = [&](Row&, const Row& z, const Row& shift) {
      return Row{z.x + given * (shift.x - a * z.x - b * z.y), z.y + given * (shift.y + b * z.x - a * z.y)};
    };
    check(ForwardBackward{.step = given}, forward);
    if (given != 0.3) check(ForwardBackward{}, forward);  // m / L^2 unless given
  }
  for (const double alpha : {1.0, 0.4}) {
    const auto reflected = [&](Row& u, const Row& z, const Row& shift) {
      // v solves (I + alpha (I - W)) v = 2 z - u + alpha c, by Cramer's rule.
      const Row right{2.0 * z.x - u.x + alpha * shift.x, 2.0 * z.y - u.y + alpha * shift.y};
      const double p = 1.0 + alpha * a, q = alpha * b, determinant = p * p + q * q;
      const Row v{(p * right.x - q * right.y) / determinant, (q * right.x + p * right.y) / determinant};
      u = {2.0 * v.x - (2.0 * z.x - u.x), 2.0 * v.y - (2.0 * z.y - u.y)};
      return u;
    };
    check(PeacemanRachford{.step = alpha}, reflected);
    if (alpha == 1.0) check(PeacemanRachford{}, reflected);
  }
}
