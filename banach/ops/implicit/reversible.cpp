#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace banach {
namespace {

// Two iterates, one evaluation apart.
struct Pair {
  Var newer, older;
};

// w_{k+1} = (1 - b) w_{k-1} + b f(w_k).
class ReversibleStepper final : public Stepper {
 public:
  /// `older` receives w_{k-1}, for each sample where it stops at w_k.
  ReversibleStepper(double damping, Tensor own, Tensor* older)
      : damping_(damping), own_(std::move(own)), older_(older ? *older : own_) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T *older = older_.mutable_data<T>(), *out = next.mutable_data<T>();
      const T *newer = z.data<T>(), *f = fz.data<T>();
      if (!std::exchange(started_, true)) std::copy_n(newer, z.size(), older);  // w_0 = w_1 = z0
      const T b = static_cast<T>(damping_), rest = static_cast<T>(1.0 - damping_);
      const std::int64_t n = z.shape()[1];
      for (std::int64_t s = 0; s < z.shape()[0]; ++s) {
        if (!active[static_cast<std::size_t>(s)]) continue;
        for (std::int64_t i = s * n; i < (s + 1) * n; ++i) {
          out[i] = rest * older[i] + b * f[i];
          older[i] = newer[i];
        }
      }
    });
  }
  std::int64_t history_bytes() const override {
    return older_.size() * static_cast<std::int64_t>(size_of(older_.dtype()));
  }

 private:
  double damping_;
  Tensor own_;
  Tensor& older_;
  bool started_ = false;
};

struct ReversibleIteration {
  double damping;
  Tensor* older = nullptr;
  static constexpr std::string_view name = Reversible::name;
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const {
    return std::make_unique<ReversibleStepper>(damping, older ? Tensor() : Tensor::empty({batch, n}, dtype),
                                               older);
  }
};

struct ReversibleAttrs : IterationAttrs {
  double reconstruction_tolerance;
};

// The iteration up to each sample's answer.
Pair run(const ReversibleAttrs& attrs, const Var& z0, std::span<const Var> theta) {
  Pair w{z0, z0};
  for (int k = 1; k < attrs.last(); ++k) {
    const auto going = [&](std::size_t i) { return k < attrs.answer[i]; };
    const Var next = (1.0 - attrs.damping) * w.older + attrs.damping * attrs.evaluate(w.newer, theta);
    w = {choose_rows(attrs.rows, going, next, w.newer), choose_rows(attrs.rows, going, w.newer, w.older)};
  }
  return w;
}

// Distance of the start that the sweep came back to from the true one, each sample.
PoolVector<double> reconstruction_error(const Linearized& f, const Pair& start, const Var& z0) {
  const PoolVector<double> newer = f.norms(start.newer - z0), older = f.norms(start.older - z0),
                           from = f.norms(z0), to = f.norms(f.state());
  PoolVector<double> error(newer.size());
  for (std::size_t i = 0; i < error.size(); ++i) {
    const double scale = std::max(from[i], to[i]);
    error[i] = std::isnan(newer[i]) ? newer[i] : std::max(older[i], newer[i]);
    if (scale > 0.0) error[i] /= scale;
  }
  return error;
}

void add_to(Vars& sums, Vars terms) {
  for (std::size_t i = 0; i < sums.size(); ++i)
    if (terms[i].defined()) sums[i] = sums[i].defined() ? sums[i] + terms[i] : std::move(terms[i]);
}

