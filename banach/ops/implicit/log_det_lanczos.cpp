// LanczosQuadrature: Gauss quadrature of log on the spectrum of A A^T, A = I + J.

#include <banach/engine/blas.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/log_det_parts.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <cmath>

namespace banach {
namespace {

// The Krylov spaces of all samples, each with its own tridiagonal matrix, which ends where its space does.
struct Krylov {
  Shape rows;
  std::int64_t most;
  Tensor basis;                         // (batch, most, d), zero beyond a space's end
  PoolVector<double> size;              // ||v||
  PoolVector<std::int64_t> steps;       // of each sample
  PoolVector<double> diagonal, beside;  // (batch, most)
};

// A^T u and A A^T u, for u of x's shape.
Var transposed_product(const ResidualMap& g, const Var& u) {
  const NoGrad off;
  return u + g.pull(u);
}
Tensor normal_product(const ResidualMap& g, const Tensor& u) {
  const Var inner = transposed_product(g, Var(u));
  const NoGrad off;
  return (inner + Var(g.push(inner.value()))).value();
}

Krylov krylov(const ResidualMap& g, const Tensor& v, std::int64_t most) {
  const Shape rows = g.rows();
  const auto batch = static_cast<std::size_t>(rows[0]);
  const std::int64_t n = rows[1];
  Krylov space{rows,
               most,
               Tensor::zeros({rows[0], most, n}, v.dtype()),
               vec::row_norms(v),
               PoolVector<std::int64_t>(batch, most),
               PoolVector<double>(batch * static_cast<std::size_t>(most)),
               PoolVector<double>(batch * static_cast<std::size_t>(most))};
  dispatch_floating(v.dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    T* basis = space.basis.mutable_data<T>();
    Tensor u = v.clone();
    for (std::int64_t s = 0; s < rows[0]; ++s) {
      T* row = u.mutable_data<T>() + s * n;
      vec::divide(row, space.size[static_cast<std::size_t>(s)], row, n);
    }
    for (std::int64_t k = 0; k < most; ++k) {
      Tensor next = normal_product(g, u.reshape(g.shape())).reshape(rows);
      T* all = next.mutable_data<T>();
      vec::for_pieces(rows[0], most * n, [&](std::int64_t begin, std::int64_t end) {
        PoolVector<double> overlaps(static_cast<std::size_t>(most));
        for (std::int64_t s = begin; s < end; ++s) {
          const auto at = static_cast<std::size_t>(s);
          T* row = all + s * n;
          if (k >= space.steps[at]) {
            std::fill_n(row, n, T{0});
            continue;
          }
          T* mine = basis + s * most * n;
          std::copy_n(u.data<T>() + s * n, n, mine + k * n);
          const double before = vec::norm(row, n);
          std::fill(overlaps.begin(), overlaps.end(), 0.0);
          for (int pass = 0; pass < 2; ++pass) vec::project_out(mine, k + 1, row, n, overlaps.data());
          space.diagonal[at * static_cast<std::size_t>(most) + static_cast<std::size_t>(k)] =
              overlaps[static_cast<std::size_t>(k)];
          const double length = vec::norm(row, n);
          if (!(length > 100.0 * epsilon * before)) {  // the space is closed, or not finite
            space.steps[at] = k + 1;
            std::fill_n(row, n, T{0});
          } else if (k + 1 < most) {
            space.beside[at * static_cast<std::size_t>(most) + static_cast<std::size_t>(k)] = length;
            vec::divide(row, length, row, n);
          }
        }
      });
      u = std::move(next);
    }
  });
  return space;
}

// v^T log(A A^T) v / 2 for each sample, and y ~ (A A^T)^-1 v.
struct Quadrature {
  PoolVector<double> values;
  Tensor solution;
};

Quadrature quadrature(const Krylov& space) {
  const std::int64_t n = space.rows[1], most = space.most;
  Quadrature result{PoolVector<double>(space.steps.size()), Tensor::zeros(space.rows, space.basis.dtype())};
  dispatch_floating(space.basis.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* solution = result.solution.mutable_data<T>();
    parallel_for(space.rows[0], 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t s = begin; s < end; ++s) {
        const auto at = static_cast<std::size_t>(s);
        const std::int64_t steps = space.steps[at];
        PoolVector<double> vectors(static_cast<std::size_t>(steps * steps)),
            nodes(static_cast<std::size_t>(steps));
        for (std::int64_t k = 0; k < steps; ++k) {
          const auto from = static_cast<std::size_t>(s * most + k),
                     to = static_cast<std::size_t>(k * steps + k);
          vectors[to] = space.diagonal[from];
          if (k + 1 < steps)
            vectors[to + 1] = vectors[to + static_cast<std::size_t>(steps)] = space.beside[from];
        }
        const bool finite =
            std::all_of(vectors.begin(), vectors.end(), [](double x) { return std::isfinite(x); });
        if (!finite || blas::symmetric_eigen(steps, vectors.data(), nodes.data(), true) != 0) {
          result.values[at] = std::numeric_limits<double>::quiet_NaN();
          std::fill_n(solution + s * n, n, std::numeric_limits<T>::quiet_NaN());
          continue;
        }
        PoolVector<double> coefficients(static_cast<std::size_t>(steps));  // T^-1 e_1
        double value = 0.0;
        for (std::int64_t i = 0; i < steps; ++i) {
          const double* vector = vectors.data() + i * steps;
          const double node = std::max(0.0, nodes[static_cast<std::size_t>(i)]);
          value += vector[0] * vector[0] * 0.5 * std::log(node);
          for (std::int64_t k = 0; k < steps; ++k)
            coefficients[static_cast<std::size_t>(k)] += vector[0] * vector[k] / node;
        }
        const double size = space.size[at];
        result.values[at] = size * size * value;
        for (std::int64_t k = 0; k < steps; ++k)
          vec::axpy(size * coefficients[static_cast<std::size_t>(k)],
                    space.basis.data<T>() + (s * most + k) * n, solution + s * n, n);
      }
    });
  });
  return result;
}

