#pragma once
// Internal: a matrix packed once for many products. BLAS packs its factors at every call; a solver that
// evaluates one body tens of times, on tiles of the batch, would pay for that each time and for each tile.

#include <banach/engine/memory.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace banach {

namespace simd {
template <class T>
struct PanelProduct;
}

/// The right factor B (k x n) of a product, copied into the layout that the kernels of the active instruction
/// set read. T is float or double. Products run on the calling thread; several may share a packed matrix.
///
/// The bits of a row of C do not depend on the rows beside it, so that a batch may be cut anywhere.
template <class T>
class PackedMatrix {
 public:
  /// An empty matrix, 0 x 0.
  PackedMatrix() : PackedMatrix(false, 0, 0, nullptr, 0) {}

  /// Packs the row-major b: k x n or, if transpose, n x k; ldb is the distance between starts of its rows.
  /// Throws ValueError for a negative size, or an ldb smaller than a row.
  PackedMatrix(bool transpose, std::int64_t k, std::int64_t n, const T* b, std::int64_t ldb);

  std::int64_t rows() const { return k_; }
  std::int64_t columns() const { return n_; }

  /// C = A B for row-major A (m x k or, if transpose_a, k x m) and C (m x n), which must not overlap. Throws
  /// ValueError as above.
  void multiply(std::int64_t m, const T* a, std::int64_t lda, T* c, std::int64_t ldc,
                bool transpose_a = false) const;

  /// C = start + A B, where row i of start begins at start + i * ld_start: a matrix, C itself (to accumulate;
  /// ld_start = ldc), or with ld_start = 0 one row for all, such as a bias. Each sum begins with its start.
  void multiply_add(std::int64_t m, const T* a, std::int64_t lda, const T* start, std::int64_t ld_start, T* c,
                    std::int64_t ldc, bool transpose_a = false) const;

 private:
  struct Release {
    std::size_t bytes = 0;
    void operator()(T* panels) const { memory::release(panels, bytes); }
  };
  void run(std::int64_t m, const T* a, std::int64_t lda, const T* start, std::int64_t ld_start, T* c,
           std::int64_t ldc, bool transpose_a) const;

  const simd::PanelProduct<T>* kernel_;
  std::int64_t k_, n_;
  std::unique_ptr<T[], Release> panels_;
};

extern template class PackedMatrix<float>;
extern template class PackedMatrix<double>;

}  // namespace banach
