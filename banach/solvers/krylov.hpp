#pragma once
// Internal: what the Krylov solvers of linear.hpp share. The solve of one sample is a state machine: it names
// a vector, is given M times that vector, and names the next. Whether it is building its space or checking an
// iterate is its own affair, so that samples never wait for each other, and all share the applications of M.

#include <banach/solvers/check.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/linear_status.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>

namespace banach {

/// One sample's best iterate and status. An iterate counts only once its true residual has been measured.
template <class T>
class KrylovSample {
 public:
  KrylovSample(std::int64_t n, int max_steps, double tolerance)
      : n_(n), tolerance_(tolerance), max_steps_(max_steps) {}

  bool running() const { return running_; }
  Status status() const { return status_; }
  int steps() const { return steps_; }
  double residual() const { return b_norm_ == 0.0 ? 0.0 : best_ / b_norm_; }

 protected:
  static constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

  /// `x` takes the answer, and is zero. False if there is nothing to solve.
  bool open(const T* b, T* x, T* argument) {
    b_ = b;
    x_ = x;
    b_norm_ = best_ = vec::norm(b, n_);
    if (!std::isfinite(b_norm_))
      stop(Status::non_finite, argument);
    else if (b_norm_ == 0.0)
      stop(Status::converged, argument);
    else if (max_steps_ < 2)
      stop(Status::max_steps, argument);
    return running_;
  }

  /// Counts an application of M. False if the product is not finite, which ends the solve.
  bool take(const T* product, T* argument) {
    ++steps_;
    if (vec::all_finite(product, n_)) {
      const double size = vec::norm(argument, n_);
      if (size > 0.0) gain_ = std::max(gain_, vec::norm(product, n_) / size);
      return true;
    }
    stop(Status::non_finite, argument);
    return false;
  }

  /// Judges the iterate in `argument`, given M times it, and puts its residual M x + b - x into `r`. Unless
  /// that ends the solve, returns whether the iterate is better than the best before by at least 0.1 %.
  bool check(const T* product, T* argument, T* r) {
    simd::kernels<T>().add.vv(product, b_, r, n_);
    vec::subtract(r, argument, r, n_);
    const double residual = vec::norm(r, n_), previous = best_;
    if (!std::isfinite(residual)) {
      stop(Status::non_finite, argument);
      return false;
    }
    if (residual < best_) {
      best_ = residual;
      vec::copy(argument, x_, n_);
    }
    const double size = (gain_ + 1.0) * vec::norm(argument, n_) + b_norm_;
    const auto rounding = [&](double times) { return is_rounding(best_, size, b_norm_, epsilon, times); };
    rounding_ = rounding(4.0);
    if (residual <= tolerance_ * b_norm_ || (residual <= best_ && rounding(1.0)))
      stop(Status::converged, argument);
    return residual <= 0.999 * previous;
  }

  /// From now on the sample asks for M times zero. What cannot be reduced since it is rounding is solved.
  void stop(Status status, T* argument) {
    const bool stuck = status == Status::stagnated || status == Status::max_steps;
    status_ = stuck && rounding_ ? Status::converged : status;
    running_ = false;
    std::fill_n(argument, n_, T{0});
  }

  /// a^T b / (a_size b_size), where a^T b itself may leave the range of numbers.
  double scaled_dot(const T* a, double a_size, const T* b, double b_size) const {
    double sum = 0.0;
    for (std::int64_t i = 0; i < n_; ++i)
      sum += static_cast<double>(a[i]) / a_size * (static_cast<double>(b[i]) / b_size);
    return sum;
  }

  int steps_left() const { return max_steps_ - steps_; }

  std::int64_t n_;
  double tolerance_;
  const T* b_ = nullptr;
  T* x_ = nullptr;
  double b_norm_ = 0.0, best_ = 0.0;

 private:
  bool rounding_ = false;  // the smallest residual is a few times its rounding
  double gain_ = 0.0;      // the largest ||M v|| / ||v|| seen, for ||M||
  int max_steps_, steps_ = 0;
  bool running_ = true;
  Status status_ = Status::max_steps;
};

/// One sample of a method of short recurrences. Its residual is updated, not measured, and drifts away from
/// the true one, and the recurrence may break down: so the solve goes in cycles. A cycle ends with a check of
/// its iterate of smallest recurrent residual, and the next one starts from there with the true residual.
/// After three cycles in a row that do not lower it by 0.1 % the solve is over.
template <class T>
class RestartedSample : public KrylovSample<T> {
 protected:
  using Base = KrylovSample<T>;
  using Base::Base, Base::n_, Base::x_;

