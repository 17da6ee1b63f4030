#include <banach/engine/error.hpp>
#include <banach/engine/op.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/cast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/qp_rows.hpp>
#include <banach/ops/implicit/qp_shift.hpp>
#include <banach/ops/implicit/rank_two.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Q, p, G, h, A, b in this order.
QpData data_of(std::span<const Var> in) {
  return {in[0].value(), in[1].value(), in[2].value(), in[3].value(), in[4].value(), in[5].value()};
}

QpOptions solver_options(const QpSolveOptions& options, bool derivative) {
  return {options.tolerance, options.max_steps, derivative, options.start};
}

struct NodeAttrs {
  QpSolveOptions options;
  QpReport report;
  std::shared_ptr<const QpDerivative> derivative;
  Tensor z;                 // what it is the derivative at
  PoolVector<char> kinked;  // not zero for problems whose parameters have no derivative; may be empty
  AdjointLog log;
};

// ---- Batches and products ------------------------------------------------------------------------------

// With a batch axis, of one problem if there was none.
Var batched(const Var& x, int rank) { return qp::spread(x, rank, 1); }

// The cotangent of a matrix, sum or batch of u_i v_i' + s_i t_i', as its parameter is shared or not.
Var outer(const Var& u, const Var& v, const Var& s, const Var& t, const Var& like) {
  if (like.rank() == 2) return matmul(concat({u, s}, 0), concat({v, t}, 0), {.transpose_a = true});
  return rank_two(u, v, s, t);
}
// Of u_i v_i' + v_i u_i', symmetric to the last bit.
Var symmetric_outer(const Var& u, const Var& v, const Var& like) {
  if (like.rank() == 3) return rank_two(u, v, v, u);
  const Var half = matmul(u, v, {.transpose_a = true});
  return half + transpose(half);
}

// The same of a vector.
Var gathered(const Var& u, const Var& like) { return like.rank() == 1 ? sum(u, {0}) : u; }

// ---- The system of derivatives -------------------------------------------------------------------------

struct SystemAttrs {
  std::shared_ptr<const QpDerivative> derivative;
  std::shared_ptr<PoolVector<double>> residual;  // of the solve that ran last
};

// The solution (a, c, d) of [Q A' G'; A 0 0; G 0 0] with the active rows of G, for the right-hand side r; d
// is 0 in the other rows, whatever r.
Vars solve_system(const Var& Q, const Var& G, const Var& A, const Vars& r, const SystemAttrs& attrs);

const Op system_op{{
    .name = "qp_derivative",
    .doc = "Solution of the system of derivatives of a quadratic program: inputs Q, G, A and three "
           "right-hand sides.",
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<SystemAttrs>();
          const auto right = [&](int i) { return c.in(3 + i).to(DType::f64); };
          const QpDerivative::Solution s = attrs.derivative->solve(right(0), right(1), right(2));
          const DType dtype = c.in(3).dtype();
          *attrs.residual = s.residual;
          c.out(0) = s.z.to(dtype), c.out(1) = s.nu.to(dtype), c.out(2) = s.lambda.to(dtype);
        },
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<SystemAttrs>();
          Vars right;
          for (int i = 0; i < 3; ++i) {
            const auto k = static_cast<std::size_t>(i);
            right.push_back(c.cotangents[k].defined() ? c.cotangents[k] : zeros_like(c.outputs[k]));
          }
          const Vars w = solve_system(c.in(0), c.in(1), c.in(2), right, attrs);
          const Var &a = c.outputs[0], &y = c.outputs[1], &d = c.outputs[2];
          Vars cotangents(6);
          if (c.needs(0)) cotangents[0] = symmetric_outer(-0.5 * w[0], a, c.in(0));
          if (c.needs(1)) cotangents[1] = outer(-w[2], a, -d, w[0], c.in(1));
          if (c.needs(2)) cotangents[2] = outer(-w[1], a, -y, w[0], c.in(2));
          for (std::size_t i = 0; i < 3; ++i) cotangents[3 + i] = w[i];
          return cotangents;
        },
    .shapes =
        [](const ShapeContext& c) {
          return Specs{{c.shape(3), c.dtype(3)}, {c.shape(4), c.dtype(3)}, {c.shape(5), c.dtype(3)}};
        },
    .view = true,
}};

Vars solve_system(const Var& Q, const Var& G, const Var& A, const Vars& r, const SystemAttrs& attrs) {
  return apply_all(system_op, Vars{Q, G, A, r[0], r[1], r[2]}, attrs);
}

// ---- The node ------------------------------------------------------------------------------------------

Status forward_status(QpStatus status) {
  switch (status) {
    case QpStatus::solved:
      return Status::converged;
    case QpStatus::max_steps:
      return Status::max_steps;
    case QpStatus::primal_infeasible:
      return Status::singular;
    case QpStatus::dual_infeasible:
      return Status::diverged;
    case QpStatus::non_convex:
      return Status::indefinite;
    case QpStatus::non_finite:
      return Status::non_finite;
  }
  return Status::max_steps;
}

