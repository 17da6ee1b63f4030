#pragma once
// Internal: the entry of group.hpp for one kind of number.

#include <banach/solvers/qp/group.hpp>
#include <banach/solvers/qp/interior_point.hpp>

namespace banach::qp {
namespace {

template <class N, class M>
std::int64_t workspace_of(std::int64_t n, std::int64_t e, std::int64_t m) {
  return InteriorPoint<N, M>::size(n, e, m) * Width<N>::value;
}

template <class N, class M>
void solve_group(const Group& g, double* workspace) {
  const auto numbers = [](double* from) { return reinterpret_cast<N*>(from); };
  Data<N> data{g.n,          g.e,          g.m,          g.bounds,         g.column,     numbers(g.Q),
               numbers(g.p), numbers(g.A), numbers(g.b), numbers(g.bound), numbers(g.G), numbers(g.h)};
  Arena<N> arena{numbers(workspace)};
  InteriorPoint<N, M> solver(data, {g.target, g.max_steps}, arena);
  const Answer<N> answer = solver.run();
  copy(answer.best.x, numbers(g.x), g.n), copy(answer.best.y, numbers(g.y), g.e);
  copy(answer.best.z, numbers(g.z), g.m), copy(answer.best.s, numbers(g.s), g.m);
  const N about[] = {
      answer.residuals.primal, answer.residuals.dual, answer.residuals.gap, answer.residuals.objective,
      answer.largest,          answer.steps,          answer.convex};
  copy(about, numbers(g.residuals), 7);
}

template <class N, class M>
constexpr Solver solver_of() {
  return {Width<N>::value, workspace_of<N, M>, solve_group<N, M>};
}

}  // namespace
}  // namespace banach::qp
