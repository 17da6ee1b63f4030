#include <banach/engine/random.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/replay.hpp>
#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

constexpr double sensitivity_limit = 0.25;  // of a gradient called exact

// What a node keeps for its backward sweeps.
struct NodeAttrs {
  std::shared_ptr<const ImplicitBody> body;
  ImplicitNode node;
  Tensor z;

  std::string_view name() const { return node.op->name(); }
};

// F at z, and the size of dF/dz there by its transpose times a random vector, as norms for each problem.
struct Probe {
  PoolVector<double> value, image, size;
};

Probe probe_at(FunctionRef<Var(const Var&)> F, const Tensor& z, Batch batch) {
  const NoGrad off;
  Tensor probe = Tensor::empty(z.shape(), z.dtype());
  dispatch_floating(z.dtype(), [&](auto zero) {
    Random(0).fill_normal(probe.mutable_data<decltype(zero)>(), probe.size());
  });
  const auto function = [&](const Vars& at) { return Vars{F(at.front())}; };
  const VjpResult result = vjp(function, {Var(z)}, {Var(probe)});
  const Shape rows = state_rows(z.shape(), batch);
  const auto norms = [&](const Tensor& x) { return vec::row_norms(x.reshape(rows)); };
  return {norms(result.outputs.front().value()), norms(result.cotangents.front().value()), norms(probe)};
}

// Status of a truncated series from its residual (relative to g) and its newest term.
Status truncated_status(double residual, double last_term, double tolerance) {
  if (!std::isfinite(residual)) return Status::non_finite;
  if (residual <= tolerance) return Status::converged;
  return residual > last_term ? Status::diverged : Status::max_steps;
}

// How well the state solves z = f(z): as the node's own solve ended, or, where a replay has moved it to
// another point, by the residual there.
PoolVector<SampleReport> forward_reports(const NodeAttrs& attrs, const Linearized& f) {
  if (f.state().value().same_storage(attrs.z)) return attrs.body->forward;
  const NoGrad off;
  const Var value = f.value().detach(), state = f.state().detach();
  const PoolVector<double> residual = f.norms(value - state), size = f.norms(value);
  PoolVector<SampleReport> result(residual.size());
  for (std::size_t i = 0; i < residual.size(); ++i) {
    const double bound = attrs.node.absolute_tolerance.value_or(0.0) + attrs.node.tolerance * size[i];
    result[i].status = residual[i] <= bound ? Status::converged : Status::max_steps;
  }
  return result;
}

// A rule is the user's own code: what it returns must fit before it is used.
void check_adjoint(const NodeAttrs& attrs, const VjpContext& c, const Adjoint& adjoint) {
  const auto refuse = [&](std::string_view what) {
    fail<ShapeError>(attrs.name(),
                     fmt::format("the backward rule {} must return {}", attrs.node.backward.name(), what));
  };
  const auto like_state = [&](const Var& x) {
    return x.shape() == c.out.shape() && x.dtype() == c.out.dtype();
  };
  if (!adjoint.lambda.defined() || !like_state(adjoint.lambda))
    refuse(fmt::format("lambda of the state's shape and dtype: {}{}", name(c.out.dtype()),
                       c.out.shape().to_string()));
  if (adjoint.last_term.defined() && !like_state(adjoint.last_term)) refuse("a last term like lambda");
  if (!adjoint.status.empty() && adjoint.status.size() != attrs.body->forward.size())
    refuse(fmt::format("one status for each of the {} problems, or none", attrs.body->forward.size()));
  if (!adjoint.variance.empty() && adjoint.variance.size() != attrs.body->forward.size())
    refuse(fmt::format("one variance for each of the {} problems, or none", attrs.body->forward.size()));
  if (!adjoint.fell_back.empty() && adjoint.fell_back.size() != attrs.body->forward.size())
    refuse(fmt::format("one fell_back for each of the {} problems, or none", attrs.body->forward.size()));
  if (!adjoint.theta.empty() && adjoint.theta.size() != c.inputs.size())
    refuse(fmt::format("one cotangent for each of the {} captured variables, or none", c.inputs.size()));
}

