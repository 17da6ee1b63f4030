#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace banach {
namespace {

Vars random_like(const Vars& values, Random& random) {
  Vars result;
  for (const Var& value : values) {
    Tensor t = Tensor::empty(value.shape(), DType::f64);
    random.fill_normal(t.mutable_data<double>(), t.size());
    result.push_back(Var(t));
  }
  return result;
}

double inner(const Vars& a, const Vars& b) {
  double sum = 0.0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (std::int64_t i = 0; i < a[k].size(); ++i)
      sum += a[k].value().data<double>()[i] * b[k].value().data<double>()[i];
  return sum;
}

double norm(const Vars& a) { return std::sqrt(inner(a, a)); }

double largest(const Vars& values) {
  double top = 0.0;
  for (const Var& value : values)
    for (const double x : value.value().values<double>()) top = std::max(top, std::abs(x));
  return top;
}

// a x + b y
Vars combine(double a, const Vars& x, double b, const Vars& y) {
  Vars result;
  for (std::size_t k = 0; k < x.size(); ++k) {
    Tensor t = x[k].value().clone();
    double* out = t.mutable_data<double>();
    for (std::int64_t i = 0; i < t.size(); ++i) out[i] = a * out[i] + b * y[k].value().data<double>()[i];
    result.push_back(Var(t));
  }
  return result;
}

Vars values_of(Function f, const Vars& inputs) {
  const NoGrad off;
  return f(inputs);
}

void check_order(Function f, const Vars& inputs, int order, const GradcheckOptions& options, Random& random,
                 GradcheckReport& report) {
  const double h = options.step * std::max(1.0, largest(inputs));
  for (int i = 0; i < options.directions; ++i) {
    const Vars v = random_like(inputs, random);
    const Vars u = random_like(values_of(f, inputs), random);
    const auto at = [&](double t) { return values_of(f, combine(1.0, inputs, t, v)); };
    // (f(-2h) - 8 f(-h) + 8 f(h) - f(2h)) / 12h
    const Vars far = combine(1.0, at(-2 * h), -1.0, at(2 * h)), near = combine(8.0, at(h), -8.0, at(-h));
    const Vars slope = combine(1.0 / (12 * h), far, 1.0 / (12 * h), near);
    const double numeric = inner(u, slope), analytic = inner(vjp(f, inputs, u).cotangents, v);
    const double scale = std::max({std::abs(numeric), std::abs(analytic), norm(u) * norm(slope)});
    double error = scale > 0.0 ? std::abs(numeric - analytic) / scale : 0.0;
    if (!std::isfinite(numeric) || !std::isfinite(analytic)) error = INFINITY;
    if (error >= report.error) report = {report.passed, error, order, analytic, numeric};
  }
  if (order == options.order) return;
  const Vars u = random_like(values_of(f, inputs), random);
  const auto pulled = [&](const Vars& x) { return vjp(f, x, u).cotangents; };
  check_order(pulled, inputs, order + 1, options, random, report);
}

}  // namespace

GradcheckReport gradcheck(Function f, const Vars& inputs, const GradcheckOptions& options) {
  if (options.order < 1)
    fail<ValueError>("gradcheck", fmt::format("order must be at least 1: got {}", options.order));
  for (const Var& input : inputs)
    if (input.dtype() != DType::f64)
      fail<ValueError>("gradcheck", "inputs must be f64, for the sake of the differences");
  Random random(options.seed);
  GradcheckReport report;
  check_order(f, inputs, 1, options, random, report);
  report.passed = report.error <= options.tolerance;
  return report;
}

std::string GradcheckReport::to_string() const {
  return fmt::format(
      "{}: largest relative error {:.2e} at order {} ({:.12g} analytic, {:.12g} by differences)",
      passed ? "passed" : "failed", error, order, analytic, numeric);
}

}  // namespace banach
