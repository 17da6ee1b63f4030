// Arnoldi's estimate against matrices of known spectrum.
#include "maps.hpp"

#include <banach/engine/error.hpp>
#include <banach/solvers/arnoldi.hpp>
#include <tests/threads.hpp>

#include <limits>

using namespace banach;
using test::Matrix;

namespace {

/// One matrix a sample.
StateMap products_with(std::vector<Matrix> matrices) {
  return [matrices](const Tensor& x) {
    const std::int64_t n = x.size(1);
    Tensor y = Tensor::zeros(x.shape(), x.dtype());
    dispatch_floating(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* out = y.mutable_data<T>();
      for (std::int64_t s = 0; s < x.size(0); ++s)
        for (std::int64_t i = 0; i < n; ++i)
          for (std::int64_t j = 0; j < n; ++j)
            out[s * n + i] +=
                static_cast<T>(matrices[static_cast<std::size_t>(s)](i, j)) * x.data<T>()[s * n + j];
    });
    return y;
  };
}

PoolVector<SpectralRadius> estimate(const std::vector<Matrix>& matrices, const ArnoldiOptions& options = {},
                                    DType dtype = DType::f64) {
  return arnoldi_spectral_radius(products_with(matrices), static_cast<std::int64_t>(matrices.size()),
                                 matrices[0].n, dtype, options);
}

Matrix rotation(double size, double angle) {
  Matrix m(2);
  m(0, 0) = m(1, 1) = size * std::cos(angle);
  m(0, 1) = -size * std::sin(angle);
  m(1, 0) = size * std::sin(angle);
  return m;
}

}  // namespace

TEST_CASE("rotations: a complex pair, one matrix a sample", "[arnoldi]") {
  const auto found = estimate({rotation(0.5, 0.7), rotation(1.5, 2.0), rotation(0.0, 1.0)});
  REQUIRE(found.size() == 3);
  CHECK(found[0].radius() == Approx(0.5).epsilon(1e-13));
  CHECK(std::abs(found[0].eigenvalue - std::polar(0.5, 0.7)) < 1e-13);
  CHECK_FALSE(found[0].unstable());
  CHECK(std::abs(found[1].eigenvalue - std::polar(1.5, 2.0)) < 1e-13);
  CHECK(found[1].unstable());
  CHECK(found[2].radius() == 0.0);
  for (const SpectralRadius& one : found) CHECK(one.residual == 0.0);
}

TEST_CASE("as many products as unknowns give the radius of any matrix", "[arnoldi]") {
  Random random(1);
  for (const std::int64_t n : {1, 2, 5, 20}) {
    std::vector<Matrix> matrices;
    for (const double radius : {0.3, 0.99, 4.0})
      matrices.push_back(test::random_with_radius(n, radius, random));
    const auto found = estimate(matrices, {.products = 100});
    const auto narrow = estimate(matrices, {.products = 100}, DType::f32);
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const double radius = test::spectral_radius(matrices[i]);
      CHECK(found[i].radius() == Approx(radius).epsilon(1e-9));
      CHECK(found[i].residual == 0.0);
      CHECK(found[i].products <= n);
      CHECK(narrow[i].radius() == Approx(radius).epsilon(1e-3));
    }
  }
}

TEST_CASE("a nonnormal matrix: its radius is neither its norm nor what power iteration shows at first",
          "[arnoldi]") {
  // 0.5 on the diagonal, 10 above it: norm 10, radius 0.5, and a defective eigenvalue.
  Matrix m(3);
  for (std::int64_t i = 0; i < 3; ++i) m(i, i) = 0.5;
  m(0, 1) = m(1, 2) = 10.0;
  const SpectralRadius found = estimate({m})[0];
  CHECK(found.radius() == Approx(0.5).epsilon(1e-3));  // a triple eigenvalue moves by the cube root of eps
  CHECK_FALSE(found.unstable());
}

TEST_CASE("the residual of an unfinished space bounds the error for symmetric matrices", "[arnoldi]") {
  Random random(2);
  const std::int64_t n = 60;
  const Matrix q = test::random_orthogonal(n, random);
  Matrix m(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t k = 0; k < n; ++k)
        m(i, j) += q(k, i) * q(k, j) * (k == 0 ? 1.2 : static_cast<double>(k) / static_cast<double>(n));
  double last = std::numeric_limits<double>::infinity();
  for (const int products : {2, 5, 10, 20, 40}) {
    const SpectralRadius found = estimate({m}, {.products = products})[0];
    CHECK(found.products == products);
    CHECK(found.radius() <= 1.2 + 1e-13);
    CHECK(found.residual > 0.0);
    CHECK(found.residual < last);
    if (products >= 5) CHECK(1.2 - found.radius() <= found.residual * found.radius() + 1e-13);
    last = found.residual;
  }
  CHECK(last < 1e-8);
}

TEST_CASE("estimates do not depend on neighbours, threads, or luck", "[arnoldi]") {
  Random random(3);
  std::vector<Matrix> matrices;
  for (int i = 0; i < 6; ++i) matrices.push_back(test::random_matrix(12, random));
  const auto all = estimate(matrices, {.products = 6});
  const auto first = estimate({matrices[0]}, {.products = 6});
  CHECK(all[0].eigenvalue == first[0].eigenvalue);
  CHECK(all[0].residual == first[0].residual);
  const test::KeepThreads keep;
  set_threads(1);
  const auto alone = estimate(matrices, {.products = 6});
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i].eigenvalue == alone[i].eigenvalue);
  CHECK(estimate(matrices, {.products = 6, .seed = 5})[0].eigenvalue != all[0].eigenvalue);
}

TEST_CASE("Arnoldi where there is nothing, or no number", "[arnoldi]") {
  CHECK(arnoldi_spectral_radius([](const Tensor& x) { return x; }, 0, 4, DType::f64).empty());
  const auto none = arnoldi_spectral_radius([](const Tensor& x) { return x; }, 2, 0, DType::f64);
  REQUIRE(none.size() == 2);
  CHECK(none[0].radius() == 0.0);
  Matrix good = rotation(0.5, 1.0), bad = good;
  bad(0, 1) = std::numeric_limits<double>::quiet_NaN();
  const auto found = estimate({good, bad});
  CHECK(found[0].radius() == Approx(0.5));
  CHECK(std::isnan(found[1].radius()));
  CHECK(std::isnan(found[1].residual));
  CHECK_FALSE(found[1].unstable());
  CHECK_THROWS_WITH(estimate({good}, {.products = 0}), Catch::Contains("products must be at least 1"));
  CHECK_THROWS_AS(arnoldi_spectral_radius([](const Tensor&) { return Tensor::zeros({1}); }, 1, 4, DType::f64),
                  ShapeError);
}
