#include <banach/solvers/qp/matrices.hpp>
#include <banach/solvers/qp/solver.hpp>

namespace banach::qp::detail {

constinit const Solver sse2_lanes = solver_of<Lanes, Matrices<Lanes>>();

}  // namespace banach::qp::detail
