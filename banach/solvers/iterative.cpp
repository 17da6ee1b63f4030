#include <banach/solvers/check.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

constexpr std::string_view op = "iterative";

// Row s of the result is row s of t times, or divided by, factors[s].
template <class T>
Tensor scale_rows(const Tensor& t, const PoolVector<double>& factors, bool divide) {
  Tensor result = Tensor::empty(t.shape(), t.dtype());
  const std::int64_t n = t.shape()[1];
  const T* in = t.data<T>();
  T* out = result.mutable_data<T>();
  for (const double factor : factors) {
    for (std::int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(in[i]);  // a factor may lie outside the range of T
      out[i] = static_cast<T>(divide ? value / factor : value * factor);
    }
    in += n;
    out += n;
  }
  return result;
}

// Each system is solved for a right-hand side of unit length, so that one absolute tolerance is relative for
// all.
template <class T>
LinearSolution solve(const Iterative& options, const StateMap& apply, const Tensor& b) {
  PoolVector<double> norms = vec::row_norms(b);
  for (double& norm : norms)
    if (!(norm > 0.0 && std::isfinite(norm))) norm = 1.0;
  const Tensor unit_b = scale_rows<T>(b, norms, true);
  Tensor start = unit_b.clone();
  T* start_data = start.mutable_data<T>();
  std::replace_if(
      start_data, start_data + start.size(), [](T value) { return !std::isfinite(value); }, T{0});
  const auto map = [&](const Tensor& x, StateMap::Marks wanted) {
    Tensor result = apply(x, wanted);
    check_map(op, x, result);
    simd::kernels<T>().add_to(unit_b.data<T>(), result.mutable_data<T>(), result.size());
    return result;
  };
  FixedPointSolution found = solve_fixed_point(
      options.solver, StateMap(std::ref(map)), start,
      {.max_steps = options.max_steps, .tolerance = 0.0, .absolute_tolerance = options.tolerance});

  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  LinearSolution solution{scale_rows<T>(found.z, norms, false), {}, {}, found.report.nstep, {}};
  for (const SampleReport& sample : found.report.samples) {
    const bool small = sample.abs_lowest <= std::max(options.tolerance, std::sqrt(epsilon));
    solution.status.push_back(sample.status == Status::converged && !small ? Status::stagnated
                                                                           : sample.status);
    solution.residual.push_back(sample.abs_lowest);
    solution.applications.push_back(sample.nstep);
  }
  return solution;
}

}  // namespace

void check(const Iterative& o) { check_budget(op, o.max_steps, o.tolerance); }

LinearSolution solve_linear(const Iterative& solver, const StateMap& apply, const Tensor& b) {
  check(solver);
  check_state(op, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) { return solve<decltype(zero)>(solver, apply, b); });
}

}  // namespace banach
