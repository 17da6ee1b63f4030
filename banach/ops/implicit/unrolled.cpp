#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/node.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>

namespace banach {
namespace {

// 1 in the rows of the chosen problems, 0 elsewhere, like z.
template <class Chosen>
Var row_mask(const Var& z, const Shape& rows, Chosen chosen) {
  Tensor mask = Tensor::zeros(z.shape(), z.dtype());
  dispatch_floating(z.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = mask.mutable_data<T>();
    for (std::int64_t i = 0; i < rows[0]; ++i)
      if (chosen(static_cast<std::size_t>(i))) std::fill_n(out + i * rows[1], rows[1], T{1});
  });
  return Var(mask);
}

Var picard_step(const Var& z, const Var& fz, double damping) {
  return damping == 1.0 ? fz : z + damping * (fz - z);
}

// What was recorded so far: the iterates, and f at the newest.
struct Record {
  double damping;
  Shape rows;
  Vars path;
  Var value;
};

class RecordingStepper final : public Stepper {
 public:
  explicit RecordingStepper(Record& record) : record_(record) {}

  void propose(const Tensor&, const Tensor&, std::span<const char> active, Tensor& next) override {
    const Var& last = record_.path.back();
    Var step = picard_step(last, record_.value, record_.damping);
    if (std::find(active.begin(), active.end(), char{0}) != active.end())
      step = where(row_mask(last, record_.rows, [&](std::size_t i) { return active[i] != 0; }), step, last);
    dispatch_floating(step.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t n = record_.rows[1];
      for (std::size_t i = 0; i < active.size(); ++i) {
        const std::int64_t row = static_cast<std::int64_t>(i) * n;
        if (active[i]) std::copy_n(step.value().template data<T>() + row, n, next.mutable_data<T>() + row);
      }
    });
    record_.path.push_back(std::move(step));
  }

 private:
  Record& record_;
};

// Picard, but for the tape.
struct RecordedPicard {
  Record* record;
  static constexpr std::string_view name = Picard::name;
  std::unique_ptr<Stepper> start(std::int64_t, std::int64_t, DType) const {
    return std::make_unique<RecordingStepper>(*record);
  }
};

// The identity behind an unrolled solve, whose only work is to report a sweep that passes.
struct ReportAttrs {
  PoolVector<Status> forward;
  int steps;
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
          AdjointReport report{.rule = Unrolled::name, .samples = {}, .evaluations = attrs.steps};
          // Backpropagation is as good a gradient as the iterate is a solution; there is no equation to leave
          // a residual.
          for (const Status status : attrs.forward)
            report.samples.push_back({.kind = GradientKind::approximate,
                                      .forward = status,
                                      .adjoint = status,
                                      .adjoint_residual = std::numeric_limits<double>::quiet_NaN()});
          attrs.log.add(std::move(report));
          return Vars{c.cotangent};
        },
    .view = true,
}};

Var reported(const Var& z, const FixedPoint& result, const FixedPointOptions& options) {
  ReportAttrs attrs{{}, 0, result.adjoint};
  for (const SampleReport& sample : result.report.samples) {
    attrs.forward.push_back(sample.status);
    attrs.steps = std::max(attrs.steps, sample.best_step - 1);
  }
  return held_to_policy("fixed_point", apply(report_op, {z}, attrs), result.report, options.batch,
                        options.policy);
}

}  // namespace

void Unrolled::check(const FixedPointOptions& options) const {
  if (!options.solver.get_if<Picard>())
    fail<ValueError>("fixed_point",
                     fmt::format("Unrolled differentiates Picard's iteration, so the solver must "
                                 "be Picard{{}}: got {}",
                                 options.solver.name()));
}

ImplicitSolution Unrolled::iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                                   const FixedPointOptions& options) const {
  Record record{options.solver.get_if<Picard>()->damping, state_rows(z0.shape(), options.batch), {z0}, {}};
  const auto map = [&](const Tensor&) {
    record.value = f(record.path.back());
    check_body("fixed_point", z0, record.value);
    return record.value.value().reshape(record.rows);
  };
  FixedPoint result;
  const Tensor start = z0.value().reshape(record.rows);
  result.report =
      solve_fixed_point(RecordedPicard{&record}, std::ref(map), start, stop_options(options)).report;

  // Usually the newest iterate is the best. Where it is not (a sample went astray, or broke), the steps up to
  // each sample's best iterate are recorded afresh, so that none behind it, with its NaNs, is on the way of
  // the gradient.
  const auto& samples = result.report.samples;
  const auto straight = [](const SampleReport& s) {
    return s.best_step == s.nstep && s.status != Status::non_finite;
  };
  if (std::all_of(samples.begin(), samples.end(), straight)) {
    result.z = reported(record.path.back(), result, options);
    return result;
  }
  int last = 1;
  for (const SampleReport& sample : samples) last = std::max(last, sample.best_step);
  Var z = z0;
  for (int k = 1; k < last; ++k) {
    const Var step = picard_step(z, f(z), record.damping);
    z = where(row_mask(z0, record.rows, [&](std::size_t i) { return k < samples[i].best_step; }), step, z);
  }
  result.z = reported(z, result, options);
  return result;
}

}  // namespace banach
