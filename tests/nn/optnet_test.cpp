// The OptNet layer: closed forms, derivatives against differences, and constraints that hold whatever the
// parameters are.
#include <banach/nn/checkpoint.hpp>
#include <banach/nn/optnet.hpp>
#include <banach/ops/ops.hpp>

#include "files.hpp"
#include "layers.hpp"

#include <tests/ops/qp_gradients.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// Every parameter somewhere at random.
template <class Layer>
void scatter(Layer& layer, std::uint64_t seed, double deviation = 0.5) {
  Random random(seed);
  for (const auto& [name, parameter] : parameters(layer))
    parameter->set(
        (Var(parameter->value()) + Var(normal(random, parameter->shape(), deviation).to(parameter->dtype())))
            .value());
}

OptNet made(std::int64_t n, const OptNetOptions& options, std::uint64_t seed = 1) {
  Random random(seed);
  return OptNet(n, random, options);
}

}  // namespace

TEST_CASE("an OptNet layer without constraints solves with Q", "[optnet]") {
  OptNet layer = made(4, {.eps = 0.3, .dtype = DType::f64});
  scatter(layer, 2);
  const Tensor x = normal({3, 4}, 3);
  const Var l = tril(*layer.L);
  const Var Q = matmul(l, l, {.transpose_b = true}) + 0.3 * Var(Tensor::eye(4, DType::f64));
  const Var expected = transpose(solve(Q, transpose(Var(x))));
  CHECK(largest_difference(layer(Var(x)).z, expected) <= 1e-9);
  CHECK(largest_difference(made(4, {.learn_Q = false, .eps = 0.5, .dtype = DType::f64})(Var(x)).z,
                           2.0 * Var(x)) <= 1e-12);
}

TEST_CASE("z >= 0 alone projects onto it", "[optnet]") {
  const OptNet layer = made(5, {.nonnegative = true, .learn_Q = false, .eps = 1.0, .dtype = DType::f64});
  const Tensor x = normal({6, 5}, 4);
  CHECK(largest_difference(layer(Var(x)).z, relu(Var(x))) <= 1e-10);
}

TEST_CASE("derivatives of an OptNet layer agree with differences", "[optnet]") {
  const OptNetOptions all[] = {
      {.inequalities = 5, .equalities = 2, .eps = 0.1},
      {.inequalities = 3, .equalities = 1, .nonnegative = true, .eps = 0.1},
      {.equalities = 2, .nonnegative = true, .learn_Q = false, .eps = 0.1},
      {.inequalities = 6, .learn_Q = false, .eps = 1.0},
  };
  int checked = 0;
  for (OptNetOptions options : all)
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      options.dtype = DType::f64;
      OptNet layer = made(4, options, seed);
      scatter(layer, 20 + seed, 0.3);
      const Tensor x = normal({2, 4}, 30 + seed);
      const QpSolved s = layer(Var(x));
      if (!clear_of_changes(s.lambda, s.slack)) continue;
      ++checked;
      const GradcheckReport report = check_gradients(layer, x, [&](const Var& at) { return layer(at).z; },
                                                     {.order = 2, .step = 1e-4, .tolerance = 1e-5});
      INFO(report.to_string());
      CHECK(report.passed);
    }
  CHECK(checked >= 8);
}

TEST_CASE("there is a solution whatever the parameters are", "[optnet]") {
  const auto [nonnegative, dtype] = GENERATE(
      table<bool, DType>({{false, DType::f64}, {true, DType::f64}, {false, DType::f32}, {true, DType::f32}}));
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    OptNet layer =
        made(8, {.inequalities = 12, .equalities = 3, .nonnegative = nonnegative, .dtype = dtype}, seed);
    scatter(layer, 40 + seed, 2.0);
    const QpSolved s = layer(Var(normal({10, 8}, seed, 3.0).to(dtype)));
    INFO(s.report.to_string());
    CHECK(s.report.solved());
    CHECK(s.z.shape() == Shape{10, 8});
    CHECK(s.z.dtype() == dtype);
    if (nonnegative) CHECK(min(s.z).item() >= -1e-5);
  }
}