Tensor as_tensor(const PoolVector<double>& values, DType dtype) {
  Tensor result = Tensor::empty({static_cast<std::int64_t>(values.size())}, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::transform(values.begin(), values.end(), result.mutable_data<T>(),
                   [](double x) { return static_cast<T>(x); });
  });
  return result;
}

}  // namespace

void check(const LanczosQuadrature& estimator) {
  require(estimator.steps >= 1, "steps must be at least 1", estimator.steps);
  require(estimator.probes >= 1, "probes must be at least 1", estimator.probes);
}

LogDetEstimate estimate_log_det(const LanczosQuadrature& estimator, const ResidualMap& g,
                                const LogDetOptions& options) {
  const Shape rows = g.rows(), shape = g.shape();
  const auto batch = static_cast<std::size_t>(rows[0]);
  LogDetEstimate result{{}, PoolVector<LogDetSample>(batch)};
  const TraceVectors trace =
      trace_vectors(g, estimator.probe, estimator.probes, 0, Random(options.seed).split(0));
  PoolVector<PoolVector<double>> values;
  PoolVector<double> mean(batch, 0.0);
  Var surrogate;
  for (std::size_t i = 0; i < trace.vectors.size(); ++i) {
    const Tensor v = trace.vectors[i].reshape(rows);
    const Krylov space = krylov(g, v, std::min<std::int64_t>(estimator.steps, rows[1]));
    const Quadrature found = quadrature(space);
    for (std::size_t s = 0; s < batch; ++s) {
      mean[s] += trace.weights[i] * found.values[s];
      result.samples[s].terms = std::max(result.samples[s].terms, static_cast<int>(space.steps[s]));
    }
    values.push_back(found.values);
    if (!recording()) continue;
    // The derivative is E[v^T dJ A^T (A A^T)^-1 v]; with dJ in the middle, of the same mean, it varies more.
    const Var right = transposed_product(g, Var(found.solution.reshape(shape)));
    const Var part = trace.weights[i] * row_dots(g, g.pull(Var(trace.vectors[i])), right);
    surrogate = surrogate.defined() ? surrogate + part : part;
  }
  const Tensor value = as_tensor(mean, g.dtype());
  result.value = surrogate.defined() ? with_gradient_of(surrogate, value) : Var(value);
  const PoolVector<double> errors = standard_errors(values, trace.first_random);
  for (std::size_t s = 0; s < batch; ++s) result.samples[s].standard_error = errors[s];
  return result;
}

}  // namespace banach