AdjointReport judge(const NodeAttrs& attrs, const Linearized& f, const Adjoint& adjoint, const Var& pulled,
                    const Var& g) {
  AdjointReport report{.rule = attrs.node.backward.name(),
                       .samples = {},
                       .evaluations = f.evaluations(),
                       .truncated = adjoint.status.empty()};
  const PoolVector<double> residual = f.residual(adjoint.lambda, pulled, g);
  const PoolVector<double> scale = f.norms(g);
  const PoolVector<SampleReport> forward = forward_reports(attrs, f);
  const PoolVector<double> last =
      adjoint.last_term.defined() ? f.norms(adjoint.last_term) : PoolVector<double>{};
  for (std::size_t i = 0; i < residual.size(); ++i) {
    GradientStatus status{
        .kind = attrs.node.backward.kind(), .forward = forward[i].status, .adjoint_residual = residual[i]};
    const double newest = last.empty() ? std::numeric_limits<double>::infinity() : last[i];
    status.adjoint =
        adjoint.status.empty()
            ? truncated_status(residual[i], scale[i] > 0.0 ? newest / scale[i] : newest, attrs.node.tolerance)
            : adjoint.status[i];
    const bool solved = status.forward == Status::converged && status.adjoint == Status::converged;
    if (forward[i].singular_root || status.adjoint == Status::singular ||
        status.adjoint == Status::indefinite)
      status.kind = GradientKind::non_differentiable;
    else if (!solved)
      status.kind = GradientKind::approximate;
    if (!adjoint.variance.empty()) status.variance = adjoint.variance[i];
    status.fell_back = !adjoint.fell_back.empty() && adjoint.fell_back[i] != 0;
    report.samples.push_back(status);
  }
  return report;
}

// Whether a sample may stand beside a singular root for all that its solve could see. The theorem of Newton
// and Kantorovich has h = |(I - J)^-1|^2 r L below 1/2 at a regular one, r being the residual and L the
// Lipschitz constant of J. The inverse is at least as long as the estimated error over the residual, and as
// lambda over g
// (`gain`); L is not known, but seldom far above 1 / ||z||. The residual of a root has units of its own:
// there it is the error alone, which Newton's steps leave small.
bool doubtful(const SampleReport& sample, double gain, double size, bool root) {
  if (root) return sample.error_estimate > 1e-5 * size;
  const double residual = sample.abs_lowest, larger = std::max(gain, sample.error_estimate / residual);
  return larger * larger * residual > (larger > 10.0 ? 0.002 : 0.01) * size && larger > 3.0;
}

bool any(const PoolVector<char>& marks) { return std::find(marks.begin(), marks.end(), 1) != marks.end(); }

// Marks the samples whose exact gradient may be one beside a singular root.
PoolVector<char> doubts(const NodeAttrs& attrs, const VjpContext& c, const Linearized& f, const Var& lambda,
                        const AdjointReport& report) {
  const PoolVector<SampleReport>& forward = attrs.body->forward;
  PoolVector<char> doubted(forward.size(), 0);
  if (attrs.node.backward.kind() != GradientKind::exact || !c.out.value().same_storage(attrs.z))
    return doubted;
  const PoolVector<double> size = f.norms(f.state()), scale = f.norms(lambda), right = f.norms(c.cotangent);
  for (std::size_t i = 0; i < forward.size(); ++i)
    doubted[i] = report.samples[i].kind == GradientKind::exact && scale[i] > 0.0 &&
                 doubtful(forward[i], scale[i] / right[i], size[i], attrs.node.tolerance == 0.0);
  return doubted;
}

// GradientStatus::sensitivity of those samples, for one product or two linear solves. This is the peak of a
// sweep's memory, so each part lets go of what the next one can do without.
class SensitivitySearch {
 public:
  SensitivitySearch(const NodeAttrs& attrs, const VjpContext& c, const Var& lambda, PoolVector<char> doubted,
                    AdjointReport& report)
      : attrs_(attrs),
        theta_(detached(c.inputs)),
        f_(attrs.body, c.out.detach(), theta_),
        adjoint_(lambda.detach()),
        scale_(f_.norms(adjoint_)),
        doubted_(std::move(doubted)),
        report_(report) {
    const PoolVector<double> right = f_.norms(c.cotangent);
    for (std::size_t i = 0; i < scale_.size(); ++i) gain_.push_back(scale_[i] / right[i]);
  }

