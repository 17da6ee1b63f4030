#include <banach/engine/blas.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/splitting.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <cmath>
#include <vector>

namespace banach {
namespace {

// out = x A^T for row-major x (batch, n) and A (n, n).
template <class T>
void rows_times_transposed(const Tensor& x, const T* a, Tensor& out) {
  const std::int64_t batch = x.shape()[0], n = x.shape()[1];
  blas::matmul(false, true, batch, n, n, T{1}, x.data<T>(), n, a, n, T{0}, out.mutable_data<T>(), n);
}

// The argument of relu at the last evaluation of the map: what the splittings go on from.
struct Preactivation {
  Tensor value;
};

// z <- relu(z + step (pre - z)).
class ForwardBackwardStepper final : public Stepper {
 public:
  ForwardBackwardStepper(const Preactivation& pre, double step) : pre_(pre), step_(step) {}

  void propose(const Tensor& z, const Tensor&, std::span<const char> active, Tensor& next) override {
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t n = z.shape()[1];
      const T step = static_cast<T>(step_), *at = z.data<T>(), *pre = pre_.value.data<T>();
      T* out = next.mutable_data<T>();
      vec::for_active(active, n, [&](std::int64_t s) {
        for (std::int64_t i = s * n; i < (s + 1) * n; ++i)
          out[i] = std::max(T{0}, at[i] + step * (pre[i] - at[i]));
      });
    });
  }

 private:
  const Preactivation& pre_;
  double step_;
};

template <class T>
class PeacemanRachfordStepper final : public Stepper {
 public:
  PeacemanRachfordStepper(const Tensor& W, const Tensor& c, const Tensor& z0, double step)
      : n_(W.shape()[0]), step_(step), c_(c), u_(z0.clone()), half_(z0.clone()), v_(z0.clone()) {
    // The inverse V of I + step (I - W): row j of V^T from unit vector j.
    std::vector<T> matrix(static_cast<std::size_t>(n_ * n_));
    const T *w = W.data<T>(), alpha = static_cast<T>(step);
    for (std::int64_t i = 0; i < n_; ++i)
      for (std::int64_t j = 0; j < n_; ++j)
        matrix[static_cast<std::size_t>(i * n_ + j)] = (i == j ? T{1} + alpha : T{0}) - alpha * w[i * n_ + j];
    std::vector<int> pivots(static_cast<std::size_t>(n_));
    inverse_transposed_ = Tensor::eye(n_, W.dtype());
    if (blas::lu_factor(n_, matrix.data(), pivots.data()) != 0)
      fail<ValueError>(PeacemanRachford::name,
                       "I - W must be monotone: the matrix I + step (I - W) is singular or not finite");
    blas::lu_solve(false, n_, n_, matrix.data(), pivots.data(), inverse_transposed_.mutable_data<T>());
  }

  void propose(const Tensor& z, const Tensor&, std::span<const char> active, Tensor& next) override {
    T *u = u_.mutable_data<T>(), *half = half_.mutable_data<T>(), *out = next.mutable_data<T>();
    const T *at = z.data<T>(), *c = c_.data<T>(), alpha = static_cast<T>(step_);
    const std::int64_t size = z.size();
    for (std::int64_t i = 0; i < size; ++i) half[i] = T{2} * at[i] - u[i] + alpha * c[i];
    blas::matmul(false, false, z.shape()[0], n_, n_, T{1}, half, n_, inverse_transposed_.data<T>(), n_, T{0},
                 v_.mutable_data<T>(), n_);
    const T* v = v_.data<T>();
    vec::for_active(active, n_, [&](std::int64_t s) {
      for (std::int64_t i = s * n_; i < (s + 1) * n_; ++i) {
        u[i] = T{2} * v[i] - (T{2} * at[i] - u[i]);
        out[i] = std::max(T{0}, u[i]);
      }
    });
  }

  std::int64_t history_bytes() const override {
    return (u_.size() + half_.size() + v_.size() + inverse_transposed_.size()) *
           static_cast<std::int64_t>(sizeof(T));
  }

 private:
  std::int64_t n_;
  double step_;
  Tensor c_, u_, half_, v_, inverse_transposed_;
};

