#include <banach/solvers/monitor.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

double ratio(double part, double whole) { return part == 0.0 ? 0.0 : part / whole; }

}  // namespace

SampleMonitor::SampleMonitor(const StopOptions& options, double epsilon)
    : options_(&options), epsilon_(epsilon) {
  // Before the first finite evaluation nothing is known.
  report_.rate = 1.0;
  report_.abs_lowest = report_.rel_lowest = report_.error_estimate = infinity;
}

bool SampleMonitor::observe(const Measurement& m) {
  const int k = ++report_.nstep;
  if (m.info.amplification > 0.0 && iterates_ > 0) regularity_.set_amplification(m.info.amplification);
  const bool rejected = m.info.trial && !(m.finite && m.residual <= m.info.limit);
  if (rejected) {
    if (out_of_steps(m)) stop(Status::max_steps);
    return false;
  }
  if (!m.finite) {
    stop(Status::non_finite);
    return false;
  }
  if (m.info.restarted) {
    iterates_ = 0;
    regularity_.restart();
  }
  const bool begins = ++iterates_ == 1;
  const double step_gain = begins ? 1.0 : ratio(m.step_length, residual_);
  update_rate(m.residual);
  regularity_.observe(m.residual, begins ? 0.0 : m.step_length);
  residual_ = m.residual;
  relative_ = ratio(m.residual, m.norm);
  if (k == 1) first_ = m.residual;
  const double error = m.residual == 0.0    ? 0.0
                       : report_.rate < 1.0 ? m.residual * step_gain / (1.0 - report_.rate)
                                            : infinity;
  norm_ = m.norm;
  error_ = error;

  // A converged iterate is the answer even where an earlier one had a smaller residual: near another,
  // repelling fixed point the residual is small too, but not in proportion to f(z).
  const bool done = converged(m, error);
  const bool best = done || m.residual < report_.abs_lowest;
  if (best) {
    report_.best_step = k;
    report_.abs_lowest = residual_;
    report_.rel_lowest = relative_;
    report_.error_estimate = error;
  }
  if (begins || m.residual < 0.999 * anchor_) {
    anchor_ = m.residual;
    anchor_step_ = k;
  }

  if (done)
    stop(Status::converged);
  else if (!(m.residual < infinity) || m.residual > options_->divergence_factor * first_)
    stop(Status::diverged);
  else if (k - anchor_step_ >= options_->stagnation_window)
    stop(Status::stagnated);
  else if (out_of_steps(m))
    stop(Status::max_steps);
  return best;
}

bool SampleMonitor::out_of_steps(const Measurement& m) const {
  return report_.nstep + m.info.evaluations >= options_->max_steps;
}

void SampleMonitor::resume() {
  report_.status = Status::max_steps;
  stopped_ = false;
  if (report_.nstep >= options_->max_steps) stopped_ = true;
}

void SampleMonitor::stop(Status status) {
  report_.status = status;
  report_.amplification_exponent = regularity_.exponent();
  report_.singular_root = report_.amplification_exponent > Regularity::threshold;
  stopped_ = true;
}

bool SampleMonitor::converged(const Measurement& m, double error) const {
  if (!(m.residual < infinity && m.norm < infinity)) return false;
  // Not where the iterates have run away until any residual is rounding.
  const bool fell = report_.nstep == 1 || (report_.rate < 1.0 && m.residual < first_);
  if (options_->accept_rounding && fell && m.residual <= 2.0 * epsilon_ * m.norm) return true;
  return m.residual <= bound(m.norm) && error <= options_->error_factor * bound(m.norm);
}

bool SampleMonitor::expects_convergence() const {
  const double limit = bound(norm_);
  return iterates_ > 1 && report_.rate < 1.0 && report_.rate * residual_ <= limit &&
         report_.rate * error_ <= options_->error_factor * limit;
}

double SampleMonitor::bound(double norm) const {
  const double atol =
      options_->absolute_tolerance.value_or(1e-6 * options_->tolerance * std::min(1.0, first_));
  return atol + options_->tolerance * norm;
}

// The geometric mean of the last ratios r_k / r_{k-1} is a root of the quotient of the last and the first.
void SampleMonitor::update_rate(double residual) {
  const int k = iterates_, ratios = std::min(k - 1, rate_window);
  const auto slot = [](int step) { return static_cast<std::size_t>(step % (rate_window + 1)); };
  recent_[slot(k)] = residual;
  if (residual == 0.0)
    report_.rate = 0.0;
  else if (ratios == 0)
    report_.rate = 1.0;
  else
    report_.rate = std::pow(residual / recent_[slot(k - ratios)], 1.0 / ratios);
}

}  // namespace banach
