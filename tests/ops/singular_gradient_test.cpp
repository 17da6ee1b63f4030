// Where the tolerance is too loose for the residuals to tell a singular root from a regular one, the gradient
// itself tells: at a singular root it changes by as much as itself when z is corrected.
#include <banach/engine/memory_meter.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

std::vector<Solver> solvers() {
  return {Picard{}, Anderson{}, Broyden{}, AdjointBroyden{}, NewtonKrylov{}, Newton{}, LevenbergMarquardt{}};
}

Var power(const Var& x, int exponent) {
  Var result = x;
  for (int i = 1; i < exponent; ++i) result = result * x;
  return result;
}

Tensor one_value(double value, DType dtype = DType::f64) { return Tensor::full({1, 1}, value, dtype); }

}  // namespace

TEST_CASE("at a multiple root no gradient is called exact, whatever the tolerance and the solver") {
  const int m = GENERATE(2, 3, 4);
  for (const double tolerance : {1e-2, 1e-3, 1e-4, 1e-6, 1e-8})
    for (const DType dtype : {DType::f64, DType::f32}) {
      if (dtype == DType::f32 && tolerance < 1e-4) continue;
      for (const Solver& solver : solvers()) {
        const Tape tape;
        const Var a = leaf(one_value(0.0, dtype));
        const auto solved =
            fixed_point([&](const Var& z) { return z - power(z - 1.0, m) - a; }, Var(one_value(1.5, dtype)),
                        {.solver = solver, .tolerance = tolerance, .max_steps = 200000});
        grad(sum(solved.z), {a});
        INFO("multiplicity " << m << ", tolerance " << tolerance << " " << name(dtype) << " by "
                             << solver.name() << ": " << solved.report.to_string() << "; "
                             << solved.adjoint.last().to_string());
        CHECK_FALSE(solved.adjoint.last().exact());
      }
    }
}

TEST_CASE(
    "a double root among contracting directions: the default tolerance refuses the gradient by policy") {
  // In coordinates w = z Q, of which the first has its double root at 1.
  const std::int64_t n = 6;
  const auto seed = GENERATE(as<std::uint64_t>(), 1, 2, 3);
  const Tensor Q = (Var(normal({n, n}, seed, 0.3)) + Var(Tensor::eye(n, DType::f64))).value();
  Tensor slope = Tensor::zeros({1, n}, DType::f64), curvature = slope.clone();
  for (std::int64_t i = 0; i < n; ++i)
    slope.mutable_data<double>()[i] = i == 0 ? 1.0 : 0.8 * std::cos(3.0 * static_cast<double>(i));
  curvature.mutable_data<double>()[0] = 1.0;
  const Var inverted = inverse(Var(Q)), start = matmul(Var(Tensor::full({1, n}, 1.7, DType::f64)), inverted);
  for (const Solver& solver : solvers()) {
    const auto solve = [&](const Var& a, Policy policy) {
      return fixed_point(
          [&](const Var& z) {
            const Var w = matmul(z, Var(Q)) - 1.0;
            return matmul(Var(slope) * w - Var(curvature) * w * w + 1.0, inverted) - a;
          },
          start, {.solver = solver, .max_steps = 20000, .policy = policy});
    };
    const Tape tape;
    const Var a = leaf(Tensor::zeros({1, n}, DType::f64));
    const ImplicitSolution solved = solve(a, Policy::report);
    REQUIRE(solved.report.converged());
    grad(sum(solved.z), {a});
    const GradientStatus status = solved.adjoint.last().samples[0];
    INFO(solver.name() << ", seed " << seed << ": " << solved.report.to_string() << "; "
                       << solved.adjoint.last().to_string());
    CHECK(status.kind != GradientKind::exact);
    // At a double root lambda doubles, unless the forward solve knew already.
    if (!solved.report.samples[0].singular_root) CHECK(status.sensitivity == Approx(1.0).margin(0.3));
    CHECK_THROWS_AS(grad(sum(solve(a, Policy::raise).z), {a}), SolveError);
    CHECK(std::isnan(grad(sum(solve(a, Policy::nan).z), {a})[0].value().at(0)));
  }
}