  void run() {
    Var residual = f_.value() - f_.state(), pulled = f_.vjp_state(adjoint_);
    settle_along(residual, pulled);
    if (any(doubted_)) {
      // The others take two linear solves: Newton's step, and lambda's change there. What those cannot settle
      // stays in doubt.
      const Var corrected = f_.state() + Var(newton_step(std::move(residual)).reshape(f_.state().shape()));
      if (any(doubted_)) change_at(corrected, std::move(pulled));
    }
    report_.evaluations += f_.evaluations();
  }

 private:
  // A check of its answer is the last of a solve's products, and takes no vector.
  static constexpr int products = 15;
  static constexpr Gmres gmres{.restart = products - 1, .max_steps = products, .tolerance = 1e-2};

  static Vars detached(std::span<const Var> inputs) {
    Vars result;
    for (const Var& input : inputs) result.push_back(input.detach());
    return result;
  }

  // Most doubts are settled by one product: J does not change much over the estimated error, along the
  // residual.
  void settle_along(const Var& residual, const Var& pulled) {
    const PoolVector<SampleReport>& forward = attrs_.body->forward;
    const PoolVector<double> length = f_.norms(residual);
    PoolVector<double> gain(gain_.size(), 0.0);
    Tensor moved = f_.state().value().clone();
    dispatch_floating(moved.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t n = f_.rows()[1];
      for (std::int64_t i = 0; i < moved.size(); ++i) {
        const auto k = static_cast<std::size_t>(i / n);
        if (!doubted_[k]) continue;
        gain[k] = std::max(gain_[k], forward[k].error_estimate / length[k]);
        moved.mutable_data<T>()[i] +=
            static_cast<T>(gain[k] * static_cast<double>(residual.value().data<T>()[i]));
      }
    });
    const PoolVector<double> along = f_.norms(f_.at(Var(moved)).vjp_state(adjoint_) - pulled);
    for (std::size_t i = 0; i < gain.size(); ++i)
      if (gain[i] * along[i] <= 0.03 * scale_[i]) doubted_[i] = 0;
  }

  // By difference quotients, which keep nothing.
  Tensor newton_step(Var residual) {
    const FixedPointProblem problem{[&](const Tensor& rows) {
      const Var z(rows.reshape(f_.state().shape()));
      return attrs_.body->trace.replay({&z, 1}, theta_).front().value().reshape(f_.rows());
    }};
    const Derivatives derivatives(attrs_.name(), problem);
    const StateMap product =
        derivatives.jvp_at(f_.state().value().reshape(f_.rows()), f_.value().value().reshape(f_.rows()));
    LinearSolution newton = solve_linear(gmres, product, rows_in_doubt(std::move(residual)));
    report_.evaluations += newton.evaluations;
    give_up(newton.status);
    return std::move(newton.x);
  }

  void change_at(const Var& z, Var pulled) {
    const Linearized there = f_.at(z);
    pulled = there.vjp_state(adjoint_) - pulled;
    const AdjointSolve change = there.solve(gmres, Var(rows_in_doubt(std::move(pulled)).reshape(z.shape())));
    give_up(change.status);
    const PoolVector<double> changed = f_.norms(change.solution);
    for (std::size_t i = 0; i < doubted_.size(); ++i) {
      if (!doubted_[i]) continue;
      GradientStatus& sample = report_.samples[i];
      sample.sensitivity = changed[i] / scale_[i];
      if (!(sample.sensitivity <= sensitivity_limit)) sample.kind = GradientKind::approximate;
    }
  }

  // x, but zero in the rows of samples that are in no doubt.
  Tensor rows_in_doubt(Var x) const {
    const auto is_doubted = [&](std::size_t i) { return doubted_[i] != 0; };
    const Var chosen = choose_rows(f_.rows(), is_doubted, x, Var(Tensor::zeros({1}, x.dtype())));
    return chosen.value().reshape(f_.rows());
  }

  void give_up(const PoolVector<Status>& status) {
    for (std::size_t i = 0; i < doubted_.size(); ++i)
      if (doubted_[i] && status[i] != Status::converged) {
        report_.samples[i].kind = GradientKind::approximate;
        report_.samples[i].sensitivity = std::numeric_limits<double>::infinity();
        doubted_[i] = 0;
      }
  }

  const NodeAttrs& attrs_;
  Vars theta_;
  Linearized f_;
  Var adjoint_;
  PoolVector<double> scale_, gain_;  // norm of lambda for each problem; and beside that of its cotangent
  PoolVector<char> doubted_;
  AdjointReport& report_;
};

