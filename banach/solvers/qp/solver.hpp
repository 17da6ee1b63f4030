#pragma once
// Internal: the entry of group.hpp for one kind of number.

#include <banach/solvers/qp/group.hpp>
#include <banach/solvers/qp/interior_point.hpp>

namespace banach::qp {
namespace {

template <class N, class M>
constexpr std::int64_t header = (sizeof(InteriorPoint<N, M>) + 63) / 64 * 8;  // doubles of a solver's own

template <class N, class M>
std::int64_t workspace_of(std::int64_t n, std::int64_t e, std::int64_t m) {
  return header<N, M> + InteriorPoint<N, M>::size(n, e, m) * Width<N>::value;
}

template <class N, class M>
std::int64_t scratch_of(std::int64_t n, std::int64_t e, std::int64_t m) {
  return InteriorPoint<N, M>::scratch_size(n, e, m) * Width<N>::value;
}

template <class N>
N* numbers(double* from) {
  return reinterpret_cast<N*>(from);
}

template <class N, class M>
void solve_group(const Group& g, double* workspace, double* scratch) {
  const Data<N> data{g.n,
                     g.e,
                     g.m,
                     g.bounds,
                     g.column,
                     numbers<N>(g.Q),
                     numbers<N>(g.p),
                     numbers<N>(g.A),
                     numbers<N>(g.b),
                     numbers<N>(g.bound),
                     numbers<N>(g.G),
                     numbers<N>(g.h)};
  Arena<N> arena{numbers<N>(workspace + header<N, M>)};
  InteriorPoint<N, M> solver(data, {g.target, g.max_steps, g.rounding}, arena, {numbers<N>(scratch)});
  const Answer<N> answer = solver.run(g.start ? numbers<N>(g.start) : nullptr);
  copy(answer.best.x, numbers<N>(g.x), g.n), copy(answer.best.y, numbers<N>(g.y), g.e);
  copy(answer.best.z, numbers<N>(g.z), g.m), copy(answer.best.s, numbers<N>(g.s), g.m);
  const N about[] = {
      answer.residuals.primal, answer.residuals.dual, answer.residuals.gap, answer.residuals.objective,
      answer.residuals.scaled, answer.steps,          answer.convex};
  copy(about, numbers<N>(g.residuals), 7);
  __builtin_memcpy(workspace, &solver, sizeof solver);
}

template <class N, class M>
InteriorPoint<N, M>& solved(double* workspace) {
  return *reinterpret_cast<InteriorPoint<N, M>*>(workspace);
}

template <class N, class M>
void linearise_group(double* workspace, double* active, double* weak, double* good, double* regular) {
  const N one = number<N>(1.0), zero = number<N>(0.0);
  Mask<N> takes_anything;
  const Mask<N> factored =
      solved<N, M>(workspace).linearise(numbers<N>(active), *numbers<N>(weak), takes_anything);
  *numbers<N>(good) = select(factored, one, zero);
  *numbers<N>(regular) = select(takes_anything, one, zero);
}

template <class N, class M>
void tangent_group(double* workspace, double* x, double* y, double* z, double* residual) {
  *numbers<N>(residual) =
      solved<N, M>(workspace).tangent({numbers<N>(x), numbers<N>(y), numbers<N>(z), nullptr}, 1e-14);
}

template <class N, class M>
constexpr Solver solver_of() {
  return {Width<N>::value,   workspace_of<N, M>,    scratch_of<N, M>,
          solve_group<N, M>, linearise_group<N, M>, tangent_group<N, M>};
}

}  // namespace
}  // namespace banach::qp
