#pragma once
// Internal: a residual map g at x with its J = dg/dx, for what takes many products with J: log_det.

#include <banach/engine/trace.hpp>

#include <memory>
#include <optional>

namespace banach {

namespace program {
class Program;
}

/// g is called and recorded once: on the tape that records, else on one of its own. Samples are the entries
/// of axis 0. `name` stands in the messages of errors.
class ResidualMap {
 public:
  ResidualMap(std::string_view name, FunctionRef<Var(const Var&)> g, const Var& x);
  ~ResidualMap();
  ResidualMap(const ResidualMap&) = delete;
  ResidualMap& operator=(const ResidualMap&) = delete;

  /// g(x); recorded if a tape recorded when this object was made.
  const Var& value() const { return value_; }
  /// J^T u for u of x's shape. While a tape records it is recorded, as a function of u, x and what g
  /// captured; else it runs as a program, by tiles of the batch.
  Var pull(const Var& u) const;
  /// J v, never recorded.
  Tensor push(const Tensor& v) const;

  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  /// (samples, entries of each).
  const Shape& rows() const { return rows_; }
  /// Products taken so far.
  int products() const { return products_; }

 private:
  Var swept(const Var& u) const;
  Tensor run(std::unique_ptr<const program::Program>& program, FunctionRef<Var(const Var&)> product,
             const Tensor& at) const;

  Shape rows_;
  std::optional<Trace> own_;
  const Graph* graph_;
  std::int32_t state_, output_;
  Var value_;
  mutable int products_ = 0;
  mutable std::unique_ptr<const program::Program> pull_, push_;
};

}  // namespace banach
