#include <banach/solvers/check.hpp>
#include <banach/solvers/low_rank.hpp>
#include <banach/solvers/safeguard.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// The step is P g with g = f(z) - z and P an estimate of (I - J)^-1. After a step dz that changed g by dg,
//   P <- P - u v^T,   v = P^T dz,   u = (dz + P dg) / v^T dg
// makes P dg = -dz (Broyden 1965, by the formula of Sherman and Morrison). P dg is a difference of the P g
// that the steps need anyway, which leaves two products with the memory a step.
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
    vec::for_active(
        active, n_ * 8, [&] { return PoolVector<T>(static_cast<std::size_t>(3 * n_)); },
        [&](std::int64_t s, PoolVector<T>& point) {
          propose(s, z_data + s * n_, f_data + s * n_, out + s * n_, point.data());
        });
  }

  std::int64_t history_bytes() const override {
    return inverse_.bytes() + last_.size() * static_cast<std::int64_t>(sizeof(T)) + guard_.bytes();
  }
  std::optional<InverseEstimate> inverse() override { return inverse_.take(); }

 private:
  // `point` takes z, g and P g.
  void propose(std::int64_t s, const T* z, const T* f, T* next, T* point) {
    char& started = started_[static_cast<std::size_t>(s)];  // the last point is known
    if (guard_.restart(s, z, f)) forget(s);

    T *g = point + n_, *step = g + n_, *last = last_data_ + 3 * s * n_;
    vec::copy(z, point, n_);
    vec::subtract(f, z, g, n_);
    if (inverse_.full(s)) {  // without its first updates the others would be worth less than none
      inverse_.clear(s);
      vec::copy(last + n_, last + 2 * n_, n_);
    }
    inverse_.apply(s, g, step);
    if (started) {
      vec::subtract(point, last, last, 3 * n_);
      const T *dz = last, *dg = last + n_, *change = last + 2 * n_;
      if (!vec::is_rounding(dg, f, n_)) update(s, dz, dg, change, g, step);
    }
    simd::history<T>().combine(z, step, 1, &options_.damping, n_, next);
    if (!vec::all_finite(next, n_)) {
      inverse_.clear(s);
      vec::copy(g, step, n_);
      vec::damped_step(z, f, options_.damping, next, n_);
    }
    vec::copy(point, last, 3 * n_);
    started = 1;
  }

  void forget(std::int64_t s) {
    inverse_.clear(s);
    started_[static_cast<std::size_t>(s)] = 0;
  }

  // Adds one pair (u, v), unless P^T dz and dg are nearly orthogonal, and brings step = P g up to date;
  // `change` is P dg. Of the pair, v is kept at length 1.
  void update(std::int64_t s, const T* dz, const T* dg, const T* change, const T* g, T* step) {
    T *u = inverse_.new_u(s), *v = inverse_.new_v(s);
    inverse_.apply_transposed(s, dz, v);
    vec::divide(v, vec::norm(v, n_), v, n_);
    const double pivot = inverse_.dot(v, dg);
    if (!(std::abs(pivot) > inverse_.smallest_cosine * vec::norm(dg, n_))) return;
    simd::kernels<T>().add.vv(dz, change, u, n_);
    vec::divide(u, pivot, u, n_);
    vec::axpy(-inverse_.dot(v, g), u, step, n_);
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
