#include <banach/solvers/check.hpp>
#include <banach/solvers/fixed_point.hpp>
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
        memory_(options.memory),
        n_(n),
        states_(static_cast<std::size_t>(batch)),
        u_(Tensor::empty({batch, memory_, n}, dtype)),
        v_(Tensor::empty({batch, memory_, n}, dtype)),
        last_(Tensor::empty({batch, 3, n}, dtype)),
        u_data_(u_.mutable_data<T>()),
        v_data_(v_.mutable_data<T>()),
        last_data_(last_.mutable_data<T>()),
        guard_(batch, n, dtype, {.growth = 100.0, .patience = 2 * memory_, .restarts = no_picard}) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_ * 8,
                    [&](std::int64_t s) { propose(s, z_data + s * n_, f_data + s * n_, out + s * n_); });
  }

  std::int64_t history_bytes() const override {
    return (2 * u_.size() + last_.size()) * static_cast<std::int64_t>(sizeof(T)) + guard_.bytes();
  }

 private:
  struct State {
    int count = 0;         // updates held
    bool started = false;  // the last z, g and H g are known
  };

  void propose(std::int64_t s, const T* z, const T* f, T* next) {
    State& state = states_[static_cast<std::size_t>(s)];
    T *u = u_data_ + s * memory_ * n_, *v = v_data_ + s * memory_ * n_;
    T *last_z = last_data_ + 3 * s * n_, *last_g = last_z + n_, *last_hg = last_g + n_;
    if (guard_.restart(s, z, f)) state = {};

    PoolVector<T> work(static_cast<std::size_t>(2 * n_));
    T *g = work.data(), *hg = g + n_;
    vec::subtract(f, z, g, n_);
    if (state.count == memory_) {  // without its first updates the others would be worth less than none
      state.count = 0;
      simd::kernels<T>().neg(last_g, last_hg, n_);
    }
    apply(u, v, state.count, g, hg);
    if (state.started) {
      T *dz = last_z, *dg = last_g, *hdg = last_hg;
      vec::subtract(z, last_z, dz, n_);
      vec::subtract(g, last_g, dg, n_);
      vec::subtract(hg, last_hg, hdg, n_);
      if (!vec::is_rounding(dg, f, n_)) update(state, dz, dg, hdg, u, v, g, hg);
    }
    for (std::int64_t i = 0; i < n_; ++i) next[i] = z[i] - static_cast<T>(options_.damping) * hg[i];
    if (!vec::all_finite(next, n_)) {
      state = {};
      simd::kernels<T>().neg(g, hg, n_);
      vec::damped_step(z, f, options_.damping, next, n_);
    }
    vec::copy(z, last_z, n_);
    vec::copy(g, last_g, n_);
    vec::copy(hg, last_hg, n_);
    state.started = true;
  }

  // out = H x; with u and v exchanged, H^T x.
  void apply(const T* u, const T* v, int count, const T* x, T* out) const {
    simd::kernels<T>().neg(x, out, n_);
    for (int k = 0; k < count; ++k) vec::axpy(dot(v + k * n_, x), u + k * n_, out, n_);
  }

  // Adds one pair (u, v), unless H^T dz and dg are nearly orthogonal, and brings hg = H g up to date.
  void update(State& state, const T* dz, const T* dg, const T* hdg, T* u, T* v, const T* g, T* hg) const {
    T *new_u = u + state.count * n_, *new_v = v + state.count * n_;
    apply(v, u, state.count, dz, new_v);
    const double pivot = dot(new_v, dg);
    if (!(std::abs(pivot) > smallest_cosine * vec::norm(new_v, n_) * vec::norm(dg, n_))) return;
    for (std::int64_t i = 0; i < n_; ++i) new_u[i] = static_cast<T>((dz[i] - hdg[i]) / pivot);
    vec::axpy(dot(new_v, g), new_u, hg, n_);
    ++state.count;
  }

  double dot(const T* a, const T* b) const { return static_cast<double>(simd::kernels<T>().dot(a, b, n_)); }

  static constexpr double smallest_cosine = 1e-4;
  static constexpr int no_picard = std::numeric_limits<int>::max();

  Broyden options_;
  int memory_;
  std::int64_t n_;
  PoolVector<State> states_;
  Tensor u_, v_, last_;
  T *u_data_, *v_data_, *last_data_;
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
