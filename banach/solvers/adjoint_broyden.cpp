#include <banach/solvers/check.hpp>
#include <banach/solvers/low_rank.hpp>
#include <banach/solvers/safeguard.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// The step is P g with g = f(z) - z and P an estimate of (I - J)^-1. With sigma = g and b = P^T (I - J)^T
// sigma, the update of B = P^-1 is, by the formula of Sherman and Morrison,
//   P <- P - (P sigma) v^T,   v = (b - sigma) / (b^T sigma).
template <class T>
class AdjointBroydenStepper final : public Stepper {
 public:
  AdjointBroydenStepper(const AdjointBroyden& options, const FixedPointProblem& problem, std::int64_t batch,
                        std::int64_t n, DType dtype)
      : options_(options),
        problem_(&problem),
        n_(n),
        inverse_(batch, options.memory, n, dtype),
        products_(static_cast<std::size_t>(batch), 0),
        guard_(batch, n, dtype,
               {.growth = 100.0, .patience = 2 * options.memory, .restarts = LowRankInverse<T>::no_picard}) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    Tensor g = Tensor::zeros(z.shape(), z.dtype());  // a row of zeros asks for nothing
    T* g_data = g.mutable_data<T>();
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    vec::for_active(active, n_, [&](std::int64_t s) {
      vec::subtract(f_data + s * n_, z_data + s * n_, g_data + s * n_, n_);
    });
    const Tensor pulled = pull(z, g);
    const T *jt_data = pulled.data<T>(), *residual = g.data<T>();
    T* out = next.mutable_data<T>();
    vec::for_active(
        active, n_ * 8, [&] { return PoolVector<T>(static_cast<std::size_t>(n_)); },
        [&](std::int64_t s, PoolVector<T>& step) {
          ++products_[static_cast<std::size_t>(s)];
          const std::int64_t row = s * n_;
          propose(s, z_data + row, f_data + row, residual + row, jt_data + row, out + row, step.data());
        });
  }

  StepInfo info(std::int64_t sample) const override {
    return {.products = products_[static_cast<std::size_t>(sample)]};
  }
  std::int64_t history_bytes() const override { return inverse_.bytes() + guard_.bytes(); }
  std::optional<InverseEstimate> inverse() override { return inverse_.take(); }

 private:
  // J^T g at z.
  Tensor pull(const Tensor& z, const Tensor& g) const {
    const Linearization at = problem_->linearize(z);
    if (!at.vjp) fail<ValueError>(AdjointBroyden::name, "linearize must give a vjp: it is empty");
    const Tensor pulled = at.vjp(g);
    check_map(AdjointBroyden::name, g, pulled);
    return pulled;
  }

  void propose(std::int64_t s, const T* z, const T* f, const T* g, const T* jt_g, T* next, T* step) {
    if (guard_.restart(s, z, f)) {
      inverse_.clear(s);
      return vec::damped_step(z, f, options_.damping, next, n_);
    }
    if (inverse_.full(s)) inverse_.clear(s);
    inverse_.apply(s, g, step);
    update(s, f, g, jt_g, step);
    simd::history<T>().combine(z, step, 1, &options_.damping, n_, next);
    if (vec::all_finite(next, n_)) return;
    inverse_.clear(s);
    vec::damped_step(z, f, options_.damping, next, n_);
  }

  // Adds one pair, unless b and sigma = g are nearly orthogonal, and brings step = P g up to date.
  void update(std::int64_t s, const T* f, const T* g, const T* jt_g, T* step) {
    if (vec::is_rounding(g, f, n_)) return;
    T *u = inverse_.new_u(s), *v = inverse_.new_v(s);
    vec::subtract(g, jt_g, u, n_);  // (I - J)^T sigma
    inverse_.apply_transposed(s, u, v);
    const double pivot = inverse_.dot(v, g);
    if (!(std::abs(pivot) > inverse_.smallest_cosine * vec::norm(v, n_) * vec::norm(g, n_))) return;
    for (std::int64_t i = 0; i < n_; ++i) v[i] = static_cast<T>((v[i] - g[i]) / pivot);
    vec::copy(step, u, n_);
    vec::axpy(-inverse_.dot(v, g), u, step, n_);
    inverse_.keep(s);
  }

  AdjointBroyden options_;
  const FixedPointProblem* problem_;
  std::int64_t n_;
  LowRankInverse<T> inverse_;
  PoolVector<int> products_;
  Safeguard<T> guard_;
};

}  // namespace

std::unique_ptr<Stepper> AdjointBroyden::start(const FixedPointProblem& problem, std::int64_t batch,
                                               std::int64_t n, DType dtype) const {
  if (memory < 1) fail<ValueError>(name, fmt::format("memory must be at least 1: got {}", memory));
  check_positive(name, "damping", damping);
  if (!problem.linearize)
    fail<ValueError>(name, "the problem must have `linearize`, for products with J^T: it is empty");
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<AdjointBroydenStepper<decltype(zero)>>(*this, problem, batch, n, dtype);
  });
}

}  // namespace banach
