// Residual blocks as flows: inverses, log-determinants, densities, Lipschitz constants after training.
#include <banach/engine/tape.hpp>
#include <banach/nn/act_norm.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/residual_flow.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/solvers/newton.hpp>

#include "layers.hpp"
#include <tests/ops/counting.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

using DenseBlock = ResidualBlock<ContractiveMlp>;

// ActNorm and a dense block, some times over.
struct Flow2 {
  std::vector<ActNorm> norms;
  std::vector<DenseBlock> blocks;

  Flow2(int depth, DType dtype, const ResidualBlockOptions& options = {}, double c = 0.9) {
    Random random(4);
    for (int i = 0; i < depth; ++i) {
      norms.emplace_back(2, dtype);
      blocks.emplace_back(contractive_mlp({2, 16, 16, 2}, random, {.lipschitz = c, .dtype = dtype}), random,
                          options);
    }
  }
  Transformed forward(const Var& x) const {
    Transformed at{x, constant_log_det("test", x, 0.0)};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const Transformed scaled = norms[i].forward(at.y), moved = blocks[i].forward(scaled.y);
      at = {moved.y, at.log_det + scaled.log_det + moved.log_det};
    }
    return at;
  }
  Var log_density(const Var& x) const {
    const Transformed at = forward(x);
    return at.log_det - 0.5 * sum_of_samples(square(at.y)) - std::log(2.0 * M_PI);
  }
  void visit(Visitor& visitor) { visitor("norms", norms)("blocks", blocks); }
};

// Two arcs of a circle.
Tensor moons(std::int64_t count, std::uint64_t seed) {
  Tensor x = normal({count, 2}, seed, 0.1);
  for (std::int64_t i = 0; i < count; ++i) {
    const double angle = M_PI * static_cast<double>(i) / static_cast<double>(count),
                 side = i % 2 ? 1.0 : -1.0;
    x.mutable_data<double>()[2 * i] += std::cos(angle) * side + side * 0.5;
    x.mutable_data<double>()[2 * i + 1] += std::sin(angle) * side;
  }
  return x;
}

// Some steps of maximum likelihood; `look` sees the model after each.
template <class Look>
void fit(Flow2& flow, DType dtype, int steps, Look look) {
  const Tensor x = moons(128, 1).to(dtype);
  Adam adam(parameters(flow), {.learning_rate = 0.02});
  for (int step = 0; step < steps; ++step) {
    {
      const Tape tape;
      const Var loss = -mean(flow.log_density(Var(x)));
      adam.step(grad(loss, parameters(flow)));
    }
    look(step);
  }
}

// The largest singular value by 1,000 steps of power iteration of our own.
double norm_of(const Tensor& weight) {
  const Var w(weight.to(DType::f64));
  Var v(normal({w.size(1), 1}, 77));
  double sigma = 0.0;
  for (int i = 0; i < 1000; ++i) {
    v = v / norm(v);
    const Var u = matmul(w, v);
    sigma = norm(u).item();
    v = matmul(w, u, {.transpose_a = true});
  }
  return sigma;
}

}  // namespace

TEST_CASE("a trained flow is inverted block by block, every sample by its residual", "[residual_flow]") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  Flow2 flow(4, dtype);
  fit(flow, dtype, 30, [](int) {});
  eval(flow);
  Var x(moons(400, 2).to(dtype));
  for (std::size_t i = 0; i < flow.blocks.size(); ++i) {
    x = flow.norms[i].forward(x).y;
    const Var y = flow.blocks[i].forward(x).y;
    const ImplicitSolution found = flow.blocks[i].solve(y);
    INFO("block " << i << ": " << found.report.to_string());
    CHECK(found.report.converged());
    CHECK(found.report.samples.size() == 400);
    CHECK(largest_difference(found.z, x) <= (dtype == DType::f64 ? 1e-12 : 1e-5));
    x = y;
  }
}

TEST_CASE("what is left of an inverse in single precision is rounding, also far outside", "[residual_flow]") {
  Random random(1);
  ResidualBlock<ContractiveMlp> block(contractive_mlp({8, 32, 32, 8}, random), random);
  for (SpectralLinear& layer : block.g.layers)  // up to their bounds
    layer.raw_weight.set((3.0 * Var(layer.raw_weight.value())).value());
  const Var x = 15.0 * Var(normal({500, 8}, 3).to(DType::f32)), y = block.forward(x).y;
  const ImplicitSolution found = block.solve(y);
  CHECK(found.report.converged());
  CHECK(largest_difference(found.z, x) <= 1e-5);
  block.options.inverse.tolerance = 1e-6;  // where the solver ends, without the plain steps
  CHECK(largest_difference(found.z, x) < 0.5 * largest_difference(block.inverse(y), x));
}