TEST_CASE("slow and expanding fixed points that are regular keep their exact gradients") {
  const double tolerance = GENERATE(1e-3, 1e-4, 1e-6), rate = GENERATE(0.5, 0.9, 0.99, 0.999);
  const std::int64_t n = 20;
  const Tensor W = normal({n, n}, 3, 0.5 * rate / std::sqrt(static_cast<double>(n))), u = normal({8, n}, 4);
  for (const Solver& solver : solvers())
    for (const int kind : {0, 1, 2}) {
      const Tape tape;
      const Var theta = leaf(u);
      const auto f = [&](const Var& z) {
        return kind == 0   ? rate * z + theta
               : kind == 1 ? tanh(matmul(z, Var(W)) + theta)
                           : relu(matmul(z, Var(W)) + theta);
      };
      const auto solved =
          fixed_point(f, zeros_like(theta),
                      {.solver = solver, .tolerance = tolerance, .max_steps = 100000, .error_factor = 1e4});
      grad(sum(square(solved.z)), {theta});
      INFO("rate " << rate << " tolerance " << tolerance << " kind " << kind << " by " << solver.name()
                   << ": " << solved.report.to_string() << "; " << solved.adjoint.last().to_string());
      CHECK(solved.report.converged());
      CHECK(solved.adjoint.last().exact());
    }
}

TEST_CASE("the sensitivity of a gradient tells how far it is off") {
  // z = 1 + sqrt(a): dz/da = 1 / (2 sqrt(a)); roots so near to each other that the tolerance mistakes them.
  for (const double a : {1e-2, 1e-3, 1e-4, 1e-6, 1e-10}) {
    const Tape tape;
    const Var theta = leaf(one_value(a));
    const auto solved = fixed_point([&](const Var& z) { return z - square(z - 1.0) + theta; },
                                    Var(one_value(1.5)), {.solver = Picard{}, .max_steps = 100000});
    const double gradient = grad(sum(solved.z), {theta})[0].item(), truth = 0.5 / std::sqrt(a);
    const GradientStatus status = solved.adjoint.last().samples[0];
    INFO("a " << a << ": " << gradient << " for " << truth << ", sensitivity " << status.sensitivity);
    if (std::abs(gradient - truth) > 0.3 * truth) CHECK(status.kind != GradientKind::exact);
    if (std::abs(gradient - truth) < 0.1 * truth) CHECK(status.kind == GradientKind::exact);
  }
}

TEST_CASE("looking for a singular root beside costs no more than the adjoint did") {
  // (I - J) has eigenvalues of 0.003 to 1: Krylov solves of it take hundreds of steps.
  const std::int64_t n = 300;
  Tensor slope = Tensor::empty({1, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i)
    slope.mutable_data<double>()[i] =
        std::pow(10.0, -2.5 * static_cast<double>(i) / static_cast<double>(n - 1));
  const Tape tape;
  const Var a = leaf(Tensor::zeros({1, n}, DType::f64));
  const auto body = [&](const Var& z) { return z - Var(slope) * (z - 1.0) - 0.3 * square(z - 1.0) - a; };
  const auto solved = fixed_point(body, Var(normal({1, n}, 5)) + 1.0,
                                  {.solver = Anderson{},
                                   .backward = Implicit{Gmres{.tolerance = 0.3}},
                                   .tolerance = 1e-2,
                                   .max_steps = 100000});
  grad(sum(solved.z), {a});
  INFO(solved.report.to_string() << "; " << solved.adjoint.last().to_string());
  REQUIRE(solved.report.samples[0].status == Status::converged);
  CHECK_FALSE(solved.adjoint.last().exact());
  CHECK(solved.adjoint.last().evaluations <= 45);
}

TEST_CASE("looking for a singular root beside holds the vectors of one linear solve at a time") {
  // Half of the entries have a double root, the others contract.
  const std::int64_t n = 1 << 15;
  Tensor slope = Tensor::zeros({1, n}, DType::f64);
  for (std::int64_t i = 0; i < n; i += 2) slope.mutable_data<double>()[i] = 0.8;
  const Tape tape;
  const Var a = leaf(Tensor::zeros({1, n}, DType::f64));
  const auto body = [&](const Var& z) { return z - Var(slope) * (z - 1.0) - 0.3 * square(z - 1.0) - a; };
  // The adjoint itself takes few vectors, so that the peak is the search's.
  const auto solved = fixed_point(
      body, Var(Tensor::full({1, n}, 1.7, DType::f64)),
      {.solver = Anderson{}, .backward = Implicit{BiCgStab{.tolerance = 0.3}}, .max_steps = 1000});
  const memory::Meter meter;
  grad(sum(solved.z), {a});
  INFO(solved.report.to_string() << "; " << solved.adjoint.last().to_string());
  REQUIRE(solved.adjoint.last().samples[0].sensitivity == Approx(1.0).margin(0.01));
  // Of the state's size: 15 vectors of GMRES, its answer, argument and product, and an evaluation of f.
  CHECK(static_cast<double>(meter.peak_bytes()) < 30.0 * static_cast<double>(sizeof(double) * n));
}
