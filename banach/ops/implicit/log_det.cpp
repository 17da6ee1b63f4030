#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/log_det_parts.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace banach {
namespace {

constexpr std::string_view op_name = "log_det";

// The input is a surrogate: its derivatives are the estimate's, its value is not.
const Op estimate_op{{
    .name = "log_det_estimate",
    .doc = "A log det estimated outside of the tape, whose first derivatives are those of its input.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext&) {
          fail<ValueError>(op_name,
                           "a function that is recorded and replayed (the body of a fixed point, for "
                           "example) needs Exact, or a series with SeriesGradient::series");
        },
    .kind = OpKind::implicit,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          if (recording())
            fail<ValueError>(op_name,
                             "this estimate has first derivatives only: create_graph needs Exact, or "
                             "a series with SeriesGradient::series");
          return Vars{c.cotangent};
        },
}};

}  // namespace

void require(bool holds, std::string_view what, double given) {
  if (!holds) fail<ValueError>(op_name, fmt::format("{}: got {}", what, given));
}

Tensor unit_vectors(const ResidualMap& g, std::int64_t entry) {
  const Shape rows = g.rows();
  Tensor unit = Tensor::zeros(rows, g.dtype());
  dispatch_floating(unit.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = unit.mutable_data<T>();
    for (std::int64_t s = 0; s < rows[0]; ++s) out[s * rows[1] + entry] = T{1};
  });
  return unit.reshape(g.shape());
}

Var scaled_rows(const Var& x, const PoolVector<double>& factors) {
  if (std::all_of(factors.begin(), factors.end(), [&](double f) { return f == factors.front(); }))
    return factors.front() == 1.0 ? x : x * factors.front();
  Ints extents;
  for (int axis = 0; axis < x.rank(); ++axis) extents.push_back(axis == 0 ? x.size(0) : 1);
  Tensor column = Tensor::empty(Shape(extents), x.dtype());
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::transform(factors.begin(), factors.end(), column.mutable_data<T>(),
                   [](double f) { return static_cast<T>(f); });
  });
  return x * Var(column);
}

PoolVector<double> row_norms(const ResidualMap& g, const Var& u) {
  return vec::row_norms(u.value().reshape(g.rows()));
}

Var row_dots(const ResidualMap& g, const Var& u, const Var& v) {
  const Ints rows = g.rows();
  return dot(reshape(u, rows), reshape(v, rows));
}

PoolVector<double> standard_errors(const PoolVector<PoolVector<double>>& values, std::size_t first) {
  const auto n = static_cast<double>(values.size() - first);
  PoolVector<double> errors(values.front().size(), n == 0.0 ? 0.0 : std::numeric_limits<double>::quiet_NaN());
  if (n < 2.0) return errors;
  for (std::size_t s = 0; s < errors.size(); ++s) {
    double mean = 0.0, squares = 0.0;
    for (std::size_t i = first; i < values.size(); ++i) mean += values[i][s] / n;
    for (std::size_t i = first; i < values.size(); ++i) squares += std::pow(values[i][s] - mean, 2);
    errors[s] = std::sqrt(squares / (n - 1.0) / n);
  }
  return errors;
}

Var with_gradient_of(const Var& surrogate, const Tensor& value) {
  return record(estimate_op, {&surrogate, 1}, {&value, 1}, {}).front();
}

void check(const Exact&) {}

LogDetEstimate estimate_log_det(const Exact&, const ResidualMap& g, const LogDetOptions&) {
  const Shape rows = g.rows();
  Vars jacobian;  // row i of each J is J^T e_i
  for (std::int64_t i = 0; i < rows[1]; ++i)
    jacobian.push_back(reshape(g.pull(Var(unit_vectors(g, i))), rows));
  const Var eye(Tensor::eye(rows[1], g.dtype()));
  const auto [sign, log_abs] = slogdet(stack(jacobian, 1) + eye);
  LogDetEstimate result{log_abs, PoolVector<LogDetSample>(static_cast<std::size_t>(rows[0]))};
  for (std::size_t s = 0; s < result.samples.size(); ++s) {
    LogDetSample& sample = result.samples[s];
    sample.truncation_bound = sample.standard_error = 0.0;
    sample.sign = sign.value().at(static_cast<std::int64_t>(s));
    if (sample.sign == 0.0) sample.status = Status::singular;
  }
  return result;
}

LogDet log_det(FunctionRef<Var(const Var&)> g, const Var& x, const LogDetOptions& options) {
  check_start(op_name, x);
  if (x.rank() < 1) fail<ShapeError>(op_name, "x must have an axis of samples: got a number");
  if (options.lipschitz)
    require(*options.lipschitz >= 0.0 && *options.lipschitz < 1.0,
            "lipschitz must lie in [0, 1), where x + g(x) is surely invertible and the series converges",
            *options.lipschitz);
  std::visit([](const auto& estimator) { check(estimator); }, options.estimator);

  const ResidualMap at(op_name, g, x);
  LogDet result{{}, at.value(), {}};
  LogDetEstimate estimate;
  if (x.size() == 0) {
    estimate.value = sum(reshape(result.image, at.rows()), {1});
    estimate.samples.resize(static_cast<std::size_t>(x.size(0)));
    for (LogDetSample& sample : estimate.samples) sample.truncation_bound = sample.standard_error = 0.0;
  } else {
    estimate = std::visit([&](const auto& estimator) { return estimate_log_det(estimator, at, options); },
                          options.estimator);
  }
  result.value = estimate.value;
  result.report = {std::visit([](const auto& e) { return e.name; }, options.estimator),
                   std::move(estimate.samples), at.products()};
  for (std::size_t s = 0; s < result.report.samples.size(); ++s) {
    LogDetSample& sample = result.report.samples[s];
    if (sample.status != Status::singular &&
        !std::isfinite(result.value.value().at(static_cast<std::int64_t>(s))))
      sample.status = Status::non_finite;
  }
  return result;
}

std::string LogDetReport::to_string() const {
  std::string text =
      fmt::format("{} sample{} by {}", samples.size(), samples.size() == 1 ? "" : "s", estimator);
  constexpr std::array kinds{Status::converged, Status::max_steps, Status::diverged, Status::non_finite,
                             Status::singular};
  std::string_view before = ": ";
  for (const Status kind : kinds) {
    const auto found = std::count_if(samples.begin(), samples.end(),
                                     [&](const LogDetSample& s) { return s.status == kind; });
    if (found == 0) continue;
    text += fmt::format("{}{} {}", before, found, name(kind));
    before = ", ";
  }
  const auto infinite =
      std::count_if(samples.begin(), samples.end(), [](const LogDetSample& s) { return !s.finite_variance; });
  if (infinite > 0) text += fmt::format("; {} of infinite variance", infinite);
  int terms = 0;
  for (const LogDetSample& sample : samples) terms = std::max(terms, sample.terms);
  return text + fmt::format("; at most {} terms, {} products", terms, products);
}

}  // namespace banach
