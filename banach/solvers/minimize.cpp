#include <banach/solvers/check.hpp>
#include <banach/solvers/minimize.hpp>
#include <banach/solvers/monitor.hpp>
#include <banach/solvers/trace_recorder.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace banach {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// The quadratic model of one sample, minimised over ||s|| <= radius by conjugate gradients. It names a
// direction, is given H times it, and goes on, so that all samples share the products. In f64 whatever the
// state's type is.
class Model {
 public:
  void start(std::vector<double> gradient, double radius, int limit) {
    r_ = std::move(gradient);
    const std::size_t n = r_.size();
    s_.assign(n, 0.0);
    d_.resize(n);
    for (std::size_t i = 0; i < n; ++i) d_[i] = -r_[i];
    radius_ = radius;
    left_ = limit;
    promised_ = 0.0;
    rr_ = dot(r_, r_);
    // Superlinear convergence, but no more work than the distance from the minimum is worth.
    const double norm = std::sqrt(rr_);
    target_ = std::min(0.5, std::sqrt(norm)) * norm;
    running_ = norm > 0.0;
  }

  bool running() const { return running_; }
  const std::vector<double>& direction() const { return d_; }
  const std::vector<double>& step() const { return s_; }
  double step_length() const { return std::sqrt(dot(s_, s_)); }
  /// By how much the model falls along the step.
  double promised() const { return promised_; }

  void advance(const std::vector<double>& hd) {
    const double curvature = dot(d_, hd);
    const double full = rr_ / curvature;
    const double to_edge = distance_to_edge();
    // Written so that a NaN ends the search too.
    if (!(curvature > 0.0) || !(full < to_edge)) {
      if (std::isfinite(curvature)) move(to_edge, curvature);
      running_ = false;
      return;
    }
    move(full, curvature);
    for (std::size_t i = 0; i < r_.size(); ++i) r_[i] += full * hd[i];
    const double rr = dot(r_, r_);
    if (--left_ <= 0 || !(std::sqrt(rr) > target_)) {
      running_ = false;
      return;
    }
    for (std::size_t i = 0; i < d_.size(); ++i) d_[i] = rr / rr_ * d_[i] - r_[i];
    rr_ = rr;
  }

 private:
  static double dot(const std::vector<double>& a, const std::vector<double>& b) {
    return vec::dot(a.data(), b.data(), static_cast<std::int64_t>(a.size()));
  }

  // The model changes by -t r'd + t^2 d'Hd / 2 with r'd = -r'r for conjugate directions.
  void move(double t, double curvature) {
    for (std::size_t i = 0; i < s_.size(); ++i) s_[i] += t * d_[i];
    promised_ += t * rr_ - 0.5 * t * t * curvature;
  }

  // The t > 0 with ||s + t d|| = radius.
  double distance_to_edge() const {
    const double dd = dot(d_, d_), sd = dot(s_, d_), rest = radius_ * radius_ - dot(s_, s_);
    return rest / (sd + std::sqrt(sd * sd + dd * std::max(rest, 0.0)));
  }

  std::vector<double> s_, r_, d_;
  double radius_ = 0.0, rr_ = 0.0, target_ = 0.0, promised_ = 0.0;
  int left_ = 0;
  bool running_ = false;
};

struct Sample {
  explicit Sample(const SampleMonitor& m, double r) : monitor(m), radius(r) {}
  SampleMonitor monitor;
  Model model;
  double radius, value = 0.0, gradient_norm = 0.0;
  int accepted = 0;  // the evaluation of the iterate; 0 if nothing finite was measured
};

template <class T>
class Minimization {
 public:
  Minimization(const TrustRegion& solver, const MinimizationProblem& problem, const Tensor& z0,
               const StopOptions& options)
      : solver_(solver),
        problem_(problem),
        batch_(z0.shape()[0]),
        n_(z0.shape()[1]),
        max_steps_(options.max_steps),
        trace_(static_cast<std::size_t>(batch_), options.whole_trace),
        z_(z0.clone()),
        gradient_(Tensor::zeros(z0.shape(), z0.dtype())),
        samples_(static_cast<std::size_t>(batch_),
                 Sample(SampleMonitor(options, static_cast<double>(std::numeric_limits<T>::epsilon())),
                        solver.radius)) {}

  FixedPointSolution run() {
    if (batch_ > 0 && max_steps_ > 0) begin();
    int evaluations = batch_ > 0 && max_steps_ > 0 ? 1 : 0;
    if (evaluations > 0) keep_trace(1);
    for (; evaluations > 0 && any_active(); ++evaluations) {
      find_steps();
      Tensor trial = z_.clone();
      each_active([&](Sample& sample, std::int64_t s) {
        T* z = trial.mutable_data<T>() + s * n_;
        for (std::int64_t i = 0; i < n_; ++i)
          z[i] = static_cast<T>(z[i] + sample.model.step()[static_cast<std::size_t>(i)]);
      });
      judge(trial, problem_.evaluate(trial));
      keep_trace(evaluations + 1);
    }
    FixedPointSolution solution{z_, z_.clone(), {}};
    T* fz = solution.fz.template mutable_data<T>();
    for (std::int64_t i = 0; i < z_.size(); ++i) fz[i] -= gradient_.data<T>()[i];
    for (std::int64_t s = 0; s < batch_; ++s) {
      const Sample& sample = samples_[static_cast<std::size_t>(s)];
      SampleReport report = sample.monitor.report();
      report.best_step = sample.accepted;
      if (report.best_step > 0) {
        const double size = vec::norm(fz + s * n_, n_);
        report.abs_lowest = sample.gradient_norm;
        report.rel_lowest = sample.gradient_norm == 0.0 ? 0.0 : sample.gradient_norm / size;
      }
      solution.report.samples.push_back(report);
    }
    solution.report.nstep = evaluations;
    solution.report.trace = trace_.take();
    solution.report.solver = TrustRegion::name;
    return solution;
  }

