#include <apps/lab/pass.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <banach/engine/memory_meter.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/loss.hpp>

namespace banach::lab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The worst over the samples: larger is worse, and a NaN the worst.
double worst(const AdjointReport& report, double GradientStatus::*member) {
  double most = 0.0;
  for (const GradientStatus& sample : report.samples)
    if (!(sample.*member <= most)) most = sample.*member;
  return most;
}

Figures figures_of(const AdjointReport& report) {
  Figures figures;
  if (report.rule == Reversible::name)
    figures["reconstruction error"] = worst(report, &GradientStatus::reconstruction_error);
  if (report.rule == RandomNeumann::name) {
    double total = 0.0;
    for (const GradientStatus& sample : report.samples) total += sample.variance;
    figures["variance of λ"] = total;
  }
  if (report.rule == Shine::name) {
    const auto count = std::count_if(report.samples.begin(), report.samples.end(),
                                     [](const GradientStatus& sample) { return sample.fell_back; });
    figures["fallbacks"] =
        static_cast<double>(count) / std::max(1.0, static_cast<double>(report.samples.size()));
  }
  return figures;
}

}  // namespace

std::vector<double> flat(const Vars& parts) {
  std::vector<double> values;
  for (const Var& part : parts)
    dispatch_floating(part.dtype(), [&](auto zero) {
      for (const auto value : part.value().values<decltype(zero)>())
        values.push_back(static_cast<double>(value));
    });
  return values;
}

Pass run_pass(Classifier& model, const nn::Minibatch& batch, FixedPointOptions options) {
  Pass pass;
  const memory::Meter meter;
  {
    const Tape tape;
    Clock::time_point start = Clock::now();
    const Equation equation = model.equation(Var(batch.x));
    options.batch = equation.batch;
    FixedPoint solved = fixed_point(equation.f, equation.z0, options);
    const Var loss = cross_entropy(model.head(solved.z), Var(batch.labels));
    pass.cost.forward_seconds = seconds_since(start);

    start = Clock::now();
    pass.gradients = nn::grad(loss, nn::parameters(model));
    pass.cost.backward_seconds = seconds_since(start);

    pass.loss = loss.item();
    pass.z = solved.z.value();
    if (solved.adjoint.run()) pass.adjoint = solved.adjoint.last();
    pass.report = std::move(solved.report);
  }
  if (pass.adjoint) pass.figures = figures_of(*pass.adjoint);
  pass.cost.peak_bytes = static_cast<double>(meter.peak_bytes());
  pass.cost.forward_evaluations = pass.report.nstep;
  // Unrolled: each recorded step is pulled back once.
  pass.cost.backward_evaluations = pass.adjoint ? pass.adjoint->evaluations : pass.report.nstep;
  return pass;
}

ExactGradient exact_gradient(const Classifier& model, const nn::Minibatch& batch) {
  const std::unique_ptr<Classifier> exact_model = in_double(model);
  const nn::Minibatch exact_batch{batch.x.to(DType::f64), batch.labels};
  const FixedPointOptions options{
      .solver = Anderson{.memory = 10},
      .backward = Implicit{Gmres{.restart = 50, .max_steps = 2000, .tolerance = 1e-11}},
      .tolerance = 1e-12,
      .max_steps = 1000,
  };
  const Pass pass = run_pass(*exact_model, exact_batch, options);

  ExactGradient exact{
      .values = flat(pass.gradients), .forward_residual = 0.0, .adjoint_residual = 0.0, .z = pass.z};
  for (const SampleReport& sample : pass.report.samples)
    exact.forward_residual = std::max(exact.forward_residual, sample.rel_lowest);
  for (const GradientStatus& sample : pass.adjoint->samples)
    exact.adjoint_residual = std::max(exact.adjoint_residual, sample.adjoint_residual);
  return exact;
}

std::vector<double> spectral_radii(const Classifier& model, const nn::Minibatch& batch,
                                   const ExactGradient& exact) {
  const std::unique_ptr<Classifier> exact_model = in_double(model);
  const Equation equation = exact_model->equation(Var(batch.x.to(DType::f64)));
  std::vector<double> radii;
  for (const SpectralRadius& sample : spectral_radius(equation.f, exact.z, {.batch = equation.batch}))
    radii.push_back(sample.radius());
  return radii;
}

Quality compare(const Vars& estimate, const ExactGradient& exact) {
  const std::vector<double> values = flat(estimate);
  double inner = 0.0, own = 0.0, reference = 0.0, difference = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double e = exact.values[i];
    inner += values[i] * e;
    own += values[i] * values[i];
    reference += e * e;
    difference += (values[i] - e) * (values[i] - e);
  }
  return {inner / std::sqrt(own * reference), std::sqrt(own / reference), inner > 0.0,
          std::sqrt(difference / reference)};
}

}  // namespace banach::lab
