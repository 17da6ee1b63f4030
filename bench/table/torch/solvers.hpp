#pragma once
// Fixed-point solvers as the users of LibTorch write them, after the methods of torchdeq: tensors of
// (batch, n), all samples iterate until the last one has converged.

#include <torch/torch.h>

#include <functional>

namespace bench::peer {

using torch::Tensor;
using Map = std::function<Tensor(const Tensor&)>;

struct Stop {
  double tolerance;
  int max_steps;
};
struct Solved {
  Tensor z;
  int evaluations = 0;
};
using Solver = std::function<Solved(const Map& f, const Tensor& start, const Stop& stop)>;

/// The largest of the samples' relative residuals.
inline double residual(const Tensor& fz, const Tensor& z) {
  return ((fz - z).norm(2, 1) / (fz.norm(2, 1) + 1e-9)).max().item<double>();
}

inline Solved picard(const Map& f, const Tensor& start, const Stop& stop) {
  Solved solved{start};
  bool done = false;
  while (!done && solved.evaluations < stop.max_steps) {
    const Tensor next = f(solved.z);
    ++solved.evaluations;
    done = residual(next, solved.z) < stop.tolerance;
    solved.z = next;
  }
  return solved;
}

/// Anderson acceleration in its constrained form, torchdeq's ridge included (absolute, 1e-4).
inline Solver anderson(int memory) {
  return [=](const Map& f, const Tensor& start, const Stop& stop) {
    constexpr double ridge = 1e-4;
    const auto batch = start.size(0), n = start.size(1);
    Tensor z = torch::zeros({batch, memory, n}), fz = torch::zeros({batch, memory, n});
    Tensor system = torch::zeros({batch, memory + 1, memory + 1}),
           right = torch::zeros({batch, memory + 1, 1});
    system.select(1, 0).slice(1, 1).fill_(1.0);
    system.select(2, 0).slice(1, 1).fill_(1.0);
    right.select(1, 0).fill_(1.0);
    const auto row = [](const Tensor& t, int k) { return t.select(1, k); };
    const auto take = [&](int k, const Tensor& at) {
      row(z, k).copy_(at);
      row(fz, k).copy_(f(at));
      return residual(row(fz, k), row(z, k));
    };
    Solved solved{start};
    double last = take(0, start);
    int newest = 0;
    for (solved.evaluations = 1; last >= stop.tolerance && solved.evaluations < stop.max_steps;
         ++solved.evaluations) {
      const int known = std::min(solved.evaluations, memory);
      Tensor next = row(fz, 0);
      if (known > 1) {
        const Tensor g = fz.slice(1, 0, known) - z.slice(1, 0, known);
        system.slice(1, 1, known + 1).slice(2, 1, known + 1) =
            torch::bmm(g, g.transpose(1, 2)) + ridge * torch::eye(known);
        const Tensor weights = at::linalg_solve(system.slice(1, 0, known + 1).slice(2, 0, known + 1),
                                                right.slice(1, 0, known + 1))
                                   .slice(1, 1);
        next = torch::bmm(weights.transpose(1, 2), fz.slice(1, 0, known)).squeeze(1);
      }
      newest = solved.evaluations % memory;
      last = take(newest, next);
    }
    solved.z = row(fz, newest).clone();
    return solved;
  };
}

/// Broyden's good method on f(z) - z, from the inverse -I; keeps every factor.
inline Solved broyden(const Map& f, const Tensor& start, const Stop& stop) {
  const auto batch = start.size(0), n = start.size(1);
  const Tensor u = torch::zeros({batch, stop.max_steps, n}), v = torch::zeros({batch, stop.max_steps, n});
  // (-I + U^T V) x, and the same of the transpose.
  const auto apply = [](const Tensor& left, const Tensor& right, int rank, const Tensor& x) {
    if (rank == 0) return -x;
    const Tensor weights = torch::bmm(right.slice(1, 0, rank), x.unsqueeze(2));
    return torch::bmm(weights.transpose(1, 2), left.slice(1, 0, rank)).squeeze(1) - x;
  };
  Solved solved{start};
  Tensor fz = f(solved.z), g = fz - solved.z;
  Tensor step = g;
  for (solved.evaluations = 1;
       residual(fz, solved.z) >= stop.tolerance && solved.evaluations < stop.max_steps;
       ++solved.evaluations) {
    const int rank = solved.evaluations - 1;
    solved.z = solved.z + step;
    fz = f(solved.z);
    const Tensor g_next = fz - solved.z, change = g_next - g;
    g = g_next;
    const Tensor row = apply(v, u, rank, step);
    const Tensor column = (step - apply(u, v, rank, change)) / torch::sum(row * change, 1, /*keepdim=*/true);
    v.select(1, rank).copy_(torch::nan_to_num(row));
    u.select(1, rank).copy_(torch::nan_to_num(column));
    step = -apply(u, v, rank + 1, g);
  }
  solved.z = fz;
  return solved;
}

}  // namespace bench::peer
