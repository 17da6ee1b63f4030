// The loop: the only one there is.

#include <banach/solvers/check.hpp>
#include <banach/solvers/monitor.hpp>
#include <banach/solvers/paused_solve.hpp>
#include <banach/solvers/trace_recorder.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace banach {
namespace {

constexpr std::string_view op = "fixed_point";

void check_options(const StopOptions& o) {
  const auto require = [](bool holds, std::string_view what, double given) {
    if (!holds) fail<ValueError>(op, fmt::format("{}: got {}", what, given));
  };
  check_budget(op, o.max_steps, o.tolerance);
  const double atol = o.absolute_tolerance.value_or(0.0);
  require(atol >= 0.0 && std::isfinite(atol), "absolute_tolerance must be finite and not negative", atol);
  require(o.error_factor > 0.0, "error_factor must be positive", o.error_factor);
  require(o.divergence_factor >= 1.0, "divergence_factor must be at least 1", o.divergence_factor);
  require(o.stagnation_window >= 1, "stagnation_window must be at least 1", o.stagnation_window);
}

}  // namespace

// The iterates, and what is known of each sample.
class PausedSolve::Loop {
 public:
  virtual ~Loop() = default;
  virtual void run(Stepper& stepper, const StateMap& f, bool pause) = 0;
  virtual bool step(Stepper& stepper, const Tensor& fz) = 0;
  virtual bool converged(std::size_t sample) const = 0;
  virtual FixedPointSolution finish(const Stepper& stepper) = 0;

  const Tensor& z() const { return z_; }
  bool over() const { return std::find(active_.begin(), active_.end(), 1) == active_.end(); }
  const PoolVector<char>& active() const { return active_; }

  // As a Stepper's.
  static void* operator new(std::size_t bytes) { return memory::allocate(bytes); }
  static void operator delete(void* loop, std::size_t bytes) noexcept { memory::release(loop, bytes); }

 protected:
  explicit Loop(const Tensor& z0) : z_(z0), active_(static_cast<std::size_t>(z0.shape()[0]), 1) {}

  Tensor z_;
  PoolVector<char> active_;
};

namespace {

template <class T>
class Solve final : public PausedSolve::Loop {
 public:
  Solve(const Tensor& z0, const StopOptions& options)
      : Loop(z0),
        batch_(z0.shape()[0]),
        n_(z0.shape()[1]),
        next_(Tensor::empty(z0.shape(), z0.dtype())),
        best_z_(z0.clone()),
        best_fz_(z0.clone()),
        monitors_(static_cast<std::size_t>(batch_),
                  SampleMonitor(options, static_cast<double>(std::numeric_limits<T>::epsilon()))),
        trace_(static_cast<std::size_t>(batch_), options.whole_trace) {}

  void run(Stepper& stepper, const StateMap& f, bool pause) override {
    while (!(pause && nearly_done()))
      if (step(stepper, f(z_, active_))) return;
  }

  // Takes in f at z_, and moves on. True once no sample is left.
  bool step(Stepper& stepper, const Tensor& fz) override {
    check_map(op, z_, fz);
    const bool any_stopped = observe(fz, stepper);
    trace_.record(
        ++steps_, [&](std::size_t s) { return monitors_[s].residual(); },
        [&](std::size_t s) { return monitors_[s].relative_residual(); });
    if (any_stopped && !freeze()) return true;
    stepper.propose(z_, fz, active_, next_);
    std::swap(z_, next_);
    return any_ended(stepper) && !freeze();
  }

  bool converged(std::size_t sample) const override {
    return monitors_[sample].stopped() && monitors_[sample].report().status == Status::converged;
  }

  FixedPointSolution finish(const Stepper& stepper) override {
    FixedPointSolution solution{std::move(best_z_), std::move(best_fz_), {}};
    for (const SampleMonitor& monitor : monitors_) {
      const auto s = static_cast<std::int64_t>(solution.report.samples.size());
      solution.report.samples.push_back(monitor.report());
      solution.report.samples.back().products = stepper.info(s).products;
    }
    solution.report.trace = trace_.take();
    solution.report.nstep = steps_;
    solution.report.history_bytes = stepper.history_bytes();
    return solution;
  }

 private:
  bool nearly_done() const {
    for (std::size_t s = 0; s < monitors_.size(); ++s)
      if (active_[s] && !monitors_[s].expects_convergence()) return false;
    return true;
  }

  // Measures the residual of every active sample and keeps its iterate if it is the best. True if a sample
  // stopped. next_ still holds the previous point.
  bool observe(const Tensor& fz, Stepper& stepper) {
    const T *z = z_.data<T>(), *f = fz.data<T>(), *previous = next_.data<T>();
    T *best_z = best_z_.mutable_data<T>(), *best_f = best_fz_.mutable_data<T>();
    vec::for_active(active_, n_, [&](std::int64_t s) {
      const std::int64_t row = s * n_;
      SampleMonitor& monitor = monitors_[static_cast<std::size_t>(s)];
      T squares[3];
      simd::history<T>().squared_lengths(f + row, z + row, previous + row, n_, squares);
      const double norm = vec::norm(f + row, n_, squares[0]);
      const bool finite = std::isfinite(norm) || vec::all_finite(f + row, n_);
      const double residual = finite ? vec::distance(f + row, z + row, n_, squares[1]) : 0.0;
      const bool first = monitor.report().nstep == 0;
      const StepInfo info = first ? StepInfo{} : stepper.info(s);
      const double step_length = first        ? 0.0
                                 : info.trial ? info.step_length
                                              : vec::distance(z + row, previous + row, n_, squares[2]);
      if (!monitor.observe({residual, norm, step_length, finite, info})) return;
      vec::copy(z + row, best_z + row, n_);
      vec::copy(f + row, best_f + row, n_);
    });
    bool stopped = false;
    for (std::size_t s = 0; s < monitors_.size(); ++s) {
      if (!active_[s] || !monitors_[s].stopped()) continue;
      const Status status = monitors_[s].report().status;
      if (status != Status::converged && status != Status::max_steps &&
          stepper.retry(static_cast<std::int64_t>(s), status))
        monitors_[s].resume();
      stopped = stopped || monitors_[s].stopped();
    }
    return stopped;
  }

