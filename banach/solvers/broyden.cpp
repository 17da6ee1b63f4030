#include <banach/solvers/check.hpp>
#include <banach/solvers/low_rank.hpp>
#include <banach/solvers/safeguard.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// The inverse Jacobian of g(z) = f(z) - z is kept as H = -I + sum_i u_i v_i^T. After a step dz that changed g
// by dg,
//   H <- H + (dz - H dg) (dz^T H) / (dz^T H dg)
// makes H dg = dz (Broyden 1965, by the formula of Sherman and Morrison). The next step is -H g. H dg is a
// difference of the H g that the steps need anyway, which leaves two products with the memory a step.
template <class T>
class BroydenStepper final : public Stepper {
 public:
  BroydenStepper(const Broyden& options, std::int64_t batch, std::int64_t n, DType dtype)
      : options_(options),
        n_(n),
        started_(static_cast<std::size_t>(batch), 0),
        inverse_(batch, options.memory, n, dtype),
        last_(Tensor::empty({batch, 3, n}, dtype)),
        last_data_(last_.mutable_data<T>()),
        guard_(batch, n, dtype,
               {.growth = 100.0, .patience = 2 * options.memory, .restarts = LowRankInverse<T>::no_picard}) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_ * 8,
                    [&](std::int64_t s) { propose(s, z_data + s * n_, f_data + s * n_, out + s * n_); });
  }

  std::int64_t history_bytes() const override {
    return inverse_.bytes() + last_.size() * static_cast<std::int64_t>(sizeof(T)) + guard_.bytes();
  }
  std::optional<InverseEstimate> inverse() override { return inverse_.take(); }

 private:
  void propose(std::int64_t s, const T* z, const T* f, T* next) {
    char& started = started_[static_cast<std::size_t>(s)];  // the last z, g and H g are known
    T *last_z = last_data_ + 3 * s * n_, *last_g = last_z + n_, *last_hg = last_g + n_;
    if (guard_.restart(s, z, f)) forget(s);

    PoolVector<T> work(static_cast<std::size_t>(2 * n_));
    T *g = work.data(), *hg = g + n_;
    vec::subtract(f, z, g, n_);
    if (inverse_.full(s)) {  // without its first updates the others would be worth less than none
      inverse_.clear(s);
      simd::kernels<T>().neg(last_g, last_hg, n_);
    }
    inverse_.apply(s, g, hg);
    if (started) {
      T *dz = last_z, *dg = last_g, *hdg = last_hg;
      vec::subtract(z, last_z, dz, n_);
      vec::subtract(g, last_g, dg, n_);
      vec::subtract(hg, last_hg, hdg, n_);
      if (!vec::is_rounding(dg, f, n_)) update(s, dz, dg, hdg, g, hg);
    }
    for (std::int64_t i = 0; i < n_; ++i) next[i] = z[i] - static_cast<T>(options_.damping) * hg[i];
    if (!vec::all_finite(next, n_)) {
      inverse_.clear(s);
      simd::kernels<T>().neg(g, hg, n_);
      vec::damped_step(z, f, options_.damping, next, n_);
    }
    vec::copy(z, last_z, n_);
    vec::copy(g, last_g, n_);
    vec::copy(hg, last_hg, n_);
    started = 1;
  }

  void forget(std::int64_t s) {
    inverse_.clear(s);
    started_[static_cast<std::size_t>(s)] = 0;
  }

  // Adds one pair (u, v), unless H^T dz and dg are nearly orthogonal, and brings hg = H g up to date.
  void update(std::int64_t s, const T* dz, const T* dg, const T* hdg, const T* g, T* hg) {
    T *u = inverse_.new_u(s), *v = inverse_.new_v(s);
    inverse_.apply_transposed(s, dz, v);
    const double pivot = inverse_.dot(v, dg);
    if (!(std::abs(pivot) > inverse_.smallest_cosine * vec::norm(v, n_) * vec::norm(dg, n_))) return;
    for (std::int64_t i = 0; i < n_; ++i) u[i] = static_cast<T>((dz[i] - hdg[i]) / pivot);
    vec::axpy(inverse_.dot(v, g), u, hg, n_);
    inverse_.keep(s);
  }

  Broyden options_;
  std::int64_t n_;
  PoolVector<char> started_;
  LowRankInverse<T> inverse_;
  Tensor last_;
  T* last_data_;
  Safeguard<T> guard_;
};

}  // namespace

std::unique_ptr<Stepper> Broyden::start(std::int64_t batch, std::int64_t n, DType dtype) const {
  if (memory < 1) fail<ValueError>(name, fmt::format("memory must be at least 1: got {}", memory));
  check_positive(name, "damping", damping);
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<BroydenStepper<decltype(zero)>>(*this, batch, n, dtype);
  });
}

}  // namespace banach
