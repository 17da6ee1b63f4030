#include <banach/engine/blas.hpp>
#include <banach/engine/random.hpp>
#include <banach/solvers/arnoldi.hpp>
#include <banach/solvers/check.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <string>

namespace banach {
namespace {

constexpr std::string_view op_name = "arnoldi_spectral_radius";

// The Krylov space of one sample: orthonormal vectors, and the matrix H of M in their coordinates, whose last
// row is `rest_`.
template <class T>
class KrylovSpace {
 public:
  KrylovSpace(std::int64_t n, std::int64_t most)
      : n_(n), most_(most), h_(static_cast<std::size_t>(most * most)) {}

  bool open() const { return open_; }

  /// Writes the first vector over a random one.
  void start(T* vector) {
    if (most_ == 0) return close(vector);
    add(vector, vec::norm(vector, n_));
  }

  /// Takes in M times the newest vector, and writes the next one over it: zero once there is none.
  void extend(T* product) {
    const std::int64_t j = size_ - 1;
    const double before = vec::norm(product, n_);
    ++products_;
    if (!std::isfinite(before)) {
      broken_ = true;
      return close(product);
    }
    // Twice is enough (Giraud, Langou and Rozloznik 2005).
    PoolVector<double> column(static_cast<std::size_t>(size_));
    for (int pass = 0; pass < 2; ++pass) vec::project_out(basis_.data(), size_, product, n_, column.data());
    for (std::int64_t i = 0; i < size_; ++i) at(i, j) = column[static_cast<std::size_t>(i)];
    rest_ = vec::norm(product, n_);
    // What rounding has left is not a direction.
    const double rounding = std::pow(static_cast<double>(std::numeric_limits<T>::epsilon()), 0.75);
    if (size_ == n_ || !(rest_ > rounding * before)) rest_ = 0.0;
    if (rest_ == 0.0 || size_ == most_) return close(product);
    at(size_, j) = rest_;
    add(product, rest_);
  }

  SpectralRadius estimate() const {
    if (broken_) return {{std::nan(""), 0.0}, std::nan(""), products_};
    if (size_ == 0) return {};
    const auto k = static_cast<std::size_t>(size_);
    PoolVector<double> square(k * k);
    for (std::size_t i = 0; i < k; ++i)
      std::copy_n(h_.begin() + static_cast<std::ptrdiff_t>(i * static_cast<std::size_t>(most_)), k,
                  square.begin() + static_cast<std::ptrdiff_t>(i * k));
    PoolVector<std::complex<double>> values(k), vectors(k * k);
    if (blas::eigenvectors(size_, square.data(), values.data(), vectors.data()) != 0)
      return {{std::nan(""), 0.0}, std::nan(""), products_};
    const auto largest =
        static_cast<std::size_t>(std::max_element(values.begin(), values.end(),
                                                  [](auto a, auto b) { return std::abs(a) < std::abs(b); }) -
                                 values.begin());
    std::complex<double> value = values[largest];
    if (value.imag() < 0.0) value = std::conj(value);
    const double residual = rest_ * std::abs(vectors[largest * k + k - 1]), size = std::abs(value);
    return {value, size > 0.0 ? residual / size : residual, products_};
  }

 private:
  double& at(std::int64_t i, std::int64_t j) { return h_[static_cast<std::size_t>(i * most_ + j)]; }

  void add(T* vector, double length) {
    vec::divide(vector, length, vector, n_);
    basis_.insert(basis_.end(), vector, vector + n_);
    ++size_;
  }
  void close(T* vector) {
    open_ = false;
    std::fill_n(vector, n_, T{0});
  }

  std::int64_t n_, most_, size_ = 0;
  PoolVector<double> h_;
  PoolVector<T> basis_;
  double rest_ = 0.0;
  int products_ = 0;
  bool open_ = true, broken_ = false;
};

template <class T>
PoolVector<SpectralRadius> run(const StateMap& apply, std::int64_t batch, std::int64_t n,
                               const ArnoldiOptions& options) {
  const std::int64_t most = std::min<std::int64_t>(options.products, n);
  PoolVector<KrylovSpace<T>> spaces(static_cast<std::size_t>(batch), KrylovSpace<T>(n, most));
  PoolVector<char> open(spaces.size(), 1);
  Tensor vectors = Tensor::empty({batch, n}, dtype_of<T>());
  const auto for_open = [&](auto step) {
    T* rows = vectors.mutable_data<T>();
    vec::for_active(open, n * most, [&](std::int64_t s) {
      step(static_cast<std::size_t>(s), rows + s * n);
      open[static_cast<std::size_t>(s)] = spaces[static_cast<std::size_t>(s)].open();
    });
    return std::find(open.begin(), open.end(), 1) != open.end();
  };
  const Random random(options.seed);
  bool running = for_open([&](std::size_t s, T* row) {
    random.split(s).fill_normal(row, n);
    spaces[s].start(row);
  });
  while (running) {
    Tensor product = apply(vectors);
    check_map(op_name, vectors, product);
    vectors = std::move(product);
    running = for_open([&](std::size_t s, T* row) { spaces[s].extend(row); });
  }
  PoolVector<SpectralRadius> result;
  for (const KrylovSpace<T>& space : spaces) result.push_back(space.estimate());
  return result;
}

}  // namespace

PoolVector<SpectralRadius> arnoldi_spectral_radius(const StateMap& apply, std::int64_t batch, std::int64_t n,
                                                   DType dtype, const ArnoldiOptions& options) {
  if (options.products < 1)
    fail<ValueError>(op_name, "products must be at least 1: got " + std::to_string(options.products));
  return dispatch_floating(dtype, [&](auto zero) { return run<decltype(zero)>(apply, batch, n, options); });
}

}  // namespace banach
