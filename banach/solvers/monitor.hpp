#pragma once
// Internal: when one sample of a fixed-point solve stops: the formulas of status.hpp, on one sample's running
// state.

#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/regularity.hpp>

#include <array>

namespace banach {

/// What was measured at one evaluation of f for one sample.
struct Measurement {
  double residual = 0.0;     ///< ||f(z) - z||_2
  double norm = 0.0;         ///< ||f(z)||_2
  double step_length = 0.0;  ///< ||z - previous iterate||_2; ignored at the first evaluation
  bool finite = true;        ///< f(z) has neither NaN nor infinity
  StepInfo info = {};        ///< what the solver says of the point
};

class SampleMonitor {
 public:
  /// `epsilon` is the machine epsilon of the iterates.
  SampleMonitor(const StopOptions& options, double epsilon);

  /// Takes in the next evaluation. Returns true if its iterate is the best so far, and so the answer for now.
  bool observe(const Measurement& m);
  /// The solver has no next point.
  void give_up(Status status) { stop(status); }
  /// A stopped sample goes on after all.
  void resume();
  bool stopped() const { return stopped_; }
  /// Whether the next evaluation will find it converged if the residual goes on to fall at the observed rate.
  bool expects_convergence() const;
  /// The report so far: complete once stopped.
  const SampleReport& report() const { return report_; }
  /// Residual and relative residual at the last iterate where f was finite.
  double residual() const { return residual_; }
  double relative_residual() const { return relative_; }

 private:
  void stop(Status status);
  bool converged(const Measurement& m, double error) const;
  double bound(double norm) const;
  void update_rate(double residual);
  bool out_of_steps(const Measurement& m) const;

  static constexpr int rate_window = 5;  // residual ratios that the observed rate is the mean of

  const StopOptions* options_;
  double epsilon_;
  SampleReport report_;
  bool stopped_ = false;
  double residual_ = 0.0, relative_ = 0.0, first_ = 0.0;  // at the last evaluation, and at the first
  double norm_ = 0.0, error_ = 0.0;                       // at the last evaluation
  std::array<double, rate_window + 1> recent_{};          // the residuals of the last iterates, a ring
  int iterates_ = 0;                                      // since the start, or since a restart
  Regularity regularity_;
  double anchor_ = 0.0;  // the smallest residual when it last fell by 0.1 %, ...
  int anchor_step_ = 0;  // ... and the evaluation at which it did
};

}  // namespace banach
