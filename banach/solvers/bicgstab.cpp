#include <banach/engine/random.hpp>
#include <banach/solvers/krylov.hpp>

namespace banach {
namespace {

// With A = I - M, residual r, direction p and shadow residual h, a step is
//   v = A p,  alpha = h^T r / h^T v,  s = r - alpha v,  t = A s,  r' = s - omega t,
//   beta = (h^T r' / h^T r) (alpha / omega),  p' = r' + beta (p - omega v).
// omega minimises ||s - omega t||, but where t and s are nearly orthogonal it is larger, since the next beta
// divides by it.
template <class T>
class BiCgStabSample : public RestartedSample<T> {
 public:
  static constexpr std::int64_t work_rows = 7;

  BiCgStabSample(const BiCgStab& options, std::int64_t n)
      : RestartedSample<T>(n, options.max_steps, options.tolerance) {}

  void start(const T* b, T* work, T* x, T* argument) {
    T** const rows[] = {&candidate_, &iterate_, &r_, &shadow_, &p_, &v_, &t_};
    for (T** row : rows) {
      *row = work;
      work += n_;
    }
    if (!open(b, x, argument)) return;
    if (steps_left() < 3) return stop(Status::max_steps, argument);
    vec::copy(b, r_, n_);
    begin(argument);
  }

  void advance(const T* product, T* argument) {
    if (!take(product, argument)) return;
    if (checking_) {
      if (finish_cycle(product, argument, r_, 2)) begin(argument);
    } else if (stabilising_) {
      stabilise(product, argument);
    } else {
      step(product, argument);
    }
  }

 private:
  using Base = RestartedSample<T>;
  using Base::checking_, Base::degenerate_, Base::end_cycle, Base::epsilon, Base::failures_,
      Base::finish_cycle, Base::n_, Base::open, Base::record, Base::scaled_dot, Base::steps_left, Base::stop,
      Base::take, Base::x_;

  // A cycle: from the answer so far, whose residual stands in r_.
  void begin(T* argument) {
    const double residual = vec::norm(r_, n_);
    Base::begin_cycle(residual, candidate_);
    vec::copy(x_, iterate_, n_);
    vec::copy(r_, p_, n_);
    if (failures_ == 0)  // of unit length, as a product of two large vectors may overflow
      for (std::int64_t i = 0; i < n_; ++i)
        shadow_[i] = static_cast<T>(static_cast<double>(r_[i]) / residual);
    else
      Random(static_cast<std::uint64_t>(failures_)).fill_normal(shadow_, n_);
    rho_ = vec::dot(shadow_, r_, n_);
    stabilising_ = false;
    vec::copy(p_, argument, n_);
  }

  // v = A p, and half of the step.
  void step(const T* product, T* argument) {
    vec::subtract(p_, product, v_, n_);
    if (nothing(v_, p_)) return end_cycle(argument);
    const double pivot = vec::dot(shadow_, v_, n_);
    if (lost(pivot, shadow_, v_) || lost(rho_, shadow_, r_)) return end_cycle(argument);
    alpha_ = rho_ / pivot;
    vec::axpy(alpha_, p_, iterate_, n_);
    vec::axpy(-alpha_, v_, r_, n_);
    if (record(iterate_, vec::norm(r_, n_), 1)) return end_cycle(argument);
    stabilising_ = true;
    vec::copy(r_, argument, n_);
  }

  // t = A s, where s stands in r_, and the other half.
  void stabilise(const T* product, T* argument) {
    vec::subtract(r_, product, t_, n_);
    if (nothing(t_, r_)) return end_cycle(argument);
    const double s_norm = vec::norm(r_, n_), t_norm = vec::norm(t_, n_);
    const double cosine = scaled_dot(t_, t_norm, r_, s_norm);
    const double omega = std::copysign(std::max(std::abs(cosine), 0.7), cosine) * s_norm / t_norm;
    vec::axpy(omega, r_, iterate_, n_);
    vec::axpy(-omega, t_, r_, n_);
    if (record(iterate_, vec::norm(r_, n_), 2)) return end_cycle(argument);

    const double rho = vec::dot(shadow_, r_, n_), beta = rho / rho_ * (alpha_ / omega);
    rho_ = rho;
    vec::axpy(-omega, v_, p_, n_);
    for (std::int64_t i = 0; i < n_; ++i)
      p_[i] = static_cast<T>(static_cast<double>(r_[i]) + beta * static_cast<double>(p_[i]));
    stabilising_ = false;
    if (!vec::all_finite(p_, n_)) return end_cycle(argument);
    vec::copy(p_, argument, n_);
  }

  // Whether the image of a vector is rounding.
  bool nothing(const T* image, const T* vector) {
    const double tiny = 4.0 * std::sqrt(static_cast<double>(n_)) * epsilon;
    const bool zero = vec::norm(image, n_) <= tiny * vec::norm(vector, n_);
    degenerate_ = degenerate_ || zero;
    return zero;
  }

  bool lost(double product, const T* a, const T* b) const {
    return !(std::abs(product) > epsilon * vec::norm(a, n_) * vec::norm(b, n_));
  }

  T *candidate_ = nullptr, *iterate_ = nullptr, *r_ = nullptr, *shadow_ = nullptr, *p_ = nullptr,
    *v_ = nullptr, *t_ = nullptr;
  double rho_ = 0.0, alpha_ = 0.0;
  bool stabilising_ = false;
};

}  // namespace

void check(const BiCgStab& o) { check_budget(BiCgStab::name, o.max_steps, o.tolerance); }

LinearSolution solve_linear(const BiCgStab& solver, const StateMap& apply, const Tensor& b) {
  check(solver);
  check_state(BiCgStab::name, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) {
    using Sample = BiCgStabSample<decltype(zero)>;
    PoolVector<Sample> samples(static_cast<std::size_t>(b.shape()[0]), Sample(solver, b.shape()[1]));
    return run_krylov<decltype(zero)>(BiCgStab::name, samples, Sample::work_rows, apply, b);
  });
}

}  // namespace banach
