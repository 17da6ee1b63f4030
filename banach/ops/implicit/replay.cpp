#include <banach/engine/parallel.hpp>
#include <banach/engine/program/program.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/implicit/replay.hpp>
#include <banach/solvers/join.hpp>
#include <banach/solvers/paused_solve.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

// Whether two evaluations of f differ by no more than the rounding of fused and regrouped operations, which
// may be large in an entry where terms cancel, but not beside the whole of the sample.
template <class T>
bool agree(const T* a, const T* b, const T* z, std::int64_t n) {
  const simd::Kernels<T>& kernels = simd::kernels<T>();
  const auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  double difference = static_cast<double>(kernels.squared_distance(a, b, n));
  double size =
      static_cast<double>(kernels.squared_norm(a, n)) + static_cast<double>(kernels.squared_norm(z, n));
  if (std::isnormal(difference) && std::isnormal(size)) return difference <= epsilon * size;

  difference = size = 0.0;  // with care for what is not finite, or leaves the range
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (!std::isfinite(x) || !std::isfinite(y)) {
      if (std::isfinite(x) != std::isfinite(y)) return false;
      continue;
    }
    difference += (x - y) * (x - y);
    const auto at = static_cast<double>(z[i]);
    size += x * x + (std::isfinite(at) ? at * at : 0.0);
  }
  return difference <= epsilon * size;
}

// Sample by sample, all of shape (problems, elements each).
bool agree(const Tensor& a, const Tensor& b, const Tensor& z) {
  const std::int64_t samples = z.shape()[0], n = z.shape()[1];
  return dispatch_floating(z.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *first = a.data<T>(), *second = b.data<T>(), *at = z.data<T>();
    std::atomic<bool> all = true;
    parallel_for(samples, vec::row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t s = begin; s < end; ++s)
        if (!agree(first + s * n, second + s * n, at + s * n, n)) all = false;
    });
    return all.load();
  });
}

const FixedPointProblem no_derivatives;  // for solvers that ask for none

}  // namespace

std::int64_t solver_row_bytes(const Shape& state, DType dtype) {
  constexpr std::int64_t copies = 16;
  return copies * state[1] * static_cast<std::int64_t>(size_of(dtype));
}

std::optional<FixedPointSolution> solve_replayed(FunctionRef<Var(const Var&)> f, const Tensor& z0,
                                                 const ImplicitNode& node, LastStep last,
                                                 FunctionRef<Tensor(const Tensor& z)> evaluate) {
  const std::string_view op = node.op->name();
  const Shape rows = state_rows(z0.shape(), node.batch);
  const Tensor start = z0.reshape(rows);
  const auto eager = [&](const Tensor& z) { return at_rows(op, f, z0.shape(), z); };

  program::Recorded recorded = program::record(
      [&](const Var& z) {
        const Var value = f(z);
        check_body(op, z, value);
        return value;
      },
      z0);
  const Tensor first = recorded.value.reshape(rows);
  const bool whole = node.needs_derivatives || node.body == Body::checked;
  const program::Program program(std::move(recorded.code), whole ? 1 : rows[0],
                                 solver_row_bytes(rows, z0.dtype()));
  const auto derivative = [&](const Tensor& z) {
    return linearize(f, Var(z.reshape(z0.shape())), node.batch);
  };

  const auto tiles = static_cast<std::size_t>(program.tiles());
  const auto rows_of = [&](const Tensor& t, std::size_t index) {
    const auto tile = static_cast<std::int64_t>(index);
    return tiles == 1 ? t : t.rows(program.begin(tile), program.end(tile));
  };
  // solve(map, index) for each tile.
  const auto for_maps = [&](auto solve) {
    program.for_tiles([&](program::Tile& tile, std::int64_t at) {
      const auto index = static_cast<std::size_t>(at);
      const Tensor from = rows_of(start, index);
      const auto map = [&](const Tensor& z, StateMap::Marks wanted) {
        if (z.same_storage(from)) return rows_of(first, index);
        Tensor value = tile.run(z, wanted);
        if (node.body == Body::checked && !agree(value, eager(z), z))
          fail<ValueError>(
              op,
              "f must do the same operations at each call, but a replay of the first differs from f: "
              "declare it with Body::eager");
        return value;
      };
      solve(StateMap(std::ref(map)), index);
    });
  };
  PoolVector<FixedPointSolution> parts(tiles);
  const auto confirmed = [&](const FixedPointSolution& solution, const Tensor& value) {
    return agree(solution.fz, value, solution.z) ? std::optional(solution) : std::nullopt;
  };

  // Only Picard may wait: histories of other solvers would lie there for all tiles at once.
  const PlainSolve* plain = node.solve.plain();
  if (last == LastStep::replay || whole || !plain || !plain->solver.get_if<Picard>()) {
    for_maps([&](const StateMap& map, std::size_t index) {
      FixedPointProblem problem{.f = map};
      if (tiles == 1) problem.linearize = std::ref(derivative);
      parts[index] = node.solve(problem, rows_of(start, index));
    });
    const FixedPointSolution solution = joined(parts);
    return confirmed(solution, evaluate(solution.z));
  }

  PoolVector<std::optional<PausedSolve>> solves(tiles);
  const auto run = [&](bool pause) {
    for_maps([&](const StateMap& map, std::size_t index) {
      if (!solves[index])
        solves[index].emplace(plain->solver, no_derivatives, rows_of(start, index), plain->stop);
      solves[index]->run(map, pause);
    });
  };
  const auto solution = [&] {
    for (std::size_t i = 0; i < tiles; ++i) parts[i] = solves[i]->solution();
    return joined(parts);
  };
  run(true);
  if (std::any_of(solves.begin(), solves.end(), [](const auto& solve) { return !solve->over(); })) {
    Tensors states;
    for (const auto& solve : solves) states.push_back(solve->z());
    const Tensor value = evaluate(joined(states));
    bool all = true;
    for (std::size_t i = 0; i < tiles; ++i)
      if (!solves[i]->over() && !solves[i]->take(rows_of(value, i))) all = false;
    if (all) return confirmed(solution(), value);
    run(false);
  }
  const FixedPointSolution found = solution();
  return confirmed(found, evaluate(found.z));
}

}  // namespace banach
