#include <banach/solvers/regularity.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace banach {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

// q with (r2^q - 1) / (r1^q - 1) = quotient, for r2 > r1 > 1, within 0 ... 1: the left side grows with q.
double solve_power(double r1, double r2, double quotient) {
  if (quotient >= (r2 - 1.0) / (r1 - 1.0)) return 1.0;
  const double a = std::log(r1), b = std::log(r2);
  double low = 1e-3, high = 1.0, q = 0.5;
  for (int i = 0; i < 40; ++i) {  // Newton's method; where it leaves the bracket, bisection
    const double left = std::expm1(q * b), right = std::expm1(q * a), excess = left - quotient * right;
    (excess < 0.0 ? low : high) = q;
    const double last = q;
    q -= excess / (b * (left + 1.0) - quotient * a * (right + 1.0));
    if (!(q > low && q < high)) q = 0.5 * (low + high);
    if (std::abs(q - last) < 1e-9) break;
  }
  return q;
}

}  // namespace

bool Regularity::History::add(const Point& p) {
  constexpr double quarter_decade = 0.5623;
  if (!(p.residual > 0.0) || (count > 0 && p.residual > quarter_decade * back(0).residual)) return false;
  points[count++ % capacity] = p;
  return true;
}

std::size_t Regularity::History::find(std::size_t from, double factor) const {
  const double least = factor * back(from).residual;
  for (std::size_t i = from; i < size(); ++i)
    if (back(i).residual >= least) return i;
  return size();
}

void Regularity::restart() { *this = {}; }

void Regularity::observe(double residual, double step_length) {
  length_ += step_length;
  residual_ = residual;
  if (path_.add({residual, length_})) length_ = 0.0;
}

void Regularity::set_amplification(double amplification) { inverse_.add({residual_, amplification}); }

double Regularity::exponent() const {
  const double path = path_exponent(), inverse = inverse_exponent();
  return std::isnan(path) || inverse > path ? inverse : path;
}

// The smallest of the exponents of the triples: all must agree that there is one.
double Regularity::path_exponent() const {
  if (path_.count == 0) return unknown;
  constexpr int decades = 4;
  std::array<Point, decades + 1> at{{{path_.back(0).residual, 0.0}}};  // lengths between these points
  std::size_t steps = 0;
  for (std::size_t i = 1; i <= decades; ++i) {
    const std::size_t next = path_.find(steps, 10.0);
    if (next == path_.size()) return unknown;
    at[i] = {path_.back(next).residual, 0.0};
    for (; steps < next; ++steps) at[i].value += path_.back(steps).value;
    if (at[i].residual > 100.0 * at[i - 1].residual) return 0.0;
  }
  double exponent = 1.0;
  for (std::size_t i = 0; i + 2 < at.size() && exponent > 0.0; ++i) {
    const double quotient = 1.0 + at[i + 2].value / at[i + 1].value;
    if (std::isnan(quotient)) return unknown;
    exponent = std::min(exponent, 1.0 - solve_power(at[i + 1].residual / at[i].residual,
                                                    at[i + 2].residual / at[i].residual, quotient));
  }
  return std::max(exponent, 0.0);
}

double Regularity::inverse_exponent() const {
  if (inverse_.count == 0) return unknown;
  const Point& last = inverse_.back(0);
  if (std::isinf(last.value)) return 1.0;
  const std::size_t far = std::max<std::size_t>(2, inverse_.find(0, 100.0));
  if (far >= inverse_.size()) return unknown;
  const Point &middle = inverse_.back((far + 1) / 2), &first = inverse_.back(far);
  const auto growth = [](const Point& from, const Point& to) {
    return std::log(to.value / from.value) / std::log(from.residual / to.residual);
  };
  const double exponent = std::min(growth(first, middle), growth(middle, last));
  return std::isnan(exponent) ? unknown : std::clamp(exponent, 0.0, 1.0);
}

}  // namespace banach
