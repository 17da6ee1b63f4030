#include <banach/engine/blas.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/newton.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

// With B = A D^-1 = U S V^T and c = U^T g, the step is d = D^-1 V y with y_i = s_i c_i / (s_i^2 + mu), where
// mu >= 0 is such that ||y|| <= radius, and the model promises
//   ||g||^2 - ||g - A d||^2 = sum c_i^2 (1 - (mu / (s_i^2 + mu))^2).
template <class T>
class LevenbergMarquardtStepper final : public Stepper {
 public:
  LevenbergMarquardtStepper(const LevenbergMarquardt& options, const FixedPointProblem& problem,
                            std::int64_t batch, std::int64_t n, DType dtype)
      : options_(options),
        derivatives_(LevenbergMarquardt::name, problem),
        n_(n),
        z_(Tensor::zeros({batch, n}, dtype)),
        fz_(Tensor::zeros({batch, n}, dtype)),
        regions_(static_cast<std::size_t>(batch)),
        wanted_(static_cast<std::size_t>(batch)),
        vt_(static_cast<std::size_t>(batch * n * n)),
        vectors_(static_cast<std::size_t>(batch * 4 * n)) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T *base_z = z_.mutable_data<T>(), *base_f = fz_.mutable_data<T>();
    std::fill(wanted_.begin(), wanted_.end(), 0);
    vec::for_active(active, n_, [&](std::int64_t s) {
      const std::int64_t row = s * n_;
      wanted_[static_cast<std::size_t>(s)] = accepts(s, z_data + row, f_data + row);
      if (!wanted_[static_cast<std::size_t>(s)]) return;
      vec::copy(z_data + row, base_z + row, n_);
      vec::copy(f_data + row, base_f + row, n_);
    });
    if (std::find(wanted_.begin(), wanted_.end(), 1) != wanted_.end()) {
      PoolVector<double> a = derivatives_.identity_minus_jacobian(z_, fz_);
      vec::for_active(wanted_, n_ * n_ * n_, [&](std::int64_t s) {
        decompose(s, a.data() + s * n_ * n_, base_z + s * n_, base_f + s * n_);
      });
    }
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_ * n_, [&](std::int64_t s) { move(s, base_z + s * n_, out + s * n_); });
  }

  StepInfo info(std::int64_t s) const override { return regions_[static_cast<std::size_t>(s)].info; }

  std::int64_t history_bytes() const override {
    return 2 * z_.size() * static_cast<std::int64_t>(sizeof(T)) +
           static_cast<std::int64_t>((vt_.size() + vectors_.size()) * sizeof(double));
  }

 private:
  struct Region {
    double residual = 0.0, trial = 0.0;  // ||g|| at the iterate, and at the last trial
    double radius = 0.0, length = 0.0;   // of the trust region, and of the last step in it
    double promised = 0.0;               // fall of ||g||^2, relative to it
    bool started = false;
    StepInfo info;
  };
  struct Vectors {
    double *scale, *s, *c, *y;
  };

  Region& region(std::int64_t s) { return regions_[static_cast<std::size_t>(s)]; }
  Vectors vectors(std::int64_t s) {
    double* v = vectors_.data() + s * 4 * n_;
    return {v, v + n_, v + 2 * n_, v + 3 * n_};
  }

  // Takes in the point last proposed, and sets the radius. True if it is the iterate from now on.
  bool accepts(std::int64_t s, const T* z, const T* f) {
    Region& r = region(s);
    const double trial = r.trial = vec::all_finite(f, n_) ? vec::distance(f, z, n_) : infinity;
    const bool accepted = !r.started || (trial <= r.info.limit && trial < infinity);
    if (r.started) {
      const double quotient = trial / r.residual, gain = (1.0 - quotient * quotient) / r.promised;
      if (!(gain > 0.25))
        r.radius = std::clamp(shrink(quotient, r.promised), 0.1, 0.5) * r.length;
      else if (gain > 0.75)
        r.radius = std::max(r.radius, 2.0 * r.length);
    }
    if (accepted) r.residual = trial;
    return accepted;
  }

  // Where the parabola through ||g||^2 at both ends of the step, with the slope that the model promises at
  // its start, has its minimum.
  static double shrink(double quotient, double promised) {
    return quotient < infinity ? promised / (quotient * quotient - 1.0 + 2.0 * promised) : 0.1;
  }

  void decompose(std::int64_t s, double* a, const T* z, const T* f) {
    Region& r = region(s);
    r.info.products += static_cast<int>(n_);
    if (derivatives_.differences()) r.info.evaluations += static_cast<int>(n_);
    const Vectors v = vectors(s);
    for (std::int64_t j = 0; j < n_; ++j) {
      const double norm = vec::scaled_norm(n_, [&](std::int64_t i) { return a[i * n_ + j]; });
      if (!options_.scaled)
        v.scale[j] = 1.0;
      else if (!r.started)
        v.scale[j] = norm > 0.0 ? norm : 1.0;
      else
        v.scale[j] = std::max(v.scale[j], norm);
      for (std::int64_t i = 0; i < n_; ++i) a[i * n_ + j] /= v.scale[j];
    }
    if (!r.started) {
      const double size =
          vec::scaled_norm(n_, [&](std::int64_t i) { return v.scale[i] * static_cast<double>(z[i]); });
      const double least = options_.scaled ? r.residual : 0.0;
      r.radius = options_.radius * (size > least ? size : least > 0.0 ? least : 1.0);
      r.started = true;
    }
    PoolVector<double> u(static_cast<std::size_t>(n_ * n_));
    if (blas::svd(n_, n_, a, u.data(), v.s, vt_.data() + s * n_ * n_) != 0) {
      r.info.end = Status::non_finite;
      return;
    }
    r.info.amplification = v.s[n_ - 1] > tiny() * v.s[0] ? 1.0 / v.s[n_ - 1] : infinity;
    for (std::int64_t i = 0; i < n_; ++i) {
      v.c[i] = 0.0;
      for (std::int64_t k = 0; k < n_; ++k)
        v.c[i] += u[static_cast<std::size_t>(k * n_ + i)] *
                  ((static_cast<double>(f[k]) - static_cast<double>(z[k])) / r.residual);
    }
  }

  // ||y|| and its derivative for a given mu; singular values that are rounding have no share.
  std::pair<double, double> length(const Vectors& v, double g, double mu) const {
    double squares = 0.0, slope = 0.0;
    for (std::int64_t i = 0; i < n_; ++i) {
      const double pivot = v.s[i] * v.s[i] + mu;
      v.y[i] = v.s[i] > tiny() * v.s[0] ? g * v.c[i] * v.s[i] / pivot : 0.0;
      squares += v.y[i] * v.y[i];
      slope -= v.y[i] == 0.0 ? 0.0 : v.y[i] * v.y[i] / pivot;
    }
    const double norm = std::sqrt(squares);
    return {norm, norm > 0.0 ? slope / norm : 0.0};
  }

  // Newton's iteration for 1 / ||y(mu)|| = 1 / radius (Moré 1978, section 5), which is nearly linear in mu.
  double solve_region(const Vectors& v, double g, double radius) const {
    double mu = 0.0, low = 0.0;
    auto [norm, slope] = length(v, g, mu);
    if (norm <= radius) return norm;
    double high = infinity;
    for (int k = 0; k < 60 && std::abs(norm - radius) > 0.1 * radius; ++k) {
      (norm > radius ? low : high) = mu;
      mu -= (norm / radius) * (norm - radius) / slope;
      if (!(mu > low && mu < high)) mu = high < infinity ? 0.5 * (low + high) : 2.0 * low + v.s[0] * v.s[0];
      std::tie(norm, slope) = length(v, g, mu);
    }
    return norm;
  }

  void move(std::int64_t s, const T* base, T* out) {
    Region& r = region(s);
    vec::copy(base, out, n_);
    if (r.info.end) return;
    const Vectors v = vectors(s);
    r.length = solve_region(v, r.residual, r.radius);
    double left = 0.0;
    for (std::int64_t i = 0; i < n_; ++i) {
      const double rest = v.c[i] - v.s[i] * (v.y[i] / r.residual);
      left += rest * rest - v.c[i] * v.c[i];
    }
    r.promised = -left;
    const double* vt = vt_.data() + s * n_ * n_;
    for (std::int64_t j = 0; j < n_; ++j) {
      double d = 0.0;
      for (std::int64_t i = 0; i < n_; ++i) d += vt[i * n_ + j] * v.y[i];
      out[j] = static_cast<T>(static_cast<double>(base[j]) + d / v.scale[j]);
    }
    r.info.trial = true;
    r.info.step_length = vec::distance(out, base, n_);
    r.info.limit = r.residual * std::sqrt(1.0 - 1e-4 * r.promised);
    if (!(r.promised > 4.0 * std::numeric_limits<double>::epsilon() && r.info.step_length > 0.0))
      r.info.end = r.trial < infinity ? Status::stagnated : Status::non_finite;
  }

  double tiny() const { return static_cast<double>(n_) * std::numeric_limits<double>::epsilon(); }

  static constexpr double infinity = std::numeric_limits<double>::infinity();

  LevenbergMarquardt options_;
  Derivatives derivatives_;
  std::int64_t n_;
  Tensor z_, fz_;  // the iterates
  PoolVector<Region> regions_;
  PoolVector<char> wanted_;
  PoolVector<double> vt_, vectors_;  // of each sample, V^T; and D, S, c relative to ||g||, y
};

}  // namespace

std::unique_ptr<Stepper> LevenbergMarquardt::start(const FixedPointProblem& problem, std::int64_t batch,
                                                   std::int64_t n, DType dtype) const {
  check_positive(name, "radius", radius);
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<LevenbergMarquardtStepper<decltype(zero)>>(*this, problem, batch, n, dtype);
  });
}

}  // namespace banach
