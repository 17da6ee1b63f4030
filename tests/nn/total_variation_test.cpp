// Total variation: closed forms, its optimality conditions, and derivatives where signals are flat.
#include <banach/nn/optim.hpp>
#include <banach/nn/total_variation.hpp>
#include <banach/ops/ops.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

TEST_CASE("total variation of two values, and its limits", "[total_variation]") {
  const Var y(tensor({0.0, 3.0, 5.0, 1.0}, {2, 2}));
  const auto z = [&](double lambda) {
    return TotalVariation(2, {.lambda = lambda, .dtype = DType::f64})(y).z;
  };
  CHECK(largest_difference(z(0.5), Var(tensor({0.5, 2.5, 4.5, 1.5}, {2, 2}))) <= 1e-10);
  CHECK(largest_difference(z(1.7), Var(tensor({1.5, 1.5, 3.3, 2.7}, {2, 2}))) <= 1e-10);
  CHECK(largest_difference(z(1e-9), y) <= 1e-8);
  CHECK(largest_difference(z(1e6), Var(tensor({1.5, 1.5, 3.0, 3.0}, {2, 2}))) <= 1e-9);
}

TEST_CASE("total variation satisfies the conditions of optimality", "[total_variation]") {
  const auto [n, lambda] = GENERATE(table<std::int64_t, double>({{5, 0.3}, {30, 1.0}, {100, 3.0}}));
  const TotalVariation layer(n, {.lambda = lambda, .dtype = DType::f64});
  const Var y(normal({20, n}, 1, 2.0));
  const auto [z, w, report, adjoint] = layer(y);
  CHECK(report.solved());
  // y - z = D'w with |w| <= lambda, and w = lambda sign(Dz) where Dz is not 0.
  const Var Dz = slice(z, 1, 1, n) - slice(z, 1, 0, n - 1);
  CHECK(largest_difference(matmul(w, layer.D), y - z) <= 1e-9);
  CHECK(max(abs(w)).item() <= lambda + 1e-9);
  int flat = 0;
  for (std::int64_t i = 0; i < w.size(); ++i) {
    const double step = Dz.value().at(i);
    if (std::abs(step) <= 1e-9)
      ++flat;
    else
      CHECK(w.value().at(i) == Approx(std::copysign(lambda, step)).epsilon(1e-9));
  }
  CHECK(flat > 0);
}

TEST_CASE("gradients of total variation average over flat pieces", "[total_variation]") {
  // Pieces {0,1}, {2,3,4}: z is the mean of each, moved by lambda towards the other.
  TotalVariation layer(5, {.lambda = 0.5, .dtype = DType::f64});
  const Tape tape;
  const Var y = leaf(tensor({0.1, -0.1, 4.0, 4.2, 3.8}, {1, 5}));
  const auto [z, w, report, adjoint] = layer(y);
  CHECK(largest_difference(
            z, Var(tensor({0.25, 0.25, 4.0 - 0.5 / 3, 4.0 - 0.5 / 3, 4.0 - 0.5 / 3}, {1, 5}))) <= 1e-10);
  const Vars g = grad(sum(slice(z, 1, 2, 3)), {y, layer.log_lambda.var()});
  CHECK(largest_difference(g[0], Var(tensor({0.0, 0.0, 1.0 / 3, 1.0 / 3, 1.0 / 3}, {1, 5}))) <= 1e-10);
  CHECK(g[1].item() == Approx(-0.5 / 3));
  CHECK(adjoint.last().samples[0].kind == GradientKind::exact);
}

TEST_CASE("a piece that is about to part has the gradient of a piece", "[total_variation]") {
  const TotalVariation layer(2, {.lambda = 1.5, .dtype = DType::f64});
  const Tape tape;
  const Var y = leaf(tensor({0.0, 3.0}));
  const auto [z, w, report, adjoint] = layer(y);
  CHECK(largest_difference(z, Var(tensor({1.5, 1.5}))) <= 1e-10);
  CHECK(largest_difference(grad(sum(z * Var(tensor({1.0, 0.0}))), {y})[0], Var(tensor({0.5, 0.5}))) <= 1e-9);
  CHECK(adjoint.last().samples[0].kind == GradientKind::non_differentiable);
}

TEST_CASE("derivatives of total variation agree with differences, of D too", "[total_variation]") {
  for (const std::int64_t rows : {5, 3, 8}) {  // of more rows than values, w is not unique, but z is
    TotalVariation layer(6, {.lambda = 0.8, .dtype = DType::f64});
    if (rows != 5) layer.D = Parameter(normal({rows, 6}, 3));
    const GradcheckReport report =
        check_gradients(layer, normal({3, 6}, 4), [&](const Var& y) { return layer(y).z; },
                        {.order = rows == 8 ? 1 : 2, .step = 1e-5, .tolerance = 1e-5});
    INFO(rows << " rows: " << report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("total variation learns the lambda and the D of another", "[total_variation]") {
  TotalVariation teacher(12, {.lambda = 2.0}), student(12, {.lambda = 0.5, .learn_D = true});
  CHECK(trainable(parameters(teacher)).size() == 1);
  const ParameterList all = trainable(parameters(student));
  CHECK(all.size() == 2);
  Adam adam(all, {.learning_rate = 0.05});
  const Var y(normal({40, 12}, 5, 2.0).to(DType::f32));
  const Var target = teacher(y).z.detach();
  double first = 0.0, last = 0.0;
  for (int step = 0; step < 100; ++step) {
    const Tape tape;
    const Var loss = mse(student(y).z, target);
    adam.step(nn::grad(loss, all));
    last = loss.item();
    if (step == 0) first = last;
  }
  CHECK(last < 0.05 * first);
}

TEST_CASE("total variation of one signal, of none, and of what is not finite", "[total_variation]") {
  const TotalVariation layer(4, {.dtype = DType::f64});
  Tensor y = normal({2, 4}, 6);
  const auto clean = layer(Var(y));
  const auto one = layer(reshape(Var(y.rows(1, 2)), {4}));
  CHECK(one.z.shape() == Shape{4});
  CHECK(one.w.shape() == Shape{3});
  CHECK(largest_difference(reshape(one.z, {1, 4}), Var(clean.z.value().rows(1, 2))) <= 1e-12);
  CHECK(layer(Var(Tensor::zeros({0, 4}, DType::f64))).z.shape() == Shape{0, 4});
  y.mutable_data<double>()[2] = std::nan("");
  const auto broken = layer(Var(y));
  CHECK(broken.report.samples[0].status == QpStatus::non_finite);
  CHECK(largest_difference(Var(broken.z.value().rows(1, 2)), Var(clean.z.value().rows(1, 2))) == 0.0);
}

TEST_CASE("total variation refuses what does not fit", "[total_variation]") {
  CHECK_THROWS_WITH(TotalVariation(1),
                    Contains("[total_variation] a signal must have 2 values or more: got 1"));
  CHECK_THROWS_WITH(TotalVariation(4, {.lambda = 0.0}),
                    Contains("[total_variation] lambda must be positive"));
  CHECK_THROWS_AS(TotalVariation(4, {.lambda = std::nan("")}), ValueError);
  const TotalVariation layer(4);
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 5}))), Contains("input must be (batch,4) or (4): got (2,5)"));
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 4}, DType::f64))),
                    Contains("[total_variation] input must be f32, as the parameters are: got f64"));
}
