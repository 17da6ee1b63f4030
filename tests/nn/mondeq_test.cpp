#include <banach/engine/gradcheck.hpp>
#include <banach/nn/module.hpp>
#include <banach/nn/mondeq.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// W of the parametrisation with large A and B: its norm is far above 1.
Tensor large_monotone(std::int64_t n, double m, std::uint64_t seed) {
  const Var a(normal({n, n}, seed)), b(normal({n, n}, seed + 1));
  return ((1.0 - m) * Var(Tensor::eye(n, DType::f64)) - matmul(a, a, {.transpose_a = true}) + b -
          transpose(b))
      .value();
}

}  // namespace

TEST_CASE("both splittings find the one equilibrium where Picard diverges") {
  const Tensor W = large_monotone(6, 0.5, 1), c = normal({4, 6}, 3);
  MonotoneOptions options{.tolerance = 1e-12, .max_steps = 20000};
  const auto pr = monotone_fixed_point(Var(W), Var(c), options);
  options.splitting = ForwardBackward{};
  const auto fb = monotone_fixed_point(Var(W), Var(c), options);
  CHECK(pr.report.converged());
  CHECK(fb.report.converged());
  CHECK(pr.report.nstep < fb.report.nstep);
  CHECK(pr.report.solver == "peaceman_rachford");
  CHECK(largest_difference(pr.z.value(), fb.z.value()) <= 1e-10);
  const Var f = relu(matmul(pr.z, Var(W), {.transpose_b = true}) + Var(c));
  CHECK(largest_difference(pr.z.value(), f.value()) <= 1e-10);

  const auto picard =
      fixed_point([&](const Var& z) { return relu(matmul(z, Var(W), {.transpose_b = true}) + Var(c)); },
                  Var(Tensor::zeros({4, 6}, DType::f64)), {.solver = Picard{}, .max_steps = 2000});
  CHECK_FALSE(picard.report.converged());
}

TEST_CASE("a sample of a splitting stops by itself, and a NaN harms no other") {
  const Tensor W = large_monotone(5, 0.5, 4);
  Tensor c = normal({3, 5}, 5);
  const MonotoneOptions options{.tolerance = 1e-10, .max_steps = 5000};
  const auto clean = monotone_fixed_point(Var(W), Var(c), options);
  c.mutable_data<double>()[7] = std::nan("");
  const auto broken = monotone_fixed_point(Var(W), Var(c), options);
  CHECK(broken.report.samples[1].status == Status::non_finite);
  for (const int row : {0, 2}) {
    CHECK(broken.report.samples[row].status == Status::converged);
    CHECK(broken.report.samples[row].nstep == clean.report.samples[row].nstep);
  }
}

TEST_CASE("gradients of a monotone equilibrium agree with differences") {
  const auto f = [](const Vars& in) {
    const MonotoneOptions options{.backward = Implicit{Dense{}}, .tolerance = 1e-14, .max_steps = 5000};
    return Vars{monotone_fixed_point(in[0], in[1], options).z};
  };
  const GradcheckReport checked =
      gradcheck(f, {Var(large_monotone(4, 0.5, 6)), Var(normal({2, 4}, 8))}, {.order = 1, .step = 1e-4});
  INFO(checked.to_string());
  CHECK(checked.passed);
}

TEST_CASE("the layer is monotone whatever its parameters are, and trains all of them") {
  Random random(9);
  nn::MonDeq layer(3, 5, random,
                   {.monotonicity = 0.3,
                    .solve = {.splitting = PeacemanRachford{.step = 0.05}, .max_steps = 5000},
                    .dtype = DType::f64});
  layer.A.set((Var(layer.A.value()) * 10.0).value());
  layer.B.set((Var(layer.B.value()) * 10.0).value());
  const Tensor W = layer.weight().value(), v = normal({1, 5}, 10);
  // v (I - W) v' >= m v v'
  const double quadratic = sum(Var(v) * (Var(v) - matmul(Var(v), Var(W)))).value().at(0);
  CHECK(quadratic >= 0.3 * sum(square(Var(v))).value().at(0));

  const Tape tape;
  const auto [z, report, adjoint] = layer(Var(normal({7, 3}, 11)));
  CHECK(report.converged());
  CHECK(z.shape() == Shape{7, 5});
  const Vars parameters{layer.A.var(), layer.B.var(), layer.inject.weight.var(), layer.inject.bias->var()};
  for (const Var& g : grad(sum(z), parameters)) CHECK(sum(square(g)).value().at(0) > 0.0);
  CHECK(adjoint.last().exact());
}

TEST_CASE("what is not monotone, and what does not fit, is refused") {
  const Var c(normal({2, 3}, 12)), twice(2.0 * Var(Tensor::eye(3, DType::f64)));
  CHECK_THROWS_WITH(monotone_fixed_point(twice, c, {.splitting = ForwardBackward{}}),
                    Contains("strongly monotone") && Contains("-1"));
  CHECK_THROWS_WITH(monotone_fixed_point(Var(normal({2, 2}, 13)), c), Contains("W must be (3,3)"));
  CHECK_THROWS_AS(monotone_fixed_point(twice, c, {.splitting = PeacemanRachford{.step = 0.0}}), ValueError);
  Random random(1);
  CHECK_THROWS_WITH(nn::MonDeq(3, 4, random, {.monotonicity = 0.0}),
                    Contains("[mondeq] monotonicity must be positive"));
}
