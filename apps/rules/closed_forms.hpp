#pragma once
// What a rule puts in place of 1 / (1 - r) where f is linear: the estimate is phi(J^T) g for a function phi
// of its own.

namespace banach::rules {

/// A function at a number and its derivative there: all that a function of a matrix needs where eigenvalues
/// meet.
struct Dual {
  double value = 0.0, derivative = 0.0;

  friend Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.derivative + b.derivative}; }
  friend Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.derivative - b.derivative}; }
  friend Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.value * b.derivative + a.derivative * b.value};
  }
  friend Dual operator*(double s, Dual a) { return {s * a.value, s * a.derivative}; }
};

inline Dual constant(double value) { return {value, 0.0}; }

/// 1 / (1 - r).
inline Dual resolvent(Dual r) {
  const double inverse = 1.0 / (1.0 - r.value);
  return {inverse, inverse * inverse * r.derivative};
}

/// sum_{i < terms} r^i, by Horner's rule: no cancellation near r = 1.
inline Dual geometric(Dual r, int terms) {
  Dual sum;
  for (int i = 0; i < terms; ++i) sum = constant(1.0) + r * sum;
  return sum;
}

}  // namespace banach::rules