 private:
  template <class Body>
  void each_active(Body body) {
    for (std::size_t s = 0; s < samples_.size(); ++s)
      if (!samples_[s].monitor.stopped()) body(samples_[s], static_cast<std::int64_t>(s));
  }
  bool any_active() {
    bool any = false;
    each_active([&](Sample&, std::int64_t) { any = true; });
    return any;
  }

  void begin() {
    const MinimizationProblem::Point point = problem_.evaluate(z_);
    each_active([&](Sample& sample, std::int64_t s) { accept(sample, s, z_, point, 0.0); });
  }

  // The monitor is told of every evaluation; an accepted one becomes the iterate.
  void accept(Sample& sample, std::int64_t s, const Tensor& z, const MinimizationProblem::Point& point,
              double length) {
    const T *at = z.data<T>() + s * n_, *g = point.gradient.data<T>() + s * n_;
    sample.value = static_cast<double>(point.value.data<T>()[s]);
    sample.gradient_norm = vec::norm(g, n_);
    if (z_.data<T>() != z.data<T>()) vec::copy(at, z_.mutable_data<T>() + s * n_, n_);
    vec::copy(g, gradient_.mutable_data<T>() + s * n_, n_);
    const bool finite = std::isfinite(sample.value) && std::isfinite(sample.gradient_norm);
    sample.monitor.observe({.residual = finite ? sample.gradient_norm : 0.0,
                            .norm = vec::distance(at, g, n_),
                            .step_length = length,
                            .finite = finite});
    if (finite) sample.accepted = sample.monitor.report().nstep;
  }

  void keep_trace(int evaluation) {
    trace_.record(
        evaluation, [&](std::size_t s) { return samples_[s].monitor.residual(); },
        [&](std::size_t s) { return samples_[s].monitor.relative_residual(); });
  }

  void find_steps() {
    const StateMap hessian = problem_.hessian(z_);
    each_active([&](Sample& sample, std::int64_t s) {
      const T* g = gradient_.data<T>() + s * n_;
      sample.model.start(std::vector<double>(g, g + n_), sample.radius, solver_.krylov);
    });
    std::vector<double> product(static_cast<std::size_t>(n_));
    for (;;) {
      Tensor directions = Tensor::zeros(z_.shape(), z_.dtype());
      bool any = false;
      each_active([&](Sample& sample, std::int64_t s) {
        if (!sample.model.running()) return;
        any = true;
        std::copy_n(sample.model.direction().begin(), n_, directions.mutable_data<T>() + s * n_);
      });
      if (!any) return;
      const Tensor products = hessian(directions);
      check_map(TrustRegion::name, directions, products);
      each_active([&](Sample& sample, std::int64_t s) {
        if (!sample.model.running()) return;
        const T* p = products.data<T>() + s * n_;
        std::copy_n(p, n_, product.begin());
        sample.model.advance(product);
      });
    }
  }

  void judge(const Tensor& trial, const MinimizationProblem::Point& point) {
    constexpr double epsilon = std::numeric_limits<T>::epsilon();
    each_active([&](Sample& sample, std::int64_t s) {
      const double value = static_cast<double>(point.value.data<T>()[s]);
      const double norm = vec::norm(point.gradient.data<T>() + s * n_, n_);
      const double length = sample.model.step_length(), fall = sample.value - value;
      const double ratio = fall / sample.model.promised();
      // Where phi's own rounding hides the fall, the gradient decides.
      const bool hidden = sample.model.promised() <= 100.0 * epsilon * std::abs(sample.value);
      const bool better =
          hidden ? norm < sample.gradient_norm && fall >= -100.0 * epsilon * std::abs(sample.value)
                 : ratio > 1e-4;
      const bool accepted = better && std::isfinite(value) && std::isfinite(norm);
      if (!accepted)
        sample.radius = 0.25 * length;
      else if (!hidden && ratio < 0.25)
        sample.radius = 0.25 * std::max(length, sample.radius);
      else if (ratio > 0.75 && length > 0.8 * sample.radius)
        sample.radius = std::min(2.0 * sample.radius, solver_.max_radius);

      if (accepted) {
        accept(sample, s, trial, point, length);
      } else {
        sample.monitor.observe({.info = {.trial = true, .limit = -infinity}});
        const double size = vec::norm(z_.data<T>() + s * n_, n_);
        if (!sample.monitor.stopped() && !(sample.radius > epsilon * size && sample.radius > 0.0))
          sample.monitor.give_up(Status::stagnated);
      }
    });
  }

  const TrustRegion& solver_;
  const MinimizationProblem& problem_;
  std::int64_t batch_, n_;
  int max_steps_;
  TraceRecorder trace_;
  Tensor z_, gradient_;
  std::vector<Sample> samples_;
};

}  // namespace

FixedPointSolution solve_minimum(const TrustRegion& solver, const MinimizationProblem& problem,
                                 const Tensor& z0, const StopOptions& options) {
  check_state(TrustRegion::name, "z0", z0);
  check_budget(TrustRegion::name, options.max_steps, options.tolerance);
  check_budget(TrustRegion::name, options.max_steps, options.absolute_tolerance.value_or(0.0));
  check_positive(TrustRegion::name, "radius", solver.radius);
  check_positive(TrustRegion::name, "max_radius", solver.max_radius);
  check_positive(TrustRegion::name, "krylov", solver.krylov);
  return dispatch_floating(z0.dtype(), [&](auto zero) {
    return Minimization<decltype(zero)>(solver, problem, z0, options).run();
  });
}

}  // namespace banach