// 1 for problems that `which` names, else 0: (batch, 1).
template <class Which>
Var marked(std::size_t count, DType dtype, const Which& which) {
  Tensor mask = Tensor::zeros({static_cast<std::int64_t>(count), 1}, DType::f64);
  for (std::size_t i = 0; i < count; ++i)
    if (which(i)) mask.mutable_data<double>()[i] = 1.0;
  return Var(mask.to(dtype));
}

// NaN in the rows that are marked.
Var with_nan(const Var& x, const Var& mask) { return where(greater(mask, 0.0), nan * ones_like(x), x); }

Vars backward(const VjpContext& c) {
  const auto& attrs = c.attrs.as<NodeAttrs>();
  std::shared_ptr<const QpDerivative> derivative = attrs.derivative;
  QpReport report = attrs.report;
  if (!c.out.value().same_storage(attrs.z)) {  // a replay has moved it to other parameters
    QpSolution again = solve_qp(data_of(c.inputs), solver_options(attrs.options, true));
    derivative = again.derivative, report = again.report;
  }
  const DType dtype = c.out.dtype();
  const std::size_t count = report.samples.size();
  const Var Q = c.in(0), G = c.in(2), A = c.in(4);

  // Values of problems without a solution are constants, and these and their G may have a NaN, which no zero
  // masks.
  const bool all_solved = report.solved(), any_solved = report.count(QpStatus::solved) > 0;
  const Var solved =
      all_solved
          ? Var()
          : greater(marked(count, dtype,
                           [&](std::size_t i) { return report.samples[i].status == QpStatus::solved; }),
                    0.0);
  const auto where_solved = [&](const Var& x, const Var& mask) {
    return all_solved ? x : where(mask, x, zeros_like(x));
  };
  const auto value = [&](std::size_t k) {
    const Var x = batched(c.outputs[k], 1);
    return any_solved ? where_solved(x, solved) : zeros_like(x);
  };
  const auto cotangent = [&](std::size_t k) {
    return c.cotangents[k].defined() ? where_solved(batched(c.cotangents[k], 1), solved)
                                     : zeros_like(batched(c.outputs[k], 1));
  };
  const Var z = value(0), nu = value(1), lambda = value(2);
  Vars right{cotangent(0), cotangent(1), cotangent(2)};
  Var by_slack;  // that of active constraints stays 0
  if (c.cotangents[3].defined()) {
    by_slack = cotangent(3) * (1.0 - Var(derivative->active().to(dtype)));
    const Var each = all_solved ? solved : reshape(solved, {static_cast<std::int64_t>(count), 1, 1});
    right[0] = right[0] - qp::rows_times(by_slack, G.rank() == 2 ? G : where_solved(G, each));
  }
  const auto residual = std::allocate_shared<PoolVector<double>>(memory::PoolAllocator<char>());
  Vars found = solve_system(Q, G, A, right, {derivative, residual});

  AdjointReport judged{.rule = "kkt", .samples = {}, .evaluations = 1};
  const PoolVector<QpRegularity>& regularity = derivative->problems();
  if (residual->empty()) residual->assign(count, nan);  // an outline computes nothing
  for (std::size_t i = 0; i < count; ++i) {
    const QpRegularity& r = regularity[i];
    GradientStatus status{
        .kind = GradientKind::exact,
        .forward = forward_status(report.samples[i].status),
        .adjoint = !r.factored || (*residual)[i] > 1e-5 ? Status::singular : Status::converged,
        .adjoint_residual = (*residual)[i]};
    if (status.forward != Status::converged)
      status.kind = GradientKind::approximate;
    else if (r.weak > 0 || !r.factored || (!attrs.kinked.empty() && attrs.kinked[i]) ||
             (r.singular && status.adjoint != Status::converged))
      status.kind = GradientKind::non_differentiable;
    else if (r.singular)
      status.kind = GradientKind::least_squares;
    else if (status.adjoint != Status::converged)
      status.kind = GradientKind::approximate;
    judged.samples.push_back(status);
  }
  attrs.log.add(judged);
  const auto failed = [&](std::size_t i) {
    return judged.samples[i].kind == GradientKind::non_differentiable ||
           judged.samples[i].kind == GradientKind::approximate;
  };
  bool any = false;
  for (std::size_t i = 0; i < count; ++i) any = any || failed(i);
  if (any && attrs.options.policy == Policy::raise)
    fail<SolveError>("qp_solve", "the gradient cannot be had: " + judged.to_string());
  if (any && attrs.options.policy == Policy::nan) {
    const Var mask = marked(count, dtype, failed);
    for (Var& x : found) x = with_nan(x, mask);
  }

  const Var &a = found[0], &y = found[1], d = by_slack.defined() ? found[2] + by_slack : found[2];
  const Var minus_a = c.needs(1) || c.needs(2) || c.needs(4) ? -a : Var();
  Vars cotangents(6);
  if (c.needs(0)) cotangents[0] = symmetric_outer(-0.5 * a, z, Q);
  if (c.needs(1)) cotangents[1] = gathered(minus_a, c.in(1));
  if (c.needs(2)) cotangents[2] = outer(-d, z, lambda, minus_a, G);
  if (c.needs(3)) cotangents[3] = gathered(d, c.in(3));
  if (c.needs(4)) cotangents[4] = outer(-y, z, nu, minus_a, A);
  if (c.needs(5)) cotangents[5] = gathered(y, c.in(5));
  return cotangents;
}

