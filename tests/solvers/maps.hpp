#pragma once
// Maps of the state with known behaviour, and the small dense algebra that the tests check against.

#include <banach/engine/blas.hpp>
#include <banach/engine/random.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <complex>
#include <vector>

namespace banach::test {

/// A square matrix of doubles, row-major.
struct Matrix {
  std::int64_t n = 0;
  std::vector<double> a;
  explicit Matrix(std::int64_t size) : n(size), a(static_cast<std::size_t>(size * size)) {}
  double& operator()(std::int64_t i, std::int64_t j) { return a[static_cast<std::size_t>(i * n + j)]; }
  double operator()(std::int64_t i, std::int64_t j) const { return a[static_cast<std::size_t>(i * n + j)]; }
};

inline Matrix scaled(Matrix m, double factor) {
  for (double& x : m.a) x *= factor;
  return m;
}

inline Matrix random_matrix(std::int64_t n, Random& random, double deviation = 1.0) {
  Matrix m(n);
  for (double& x : m.a) x = deviation * random.normal();
  return m;
}

inline double spectral_radius(Matrix m) {
  std::vector<std::complex<double>> values(static_cast<std::size_t>(m.n));
  REQUIRE(blas::eigenvalues(m.n, m.a.data(), values.data()) == 0);
  double radius = 0.0;
  for (const auto& value : values) radius = std::max(radius, std::abs(value));
  return radius;
}

/// A random matrix (complex spectrum, not normal) of the given spectral radius.
inline Matrix random_with_radius(std::int64_t n, double radius, Random& random) {
  const Matrix m = random_matrix(n, random);
  return scaled(m, radius / spectral_radius(m));
}

/// Random and orthogonal, by Gram and Schmidt, twice.
inline Matrix random_orthogonal(std::int64_t n, Random& random) {
  Matrix m = random_matrix(n, random);
  for (std::int64_t i = 0; i < n; ++i) {
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t k = 0; k < i; ++k) {
        double overlap = 0.0;
        for (std::int64_t j = 0; j < n; ++j) overlap += m(i, j) * m(k, j);
        for (std::int64_t j = 0; j < n; ++j) m(i, j) -= overlap * m(k, j);
      }
    double squares = 0.0;
    for (std::int64_t j = 0; j < n; ++j) squares += m(i, j) * m(i, j);
    for (std::int64_t j = 0; j < n; ++j) m(i, j) /= std::sqrt(squares);
  }
  return m;
}

/// x with (I - M) x = b, by LU.
inline std::vector<double> solve_identity_minus(const Matrix& m, std::vector<double> b) {
  Matrix a = scaled(m, -1.0);
  for (std::int64_t i = 0; i < m.n; ++i) a(i, i) += 1.0;
  std::vector<int> pivots(b.size());
  REQUIRE(blas::lu_factor(m.n, a.a.data(), pivots.data()) == 0);
  blas::lu_solve(false, m.n, 1, a.a.data(), pivots.data(), b.data());
  return b;
}

inline Tensor random_state(std::int64_t batch, std::int64_t n, DType dtype, Random& random) {
  return normal(random, {batch, n}).to(dtype);
}

/// A map given by what it does to one row; `row` is called as row(sample, in, out, n).
template <class Row>
StateMap per_sample(Row row) {
  return [row](const Tensor& z) {
    Tensor out = Tensor::empty(z.shape(), z.dtype());
    const std::int64_t batch = z.shape()[0], n = z.shape()[1];
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const T* in = z.data<T>();
      T* to = out.mutable_data<T>();
      for (std::int64_t s = 0; s < batch; ++s) row(s, in + s * n, to + s * n, n);
    });
    return out;
  };
}

/// z -> phi(z) for every element.
template <class Phi>
StateMap elementwise(Phi phi) {
  return per_sample([phi](std::int64_t, const auto* in, auto* out, std::int64_t n) {
    using T = std::decay_t<decltype(*in)>;
    for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(phi(static_cast<double>(in[i])));
  });
}

/// z -> phi(W z + u), with one u for each sample; sums in double.
template <class Phi>
StateMap layer(const Matrix& w, const Tensor& u, Phi phi) {
  return per_sample(
      [w, shift = u.to(DType::f64), phi](std::int64_t s, const auto* in, auto* out, std::int64_t n) {
        using T = std::decay_t<decltype(*in)>;
        const double* b = shift.data<double>() + s * n;
        for (std::int64_t i = 0; i < n; ++i) {
          double sum = b[i];
          for (std::int64_t j = 0; j < n; ++j) sum += w(i, j) * static_cast<double>(in[j]);
          out[i] = static_cast<T>(phi(sum));
        }
      });
}
inline StateMap linear_map(const Matrix& w, const Tensor& u) {
  return layer(w, u, [](double x) { return x; });
}
inline StateMap tanh_map(const Matrix& w, const Tensor& u) {
  return layer(w, u, [](double x) { return std::tanh(x); });
}

/// Seven rotations in seven planes about the point (1, 2, ..., 14): an isometry, so that Picard never gets
/// nearer.
inline StateMap seven_rotations() {
  return per_sample([](std::int64_t, const auto* in, auto* out, std::int64_t) {
    using T = std::decay_t<decltype(*in)>;
    const double divisors[] = {2, 3, 4, 5, 6, 1.27, 1.73};
    for (int p = 0; p < 7; ++p) {
      const double angle = std::acos(-1.0) / divisors[p], c = std::cos(angle), s = std::sin(angle);
      const double cx = 2 * p + 1, cy = 2 * p + 2;
      const double x = static_cast<double>(in[2 * p]) - cx, y = static_cast<double>(in[2 * p + 1]) - cy;
      out[2 * p] = static_cast<T>(cx + c * x - s * y);
      out[2 * p + 1] = static_cast<T>(cy + s * x + c * y);
    }
  });
}

}  // namespace banach::test