// From (w_K, w_{K-1}) and their cotangents back to (w_1, w_0): the step that made w_{k+1} is inverted, and
// its derivative pulled through f at w_k. All samples start at their own answers, so those with fewer steps
// are back first.
Vars backward(const VjpContext& c) {
  const auto& attrs = c.attrs.as<ReversibleAttrs>();
  const double b = attrs.damping;
  const auto theta = c.inputs.subspan(1);
  if (recording()) {
    attrs.body->log.add(iterate_report(Reversible::name, attrs.forward(), attrs.last() - 1));
    const auto again = [&](const Vars& at) {
      return Vars{run(attrs, at.front(), std::span(at).subspan(1)).newer};
    };
    return vjp(again, Vars(c.inputs.begin(), c.inputs.end()), {c.cotangent}).cotangents;
  }

  // Bit i of c.needed is about input i, which is theta i - 1; those beyond its 63 bits are all wanted.
  const std::uint64_t needed = c.needed >> 1 | std::uint64_t{1} << 62;
  const Linearized f(attrs.body, c.out, theta);
  Pair w{c.out, c.outputs[1]};
  Pair cotangent{c.cotangent, Var(Tensor::zeros(c.out.shape(), c.out.dtype()))};
  Vars sums(theta.size());
  for (int t = 1; t < attrs.last(); ++t) {
    const auto going = [&](std::size_t i) { return t < attrs.answer[i]; };
    const auto either = [&](const Var& yes, const Var& no) {
      return choose_rows(attrs.rows, going, yes, no);
    };
    const Linearized at = f.at(w.older);
    const Var zero(Tensor::zeros(c.out.shape(), c.out.dtype()));
    Linearized::Pulled pulled = at.pull(either(b * cotangent.newer, zero), needed);
    add_to(sums, std::move(pulled.theta));
    const Var before = (w.newer - b * at.value()) * (1.0 / (1.0 - b));
    w = {either(w.older, w.newer), either(before, w.older)};
    cotangent = {either(cotangent.older + pulled.state, cotangent.newer),
                 either((1.0 - b) * cotangent.newer, cotangent.older)};
  }

  AdjointReport report = iterate_report(Reversible::name, attrs.forward(), f.evaluations());
  const PoolVector<double> error = reconstruction_error(f, w, c.in());
  bool any = false;
  const auto lost = [&](std::size_t i) { return !(error[i] <= attrs.reconstruction_tolerance); };
  for (std::size_t i = 0; i < error.size(); ++i) {
    GradientStatus& status = report.samples[i];
    status.reconstruction_error = error[i];
    if (lost(i)) status.adjoint = std::isfinite(error[i]) ? Status::diverged : Status::non_finite;
    any = any || lost(i);
  }
  attrs.body->log.add(report);
  Var start = cotangent.newer + cotangent.older;
  if (any && attrs.body->policy == Policy::raise)
    fail<SolveError>(Reversible::name, fmt::format("the steps must be invertible to {:.1e} of the state: {}",
                                                   attrs.reconstruction_tolerance, report.to_string()));
  if (any && attrs.body->policy == Policy::nan) {
    const Var nans = nan_rows(c.out, attrs.body->batch, lost);
    add_to(sums, f.pull(nans, needed).theta);
    start = start + nans;
  }
  sums.insert(sums.begin(), start);
  return sums;
}

// A replay (a node inside the body of an implicit one) takes the same steps again.
void iterate_again(const KernelContext& c) {
  const NoGrad off;
  Vars inputs;
  for (const Var& input : c.inputs) inputs.push_back(input.detach());
  const Pair w = run(c.attrs.as<ReversibleAttrs>(), inputs.front(), std::span(inputs).subspan(1));
  c.out(0) = w.newer.value();
  c.out(1) = w.older.value();
}

const Op reversible_op{{
    .name = "reversible",
    .doc = "A fixed point by a reversible iteration: inputs z0 and theta, the captures of the body; outputs "
           "the last two iterates.",
    .kernel = iterate_again,
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp = backward,
    .shapes =
        [](const ShapeContext& c) {
          return Specs(2, Spec{c.shape(), c.dtype()});
        },
    .view = true,
}};

}  // namespace

Solver Reversible::solver() const { return ReversibleIteration{damping}; }

void Reversible::check(const FixedPointOptions&) const {
  if (!(damping > 0.0 && damping < 2.0 && damping != 1.0))
    fail<ValueError>(name, fmt::format("damping must lie in (0, 2) and not be 1: got {}", damping));
  if (!(reconstruction_tolerance > 0.0))
    fail<ValueError>(
        name, fmt::format("reconstruction_tolerance must be positive: got {}", reconstruction_tolerance));
}

ImplicitSolution Reversible::iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                                     const FixedPointOptions& options) const {
  const Shape rows = state_rows(z0.shape(), options.batch);
  FixedPoint result;
  Tensors outputs(2);
  {
    const NoGrad off;
    const auto map = [&](const Tensor& z) { return at_rows("fixed_point", f, z0.shape(), z); };
    Tensor older = z0.value().reshape(rows);
    FixedPointSolution solved = solve_fixed_point(ReversibleIteration{damping, &older}, std::ref(map),
                                                  z0.value().reshape(rows), stop_options(options));
    outputs = {solved.z.reshape(z0.shape()), older.reshape(z0.shape())};
    result.report = std::move(solved.report);
  }
  const ReversibleAttrs attrs{iteration_at(f, outputs.front(), result, damping, options),
                              reconstruction_tolerance};
  Vars inputs{z0};
  const Vars& theta = attrs.body->trace.captured;
  inputs.insert(inputs.end(), theta.begin(), theta.end());
  if (!straight(result.report)) {  // a sample went on after its answer: where it came from is found again
    const NoGrad off;
    Vars values;
    for (const Var& input : inputs) values.push_back(input.detach());
    outputs[1] = run(attrs, values.front(), std::span(values).subspan(1)).older.value();
  }
  result.z = held_to_policy("fixed_point", record(reversible_op, inputs, outputs, attrs).front(),
                            result.report, options.batch, options.policy);
  return result;
}

}  // namespace banach
