#include <banach/ops/implicit/log_det_parts.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

// Orthonormal rows for each sample, gathered one at a time: (batch, most, d), unused ones zero.
class Spaces {
 public:
  Spaces(const Shape& rows, std::int64_t most, DType dtype)
      : rows_(rows), most_(most), basis_(Tensor::zeros({rows[0], most, rows[1]}, dtype)) {}

  /// x without its part in each sample's space. Twice is enough.
  Tensor outside(const Tensor& x) const {
    Tensor rest = x.clone();
    each(rest, [&](std::int64_t s, auto* row) {
      PoolVector<double> overlaps(static_cast<std::size_t>(most_));
      for (int pass = 0; pass < 2; ++pass)
        vec::project_out(basis_of<std::remove_pointer_t<decltype(row)>>(s), count_, row, rows_[1],
                         overlaps.data());
    });
    return rest;
  }

  /// Adds the direction of x to each sample's space, and returns it: zero where x lies in the space already.
  Tensor add(const Tensor& x) {
    Tensor unit = outside(x);
    const PoolVector<double> before = vec::row_norms(x.reshape(rows_));
    each(unit, [&](std::int64_t s, auto* row) {
      using T = std::remove_pointer_t<decltype(row)>;
      const double size = vec::norm(row, rows_[1]);
      const double rounding = 100.0 * static_cast<double>(std::numeric_limits<T>::epsilon());
      if (size <= rounding * before[static_cast<std::size_t>(s)])
        std::fill_n(row, rows_[1], T{0});
      else
        vec::divide(row, size, row, rows_[1]);
    });
    dispatch_floating(unit.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* out = basis_.mutable_data<T>();
      for (std::int64_t s = 0; s < rows_[0]; ++s)
        std::copy_n(unit.data<T>() + s * rows_[1], rows_[1], out + (s * most_ + count_) * rows_[1]);
    });
    ++count_;
    return unit;
  }

 private:
  template <class T>
  const T* basis_of(std::int64_t s) const {
    return basis_.data<T>() + s * most_ * rows_[1];
  }
  template <class Body>
  void each(Tensor& x, Body body) const {
    dispatch_floating(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* data = x.mutable_data<T>();
      vec::for_pieces(rows_[0], most_ * rows_[1], [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t s = begin; s < end; ++s) body(s, data + s * rows_[1]);
      });
    });
  }

  Shape rows_;
  std::int64_t most_, count_ = 0;
  Tensor basis_;
};

}  // namespace

TraceVectors trace_vectors(const ResidualMap& g, Probe probe, int probes, int sketch, Random random) {
  const Shape rows = g.rows();
  const auto drawn = [&] { return draw(random, probe, g.shape(), g.dtype()); };
  TraceVectors result;
  if (sketch >= rows[1]) {  // all of the space: nothing is left to chance
    for (std::int64_t i = 0; i < rows[1]; ++i) result.vectors.push_back(unit_vectors(g, i));
    result.weights.assign(result.vectors.size(), 1.0);
    result.first_random = result.vectors.size();
    return result;
  }
  Spaces spaces(rows, sketch, g.dtype());
  for (int i = 0; i < sketch; ++i) {
    const NoGrad off;
    result.vectors.push_back(spaces.add(g.pull(Var(drawn())).value()));
    result.weights.push_back(1.0);
  }
  result.first_random = result.vectors.size();
  for (int i = 0; i < probes; ++i) {
    result.vectors.push_back(sketch > 0 ? spaces.outside(drawn()) : drawn());
    result.weights.push_back(1.0 / probes);
  }
  return result;
}

}  // namespace banach
