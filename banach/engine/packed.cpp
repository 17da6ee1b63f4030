#include <banach/engine/packed.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>

#include <banach/engine/error.hpp>
#include <banach/engine/panel_product.hpp>
#include <banach/engine/simd.hpp>

namespace banach {

template <>
const simd::PanelProduct<float>& simd::product<float>() {
  using namespace detail;
  static constexpr const PanelProduct<float>* all[] = {&sse2_product_float, &avx2_product_float,
                                                       &avx512_product_float};
  return *all[static_cast<std::size_t>(active())];
}

template <>
const simd::PanelProduct<double>& simd::product<double>() {
  using namespace detail;
  static constexpr const PanelProduct<double>* all[] = {&sse2_product_double, &avx2_product_double,
                                                        &avx512_product_double};
  return *all[static_cast<std::size_t>(active())];
}

namespace {

constexpr const char* name = "packed_matrix";

void check_size(const char* what, std::int64_t size) {
  if (size < 0) fail<ValueError>(name, std::string(what) + " must be at least 0: " + std::to_string(size));
}

void check_leading(const char* what, std::int64_t ld, std::int64_t row) {
  if (ld < row)
    fail<ValueError>(name, std::string(what) + " must be at least the length of a row: " +
                               std::to_string(ld) + " for rows of " + std::to_string(row));
}

/// Entries of all panels.
template <class T>
std::size_t panel_entries(std::int64_t k, std::int64_t n, std::int64_t width) {
  check_size("k", k);
  check_size("n", n);
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / static_cast<std::int64_t>(sizeof(T));
  if (k > 0 && n > most / k - width)
    fail<ValueError>(name,
                     "k x n entries must be countable: " + std::to_string(k) + " x " + std::to_string(n));
  return static_cast<std::size_t>((n + width - 1) / width * width * k);
}

}  // namespace

template <class T>
PackedMatrix<T>::PackedMatrix(bool transpose, std::int64_t k, std::int64_t n, const T* b, std::int64_t ldb)
    : kernel_(&simd::product<T>()), k_(k), n_(n) {
  const std::size_t entries = panel_entries<T>(k, n, kernel_->width);
  check_leading("ldb", ldb, transpose ? k : n);
  const std::size_t bytes = entries * sizeof(T);
  panels_ = {static_cast<T*>(memory::allocate(bytes)), Release{bytes}};
  kernel_->pack(transpose, k, n, b, ldb, panels_.get());
}

template <class T>
void PackedMatrix<T>::multiply(std::int64_t m, const T* a, std::int64_t lda, T* c, std::int64_t ldc,
                               bool transpose_a) const {
  run(m, a, lda, nullptr, 0, c, ldc, transpose_a);
}

template <class T>
void PackedMatrix<T>::multiply_add(std::int64_t m, const T* a, std::int64_t lda, const T* start,
                                   std::int64_t ld_start, T* c, std::int64_t ldc, bool transpose_a) const {
  if (ld_start != 0) check_leading("ld_start", ld_start, n_);
  run(m, a, lda, start, ld_start, c, ldc, transpose_a);
}

template <class T>
void PackedMatrix<T>::run(std::int64_t m, const T* a, std::int64_t lda, const T* start, std::int64_t ld_start,
                          T* c, std::int64_t ldc, bool transpose_a) const {
  check_size("m", m);
  check_leading("lda", lda, transpose_a ? m : k_);
  check_leading("ldc", ldc, n_);
  kernel_->run(m, n_, k_, a, transpose_a ? 1 : lda, transpose_a ? lda : 1, panels_.get(), k_, start, ld_start,
               c, ldc);
}

template class PackedMatrix<float>;
template class PackedMatrix<double>;

}  // namespace banach