TEST_CASE("any solver inverts a block; near c = 1 Newton-Krylov in fewer evaluations than Picard",
          "[residual_flow]") {
  Random random(1);
  ResidualBlock<ContractiveMlp> block(
      contractive_mlp({3, 3}, random, {.lipschitz = 0.999, .dtype = DType::f64}), random);
  block.g.layers[0].raw_weight.set((Var(Tensor::eye(3, DType::f64)) * -5.0).value());  // J = -c I
  const Var x(normal({10, 3}, 2)), y = block.forward(x).y;
  CHECK(largest_difference(y, 0.001 * x + block.g(Var(Tensor::zeros({1, 3}, DType::f64)))) < 1e-6);
  block.options.inverse.max_steps = 30;
  block.options.inverse.solver = Picard{};
  CHECK(block.solve(y).report.count(Status::max_steps) == 10);
  for (const Solver& solver : {Solver(NewtonKrylov{}), Solver(Anderson{}), Solver(Broyden{})}) {
    block.options.inverse.solver = solver;
    const ImplicitSolution found = block.solve(y);
    INFO(solver.name() << ": " << found.report.to_string());
    CHECK(found.report.converged());
    CHECK(largest_difference(found.z, x) < 1e-10);
  }
}

TEST_CASE("an inverse by Picard evaluates g as often as its report says, others once more",
          "[residual_flow]") {
  Random random(6);
  const ContractiveMlp net = contractive_mlp({4, 16, 16, 4}, random, {.lipschitz = 0.5});
  const auto g = [&](const Var& x) { return apply(counted_op, {net(x)}); };
  const Var x(normal({40, 4}, 7).to(DType::f32)), y = x + g(x);
  for (const auto& [solver, confirming] :
       {std::pair{Solver(Picard{}), 0}, std::pair{Solver(Anderson{}), 1}}) {
    evaluations_counted = 0;
    const ImplicitSolution found =
        nn::detail::residual_inverse(g, y, {.solver = solver, .tolerance = 1e-5, .body = Body::replayed});
    INFO(solver.name() << ": " << found.report.to_string());
    CHECK(found.report.converged());
    CHECK(evaluations_counted == found.report.nstep + confirming);
    CHECK(largest_difference(found.z, x) <= 1e-4);
  }
}

TEST_CASE("y, log-determinant and inverse of a block, and their derivatives", "[residual_flow]") {
  Random random(2);
  DenseBlock block(
      contractive_mlp({2, 5, 2}, random, {.power = {.tolerance = 1e-15, .krylov = 8}, .dtype = DType::f64}),
      random);
  for (SpectralLinear& layer : block.g.layers)
    layer.raw_weight.set(normal(layer.raw_weight.shape(), 3));  // beyond their bounds
  const Tensor x = normal({4, 2}, 4);
  const Transformed moved = block.forward(Var(x));
  CHECK(largest_difference(moved.y, Var(x) + block.g(Var(x))) == 0.0);
  for (std::int64_t s = 0; s < 4; ++s) {
    const Var j = jacobian([&](const Var& at) { return at + block.g(at); }, Var(x.rows(s, s + 1)));
    CHECK(moved.log_det.value().at(s) == Approx(slogdet(reshape(j, {2, 2})).log_abs.item()).epsilon(1e-12));
  }
  const auto forward = check_gradients(block, x,
                                       [&](const Var& at) {
                                         const Transformed t = block.forward(at);
                                         return sum(sin(t.y)) + sum(t.log_det);
                                       },
                                       {.order = 1});
  INFO(forward.to_string());
  CHECK(forward.passed);
  block.options.inverse.backward = Implicit{.solver = Gmres{.tolerance = 1e-13}};
  const auto inverse =
      check_gradients(block, x, [&](const Var& at) { return sum(sin(block.inverse(at))); }, {.order = 1});
  INFO(inverse.to_string());
  CHECK(inverse.passed);
}

TEST_CASE("the density of a trained flow integrates to 1", "[residual_flow]") {
  Flow2 flow(4, DType::f64);
  double first = 0.0, last = 0.0;
  fit(flow, DType::f64, 40, [&](int step) {
    if (step == 0) first = mean(flow.log_density(Var(moons(128, 3)))).item();
  });
  eval(flow);
  last = mean(flow.log_density(Var(moons(128, 3)))).item();
  CHECK(last > first + 0.1);  // it has learned something
  // Midpoints of a square that holds all but 1e-6 of it: sums of a smooth integrand that vanishes outside.
  const std::int64_t side = 160;
  const double reach = 8.0, step = 2.0 * reach / static_cast<double>(side);
  Tensor points = Tensor::empty({side * side, 2}, DType::f64);
  for (std::int64_t i = 0; i < side * side; ++i) {
    points.mutable_data<double>()[2 * i] = -reach + step * (static_cast<double>(i / side) + 0.5);
    points.mutable_data<double>()[2 * i + 1] = -reach + step * (static_cast<double>(i % side) + 0.5);
  }
  const NoGrad off;
  CHECK(sum(exp(flow.log_density(Var(points)))).item() * step * step == Approx(1.0).epsilon(1e-4));
}