  // True if the solver has no next point for a sample, which then stops.
  bool any_ended(const Stepper& stepper) {
    bool ended = false;
    for (std::size_t s = 0; s < monitors_.size(); ++s) {
      if (!active_[s]) continue;
      const std::optional<Status> end = stepper.info(static_cast<std::int64_t>(s)).end;
      if (!end) continue;
      monitors_[s].give_up(*end);
      ended = true;
    }
    return ended;
  }

  // From now on, f sees the answer of every sample that has just stopped. False if none is left.
  bool freeze() {
    T *z = z_.mutable_data<T>(), *next = next_.mutable_data<T>();
    const T* best = best_z_.data<T>();
    bool left = false;
    for (std::int64_t s = 0; s < batch_; ++s) {
      char& active = active_[static_cast<std::size_t>(s)];
      if (active && monitors_[static_cast<std::size_t>(s)].stopped()) {
        active = 0;
        vec::copy(best + s * n_, z + s * n_, n_);
        vec::copy(best + s * n_, next + s * n_, n_);
      }
      left = left || active;
    }
    return left;
  }

  std::int64_t batch_, n_;
  Tensor next_, best_z_, best_fz_;
  PoolVector<SampleMonitor> monitors_;
  TraceRecorder trace_;
  int steps_ = 0;
};

// max_steps = 0: the start is the answer, and nothing is known about it.
FixedPointSolution unsolved(const Tensor& z0, const StopOptions& options) {
  FixedPointSolution solution{z0, z0, {}};
  solution.report.samples.assign(static_cast<std::size_t>(z0.shape()[0]),
                                 SampleMonitor(options, 0.0).report());
  return solution;
}

// A solver whose memory, where it is a large one, is no larger than a solve of so many steps can fill.
Solver capped(const Solver& solver, int max_steps) {
  const auto cap = [&](auto options) -> Solver {
    options.memory = std::min(options.memory, std::max(64, max_steps));
    return options;
  };
  if (const auto* anderson = solver.get_if<Anderson>()) return cap(*anderson);
  if (const auto* broyden = solver.get_if<Broyden>()) return cap(*broyden);
  if (const auto* adjoint = solver.get_if<AdjointBroyden>()) return cap(*adjoint);
  return solver;
}

}  // namespace

FixedPointSolution solve_fixed_point(const Solver& solver, const StateMap& f, const Tensor& z0,
                                     const StopOptions& options) {
  return solve_fixed_point(solver, FixedPointProblem{f}, z0, options);
}

FixedPointSolution solve_fixed_point(const Solver& solver, const FixedPointProblem& problem, const Tensor& z0,
                                     const StopOptions& options) {
  check_options(options);
  check_state(op, "z0", z0);
  if (z0.shape()[0] > 0 && options.max_steps > 0) {
    PausedSolve solve(solver, problem, z0, options);
    solve.run(problem.f, false);
    return solve.solution();
  }
  const auto stepper =
      capped(solver, options.max_steps).start(problem, z0.shape()[0], z0.shape()[1], z0.dtype());
  FixedPointSolution solution = unsolved(z0, options);
  solution.report.solver = solver.name();
  if (options.keep_inverse) solution.inverse = stepper->inverse();
  return solution;
}

PausedSolve::PausedSolve(const Solver& solver, const FixedPointProblem& problem, const Tensor& z0,
                         const StopOptions& options)
    : solver_(&solver), options_(&options) {
  check_options(options);
  check_state(op, "z0", z0);
  stepper_ = capped(solver, options.max_steps).start(problem, z0.shape()[0], z0.shape()[1], z0.dtype());
  dispatch_floating(z0.dtype(), [&](auto zero) { loop_.reset(new Solve<decltype(zero)>(z0, options)); });
}

void PausedSolve::Release::operator()(Loop* loop) const { delete loop; }

void PausedSolve::run(const StateMap& f, bool pause) {
  if (!over()) loop_->run(*stepper_, f, pause);
}

bool PausedSolve::over() const { return loop_->over(); }

const Tensor& PausedSolve::z() const { return loop_->z(); }

bool PausedSolve::take(const Tensor& fz) {
  const PoolVector<char> left = loop_->active();
  if (!loop_->step(*stepper_, fz)) return false;
  for (std::size_t s = 0; s < left.size(); ++s)
    if (left[s] && !loop_->converged(s)) return false;
  return true;
}

FixedPointSolution PausedSolve::solution() {
  FixedPointSolution solution = loop_->finish(*stepper_);
  solution.report.solver = solver_->name();
  if (options_->keep_inverse) solution.inverse = stepper_->inverse();
  return solution;
}

}  // namespace banach