TEST_CASE("the layer for Sudoku learns the rules of its data", "[optnet]") {
  // Points on the simplex of three numbers whose sum is 1: A starts at random, and finds it.
  OptNet layer = made(3, {.equalities = 1, .nonnegative = true, .learn_Q = false, .eps = 0.1});
  const ParameterList all = parameters(layer);
  CHECK(all.size() == 2);
  Adam adam(all, {.learning_rate = 0.05});
  const Var x(normal({40, 3}, 7).to(DType::f32));
  const OptNet teacher = [] {
    OptNet t = made(3, {.equalities = 1, .nonnegative = true, .learn_Q = false, .eps = 0.1});
    t.A->set(Tensor::ones({1, 3}));
    t.log_z0->set(Tensor::full({3}, std::log(1.0 / 3.0), DType::f32));
    return t;
  }();
  const Var target = teacher(x).z.detach();
  CHECK(largest_difference(sum(target, {1}), Var(Tensor::ones({40}))) <= 1e-5);
  double first = 0.0, last = 0.0;
  for (int step = 0; step < 200; ++step) {
    const Tape tape;
    const Var loss = mse(layer(x).z, target);
    adam.step(nn::grad(loss, all));
    last = loss.item();
    if (step == 0) first = last;
  }
  CHECK(first > 0.01);
  CHECK(last < 1e-3 * first);
}

TEST_CASE("one sample is a batch of one, and a frozen part gets no gradient", "[optnet]") {
  OptNet layer = made(4, {.inequalities = 3, .equalities = 1, .dtype = DType::f64});
  const Tensor x = normal({4}, 9);
  CHECK(largest_difference(reshape(layer(Var(x)).z, {1, 4}), layer(reshape(Var(x), {1, 4})).z) == 0.0);
  freeze(parameters(layer), "G");
  const Tape tape;
  const Vars gradients = nn::grad(sum(square(layer(Var(x)).z)), parameters(layer));
  REQUIRE(gradients.size() == 5);  // L, G, log_s0, A, z0
  CHECK(sum(square(gradients[0])).item() > 0.0);
  CHECK(sum(square(gradients[1])).item() == 0.0);
}

TEST_CASE("an OptNet layer is saved, loaded and converted", "[optnet]") {
  const OptNetOptions options{.inequalities = 3, .equalities = 2, .nonnegative = true};
  OptNet one = made(4, options, 1), other = made(4, options, 2);
  scatter(one, 3);
  const Var x(normal({2, 4}, 5).to(DType::f32));
  const files::Folder folder;
  const std::string path = folder / "optnet.safetensors";
  Adam adam(parameters(one)), other_adam(parameters(other));
  save_checkpoint(path, one, adam, {});
  load_checkpoint(path, other, other_adam);
  CHECK(same_bits(one(x).z, other(x).z));
  CHECK(state(one).size() == 5);
  CHECK(state(one).count("log_z0") == 1);

  to(one, DType::f64);
  const QpSolved precise = one(cast(x, DType::f64));
  CHECK(precise.z.dtype() == DType::f64);
  CHECK(largest_difference(precise.z, cast(other(x).z, DType::f64)) <= 1e-4);
}

TEST_CASE("a NaN stays with its sample of an OptNet layer", "[optnet]") {
  const OptNet layer = made(3, {.inequalities = 2, .dtype = DType::f64});
  Tensor x = normal({3, 3}, 6);
  const Tensor clean = layer(Var(x)).z.value();
  x.mutable_data<double>()[4] = std::nan("");
  const QpSolved s = layer(Var(x));
  CHECK(s.report.samples[1].status == QpStatus::non_finite);
  for (const int row : {0, 2})
    CHECK(largest_difference(Var(s.z.value().rows(row, row + 1)), Var(clean.rows(row, row + 1))) == 0.0);
  CHECK(layer(Var(Tensor::zeros({0, 3}, DType::f64))).z.shape() == Shape{0, 3});
}

TEST_CASE("an OptNet layer refuses what does not fit", "[optnet]") {
  CHECK_THROWS_WITH(made(0, {}), Contains("[optnet] features must be at least 1: got 0"));
  CHECK_THROWS_WITH(made(3, {.inequalities = -1}), Contains("[optnet]") && Contains("-1"));
  CHECK_THROWS_WITH(made(3, {.eps = 0.0}), Contains("[optnet] eps must be positive"));
  CHECK_THROWS_AS(made(3, {.eps = std::nan("")}), ValueError);
  const OptNet layer = made(3, {.inequalities = 2});
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 4}))),
                    Contains("[optnet] input must be (batch,3) or (3): got (2,4)"));
  CHECK_THROWS_AS(layer(Var(Tensor::zeros({2, 3, 3}))), ShapeError);
  CHECK_THROWS_WITH(layer(Var(Tensor::zeros({2, 3}, DType::f64))),
                    Contains("[optnet] input must be f32, as the parameters are: got f64"));
}
