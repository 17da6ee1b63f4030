#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

const Op linear_solve_op{
    implicit_op("linear_solve", "x with A(x, theta) = b: inputs theta and b; output x.")};

// v -> M v of a body f(x) = M x + b, as a difference of f at v made as long as b: the rounding is that of f
// and no more.
Tensor product(const StateMap& f, const Tensor& b, const PoolVector<double>& b_norms, const Tensor& v) {
  return dispatch_floating(v.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t n = v.shape()[1];
    const PoolVector<double> v_norms = vec::row_norms(v);
    const auto scale = [&](std::int64_t i) {
      const double ratio =
          b_norms[static_cast<std::size_t>(i / n)] / v_norms[static_cast<std::size_t>(i / n)];
      return static_cast<T>(ratio > 0.0 && std::isfinite(ratio) ? ratio : 1.0);
    };
    Tensor scaled = v.clone();
    T* x = scaled.mutable_data<T>();
    for (std::int64_t i = 0; i < v.size(); ++i) x[i] *= scale(i);
    Tensor result = f(scaled).clone();
    T* y = result.mutable_data<T>();
    for (std::int64_t i = 0; i < v.size(); ++i) y[i] = (y[i] - b.data<T>()[i]) / scale(i);
    return result;
  });
}

// Where products contradict each other: whether that is since A mixes systems, seen by a right-hand side that
// is zero but in one of them.
std::string mixing_hint(const StateMap& apply, const Tensor& b) {
  const std::int64_t batch = b.shape()[0], n = b.shape()[1];
  if (batch < 2) return "";
  Tensor one = Tensor::zeros(b.shape(), b.dtype());
  dispatch_floating(b.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::fill_n(one.mutable_data<T>(), n, T{1});
  });
  const PoolVector<double> image = vec::row_norms(apply(one));
  const bool mixed = std::any_of(image.begin() + 1, image.end(), [](double norm) { return norm > 0.0; });
  return mixed ? "; hint: A mixes systems of axis 0: set .batch = Batch::none" : "";
}

// A b and A (-b / 2) must agree.
void check_linear(const Tensor& whole, const Tensor& half) {
  const PoolVector<double> size = vec::row_norms(whole),
                           off = vec::row_norms((Var(half) + 0.5 * Var(whole)).value()),
                           half_size = vec::row_norms(half);
  for (std::size_t s = 0; s < off.size(); ++s)
    if (off[s] > 0.01 * std::max(size[s], half_size[s]))
      fail<ValueError>("linear_solve", fmt::format("A must be linear: A(-b / 2) is not -A(b) / 2 in system "
                                                   "{}, but {:.3g} away from it, and A(b) is {:.3g} long",
                                                   s, off[s], size[s]));
}

// x = f(x) = M x + b by products with M. The residual of the report is taken by an evaluation of its own, and
// nothing converges but by that: for a map that is not linear, and where M's products are all rounding, the
// solver's means nothing.
FixedPointSolution solve(const LinearSolver& solver, const StateMap& apply, const StateMap& f,
                         const Tensor& b) {
  const PoolVector<double> b_norms = vec::row_norms(b);
  PoolVector<double> gain(b_norms.size(), 0.0);  // the largest ||M v|| / ||v|| seen
  const auto watched = [&](const Tensor& v) {
    Tensor image = apply(v);
    const PoolVector<double> before = vec::row_norms(v), after = vec::row_norms(image);
    for (std::size_t s = 0; s < gain.size(); ++s)
      if (before[s] > 0.0) gain[s] = std::max(gain[s], after[s] / before[s]);
    return image;
  };
  LinearSolution solved =
      std::visit([&](const auto& s) { return solve_linear(s, std::ref(watched), b); }, solver);
  const Tensor image = f(solved.x);
  const PoolVector<double> residual = vec::row_norms(image, solved.x), x_norms = vec::row_norms(solved.x);

  FixedPointSolution solution{solved.x, image, {}};
  const double epsilon = b.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                 : std::numeric_limits<double>::epsilon();
  const double tolerance = std::visit(
      [&](const auto& s) {
        if constexpr (requires { s.tolerance; })
          return s.tolerance;
        else
          return std::sqrt(epsilon);
      },
      solver);
  for (std::size_t s = 0; s < residual.size(); ++s) {
    const double expected = solved.residual[s] * b_norms[s];
    if (std::abs(residual[s] - expected) > 0.01 * b_norms[s] + 1e4 * epsilon * x_norms[s])
      fail<ValueError>(
          "linear_solve",
          fmt::format("A must be linear: ||A(x) - b|| of system {} is {:.3g}, but {:.3g} by A's products{}",
                      s, residual[s], expected, mixing_hint(apply, b)));
    SampleReport report;
    report.status = solved.status[s];
    const double rounding = std::min(16.0 * epsilon * ((1.0 + gain[s]) * x_norms[s] + b_norms[s]),
                                     std::sqrt(epsilon) * b_norms[s]);
    if (report.status == Status::converged && residual[s] > std::max(2.0 * tolerance * b_norms[s], rounding))
      report.status = Status::stagnated;
    report.nstep = report.best_step = solved.evaluations;
    report.abs_lowest = residual[s];
    report.rel_lowest = b_norms[s] > 0.0 ? residual[s] / b_norms[s] : residual[s];
    solution.report.samples.push_back(report);
  }
  solution.report.nstep = solved.evaluations;
  solution.report.solver = std::visit([](const auto& s) { return std::string_view(s.name); }, solver);
  return solution;
}

}  // namespace

ImplicitSolution linear_solve(FunctionRef<Var(const Var&)> A, const Var& b,
                              const LinearSolveOptions& options) {
  check_start("linear_solve", b);
  const auto residual = [&](const Var& x) {
    const Var image = A(x);
    check_body("linear_solve", x, image);
    return image - b;
  };
  // With I - M = s A, whose size is near 1.
  const auto forward = [&](const FixedPointProblem&, const Tensor& start) {
    const auto image = [&](const Tensor& x) { return Var(at_rows("linear_solve", A, b.shape(), x)); };
    const Var right(start), along = image(start);
    check_linear(along.value(), image((-0.5 * right).value()).value());
    const double s = unit_scale(vec::row_norms(along.value()), vec::row_norms(start), b.dtype());
    const auto apply = [&](const Tensor& v) { return (Var(v) - s * image(v)).value(); };
    const auto map = [&](const Tensor& x) { return (Var(x) - s * (image(x) - right)).value(); };
    FixedPointSolution found = solve(options.solver, apply, map, (s * right).value());
    for (SampleReport& sample : found.report.samples) sample.abs_lowest /= s;
    return found;
  };
  const auto again = [&](double) {
    return ForwardSolve([solver = options.solver](const FixedPointProblem& problem, const Tensor& known) {
      const Tensor right = problem.f(Tensor::zeros(known.shape(), known.dtype()));
      const PoolVector<double> norms = vec::row_norms(right);
      const auto apply = [&](const Tensor& v) { return product(problem.f, right, norms, v); };
      return solve(solver, apply, problem.f, right);
    });
  };
  return root_node(residual, b.detach(),
                   {.op = &linear_solve_op,
                    .solve = forward,
                    .backward = Implicit{options.adjoint},
                    .batch = options.batch,
                    .policy = options.policy,
                    .tolerance = 1e-6},
                   again);
}

}  // namespace banach