  /// `candidate` is a row to work with.
  void begin_cycle(double residual, T* candidate) {
    candidate_ = candidate;
    lowest_ = residual;
    age_ = 0;
    checking_ = degenerate_ = false;
    vec::copy(x_, candidate_, n_);
  }

  /// Takes in an iterate and its recurrent residual. True if the cycle must end, since it has converged, goes
  /// nowhere, or fewer than `needed` applications and one for the check are left.
  bool record(const T* x, double residual, int needed) {
    if (residual < lowest_) {
      lowest_ = residual;
      age_ = 0;
      vec::copy(x, candidate_, n_);
    }
    return lowest_ <= this->tolerance_ * this->b_norm_ || !(residual < growth * this->b_norm_) ||
           ++age_ > 2 * n_ + 20 || this->steps_left() < needed + 1;
  }

  void end_cycle(T* argument) {
    checking_ = true;
    vec::copy(candidate_, argument, n_);
  }

  /// Judges the cycle, given M times its iterate. True if another one is to start from the residual now in
  /// `r`.
  bool finish_cycle(const T* product, T* argument, T* r, int needed) {
    failures_ = Base::check(product, argument, r) ? 0 : failures_ + 1;
    if (!this->running()) return false;
    if (failures_ == 3 || (degenerate_ && failures_ > 0))
      Base::stop(degenerate_ ? Status::singular : Status::stagnated, argument);
    else if (this->steps_left() < needed + 1)
      Base::stop(Status::max_steps, argument);
    return this->running();
  }

  bool checking_ = false;
  bool degenerate_ = false;  ///< the cycle has met a direction in which I - M does nothing
  int failures_ = 0;         ///< cycles in a row without progress

 private:
  static constexpr double growth = 1e8;  // of the residual, after which its recurrence is worth nothing

  T* candidate_ = nullptr;
  double lowest_ = 0.0;
  std::int64_t age_ = 0;  // steps since the lowest residual
};

/// GMRES without restart, from zero, each sample with a tolerance of its own. Statuses and residuals are
/// those of its recurrence: the true residual is not measured.
LinearSolution gmres_cycle(int columns, std::span<const double> tolerances, const StateMap& apply,
                           const Tensor& b);

/// Runs the samples, each with `work_rows` rows of n for itself, until all have stopped.
template <class T, class Sample>
LinearSolution run_krylov(std::string_view name, PoolVector<Sample>& samples, std::int64_t work_rows,
                          const StateMap& apply, const Tensor& b) {
  const std::int64_t n = b.shape()[1], batch = b.shape()[0];
  LinearSolution solution{Tensor::zeros(b.shape(), b.dtype()), {}, {}, 0, {}};
  Tensor argument = Tensor::empty(b.shape(), b.dtype());
  Tensor work = Tensor::empty({batch, work_rows, n}, b.dtype());
  PoolVector<char> active(static_cast<std::size_t>(batch), 1);

  const auto for_running = [&](auto step) {
    T* argument_data = argument.mutable_data<T>();
    vec::for_active(active, n * work_rows, [&](std::int64_t s) { step(s, argument_data + s * n); });
    for (std::size_t s = 0; s < samples.size(); ++s) active[s] = samples[s].running();
    return std::find(active.begin(), active.end(), 1) != active.end();
  };
  bool running = for_running([&, b_data = b.data<T>(), work_data = work.mutable_data<T>(),
                              x_data = solution.x.mutable_data<T>()](std::int64_t s, T* row) {
    samples[static_cast<std::size_t>(s)].start(b_data + s * n, work_data + s * work_rows * n, x_data + s * n,
                                               row);
  });
  while (running) {
    const Tensor product = apply(argument, active);
    check_map(name, argument, product);
    ++solution.evaluations;
    running = for_running([&, data = product.data<T>()](std::int64_t s, T* row) {
      samples[static_cast<std::size_t>(s)].advance(data + s * n, row);
    });
  }
  for (const auto& sample : samples) {
    solution.status.push_back(sample.status());
    solution.residual.push_back(sample.residual());
    solution.applications.push_back(sample.steps());
  }
  return solution;
}

}  // namespace banach