// The commonest mistake: a body that mixes the entries of axis 0, which are solved one by one. Asked where an
// exact rule has not kept its promise, for one product: J^T u of a u that is zero but in one problem must be
// so too.
bool mixes(const NodeAttrs& attrs, const Linearized& f, const AdjointReport& report) {
  const std::size_t problems = report.samples.size();
  if (attrs.node.backward.kind() != GradientKind::exact || attrs.body->batch != Batch::axis0 || problems < 2)
    return false;
  const auto broken = std::find_if(report.samples.begin(), report.samples.end(), [](const GradientStatus& s) {
    return s.adjoint != Status::converged || s.adjoint_residual > 1e-5;
  });
  if (broken == report.samples.end()) return false;
  const auto chosen = static_cast<std::size_t>(broken - report.samples.begin());
  const Shape rows = f.rows();
  Tensor u = Tensor::zeros(rows, f.state().dtype());
  dispatch_floating(u.dtype(), [&](auto zero) {
    Random(0).fill_normal(u.mutable_data<decltype(zero)>() + static_cast<std::int64_t>(chosen) * rows[1],
                          rows[1]);
  });
  const PoolVector<double> image = vec::row_norms(f.product(u, true));
  const double epsilon = u.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                 : std::numeric_limits<double>::epsilon();
  double outside = 0.0;
  for (std::size_t i = 0; i < problems; ++i)
    if (i != chosen && std::isfinite(image[i])) outside = std::max(outside, image[i]);
  return outside > 1e3 * epsilon * std::max(image[chosen], vec::row_norms(u)[chosen]);
}

Vars backward(const VjpContext& c) {
  const auto& attrs = c.attrs.as<NodeAttrs>();
  Linearized f(attrs.body, c.out, c.inputs);
  Adjoint adjoint = attrs.node.backward.solve(f, c.cotangent);
  check_adjoint(attrs, c, adjoint);

  // The sweep that gives the cotangents of theta gives J^T lambda along the way, and so the residual for
  // little more.
  const auto pull = [&] {
    Linearized::Pulled result = f.pull(adjoint.lambda, adjoint.theta.empty() ? c.needed : 0);
    if (!adjoint.theta.empty()) result.theta = adjoint.theta;
    return result;
  };
  Linearized::Pulled pulled = pull();
  AdjointReport judged = judge(attrs, f, adjoint, pulled.state, c.cotangent);
  if (mixes(attrs, f, judged)) {
    judged.hint = "f mixes samples of axis 0: set .batch = Batch::none";
    for (GradientStatus& sample : judged.samples)
      if (sample.kind == GradientKind::exact) sample.kind = GradientKind::approximate;
  }
  if (PoolVector<char> doubted = doubts(attrs, c, f, adjoint.lambda, judged); any(doubted)) {
    // The search needs memory for another evaluation: the cotangents and f's program make place for it.
    pulled = {};
    f = Linearized(attrs.body, c.out, c.inputs);
    {
      const NoGrad off;
      SensitivitySearch(attrs, c, adjoint.lambda, std::move(doubted), judged).run();
    }
    pulled = pull();
    ++judged.evaluations;
  }
  attrs.body->log.add(std::move(judged));

  // A rule that did not keep its promise, or a derivative that does not exist.
  const AdjointReport& report = attrs.body->log.last();
  const auto failed = [&](std::size_t i) {
    const GradientStatus& sample = report.samples[i];
    return sample.kind == GradientKind::non_differentiable || !report.hint.empty() ||
           sample.sensitivity > sensitivity_limit ||
           (attrs.node.backward.kind() != GradientKind::approximate && sample.adjoint != Status::converged);
  };
  bool fails = false;
  for (std::size_t i = 0; i < report.samples.size(); ++i) fails = fails || failed(i);
  if (fails && attrs.node.policy == Policy::raise)
    fail<SolveError>(attrs.name(), "the gradient cannot be had: " + report.to_string());
  if (fails && attrs.node.policy == Policy::nan)
    pulled = f.pull(adjoint.lambda + nan_rows(adjoint.lambda, attrs.body->batch, failed), c.needed);
  return pulled.theta;
}

