#pragma once
// Gradients of quadratic programs against differences, entry by entry.

#include <banach/engine/grad.hpp>
#include <banach/ops/implicit/qp.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

namespace banach::test {

/// Of each constraint one is larger than 0.05, so that small changes leave the active set alone.
inline bool clear_of_changes(const Var& multiplier, const Var& room) {
  for (std::int64_t i = 0; i < room.size(); ++i)
    if (std::max(room.value().at(i), multiplier.value().at(i)) <= 0.05) return false;
  return true;
}

/// The gradient of a problem's z, nu, lambda and slack, weighted, in all entries of all parameters, against
/// central differences. All changes of one parameter, up and down, are one batch.
inline void check_every_entry(const QpParameters& given, const QpSolveOptions& options,
                              const Tensor& weights) {
  const double step = 1e-5;
  const auto loss = [&](const Vars& v) {  // of each problem
    const QpSolved s = qp_solve({v[0], v[1], v[2], v[3], v[4], v[5]}, options);
    REQUIRE(s.report.solved());
    return sum(concat({s.z, s.nu, s.lambda, s.slack}, 1) * Var(weights), {1});
  };
  const Vars at{given.Q, given.p, given.G, given.h, given.A, given.b};
  const Tape tape;
  Vars leaves;
  for (const Var& v : at) leaves.push_back(leaf(v.value()));
  const Vars gradients = grad(sum(loss(leaves)), leaves);
  for (std::size_t k = 0; k < 6; ++k) {
    const std::int64_t size = at[k].size();
    if (size == 0) continue;
    Vars moved;
    for (const Var& v : at) {
      Ints shape{2 * size};
      for (int axis = 1; axis < v.rank(); ++axis) shape.push_back(v.shape()[axis]);
      moved.push_back(Var(broadcast_to(Var(v.value()), Shape(shape)).value()));
    }
    Tensor entries = moved[k].value();
    for (std::int64_t i = 0; i < size; ++i) {
      entries.mutable_data<double>()[(2 * i) * size + i] += step;
      entries.mutable_data<double>()[(2 * i + 1) * size + i] -= step;
    }
    moved[k] = Var(entries);
    const Tensor found = loss(moved).value();
    for (std::int64_t i = 0; i < size; ++i) {
      const double difference = (found.at(2 * i) - found.at(2 * i + 1)) / (2.0 * step);
      INFO("parameter " << k << ", entry " << i);
      CHECK(std::abs(gradients[k].value().at(i) - difference) <= 1e-5 * std::max(1.0, std::abs(difference)));
    }
  }
}

}  // namespace banach::test
