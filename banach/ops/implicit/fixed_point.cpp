#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/unrolled.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

// What a node keeps for its backward sweeps.
struct NodeAttrs {
  std::shared_ptr<const ImplicitBody> body;
  FixedPointOptions options;
  Tensor z;
};

PoolVector<Status> statuses(const SolveReport& report) {
  PoolVector<Status> result;
  for (const SampleReport& sample : report.samples) result.push_back(sample.status);
  return result;
}

Tensor solve(FunctionRef<Var(const Var&)> f, const Tensor& z0, const FixedPointOptions& options,
             SolveReport& report) {
  const NoGrad off;
  const Shape rows = state_rows(z0.shape(), options.batch);
  const auto map = [&](const Tensor& z) {
    const Var fz = f(Var(z.reshape(z0.shape())));
    check_body(Var(z0), fz);
    return fz.value().reshape(rows);
  };
  FixedPointSolution solution =
      solve_fixed_point(options.solver, std::ref(map), z0.reshape(rows), stop_options(options));
  report = std::move(solution.report);
  return solution.z.reshape(z0.shape());
}

// z, held to the policy about samples that did not converge.
Var held_to_policy(const Var& z, const SolveReport& report, const FixedPointOptions& options) {
  if (options.policy == Policy::report || report.converged()) return z;
  if (options.policy == Policy::raise)
    fail<SolveError>("fixed_point", "the solve did not converge: " + report.to_string());
  return z + nan_rows(z, options.batch,
                      [&](std::size_t i) { return report.samples[i].status != Status::converged; });
}

// Status of a truncated series from its residual (relative to g) and its newest term.
Status truncated_status(double residual, double last_term, double tolerance) {
  if (!std::isfinite(residual)) return Status::non_finite;
  if (residual <= tolerance) return Status::converged;
  return residual > last_term ? Status::diverged : Status::max_steps;
}

// How well the state solves z = f(z): as the node's own solve ended, or, where a replay has moved it to
// another point, by the residual there.
PoolVector<Status> forward_statuses(const NodeAttrs& node, const Linearized& f) {
  if (f.state().value().same_storage(node.z)) return node.body->forward;
  const NoGrad off;
  const Var value = f.value().detach(), state = f.state().detach();
  const PoolVector<double> residual = f.norms(value - state), size = f.norms(value);
  PoolVector<Status> result;
  for (std::size_t i = 0; i < residual.size(); ++i) {
    const double bound = node.options.absolute_tolerance.value_or(0.0) + node.options.tolerance * size[i];
    result.push_back(residual[i] <= bound ? Status::converged : Status::max_steps);
  }
  return result;
}

// A rule is the user's own code: what it returns must fit before it is used.
void check_adjoint(const NodeAttrs& node, const VjpContext& c, const Adjoint& adjoint) {
  const auto refuse = [&](std::string_view what) {
    fail<ShapeError>("fixed_point",
                     fmt::format("the backward rule {} must return {}", node.options.backward.name(), what));
  };
  const auto like_state = [&](const Var& x) {
    return x.shape() == c.out.shape() && x.dtype() == c.out.dtype();
  };
  if (!adjoint.lambda.defined() || !like_state(adjoint.lambda))
    refuse(fmt::format("lambda of the state's shape and dtype: {}{}", name(c.out.dtype()),
                       c.out.shape().to_string()));
  if (adjoint.last_term.defined() && !like_state(adjoint.last_term)) refuse("a last term like lambda");
  if (!adjoint.status.empty() && adjoint.status.size() != node.body->forward.size())
    refuse(fmt::format("one status for each of the {} problems, or none", node.body->forward.size()));
  if (!adjoint.theta.empty() && adjoint.theta.size() != c.inputs.size())
    refuse(fmt::format("one cotangent for each of the {} captured variables, or none", c.inputs.size()));
}

AdjointReport judge(const NodeAttrs& node, const Linearized& f, const Adjoint& adjoint, const Var& pulled,
                    const Var& g) {
  AdjointReport report{.rule = node.options.backward.name(), .samples = {}, .evaluations = f.evaluations()};
  const PoolVector<double> residual = f.residual(adjoint.lambda, pulled, g);
  const PoolVector<double> scale = f.norms(g);
  const PoolVector<Status> forward = forward_statuses(node, f);
  const PoolVector<double> last =
      adjoint.last_term.defined() ? f.norms(adjoint.last_term) : PoolVector<double>{};
  for (std::size_t i = 0; i < residual.size(); ++i) {
    GradientStatus status{
        .kind = node.options.backward.kind(), .forward = forward[i], .adjoint_residual = residual[i]};
    const double newest = last.empty() ? std::numeric_limits<double>::infinity() : last[i];
    status.adjoint = adjoint.status.empty()
                         ? truncated_status(residual[i], scale[i] > 0.0 ? newest / scale[i] : newest,
                                            node.options.tolerance)
                         : adjoint.status[i];
    const bool solved = status.forward == Status::converged && status.adjoint == Status::converged;
    if (status.adjoint == Status::singular)
      status.kind = GradientKind::non_differentiable;
    else if (status.kind == GradientKind::exact && !solved)
      status.kind = GradientKind::approximate;
    report.samples.push_back(status);
  }
  return report;
}

