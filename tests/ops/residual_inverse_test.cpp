// The inverse of a residual block x + g(x) = y is a fixed point, x = y - g(x): each sample by its residual.
#include "log_det_maps.hpp"

#include <banach/engine/tape.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/solvers/newton.hpp>

using namespace banach;
using namespace banach::test;

namespace {

FixedPoint inverse_of(const Var& y, const Var& w, const FixedPointOptions& options) {
  return fixed_point([&](const Var& x) { return y - curved_map(x, w); }, y, options);
}

}  // namespace

TEST_CASE("a residual block is inverted by any solver, by residual", "[residual_inverse]") {
  const Tensor w = contraction(5, 0.9, 1), x = normal({20, 5}, 2);
  const Var y = Var(x) + curved_map(Var(x), Var(w));
  for (const Solver& solver :
       {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{}), Solver(NewtonKrylov{})}) {
    const FixedPoint found = inverse_of(y, Var(w), {.solver = solver, .tolerance = 1e-14, .max_steps = 500});
    INFO(solver.name() << ": " << found.report.to_string());
    CHECK(found.report.converged());
    CHECK(largest_difference(found.z, Var(x)) < 1e-12);
  }
}

TEST_CASE("near c = 1 Newton-Krylov takes a few steps where Picard takes hundreds", "[residual_inverse]") {
  const double c = 0.999;
  const Var y(normal({3, 4}, 2));
  const auto run = [&](const Solver& solver) {
    return fixed_point([&](const Var& x) { return y + c * x; }, y,  // g(x) = -c x
                       {.solver = solver, .tolerance = 1e-12, .max_steps = 30});
  };
  const FixedPoint newton = run(NewtonKrylov{}), picard = run(Picard{});
  CHECK(newton.report.converged());
  CHECK(largest_difference((1.0 - c) * newton.z, y) < 1e-9);
  CHECK(picard.report.count(Status::max_steps) == 3);
}

TEST_CASE("the inverse is differentiable: (I + J)^-1, and log dets of both ways cancel",
          "[residual_inverse]") {
  const Tensor w = contraction(3, 0.8, 1), x = normal({4, 3}, 2);
  const Var y = Var(x) + curved_map(Var(x), Var(w));
  Tape tape;
  const Vars at{leaf(y.value()), leaf(w)};
  const FixedPoint found = inverse_of(at[0], at[1], {.tolerance = 1e-14, .max_steps = 500});
  // d x / d y: rows by sweeps, against the dense inverse.
  const Var dense = jacobian([&](const Var& z) { return z + curved_map(z, Var(w)); }, Var(x.rows(0, 1)));
  const Var inverted = inverse(reshape(dense, {3, 3}).detach());
  for (std::int64_t i = 0; i < 3; ++i) {
    const Var row = grad(sum(slice(slice(found.z, 0, 0, 1), 1, i, i + 1)), {at[0]})[0];
    CHECK(largest_difference(Var(row.value().rows(0, 1)), slice(inverted, 0, i, i + 1)) < 1e-10);
  }
  const LogDet forward = log_det([&](const Var& z) { return curved_map(z, Var(w)); }, Var(x));
  CHECK(slogdet(inverted).log_abs.item() == Approx(-forward.value.value().at(0)).epsilon(1e-10));
}

TEST_CASE("a sample that cannot be inverted leaves the others alone", "[residual_inverse]") {
  const Var rate(tensor({0.5, 2.0, 0.9}, {3, 1})), y(Tensor::ones({3, 1}, DType::f64));
  const FixedPoint found = fixed_point([&](const Var& x) { return y - rate * x; }, y,
                                       {.solver = Picard{}, .tolerance = 1e-12, .max_steps = 400});
  CHECK(found.report.samples[0].status == Status::converged);
  CHECK(found.report.samples[1].status == Status::diverged);
  CHECK(found.report.samples[2].status == Status::converged);
  CHECK(found.z.value().at(2) == Approx(1.0 / 1.9).epsilon(1e-10));
}
