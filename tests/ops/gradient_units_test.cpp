// The status of a gradient is a property of the problem: neither the units of F nor the dtype change it.
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

struct Outcome {
  Tensor gradient;
  ImplicitSolution solution;
};

double relative_distance(const Tensor& a, const Tensor& reference) {
  double difference = 0.0, size = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    difference += std::pow(a.at(i) - reference.at(i), 2);
    size += std::pow(reference.at(i), 2);
  }
  return std::sqrt(difference / size);
}

}  // namespace

TEST_CASE("root, minimize and linear_solve: gradients are exact in f32 and f64 and in any units of F") {
  const auto n = GENERATE(as<std::int64_t>(), 1, 2, 3, 8, 17, 30);
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Tensor W = (Var(normal({n, n}, 10 * seed, 0.3)) + 2.0 * Var(Tensor::eye(n, DType::f64))).value(),
                 u = normal({3, n}, 10 * seed + 1);
    const auto in_units = [&](std::string_view node, DType dtype, double unit, const LinearSolver& adjoint) {
      const Tape tape;
      const Var theta = leaf(cast(Var(u), dtype).value()), w = cast(Var(W), dtype);
      const Var start(Tensor::zeros({3, n}, dtype));
      Outcome result;
      if (node == "root")
        result.solution = root([&](const Var& z) { return unit * (matmul(z, w) + 0.3 * tanh(z) - theta); },
                               start, {.backward = Implicit{adjoint}});
      else if (node == "minimize")
        result.solution = minimize(
            [&](const Var& z) {
              return unit * sum(square(matmul(z, w) - theta) + 0.1 * square(square(z)), {1});
            },
            start, {.backward = Implicit{adjoint}});
      else
        result.solution = linear_solve([&](const Var& z) { return unit * matmul(z, w); }, unit * theta,
                                       {.solver = Gmres{.tolerance = 1e-10}, .adjoint = adjoint});
      result.gradient = grad(sum(square(result.solution.z)), {theta})[0].value();
      return result;
    };
    for (const std::string_view node : {"root", "minimize", "linear_solve"}) {
      const Tensor truth = in_units(node, DType::f64, 1.0, Dense{}).gradient;
      for (const DType dtype : {DType::f32, DType::f64})
        for (const double unit : {1e-3, 1.0, 10.0, 1e2, 1e4}) {
          PoolVector<LinearSolver> solvers{Gmres{.tolerance = 1e-10}, BiCgStab{.tolerance = 1e-10}};
          if (node == "minimize") solvers.push_back(Cg{.tolerance = 1e-10});
          for (const LinearSolver& solver : solvers) {
            const Outcome found = in_units(node, dtype, unit, solver);
            INFO(node << " " << name(dtype) << " n " << n << " unit " << unit << " seed " << seed << ": "
                      << found.solution.report.to_string() << "; "
                      << found.solution.adjoint.last().to_string());
            CHECK(found.solution.report.converged());
            CHECK(found.solution.adjoint.last().exact());
            // What the tolerance on F, in its units, leaves of the error of z.
            const double left = (dtype == DType::f32 ? 1e-4 : 1e-8) * std::max(1.0, 3.0 / unit);
            CHECK(relative_distance(found.gradient, truth) <= 10.0 * left);
          }
        }
    }
  }
}

TEST_CASE("a scalar root and a scalar minimum in f32: the gradient is exact for any slope") {
  const float a = GENERATE(0.01f, 0.3f, 1.0f, 7.0f, 30.0f, 100.0f, 300.0f, 1000.0f, 1e5f);
  const Tape tape;
  const Var slope = leaf(Tensor::full({1, 1}, a, DType::f32)), start(Tensor::zeros({1, 1}));
  const auto at_root = root([&](const Var& z) { return slope * z - 1.0; }, start, {.policy = Policy::raise});
  CHECK(grad(sum(at_root.z), {slope})[0].item() == Approx(-1.0 / (a * a)).epsilon(1e-5));
  const auto at_minimum = minimize([&](const Var& z) { return sum(slope * square(z) - z, {1}); }, start,
                                   {.policy = Policy::raise});
  CHECK(grad(sum(at_minimum.z), {slope})[0].item() == Approx(-0.5 / (a * a)).epsilon(1e-5));
}