Vars backward(const VjpContext& c) {
  const auto& node = c.attrs.as<NodeAttrs>();
  const Linearized f(node.body, c.out, c.inputs);
  Adjoint adjoint = node.options.backward.solve(f, c.cotangent);
  check_adjoint(node, c, adjoint);

  // The sweep that gives the cotangents of theta gives J^T lambda along the way, and so the residual for
  // little more.
  Linearized::Pulled pulled = f.pull(adjoint.lambda, adjoint.theta.empty() ? c.needed : 0);
  if (!adjoint.theta.empty()) pulled.theta = adjoint.theta;
  node.body->log.add(judge(node, f, adjoint, pulled.state, c.cotangent));

  const AdjointReport& report = node.body->log.last();
  const auto failed = [&](std::size_t i) { return report.samples[i].adjoint != Status::converged; };
  bool any = false;
  for (std::size_t i = 0; i < report.samples.size(); ++i) any = any || failed(i);
  if (any && node.options.backward.kind() == GradientKind::exact) {
    if (node.options.policy == Policy::raise)
      fail<SolveError>("fixed_point", "the adjoint solve failed: " + report.to_string());
    if (node.options.policy == Policy::nan)
      pulled = f.pull(adjoint.lambda + nan_rows(adjoint.lambda, node.body->batch, failed), c.needed);
  }
  return pulled.theta;
}

const Op fixed_point_op{{
    .name = "fixed_point",
    .doc = "z = f(z, theta): inputs theta, the captures of the body f; output z.",
    .shape =
        [](const ShapeContext& c) {
          const Tensor& z = c.attrs.as<NodeAttrs>().z;
          return Spec{z.shape(), z.dtype()};
        },
    .kernel =
        // A replay (a node inside the body of another one) solves again, from the solution known.
    [](const KernelContext& c) {
      const auto& node = c.attrs.as<NodeAttrs>();
      const NoGrad off;
      Vars theta;
      for (const Var& input : c.inputs) theta.push_back(input.detach());
      SolveReport report;
      const auto body = [&](const Var& z) { return node.body->trace.replay({&z, 1}, theta).front(); };
      const Tensor z = solve(body, node.z, node.options, report);
      c.out() = held_to_policy(Var(z), report, node.options).value();
    },
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp = backward,
    .view = true,
}};

void check(const Var& z0, const FixedPointOptions& options) {
  if (!z0.defined() || !is_floating(z0.dtype())) fail<DTypeError>("fixed_point", "z0 must be f32 or f64");
  if (options.backward.unrolled() && !options.solver.get_if<Picard>())
    fail<ValueError>("fixed_point",
                     fmt::format("Unrolled differentiates Picard's iteration, so the solver must be "
                                 "Picard{{}}: got {}",
                                 options.solver.name()));
}

}  // namespace

FixedPoint fixed_point(FunctionRef<Var(const Var&)> f, const Var& z0, const FixedPointOptions& options) {
  check(z0, options);
  if (recording() && options.backward.unrolled()) {
    FixedPoint result = solve_unrolled(f, z0, options);
    result.z = held_to_policy(result.z, result.report, options);
    return result;
  }
  FixedPoint result;
  const Tensor z = solve(f, z0.value(), options, result.report);
  result.z = Var(z);
  if (recording()) {
    auto body = std::allocate_shared<ImplicitBody>(memory::PoolAllocator<char>());
    body->batch = options.batch;
    body->policy = options.policy;
    body->forward = statuses(result.report);
    body->log = result.adjoint;
    body->trace = trace([&](const Vars& state) { return Vars{f(state.front())}; }, {&z, 1});
    const Vars theta = body->trace.captured;
    const NodeAttrs node{std::move(body), options, z};
    result.z = record(fixed_point_op, theta, {&z, 1}, node).front();
  }
  result.z = held_to_policy(result.z, result.report, options);
  return result;
}

FixedPoints fixed_point(FunctionRef<Vars(const Vars&)> f, const Vars& z0, const FixedPointOptions& options) {
  if (z0.empty()) fail<ValueError>("fixed_point", "expects at least one state");
  const auto columns = [&](const Var& z) {
    return z.rank() == 0                  ? std::int64_t{1}
           : options.batch == Batch::none ? z.size()
                                          : z.shape().size(1, z.rank());
  };
  for (const Var& z : z0)
    if (options.batch == Batch::axis0 && (z.rank() == 0 || z.shape()[0] != z0.front().shape()[0]))
      fail<ShapeError>("fixed_point",
                       "states must share the extent of axis 0, the batch (or use Batch::none): " +
                           z0.front().shape().to_string() + " with " + z.shape().to_string());
  const std::int64_t batch = options.batch == Batch::none ? 1 : z0.front().shape()[0];

  const auto pack = [&](const Vars& states) {
    if (states.size() != z0.size())
      fail<ShapeError>("fixed_point",
                       fmt::format("f must return its {} states: got {}", z0.size(), states.size()));
    Vars parts;
    for (std::size_t i = 0; i < states.size(); ++i) {
      if (!(states[i].shape() == z0[i].shape()))
        fail<ShapeError>("fixed_point",
                         fmt::format("f must keep the shape of state {}: {} became {}", i,
                                     z0[i].shape().to_string(), states[i].shape().to_string()));
      parts.push_back(reshape(states[i], {batch, columns(z0[i])}));
    }
    return parts.size() == 1 ? parts.front() : concat(parts, 1);
  };
  const auto unpack = [&](const Var& packed) {
    Vars states;
    std::int64_t from = 0;
    for (const Var& z : z0) {
      states.push_back(reshape(slice(packed, 1, from, from + columns(z)), z.shape()));
      from += columns(z);
    }
    return states;
  };
  FixedPoint solved = fixed_point([&](const Var& z) { return pack(f(unpack(z))); }, pack(z0), options);
  return {unpack(solved.z), std::move(solved.report), solved.adjoint};
}

}  // namespace banach
