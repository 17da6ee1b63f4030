#include <banach/solvers/krylov.hpp>

namespace banach {
namespace {

// With A = I - M, residual r and direction p, a step is
//   alpha = r^T r / p^T A p,  x' = x + alpha p,  r' = r - alpha A p,  p' = r' + (r'^T r' / r^T r) p.
template <class T>
class CgSample : public RestartedSample<T> {
 public:
  static constexpr std::int64_t work_rows = 5;

  CgSample(const Cg& options, std::int64_t n) : RestartedSample<T>(n, options.max_steps, options.tolerance) {}

  void start(const T* b, T* work, T* x, T* argument) {
    T** const rows[] = {&candidate_, &iterate_, &r_, &p_, &v_};
    for (T** row : rows) {
      *row = work;
      work += n_;
    }
    if (!open(b, x, argument)) return;
    vec::copy(b, r_, n_);
    begin(argument);
  }

  void advance(const T* product, T* argument) {
    if (!take(product, argument)) return;
    if (!checking_) return step(product, argument);
    const bool more = finish_cycle(product, argument, r_, 1);
    if (indefinite_ && this->status() != Status::converged && this->status() != Status::non_finite)
      stop(Status::indefinite, argument);
    else if (more)
      begin(argument);
  }

 private:
  using Base = RestartedSample<T>;
  using Base::checking_, Base::degenerate_, Base::end_cycle, Base::epsilon, Base::finish_cycle, Base::n_,
      Base::open, Base::record, Base::scaled_dot, Base::stop, Base::take, Base::x_;

  // A cycle: from the answer so far, whose residual stands in r_.
  void begin(T* argument) {
    r_norm_ = vec::norm(r_, n_);
    Base::begin_cycle(r_norm_, candidate_);
    vec::copy(x_, iterate_, n_);
    vec::copy(r_, p_, n_);
    vec::copy(p_, argument, n_);
  }

  void step(const T* product, T* argument) {
    vec::subtract(p_, product, v_, n_);
    // Scaled, since the squares of large or small vectors may leave the range of numbers.
    const double p_norm = vec::norm(p_, n_), v_norm = vec::norm(v_, n_);
    const double curvature = scaled_dot(p_, p_norm, v_, p_norm), noise = std::max(1.0, v_norm / p_norm);
    degenerate_ = std::abs(curvature) <= 4.0 * epsilon * noise;
    indefinite_ = !degenerate_ && curvature < 0.0;
    if (degenerate_ || indefinite_) return end_cycle(argument);

    const double size = r_norm_ / p_norm, alpha = size * size / curvature;
    vec::axpy(alpha, p_, iterate_, n_);
    vec::axpy(-alpha, v_, r_, n_);
    const double r_norm = vec::norm(r_, n_);
    if (record(iterate_, r_norm, 1)) return end_cycle(argument);
    const double beta = (r_norm / r_norm_) * (r_norm / r_norm_);
    r_norm_ = r_norm;
    for (std::int64_t i = 0; i < n_; ++i)
      p_[i] = static_cast<T>(static_cast<double>(r_[i]) + beta * static_cast<double>(p_[i]));
    vec::copy(p_, argument, n_);
  }

  T *candidate_ = nullptr, *iterate_ = nullptr, *r_ = nullptr, *p_ = nullptr, *v_ = nullptr;
  double r_norm_ = 0.0;
  bool indefinite_ = false;
};

}  // namespace

void check(const Cg& o) { check_budget(Cg::name, o.max_steps, o.tolerance); }

LinearSolution solve_linear(const Cg& solver, const StateMap& apply, const Tensor& b) {
  check(solver);
  check_state(Cg::name, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) {
    using Sample = CgSample<decltype(zero)>;
    PoolVector<Sample> samples(static_cast<std::size_t>(b.shape()[0]), Sample(solver, b.shape()[1]));
    return run_krylov<decltype(zero)>(Cg::name, samples, Sample::work_rows, apply, b);
  });
}

}  // namespace banach