// z with NaN in the rows of failed problems; so is the cotangent there, where it is not zero: a gradient
// through an answer that is none.
struct MarkAttrs {
  Batch batch;
  PoolVector<char> failed;
};

const Op mark_op{{
    .name = "mark_failed",
    .doc = "The identity, but NaN in the rows of solves that failed: Policy::nan.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<MarkAttrs>();
          const NoGrad off;
          const Var z(c.in());
          c.out() =
              (z + nan_rows(z, attrs.batch, [&](std::size_t i) { return attrs.failed[i] != 0; })).value();
        },
    .kind = OpKind::implicit,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<MarkAttrs>();
          const Shape rows = state_rows(c.cotangent.shape(), attrs.batch);
          const PoolVector<double> size = vec::row_norms(c.cotangent.value().reshape(rows));
          return Vars{c.cotangent + nan_rows(c.cotangent, attrs.batch, [&](std::size_t i) {
                        return attrs.failed[i] != 0 && size[i] != 0.0;
                      })};
        },
    .view = true,
}};

// What a replay does, a node being in the body of another one.
void solve_again(const KernelContext& c) {
  const auto& [body, node, known] = c.attrs.as<NodeAttrs>();
  const NoGrad off;
  Vars theta;
  for (const Var& input : c.inputs) theta.push_back(input.detach());
  const auto f = [&, &trace = body->trace](const Var& z) { return trace.replay({&z, 1}, theta).front(); };
  const FixedPointSolution solution = solve_body(f, known, node);
  const Var z(solution.z.reshape(known.shape()));
  c.out() = held_to_policy(node.op->name(), z, solution.report, node.batch, node.policy).value();
}

}  // namespace

OpDef implicit_op(const char* name, const char* doc) {
  return {.name = name,
          .doc = doc,
          .shape =
              [](const ShapeContext& c) {
                const Tensor& z = c.attrs.as<NodeAttrs>().z;
                return Spec{z.shape(), z.dtype()};
              },
          .kernel = solve_again,
          .kind = OpKind::implicit,
          .saves = Saves::both,
          .vjp = backward,
          .view = true};
}

Linearization linearize(FunctionRef<Var(const Var&)> f, const Var& z, Batch batch) {
  auto body = std::allocate_shared<ImplicitBody>(memory::PoolAllocator<char>());
  body->batch = batch;
  body->trace = trace([&](const Vars& state) { return Vars{f(state.front())}; }, {&z.value(), 1});
  const auto at =
      std::allocate_shared<const Linearized>(memory::PoolAllocator<char>(), body, z, body->trace.captured);
  return {.jvp = [at](const Tensor& v) { return at->product(v, false); },
          .vjp = [at](const Tensor& u) { return at->product(u, true); }};
}

FixedPointSolution solve_body(FunctionRef<Var(const Var&)> f, const Tensor& z0, const ImplicitNode& node) {
  const NoGrad off;
  if (node.body != Body::eager && z0.size() > 0) {
    const auto evaluate = [&](const Tensor& z) { return at_rows(node.op->name(), f, z0.shape(), z); };
    if (const auto solution = solve_replayed(f, z0, node, LastStep::f, evaluate)) return *solution;
  }
  const Shape rows = state_rows(z0.shape(), node.batch);
  const auto map = [&](const Tensor& z) { return at_rows(node.op->name(), f, z0.shape(), z); };
  const auto derivative = [&](const Tensor& z) {
    return linearize(f, Var(z.reshape(z0.shape())), node.batch);
  };
  return node.solve({.f = std::ref(map), .linearize = std::ref(derivative)}, z0.reshape(rows));
}

