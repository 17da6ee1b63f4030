#pragma once
// Arithmetic and functions applied element by element, f32 and f64. Two operands broadcast under NumPy's rule
// and must share their dtype; a number takes the dtype of the tensor beside it. A NaN gives NaN at its own
// place. Throws ShapeError where shapes do not broadcast, DTypeError on mixed dtypes and on i64.

#include <banach/engine/op.hpp>

namespace banach {

Var add(const Var& a, const Var& b);
Var sub(const Var& a, const Var& b);
Var mul(const Var& a, const Var& b);
Var div(const Var& a, const Var& b);
/// scale * x + shift, for two numbers.
Var affine(const Var& x, double scale, double shift);

Var neg(const Var& x);
Var square(const Var& x);
/// 1 / x
Var reciprocal(const Var& x);
/// Derivative at zero: 0.
Var abs(const Var& x);
Var sqrt(const Var& x);
/// 1 / sqrt(x)
Var rsqrt(const Var& x);

Var exp(const Var& x);
/// exp(x) - 1, accurate near zero.
Var expm1(const Var& x);
Var log(const Var& x);
/// log(1 + x), accurate near zero.
Var log1p(const Var& x);
Var sin(const Var& x);
Var cos(const Var& x);
/// 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.
Var erf(const Var& x);

/// a^b, as std::pow has it: 1 for b = 0, NaN for negative a unless b is whole. The derivative in a is 0 where
/// b = 0; the one in b is 0 where a = 0 <= b, and NaN where a is negative.
Var pow(const Var& a, const Var& b);
/// x^b for a number b. Derivatives of any order are right at x = 0: those of x^2 are 0, 2, 0.
Var pow(const Var& x, double exponent);
Var pow(double base, const Var& exponent);

Var tanh(const Var& x);
/// 1 / (1 + exp(-x))
Var sigmoid(const Var& x);
/// log(1 + exp(x)), without overflow.
Var softplus(const Var& x);
/// max(x, 0). Derivative at zero: 0.
Var relu(const Var& x);
/// x where x > 0, slope * x elsewhere.
Var leaky_relu(const Var& x, double slope = 0.01);
/// x where x > 0, alpha (exp(x) - 1) elsewhere. Derivative at zero: alpha.
Var elu(const Var& x, double alpha = 1.0);
/// x sigmoid(x), also called swish; 0 at -infinity.
Var silu(const Var& x);
enum class GeluForm {
  exact,              ///< x (1 + erf(x / sqrt(2))) / 2
  tanh_approximation  ///< x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
};
/// x times the normal distribution function of x (Hendrycks and Gimpel 2016); 0 at -infinity.
Var gelu(const Var& x, GeluForm form = GeluForm::exact);
/// x limited to [low, high]; derivative 1 inside, bounds included, 0 outside. Throws ValueError unless low <=
/// high.
Var clamp(const Var& x, double low, double high);

/// The larger one; at ties each operand gets half of the cotangent.
Var maximum(const Var& a, const Var& b);
Var maximum(const Var& a, double b);
/// The smaller one; at ties each operand gets half of the cotangent.
Var minimum(const Var& a, const Var& b);
Var minimum(const Var& a, double b);
/// a where the condition is not zero (NaN included), b elsewhere; all three broadcast and share one dtype.
/// The condition has derivative zero.
Var where(const Var& condition, const Var& a, const Var& b);
Var where(const Var& condition, const Var& a, double b);
Var where(const Var& condition, double a, const Var& b);

inline Var operator-(const Var& x) { return neg(x); }
inline Var operator+(const Var& a, const Var& b) { return add(a, b); }
inline Var operator-(const Var& a, const Var& b) { return sub(a, b); }
inline Var operator*(const Var& a, const Var& b) { return mul(a, b); }
inline Var operator/(const Var& a, const Var& b) { return div(a, b); }
inline Var operator+(const Var& a, double b) { return affine(a, 1.0, b); }
inline Var operator+(double a, const Var& b) { return affine(b, 1.0, a); }
inline Var operator-(const Var& a, double b) { return affine(a, 1.0, -b); }
inline Var operator-(double a, const Var& b) { return affine(b, -1.0, a); }
// The shift is -0.0: adding it changes nothing, not even the sign of a zero.
inline Var operator*(const Var& a, double b) { return affine(a, b, -0.0); }
inline Var operator*(double a, const Var& b) { return affine(b, a, -0.0); }
Var operator/(const Var& a, double b);
Var operator/(double a, const Var& b);

}  // namespace banach
