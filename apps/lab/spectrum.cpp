#include <apps/lab/spectrum.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>

#include <banach/engine/blas.hpp>
#include <banach/engine/trace.hpp>

namespace banach::lab {
namespace {

/// The Krylov space of one problem: orthonormal rows, and the matrix of J^T in their coordinates.
class Krylov {
 public:
  Krylov(std::int64_t size, int products)
      : n_(size),
        most_(std::min<std::int64_t>(products, size)),
        h_(static_cast<std::size_t>(most_ * most_)) {}

  /// Takes in J^T times the newest basis vector (or, at first, any start), and writes the next basis vector
  /// over it. Zero once the space is invariant.
  void extend(double* vector) {
    const std::int64_t k = static_cast<std::int64_t>(basis_.size());
    const double before = norm(vector);
    // Twice is enough (Giraud, Langou, Rozloznik 2005).
    for (int pass = 0; pass < 2; ++pass)
      for (std::int64_t i = 0; i < k; ++i) {
        const double part = dot(basis_[static_cast<std::size_t>(i)].data(), vector);
        at(i, k - 1) += part;
        for (std::int64_t j = 0; j < n_; ++j)
          vector[j] -= part * basis_[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
      }
    const double rest = norm(vector);
    closed_ = closed_ || k >= most_ || !(rest > 1e-12 * before);
    if (closed_) {
      std::fill_n(vector, n_, 0.0);
      return;
    }
    if (k > 0) at(k, k - 1) = rest;
    for (std::int64_t j = 0; j < n_; ++j) vector[j] /= rest;
    basis_.emplace_back(vector, vector + n_);
  }
  bool closed() const { return closed_; }

  double radius() const {
    const auto k = static_cast<std::int64_t>(basis_.size());
    std::vector<double> square(static_cast<std::size_t>(k * k));
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t j = 0; j < k; ++j)
        square[static_cast<std::size_t>(i * k + j)] = h_[static_cast<std::size_t>(i * most_ + j)];
    std::vector<std::complex<double>> values(static_cast<std::size_t>(k));
    if (k == 0) return 0.0;
    if (blas::eigenvalues(k, square.data(), values.data()) != 0) return std::nan("");
    double largest = 0.0;
    for (const auto& value : values) largest = std::max(largest, std::abs(value));
    return largest;
  }

 private:
  double& at(std::int64_t i, std::int64_t j) { return h_[static_cast<std::size_t>(i * most_ + j)]; }
  double dot(const double* a, const double* b) const {
    double total = 0.0;
    for (std::int64_t j = 0; j < n_; ++j) total += a[j] * b[j];
    return total;
  }
  double norm(const double* a) const { return std::sqrt(dot(a, a)); }

  std::int64_t n_, most_;
  std::vector<double> h_;
  std::vector<std::vector<double>> basis_;
  bool closed_ = false;
};

}  // namespace

std::vector<double> spectral_radius(const Equation& equation, const Tensor& z, int products) {
  const std::array<Tensor, 1> point{z.to(DType::f64)};
  const Trace body = trace([&](const Vars& at) { return Vars{equation.f(at.front())}; }, point);
  const std::int64_t problems = equation.batch == Batch::none ? 1 : z.size(0), n = z.size() / problems;

  std::vector<Krylov> spaces(static_cast<std::size_t>(problems), Krylov(n, products));
  Tensor vectors = Tensor::empty(z.shape(), DType::f64);
  Random(1).fill_normal(vectors.mutable_data<double>(), vectors.size());
  const auto extend = [&] {
    double* rows = vectors.mutable_data<double>();
    parallel_for(problems, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) spaces[static_cast<std::size_t>(i)].extend(rows + i * n);
    });
  };
  extend();
  const auto open = [](const Krylov& space) { return !space.closed(); };
  while (std::any_of(spaces.begin(), spaces.end(), open)) {
    const NoGrad off;
    const std::array<Var, 1> cotangent{Var(vectors)};
    const Vars pulled = body.pull_back(cotangent, body.inputs);
    vectors =
        pulled.front().defined() ? pulled.front().value().clone() : Tensor::zeros(z.shape(), DType::f64);
    extend();
  }
  std::vector<double> radii;
  for (const Krylov& space : spaces) radii.push_back(space.radius());
  return radii;
}

}  // namespace banach::lab
