// A solve in parts is the solve of the whole.
#include <banach/solvers/join.hpp>
#include <tests/tensors.hpp>

using namespace banach;
using namespace banach::test;

namespace {

// Sample s contracts at its own rate.
Tensor step(const Tensor& z, const Tensor& rates) {
  Tensor next = Tensor::empty(z.shape(), z.dtype());
  for (std::int64_t i = 0; i < z.size(); ++i)
    next.mutable_data<double>()[i] = rates.at(i / z.size(1)) * z.at(i) + 1.0;
  return next;
}

}  // namespace

TEST_CASE("fixed points in parts: values, reports and traces are those of the whole", "[join]") {
  const std::int64_t cuts[] = {0, 1, 4, 9};
  for (const bool whole_trace : {false, true})
    for (const Solver& solver : {Solver(Picard{}), Solver(Broyden{})}) {
      INFO(solver.name() << (whole_trace ? ", whole trace" : ""));
      Tensor rates = Tensor::empty({9, 1}, DType::f64);
      for (int i = 0; i < 9; ++i) rates.mutable_data<double>()[i] = 0.1 * (i + 1);  // up to 0.9: 190 steps
      const StopOptions options{
          .max_steps = 400, .tolerance = 1e-9, .whole_trace = whole_trace, .keep_inverse = true};
      const auto solve = [&](std::int64_t begin, std::int64_t end) {
        const Tensor some = rates.rows(begin, end);
        return solve_fixed_point(
            solver, [&](const Tensor& z) { return step(z, some); },
            Tensor::zeros({end - begin, 2}, DType::f64), options);
      };
      const FixedPointSolution whole = solve(0, 9);
      PoolVector<FixedPointSolution> parts;
      for (int p = 0; p < 3; ++p) parts.push_back(solve(cuts[p], cuts[p + 1]));
      const FixedPointSolution one = joined(parts);
      CHECK(same_bits(one.z, whole.z));
      CHECK(same_bits(one.fz, whole.fz));
      CHECK(one.report.nstep == whole.report.nstep);
      CHECK(one.report.solver == whole.report.solver);
      CHECK(one.report.history_bytes == whole.report.history_bytes);
      REQUIRE(one.report.samples.size() == 9);
      for (std::size_t s = 0; s < 9; ++s) {
        CHECK(one.report.samples[s].status == whole.report.samples[s].status);
        CHECK(one.report.samples[s].nstep == whole.report.samples[s].nstep);
      }
      CHECK(one.inverse.has_value() == whole.inverse.has_value());
      if (one.inverse) CHECK(same_bits(one.inverse->u, whole.inverse->u));
      // A thinned trace ends a part's curve at its last kept row, up to a stride before its last step.
      CHECK(one.report.trace.steps == whole.report.trace.steps);
      REQUIRE(one.report.trace.abs_trace.size() == whole.report.trace.abs_trace.size());
      const auto stride =
          one.report.trace.steps.size() > 1 ? one.report.trace.steps[1] - one.report.trace.steps[0] : 1;
      for (std::size_t row = 0; row < one.report.trace.steps.size(); ++row)
        for (std::size_t s = 0; s < 9; ++s)
          if (one.report.trace.steps[row] <= whole.report.samples[s].nstep - stride || whole_trace)
            CHECK(one.report.trace.abs_trace[row * 9 + s] == whole.report.trace.abs_trace[row * 9 + s]);
    }
}

TEST_CASE("linear systems in parts", "[join]") {
  const Tensor b = normal({6, 3}, 1), rates = normal({6, 1}, 2, 0.3);
  const auto solve = [&](std::int64_t begin, std::int64_t end) {
    const Tensor some = rates.rows(begin, end);
    return solve_linear(
        Gmres{},
        [&](const Tensor& x) {
          Tensor y = Tensor::empty(x.shape(), x.dtype());
          for (std::int64_t i = 0; i < x.size(); ++i) y.mutable_data<double>()[i] = some.at(i / 3) * x.at(i);
          return y;
        },
        b.rows(begin, end));
  };
  const LinearSolution whole = solve(0, 6);
  const PoolVector<LinearSolution> parts{solve(0, 2), solve(2, 6)};
  const LinearSolution one = joined(parts);
  CHECK(same_bits(one.x, whole.x));
  CHECK(one.status == whole.status);
  CHECK(one.residual == whole.residual);
  CHECK(one.applications == whole.applications);
  CHECK(one.evaluations == whole.evaluations);
}
