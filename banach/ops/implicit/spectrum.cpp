#include <banach/engine/blas.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/spectrum.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace banach {
namespace {

// u -> J^T u on rows of (problems, entries), f being recorded once at z.
class TransposedProducts {
 public:
  TransposedProducts(std::string_view op, FunctionRef<Var(const Var&)> f, const Var& z, Batch batch)
      : shape_(z.shape()), rows_(state_rows(z.shape(), batch)) {
    const std::array<Tensor, 1> point{z.value()};
    body_ = trace(
        [&](const Vars& at) {
          const Var value = f(at.front());
          check_body(op, z, value);
          return Vars{value};
        },
        point);
  }

  const Shape& rows() const { return rows_; }

  Tensor operator()(const Tensor& u) const {
    const NoGrad off;
    const std::array<Var, 1> cotangent{Var(u.reshape(shape_))};
    const Var pulled = body_.pull_back(cotangent, body_.inputs).front();
    return pulled.defined() ? pulled.value().reshape(rows_) : Tensor::zeros(rows_, u.dtype());
  }

 private:
  Shape shape_, rows_;
  Trace body_;
};

// Larger magnitude first; the two of a conjugate pair have the very same.
bool before(std::complex<double> a, std::complex<double> b) {
  const double size_a = std::abs(a), size_b = std::abs(b);
  if (size_a != size_b) return size_a > size_b;
  return a.real() != b.real() ? a.real() > b.real() : a.imag() > b.imag();
}

}  // namespace

PoolVector<SpectralRadius> spectral_radius(FunctionRef<Var(const Var&)> f, const Var& z,
                                           const SpectrumOptions& options) {
  check_start("spectral_radius", z);
  const TransposedProducts products("spectral_radius", f, z, options.batch);
  return arnoldi_spectral_radius([&](const Tensor& u) { return products(u); }, products.rows()[0],
                                 products.rows()[1], z.dtype(),
                                 {.products = options.products, .seed = options.seed});
}

std::vector<std::vector<std::complex<double>>> jacobian_eigenvalues(FunctionRef<Var(const Var&)> f,
                                                                    const Var& z, Batch batch) {
  check_start("jacobian_eigenvalues", z);
  const TransposedProducts products("jacobian_eigenvalues", f, z, batch);
  const std::int64_t problems = products.rows()[0], n = products.rows()[1];
  // Row i of each J is J^T e_i.
  PoolVector<double> matrices(static_cast<std::size_t>(problems * n * n));
  for (std::int64_t i = 0; i < n && problems > 0; ++i) {
    Tensor unit = Tensor::zeros(products.rows(), z.dtype());
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* u = unit.mutable_data<T>();
      for (std::int64_t s = 0; s < problems; ++s) u[s * n + i] = T{1};
      const Tensor pulled = products(unit);
      const T* row = pulled.data<T>();
      for (std::int64_t s = 0; s < problems; ++s)
        std::copy_n(row + s * n, n, matrices.data() + (s * n + i) * n);
    });
  }
  std::vector<std::vector<std::complex<double>>> result(
      static_cast<std::size_t>(problems), std::vector<std::complex<double>>(static_cast<std::size_t>(n)));
  parallel_for(problems, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = begin; s < end; ++s) {
      auto& values = result[static_cast<std::size_t>(s)];
      if (blas::eigenvalues(n, matrices.data() + s * n * n, values.data()) != 0)
        std::fill(values.begin(), values.end(), std::complex<double>(std::nan(""), std::nan("")));
      else
        std::sort(values.begin(), values.end(), before);
    }
  });
  return result;
}

}  // namespace banach