namespace {

Trace trace_body(std::string_view op, FunctionRef<Var(const Var&)> f, const Tensor& z) {
  const auto body = [&](const Vars& state) {
    const Var value = f(state.front());
    check_body(op, state.front(), value);
    return Vars{value};
  };
  return trace(body, {&z, 1});
}

Var record_traced(Trace traced, const Tensor& z, const FixedPointSolution& solution, const ImplicitNode& node,
                  const AdjointLog& log) {
  auto body = std::allocate_shared<ImplicitBody>(memory::PoolAllocator<char>());
  body->batch = node.batch;
  body->policy = node.policy;
  body->forward = solution.report.samples;
  if (node.backward.needs_inverse()) body->inverse = solution.inverse;
  body->log = log;
  body->trace = std::move(traced);
  const Vars theta = body->trace.captured;
  ImplicitNode kept = node;
  if (kept.solve_again) kept.solve = *node.solve_again;
  return record(*node.op, theta, {&z, 1}, NodeAttrs{std::move(body), std::move(kept), z}).front();
}

// A replayed solve whose answer the recording there, made anyway, confirms; else it is done again with f.
FixedPointSolution solve_and_trace(FunctionRef<Var(const Var&)> f, const Tensor& z0, const ImplicitNode& node,
                                   Trace& traced) {
  const std::string_view op = node.op->name();
  if (node.body == Body::replayed && z0.size() > 0) {
    const NoGrad off;
    const auto evaluate = [&](const Tensor& z) {
      const EnableGrad enabled;
      traced = trace_body(op, f, z.reshape(z0.shape()));
      return traced.results.front().value().reshape(z.shape());
    };
    if (const auto solution = solve_replayed(f, z0, node, LastStep::replay, evaluate)) return *solution;
  }
  ImplicitNode eager = node;
  eager.body = node.body == Body::checked ? Body::checked : Body::eager;
  FixedPointSolution solution = solve_body(f, z0, eager);
  traced = trace_body(op, f, solution.z.reshape(z0.shape()));
  return solution;
}

}  // namespace

Var record_solution(FunctionRef<Var(const Var&)> f, const Shape& shape, const FixedPointSolution& solution,
                    const ImplicitNode& node, const AdjointLog& log) {
  const Tensor z = solution.z.reshape(shape);
  if (!recording()) return Var(z);
  return record_traced(trace_body(node.op->name(), f, z), z, solution, node, log);
}

ImplicitSolution implicit_node(FunctionRef<Var(const Var&)> f, const Var& z0, const ImplicitNode& node) {
  ImplicitSolution result;
  FixedPointSolution solution;
  if (recording()) {
    Trace traced;
    solution = solve_and_trace(f, z0.value(), node, traced);
    result.z =
        record_traced(std::move(traced), solution.z.reshape(z0.shape()), solution, node, result.adjoint);
  } else {
    solution = solve_body(f, z0.value(), node);
    result.z = Var(solution.z.reshape(z0.shape()));
  }
  result.report = std::move(solution.report);
  result.z = held_to_policy(node.op->name(), result.z, result.report, node.batch, node.policy);
  return result;
}

double unit_scale(FunctionRef<Var(const Var&)> F, const Tensor& z, Batch batch) {
  const Probe probe = probe_at(F, z, batch);
  return unit_scale(probe.image, probe.size, z.dtype());
}

void accept_rounding(FunctionRef<Var(const Var&)> F, const Shape& state, Batch batch,
                     FixedPointSolution& found) {
  if (found.report.converged() || found.report.nstep == 0) return;
  const Probe probe = probe_at(F, found.z.reshape(state), batch);
  const PoolVector<double> size = vec::row_norms(found.z);
  const double epsilon = found.z.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                       : std::numeric_limits<double>::epsilon();
  for (std::size_t i = 0; i < size.size(); ++i) {
    SampleReport& sample = found.report.samples[i];
    const bool stuck = sample.status == Status::stagnated || sample.status == Status::max_steps;
    if (!stuck || !(probe.value[i] <= 4.0 * epsilon * probe.image[i] / probe.size[i] * size[i])) continue;
    sample.status = Status::converged;
    sample.abs_lowest = probe.value[i];
  }
}

