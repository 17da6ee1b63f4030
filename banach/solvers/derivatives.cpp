#include <banach/solvers/check.hpp>
#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

// v -> (f(z + h v) - f(z)) / h, with an h for each sample.
template <class T>
Tensor difference_quotient(std::string_view name, const StateMap& f, const Tensor& z, const Tensor& fz,
                           const Tensor& v) {
  const std::int64_t batch = z.shape()[0], n = z.shape()[1];
  Tensor moved = z.clone();
  PoolVector<double> h(static_cast<std::size_t>(batch), 0.0);
  T* to = moved.mutable_data<T>();
  for (std::int64_t s = 0; s < batch; ++s) {
    const T *z_row = z.data<T>() + s * n, *v_row = v.data<T>() + s * n;
    const double length = vec::norm(v_row, n), residual = vec::distance(fz.data<T>() + s * n, z_row, n);
    if (!(length > 0.0 && std::isfinite(length))) continue;
    double size = std::max(vec::norm(z_row, n), std::min(1.0, residual));
    if (!(size > 0.0)) size = 1.0;
    double& step = h[static_cast<std::size_t>(s)];
    step = std::sqrt(static_cast<double>(std::numeric_limits<T>::epsilon())) * size / length;
    vec::axpy(step, v_row, to + s * n, n);
  }
  Tensor quotient = f(moved);
  check_map(name, moved, quotient);
  T* out = quotient.mutable_data<T>();
  for (std::int64_t s = 0; s < batch; ++s) {
    const double step = h[static_cast<std::size_t>(s)];
    for (std::int64_t i = s * n; i < (s + 1) * n; ++i)
      out[i] =
          step == 0.0
              ? T{0}
              : static_cast<T>((static_cast<double>(out[i]) - static_cast<double>(fz.data<T>()[i])) / step);
  }
  return quotient;
}

// The matrix of a product, (batch, n, n): row j of a sample is its product with the unit vector e_j.
template <class T>
PoolVector<double> matrix_of(std::string_view name, const StateMap& product, const Tensor& like) {
  const std::int64_t batch = like.shape()[0], n = like.shape()[1];
  PoolVector<double> rows(static_cast<std::size_t>(batch * n * n));
  for (std::int64_t j = 0; j < n; ++j) {
    Tensor unit = Tensor::zeros(like.shape(), like.dtype());
    T* data = unit.mutable_data<T>();
    for (std::int64_t s = 0; s < batch; ++s) data[s * n + j] = T{1};
    const Tensor image = product(unit);
    check_map(name, unit, image);
    for (std::int64_t s = 0; s < batch; ++s)
      std::copy_n(image.data<T>() + s * n, n, rows.begin() + (s * n + j) * n);
  }
  return rows;
}

}  // namespace

Linearization Derivatives::at(const Tensor& z, const Tensor& fz) const {
  if (!differences()) {
    Linearization given = problem_->linearize(z);
    if (!given.jvp && !given.vjp) fail<ValueError>(name_, "linearize must give jvp or vjp: both are empty");
    return given;
  }
  return {.jvp = [this, z, fz](const Tensor& v) {
    return dispatch_floating(z.dtype(), [&](auto zero) {
      return difference_quotient<decltype(zero)>(name_, problem_->f, z, fz, v);
    });
  }};
}

PoolVector<double> Derivatives::identity_minus_jacobian(const Tensor& z, const Tensor& fz) const {
  const Linearization j = at(z, fz);
  const bool transposed = !j.vjp;  // products with J give its columns
  const std::int64_t batch = z.shape()[0], n = z.shape()[1];
  PoolVector<double> a = dispatch_floating(
      z.dtype(), [&](auto zero) { return matrix_of<decltype(zero)>(name_, transposed ? j.jvp : j.vjp, z); });
  for (std::int64_t s = 0; s < batch; ++s) {
    double* m = a.data() + s * n * n;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < i && transposed; ++k) std::swap(m[i * n + k], m[k * n + i]);
    for (std::int64_t i = 0; i < n * n; ++i) m[i] = -m[i];
    for (std::int64_t i = 0; i < n; ++i) m[i * n + i] += 1.0;
  }
  return a;
}

StateMap Derivatives::jvp_at(const Tensor& z, const Tensor& fz) const {
  const Linearization j = at(z, fz);
  if (j.jvp) return j.jvp;
  // Only transposed products: the whole matrix once.
  const std::int64_t batch = z.shape()[0], n = z.shape()[1];
  return dispatch_floating(z.dtype(), [&](auto zero) -> StateMap {
    using T = decltype(zero);
    return [batch, n, rows = matrix_of<T>(name_, j.vjp, z)](const Tensor& v) {
      Tensor out = Tensor::empty(v.shape(), v.dtype());
      T* to = out.mutable_data<T>();
      for (std::int64_t i = 0; i < batch * n; ++i) {
        double sum = 0.0;
        for (std::int64_t k = 0; k < n; ++k)
          sum += rows[static_cast<std::size_t>(i * n + k)] * static_cast<double>(v.data<T>()[i / n * n + k]);
        to[i] = static_cast<T>(sum);
      }
      return out;
    };
  });
}

}  // namespace banach