// m / L^2 for I - W.
template <class T>
double forward_backward_step(const Tensor& W) {
  const std::int64_t n = W.shape()[0];
  const T* w = W.data<T>();
  std::vector<double> symmetric(static_cast<std::size_t>(n * n)), whole(symmetric.size());
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      const double one = i == j ? 1.0 : 0.0, a = one - static_cast<double>(w[i * n + j]),
                   b = one - static_cast<double>(w[j * n + i]);
      whole[static_cast<std::size_t>(i * n + j)] = a;
      symmetric[static_cast<std::size_t>(i * n + j)] = 0.5 * (a + b);
    }
  std::vector<double> values(static_cast<std::size_t>(n)), singular(values.size());
  if (blas::symmetric_eigen(n, symmetric.data(), values.data(), false) != 0 ||
      blas::singular_values(n, n, whole.data(), singular.data()) != 0)
    fail<ValueError>(ForwardBackward::name, "W must be finite");
  if (!(values.front() > 0.0))
    fail<ValueError>(
        ForwardBackward::name,
        fmt::format(
            "I - W must be strongly monotone: the smallest eigenvalue of its symmetric part is {:.3g}",
            values.front()));
  return values.front() / (singular.front() * singular.front());
}

struct Start {
  const Tensor &W, &c, &z0;
  const Preactivation& pre;

  std::unique_ptr<Stepper> operator()(const ForwardBackward& method) const {
    if (method.step) check_positive(method.name, "step", *method.step);
    const double step = dispatch_floating(W.dtype(), [&](auto zero) {
      return method.step ? *method.step : forward_backward_step<decltype(zero)>(W);
    });
    return std::make_unique<ForwardBackwardStepper>(pre, step);
  }
  std::unique_ptr<Stepper> operator()(const PeacemanRachford& method) const {
    check_positive(method.name, "step", method.step);
    return dispatch_floating(W.dtype(), [&](auto zero) -> std::unique_ptr<Stepper> {
      return std::make_unique<PeacemanRachfordStepper<decltype(zero)>>(W, c, z0, method.step);
    });
  }
};

// A splitting in the place of a solver of the one loop.
struct SplittingSolver {
  const Splitting* splitting;
  Start begin;
  static constexpr std::string_view name = "splitting";
  std::unique_ptr<Stepper> start(std::int64_t, std::int64_t, DType) const {
    return std::visit(begin, *splitting);
  }
};

}  // namespace

FixedPointSolution solve_splitting(const Splitting& splitting, const Tensor& W, const Tensor& c,
                                   const Tensor& z0, const StopOptions& options) {
  constexpr std::string_view op = "splitting";
  check_state(op, "z0", z0);
  check_map(op, z0, c);
  const std::int64_t n = z0.shape()[1];
  if (!(W.shape() == Shape{n, n}))
    fail<ShapeError>(op, fmt::format("W must be ({0},{0}), as the state has {0} elements: got {1}", n,
                                     W.shape().to_string()));
  if (W.dtype() != z0.dtype())
    fail<DTypeError>(
        op, fmt::format("W and z0 must have one dtype: got {} and {}", name(W.dtype()), name(z0.dtype())));

  Preactivation pre{Tensor::empty(z0.shape(), z0.dtype())};
  const auto map = [&](const Tensor& z) {
    Tensor fz = Tensor::empty(z.shape(), z.dtype());
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      rows_times_transposed(z, W.data<T>(), pre.value);
      T *p = pre.value.mutable_data<T>(), *f = fz.mutable_data<T>();
      const T* shift = c.data<T>();
      for (std::int64_t i = 0; i < z.size(); ++i) {
        p[i] += shift[i];
        f[i] = std::max(T{0}, p[i]);
        if (std::isnan(p[i])) f[i] = p[i];
      }
    });
    return fz;
  };
  FixedPointSolution solution =
      solve_fixed_point(SplittingSolver{&splitting, {W, c, z0, pre}}, std::ref(map), z0, options);
  solution.report.solver = std::visit([](const auto& method) { return method.name; }, splitting);
  return solution;
}

}  // namespace banach