double unit_scale(const PoolVector<double>& image, const PoolVector<double>& size, DType dtype) {
  double largest = 0.0;
  for (std::size_t i = 0; i < image.size(); ++i)
    if (const double ratio = image[i] / size[i]; std::isfinite(ratio)) largest = std::max(largest, ratio);
  if (!(largest > 0.0 && largest < 1.0 / 16.0)) return 1.0;
  return std::exp2(std::min(-std::round(std::log2(largest)), dtype == DType::f32 ? 120.0 : 1000.0));
}

ImplicitSolution root_node(FunctionRef<Var(const Var&)> F, const Var& z0, ImplicitNode node,
                           FunctionRef<ForwardSolve(double s)> again) {
  check_rule(node.op->name(), node.backward);
  const auto value = [&](const Var& z) {
    const Var result = F(z);
    check_body(node.op->name(), z, result);
    return result;
  };
  ImplicitSolution result;
  FixedPointSolution solution = solve_body([&](const Var& z) { return z - value(z); }, z0.value(), node);
  result.z = Var(solution.z.reshape(z0.shape()));
  if (recording()) {
    const double s =
        node.backward.kind() == GradientKind::exact ? unit_scale(value, result.z.value(), node.batch) : 1.0;
    node.solve_again = again(s);
    if (node.absolute_tolerance) *node.absolute_tolerance *= s;
    const auto body = [&](const Var& z) { return z - (s == 1.0 ? value(z) : s * value(z)); };
    result.z = record_solution(body, z0.shape(), solution, node, result.adjoint);
  }
  result.report = std::move(solution.report);
  result.z = held_to_policy(node.op->name(), result.z, result.report, node.batch, node.policy);
  return result;
}

void check_rule(std::string_view op, const BackwardRule& rule) {
  if (rule.iterates())
    fail<ValueError>(op, fmt::format("expects a rule that linearises f at a state: got {}", rule.name()));
  rule.validate();
}

void check_inverse(std::string_view op, const BackwardRule& rule, bool kept, std::string_view solver) {
  if (rule.needs_inverse() && !kept)
    fail<ValueError>(op,
                     fmt::format("the rule {} uses the estimate of the inverse that a quasi-Newton solver "
                                 "leaves, and {} leaves none: use root or fixed_point by Broyden{{}} or "
                                 "AdjointBroyden{{}}, or another rule",
                                 rule.name(), solver));
}

Var held_to_policy(std::string_view op, const Var& z, const SolveReport& report, Batch batch, Policy policy) {
  if (policy == Policy::report || report.converged()) return z;
  if (policy == Policy::raise) fail<SolveError>(op, "the solve did not converge: " + report.to_string());
  MarkAttrs attrs{batch, {}};
  for (const SampleReport& sample : report.samples)
    attrs.failed.push_back(sample.status != Status::converged);
  return apply(mark_op, {z}, attrs);
}

void check_start(std::string_view op, const Var& z0) {
  if (!z0.defined()) fail<ValueError>(op, "the start must be defined: got an empty Var");
  if (!is_floating(z0.dtype()))
    fail<DTypeError>(op, fmt::format("the start must be f32 or f64: got {}", name(z0.dtype())));
}

void check_body(std::string_view op, const Var& z, const Var& fz) {
  const std::string_view f = op == "linear_solve" ? "A" : op == "root" ? "F" : "f";
  if (!fz.defined()) fail<ValueError>(op, fmt::format("{} must return a value: got an empty Var", f));
  if (!(fz.shape() == z.shape()))
    fail<ShapeError>(op, fmt::format("{} must keep the shape of its argument: {} became {}", f,
                                     z.shape().to_string(), fz.shape().to_string()));
  if (fz.dtype() != z.dtype())
    fail<DTypeError>(op, fmt::format("{} must keep the dtype of its argument: {} became {}", f,
                                     name(z.dtype()), name(fz.dtype())));
}

Tensor at_rows(std::string_view op, FunctionRef<Var(const Var&)> f, const Shape& state, const Tensor& z) {
  const Var at(z.reshape(state)), value = f(at);
  check_body(op, at, value);
  return value.value().reshape(z.shape());
}

}  // namespace banach
