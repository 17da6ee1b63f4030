#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace banach {
namespace {

// The identity behind a recorded iteration, whose only work is to report a sweep that passes.
struct ReportAttrs {
  std::string_view rule;
  PoolVector<Status> forward;
  int evaluations;
  AdjointLog log;
};

const Op report_op{{
    .name = "unrolled",
    .doc = "The identity: reports the sweeps that pass through an unrolled fixed point.",
    .shape = same_shape,
    .kernel = [](const KernelContext& c) { c.out() = c.in(); },
    .kind = OpKind::implicit,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<ReportAttrs>();
          attrs.log.add(iterate_report(attrs.rule, attrs.forward, attrs.evaluations));
          return Vars{c.cotangent};
        },
    .view = true,
}};

}  // namespace

Tensor row_mask(const Tensor& z, const Shape& rows, FunctionRef<bool(std::size_t)> chosen) {
  Tensor mask = Tensor::zeros(z.shape(), z.dtype());
  dispatch_floating(z.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = mask.mutable_data<T>();
    for (std::int64_t i = 0; i < rows[0]; ++i)
      if (chosen(static_cast<std::size_t>(i))) std::fill_n(out + i * rows[1], rows[1], T{1});
  });
  return mask;
}

Var choose_rows(const Shape& rows, FunctionRef<bool(std::size_t)> chosen, const Var& taken,
                const Var& otherwise) {
  bool all = true;
  for (std::int64_t i = 0; i < rows[0]; ++i) all = all && chosen(static_cast<std::size_t>(i));
  return all ? taken : where(Var(row_mask(taken.value(), rows, chosen)), taken, otherwise);
}

Var picard_step(const Var& z, const Var& fz, double damping) {
  return damping == 1.0 ? fz : z + damping * (fz - z);
}

double picard_damping(const FixedPointOptions& options, std::string_view rule) {
  const Picard* picard = options.solver.get_if<Picard>();
  if (!picard)
    fail<ValueError>(
        "fixed_point",
        fmt::format("{} differentiates Picard's iteration, so the solver must be Picard{{}}: got "
                    "{}",
                    rule, options.solver.name()));
  return picard->damping;
}

PoolVector<int> answers(const SolveReport& report) {
  PoolVector<int> steps;
  for (const SampleReport& sample : report.samples) steps.push_back(std::max(1, sample.best_step));
  return steps;
}

bool straight(const SolveReport& report) {
  return std::all_of(report.samples.begin(), report.samples.end(), [](const SampleReport& s) {
    return s.best_step == s.nstep && s.status != Status::non_finite;
  });
}

int largest(const PoolVector<int>& counts) {
  return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

int IterationAttrs::last() const { return largest(answer); }

PoolVector<Status> IterationAttrs::forward() const {
  PoolVector<Status> statuses;
  for (const SampleReport& sample : body->forward) statuses.push_back(sample.status);
  return statuses;
}

Var IterationAttrs::evaluate(const Var& z, std::span<const Var> theta) const {
  return body->trace.replay({&z, 1}, theta).front();
}

IterationAttrs iteration_of(Trace recorded, const Shape& rows, const ImplicitSolution& result, double damping,
                            const FixedPointOptions& options) {
  auto body = std::allocate_shared<ImplicitBody>(memory::PoolAllocator<char>());
  body->batch = options.batch;
  body->policy = options.policy;
  body->forward = result.report.samples;
  body->log = result.adjoint;
  body->trace = std::move(recorded);
  return {std::move(body), damping, rows, answers(result.report)};
}

IterationAttrs iteration_at(FunctionRef<Var(const Var&)> f, const Tensor& z, const ImplicitSolution& result,
                            double damping, const FixedPointOptions& options) {
  return iteration_of(trace([&](const Vars& state) { return Vars{f(state.front())}; }, {&z, 1}),
                      state_rows(z.shape(), options.batch), result, damping, options);
}

AdjointReport iterate_report(std::string_view rule, const PoolVector<Status>& forward, int evaluations) {
  AdjointReport report{.rule = rule, .samples = {}, .evaluations = evaluations};
  for (const Status status : forward)
    report.samples.push_back({.kind = GradientKind::approximate,
                              .forward = status,
                              .adjoint = status,
                              .adjoint_residual = std::numeric_limits<double>::quiet_NaN()});
  return report;
}

Var reported(const Var& z, std::string_view rule, const ImplicitSolution& result, int evaluations,
             const FixedPointOptions& options) {
  ReportAttrs attrs{rule, {}, evaluations, result.adjoint};
  for (const SampleReport& sample : result.report.samples) attrs.forward.push_back(sample.status);
  return held_to_policy("fixed_point", apply(report_op, {z}, attrs), result.report, options.batch,
                        options.policy);
}

}  // namespace banach
