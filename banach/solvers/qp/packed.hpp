#pragma once
// Internal: a group of problems as the interior point takes them, and keeps them for their derivatives.

#include <algorithm>

#include <banach/engine/tensor.hpp>
#include <banach/solvers/qp/group.hpp>

namespace banach::qp {

/// A group's numbers, `width` problems side by side.
class Packed {
 public:
  static constexpr std::int64_t most = 8;  // problems side by side

  Packed(const Solver& solver, std::int64_t n, std::int64_t e, std::int64_t m, std::int64_t bounds,
         const std::int64_t* columns, double target, int max_steps, double rounding, bool warm)
      : solver_(solver), width_(solver.width) {
    const std::int64_t dense = m - bounds;
    const std::int64_t numbers = n * n + n + e * n + e + bounds + dense * n + m + n + e + 3 * m + 7;
    const std::int64_t all = numbers * width_ + solver.workspace(n, e, m);
    memory_ = Tensor::empty({all}, DType::f64);  // aligned to 64 by the pool
    double* next = memory_.mutable_data<double>();
    const auto part = [&](std::int64_t count) {
      double* result = next;
      next += count * width_;
      return result;
    };
    group_ = {n,
              e,
              m,
              bounds,
              columns,
              part(n * n),
              part(n),
              part(e * n),
              part(e),
              part(bounds),
              part(dense * n),
              part(m),
              target,
              max_steps,
              rounding,
              warm ? part(m) : nullptr,
              part(n),
              part(e),
              part(m),
              part(m),
              part(7)};
    work_ = next;
  }

  std::int64_t width() const { return width_; }
  Group& group() { return group_; }
  /// `size` numbers of each problem, side by side; zeros for a null pointer.
  void interleave(const double* const* from, std::int64_t size, double* to) const {
    if (width_ == most)
      interleave_by<most>(from, size, to);
    else
      interleave_by<1>(from, size, to);
  }
  void put(double* to, std::int64_t i, std::int64_t lane, double value) const {
    to[i * width_ + lane] = value;
  }
  double get(const double* from, std::int64_t i, std::int64_t lane) const { return from[i * width_ + lane]; }
  void solve() {
    Tensor scratch = Tensor::empty({solver_.scratch(group_.n, group_.e, group_.m)}, DType::f64);
    solver_.solve(group_, work_, scratch.mutable_data<double>());
  }
  void linearise(double* active, double* weak, double* good, double* regular) {
    solver_.linearise(work_, active, weak, good, regular);
  }
  void tangent(double* x, double* y, double* z, double* residual) {
    solver_.tangent(work_, x, y, z, residual);
  }

 private:
  template <std::int64_t width>
  static void interleave_by(const double* const* from, std::int64_t size, double* to) {
    constexpr std::int64_t piece = 64;
    constexpr double zeros[piece] = {};
    for (std::int64_t at = 0; at < size; at += piece) {
      const double* next[width];
      for (std::int64_t lane = 0; lane < width; ++lane) next[lane] = from[lane] ? from[lane] + at : zeros;
      for (std::int64_t k = 0; k < std::min(piece, size - at); ++k)
        for (std::int64_t lane = 0; lane < width; ++lane) to[(at + k) * width + lane] = next[lane][k];
    }
  }

  const Solver& solver_;
  std::int64_t width_;
  Tensor memory_;
  Group group_{};
  double* work_ = nullptr;
};

}  // namespace banach::qp