Tensors outputs_of(const QpSolution& s) { return {s.z, s.nu, s.lambda, s.slack}; }

const Op qp_op{{
    .name = "qp_solve",
    .doc = "Quadratic programs: inputs Q, p, G, h, A, b; outputs z, nu, lambda, slack.",
    .kernel =
        [](const KernelContext& c) {  // what a replay does
          const auto& attrs = c.attrs.as<NodeAttrs>();
          const Tensors found = outputs_of(solve_qp(data_of(c.inputs), solver_options(attrs.options, false)));
          for (int i = 0; i < 4; ++i) c.out(i) = found[static_cast<std::size_t>(i)];
        },
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp = backward,
    .shapes =
        [](const ShapeContext& c) {
          const bool batch = c.shape(0).rank() == 3 || c.shape(1).rank() == 2 || c.shape(2).rank() == 3 ||
                             c.shape(3).rank() == 2 || c.shape(4).rank() == 3 || c.shape(5).rank() == 2;
          std::int64_t count = 1;
          for (int i = 0; i < 6; ++i)
            if (c.shape(i).rank() == (i % 2 == 0 ? 3 : 2)) count = c.shape(i)[0];
          const auto spec = [&](int i) {
            const std::int64_t extent = c.shape(i)[c.shape(i).rank() - 1];
            return Spec{batch ? Shape{count, extent} : Shape{extent}, c.dtype(1)};
          };
          return Specs{spec(1), spec(5), spec(3), spec(3)};
        },
    .view = true,
}};

QpSolved solve(const QpParameters& given, const QpSolveOptions& options, PoolVector<char> kinked = {});

// Problems that `report` calls infeasible with the smallest shift of their right-hand sides, others as given.
QpSolved solve_closest(const QpParameters& given, const QpReport& report, QpSolveOptions options) {
  options.infeasible = Infeasible::report;
  const QpShift shift = qp_shift(given, report, options);
  const DType dtype = (given.G.defined() ? given.G : given.A).dtype();
  const auto precise = [](const Var& x) { return x.defined() ? cast(x, DType::f64) : x; };
  QpParameters moved{precise(given.Q), precise(given.p), precise(given.G),
                     precise(given.h), precise(given.A), precise(given.b)};
  if (moved.h.defined()) moved.h = moved.h + shift.h;
  if (moved.b.defined()) moved.b = moved.b + shift.b;
  QpSolved result = solve(moved, options, shift.kinked);
  for (std::size_t i = 0; i < shift.length.size(); ++i) result.report.samples[i].shift = shift.length[i];
  for (Var* x : {&result.z, &result.nu, &result.lambda, &result.slack}) *x = cast(*x, dtype);
  return result;
}

QpSolved solve(const QpParameters& given, const QpSolveOptions& options, PoolVector<char> kinked) {
  const QpData data = qp::data_of(given);
  QpSolution found = solve_qp(data, solver_options(options, recording()));
  if (options.infeasible == Infeasible::closest && found.report.count(QpStatus::primal_infeasible) > 0)
    return solve_closest(given, found.report, options);
  if (options.policy == Policy::raise && !found.report.solved())
    fail<SolveError>("qp_solve", "not all problems were solved: " + found.report.to_string());

  const QpParameters all = qp::complete(given, sizes(data));
  const Vars inputs{all.Q, all.p, all.G, all.h, all.A, all.b};
  AdjointLog log;
  const Tensors outputs = outputs_of(found);
  Vars recorded = record(qp_op, inputs, outputs,
                         NodeAttrs{options, found.report, found.derivative, found.z, std::move(kinked), log});
  if (options.policy == Policy::nan && !found.report.solved()) {
    const Var mask = marked(found.report.samples.size(), found.z.dtype(), [&](std::size_t i) {
      return found.report.samples[i].status != QpStatus::solved;
    });
    for (Var& x : recorded) x = reshape(with_nan(batched(x, 1), mask), x.shape());
  }
  return {recorded[0], recorded[1], recorded[2], recorded[3], found.report, log};
}

}  // namespace

QpSolved qp_solve(const QpParameters& parameters, const QpSolveOptions& options) {
  return solve(parameters, options);
}

}  // namespace banach
