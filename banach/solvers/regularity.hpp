#pragma once
// Internal: whether the root that a sample converges to is a regular one: I - J can be inverted there, and
// its derivative with respect to parameters exists.
//
// The condition of I - J at the computed root does not tell: near a double root it is finite, near a badly
// scaled regular one it is large. What tells is how the amplification a = error / residual develops. At a
// regular root it tends to a constant, at a root of multiplicity m the error is like residual^(1/m), so that
//   a ~ residual^-p,   p = 1 - 1/m: 1/2 at a double root, 0 at a regular one.
// The exponent is observed in two ways.
//   - By the way covered. The iterates still have the length L(r) before them when their residual is r, and
//     L ~ r^(1-p). L is unknown, but differences of it are sums of step lengths: from residuals r2 > r1 > r0,
//       L(r2) - L(r0) over L(r1) - L(r0)  =  (r2^q - r0^q) / (r1^q - r0^q),   q = 1 - p,
//     gives q. It takes four decades of the residual, each with a fall of at most a hundred (at a multiple
//     root no solver here converges faster than linearly), and p > 0.3 in all three triples of them: a
//     contraction of many rates looks like a multiple root for a while, but not for long.
//   - By the inverse itself, where the solver knows it: a = ||(I - J)^-1|| at its last iterates, over two
//     decades of the residual or more; p > 0.3 in both halves. So are roots found that are not isolated, near
//     which Newton's method may converge fast.

#include <array>
#include <cstddef>

namespace banach {

class Regularity {
 public:
  /// The iterates go on from another point.
  void restart();
  /// The next iterate: its residual, and its distance from the iterate before.
  void observe(double residual, double step_length);
  /// ||(I - J)^-1|| at the iterate observed last; infinite where I - J is singular to rounding.
  void set_amplification(double amplification);

  /// The exponent p; NaN where too little has been seen.
  double exponent() const;
  bool singular() const { return exponent() > threshold; }

  static constexpr double threshold = 0.3;

 private:
  struct Point {
    double residual, value;  // the value is the length since the point before, or the amplification
  };
  // The last points of falling residual: each is below the one before by a quarter of a decade or more.
  struct History {
    static constexpr std::size_t capacity = 32;
    std::array<Point, capacity> points{};
    std::size_t count = 0;
    bool add(const Point& p);
    // The newest point not before `from` steps back whose residual is at least `factor` times that one's;
    // `count` if there is none.
    std::size_t find(std::size_t from, double factor) const;
    const Point& back(std::size_t steps) const { return points[(count - 1 - steps) % capacity]; }
    std::size_t size() const { return count < capacity ? count : capacity; }
  };

  double path_exponent() const;
  double inverse_exponent() const;

  double length_ = 0.0;    // since the last point of the path
  double residual_ = 0.0;  // the last one
  History path_, inverse_;
};

}  // namespace banach
