#pragma once
// Internal: the derivatives' side of a solve.

#include <memory>

#include <banach/solvers/qp/packed.hpp>
#include <banach/solvers/qp/problems.hpp>

namespace banach {

/// The groups as their solves left them.
class QpDerivative::Parts {
 public:
  /// Without groups nothing is kept.
  Parts(const qp::Problems& all, const qp::Bounds& bounds, std::int64_t groups);

  /// A group that was just solved: its numbers are still in the cache.
  void keep(std::int64_t g, std::unique_ptr<qp::Packed> solved);
  Solution solve(const Tensor& rx, const Tensor& ry, const Tensor& rz);
  PoolVector<char> unique();

  const qp::Bounds& bounds() const { return bounds_; }
  const Tensor& active() const { return active_; }
  const PoolVector<QpRegularity>& regularity() const { return regularity_; }

 private:
  qp::Numbers lanes(const qp::Packed& packed, std::int64_t size) const;
  template <class Body>
  void for_groups(const Body& body);
  double least_squares(std::int64_t i, const double* rx, const double* ry, const double* rz, double* x,
                       double* y, double* z) const;

  qp::Problems all_;
  qp::Bounds bounds_;
  PoolVector<std::unique_ptr<qp::Packed>> groups_;
  Tensor active_;
  double* holds_ = nullptr;  // its elements
  PoolVector<QpRegularity> regularity_;
};

}  // namespace banach
