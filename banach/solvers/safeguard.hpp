#pragma once
// Internal: what keeps a quasi-Newton solver from running away, or from wandering where Picard would
// converge.

#include <banach/engine/status.hpp>
#include <banach/engine/tensor.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {

struct SafeguardLimits {
  double growth;  ///< restart when the residual exceeds the smallest so far by more than this factor, ...
  int patience;   ///< ... or has not fallen below it for so many evaluations
  int restarts;   ///< in a row without success, after which only Picard steps are taken
};

/// Watches the samples of one solve. A sample in trouble forgets its history and goes on with a Picard step
/// from its best iterate; where f is a contraction, that step improves on it. A restart that leads to no
/// better iterate widens the limits of the next, as the way may lead over larger residuals. After too many of
/// those the sample takes plain Picard steps until its residual is a tenth, or until they run away: so it
/// converges where Picard does, but for detours longer than the stagnation window.
template <class T>
class Safeguard {
 public:
  Safeguard(std::int64_t batch, std::int64_t n, DType dtype, const SafeguardLimits& limits)
      : n_(n),
        limits_(limits),
        watches_(static_cast<std::size_t>(batch)),
        z_(Tensor::empty({batch, n}, dtype)),
        f_(Tensor::empty({batch, n}, dtype)),
        best_z_(z_.mutable_data<T>()),
        best_f_(f_.mutable_data<T>()) {}

  /// Takes in one iterate. True if the sample must forget its history and take a Picard step from z and f,
  /// which have been set to the best iterate where it must go back.
  bool restart(std::int64_t sample, const T*& z, const T*& f) {
    Watch& watch = watches_[static_cast<std::size_t>(sample)];
    T *best_z = best_z_ + sample * n_, *best_f = best_f_ + sample * n_;
    const double residual = vec::distance(f, z, n_);
    if (residual < watch.best) {
      watch.best = residual;
      watch.age = 0;
      if (watch.restarts < limits_.restarts || residual < 0.1 * watch.restarted_at) watch.restarts = 0;
      vec::copy(z, best_z, n_);
      vec::copy(f, best_f, n_);
    }
    const bool picard = watch.restarts >= limits_.restarts;
    if (picard && residual <= runaway * watch.best) return true;
    const double slack = std::exp2(watch.restarts);
    if (!picard && residual <= limits_.growth * slack * slack * watch.best &&
        ++watch.age <= limits_.patience * slack)
      return false;

    watch.restarts = picard ? 1 : watch.restarts + 1;
    watch.age = 0;
    watch.restarted_at = watch.best;
    z = best_z;
    f = best_f;
    return true;
  }

  std::int64_t bytes() const { return 2 * z_.size() * static_cast<std::int64_t>(sizeof(T)); }

 private:
  struct Watch {
    double best = std::numeric_limits<double>::infinity(), restarted_at = 0.0;  // residuals
    int age = 0;       // evaluations since the best, or since the last restart
    int restarts = 0;  // without success
  };

  static constexpr double runaway = 1e4;  // growth that ends a run of Picard steps

  std::int64_t n_;
  SafeguardLimits limits_;
  PoolVector<Watch> watches_;
  Tensor z_, f_;
  T *best_z_, *best_f_;
};

}  // namespace banach