TEST_CASE("layers keep to their bounds after every step of training", "[residual_flow]") {
  const double c = GENERATE(0.5, 0.97);
  Flow2 flow(2, DType::f32, {}, c);
  double largest = 0.0;
  fit(flow, DType::f32, 12, [&](int) {
    const NoGrad off;
    for (const DenseBlock& block : flow.blocks)
      for (const SpectralLinear& layer : block.g.layers)
        largest = std::max(largest, norm_of(layer.weight().value()) / layer.bound);
  });
  CHECK(largest <= 1.0 + 1e-3);
  CHECK(largest >= 0.99);  // and make use of them
  for (const DenseBlock& block : flow.blocks) {
    CHECK(block.g.bound() == Approx(c));
    CHECK(block.g.lipschitz().estimate <= c * (1.0 + 1e-5));
    CHECK(block.g.lipschitz().upper <= c * (1.0 + 1e-3));
  }
}

TEST_CASE("a block that draws takes other vectors each time, and goes on from its state", "[residual_flow]") {
  const auto make = [] {
    Random random(5);
    return DenseBlock(contractive_mlp({2, 6, 2}, random, {.dtype = DType::f64}), random,
                      {.estimator = PowerSeries{.terms = 3}, .evaluation = Exact{}});
  };
  DenseBlock block = make(), other = make();
  const Var x(normal({5, 2}, 6));
  const Var first = block.forward(x).log_det, second = block.forward(x).log_det;
  CHECK_FALSE(same_bits(first, second));
  load_state(other, state(block));
  CHECK(same_bits(block.forward(x).log_det, other.forward(x).log_det));
  const ResidualTransformed found = block.forward(x);
  CHECK(found.report.estimator == "power_series");
  const double c = 0.9, rest = 2.0 * (-std::log(1.0 - c) - c - c * c / 2.0 - c * c * c / 3.0);
  CHECK(found.report.samples[0].truncation_bound == Approx(rest));
  eval(block);
  CHECK(block.forward(x).report.estimator == "exact");
}

TEST_CASE("convolutional blocks: inverse, log-determinant beside the dense one", "[residual_flow]") {
  Random random(7);
  ResidualBlock<ContractiveConvNet> block(
      contractive_conv_net({2, 4, 2}, {3, 1}, {4, 3}, random,
                           {.lipschitz = 0.95, .activate_input = true, .dtype = DType::f64}),
      random);
  for (SpectralConv2d& layer : block.g.layers) layer.raw_weight.set(normal(layer.raw_weight.shape(), 8));
  CHECK(block.g.activations.size() == 2);
  const Var x(normal({3, 2, 4, 3}, 9));
  const Transformed moved = block.forward(x);
  const ImplicitSolution found = block.solve(moved.y);
  CHECK(found.report.converged());
  CHECK(largest_difference(found.z, x) < 1e-12);
  const Var j = jacobian([&](const Var& at) { return at + block.g(at); }, Var(x.value().rows(1, 2)));
  CHECK(moved.log_det.value().at(1) == Approx(slogdet(reshape(j, {24, 24})).log_abs.item()).epsilon(1e-12));
}

TEST_CASE("residual flows refuse what cannot be inverted, and take what is empty", "[residual_flow]") {
  Random random(1);
  CHECK_THROWS_WITH(contractive_mlp({2, 4, 3}, random), Contains("the last being the first"));
  CHECK_THROWS_WITH(contractive_mlp({2}, random), Contains("two widths or more"));
  CHECK_THROWS_WITH(contractive_mlp({2, 2}, random, {.lipschitz = 1.0}), Contains("must lie in (0, 1)"));
  CHECK_THROWS_WITH(contractive_conv_net({1, 4, 1}, {3}, 4, random), Contains("one kernel between"));
  CHECK_THROWS_WITH(contractive_conv_net({1, 4, 1}, {3, 2}, 4, random), Contains("kernels must be odd"));
  const DenseBlock block(contractive_mlp({2, 4, 2}, random), random);
  const Var nothing(Tensor::zeros({0, 2}));
  CHECK(block.forward(nothing).y.shape() == Shape{0, 2});
  CHECK(block.forward(nothing).log_det.shape() == Shape{0});
  CHECK(block.inverse(nothing).shape() == Shape{0, 2});
  Tensor broken = Tensor::ones({3, 2});
  broken.mutable_data<float>()[2] = std::numeric_limits<float>::quiet_NaN();
  const ImplicitSolution found = block.solve(Var(broken));
  CHECK(found.report.samples[0].status == Status::converged);
  CHECK(found.report.samples[1].status == Status::non_finite);
  CHECK(found.report.samples[2].status == Status::converged);
}
