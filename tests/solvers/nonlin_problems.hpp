#pragma once
// The 23 systems F(x) = 0 of Burkardt's test_nonlin, in the form, dimensions and starting points of the test
// set of NonlinearSolve.jl (NonlinearProblemLibrary), from their formulas; most of them stem from Moré,
// Garbow and Hillstrom, Testing Unconstrained Optimization Software, ACM TOMS 7 (1981). Each is written once,
// for any type of number, so that its derivative comes with it.

#include <banach/solvers/fixed_point.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace banach::test {

/// A number and its derivative in one direction.
struct Dual {
  double value = 0.0, slope = 0.0;
  Dual() = default;
  Dual(double v) : value(v) {}  // NOLINT: constants mix with duals
  Dual(double v, double d) : value(v), slope(d) {}
  friend Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
  friend Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
  friend Dual operator-(Dual a) { return {-a.value, -a.slope}; }
  friend Dual operator*(Dual a, Dual b) { return {a.value * b.value, a.slope * b.value + a.value * b.slope}; }
  friend Dual operator/(Dual a, Dual b) {
    const double quotient = a.value / b.value;
    return {quotient, (a.slope - quotient * b.slope) / b.value};
  }
  friend Dual exp(Dual a) { return {std::exp(a.value), std::exp(a.value) * a.slope}; }
  friend Dual sin(Dual a) { return {std::sin(a.value), std::cos(a.value) * a.slope}; }
  friend Dual cos(Dual a) { return {std::cos(a.value), -std::sin(a.value) * a.slope}; }
  friend Dual atan(Dual a) { return {std::atan(a.value), a.slope / (1.0 + a.value * a.value)}; }
  friend Dual sqrt(Dual a) { return {std::sqrt(a.value), 0.5 * a.slope / std::sqrt(a.value)}; }
};
inline double value_of(double x) { return x; }
inline double value_of(const Dual& x) { return x.value; }

/// F at x, for one type of number.
template <class S>
using System = std::function<void(const std::vector<S>& x, std::vector<S>& F)>;

struct NonlinProblem {
  int number;
  std::string title;
  std::vector<double> start;
  System<double> value;
  System<Dual> dual;

  std::int64_t size() const { return static_cast<std::int64_t>(start.size()); }

  /// ||F(x)||_2
  double norm(const Tensor& x) const {
    std::vector<double> at(start.size()), F(start.size());
    for (std::size_t i = 0; i < at.size(); ++i) at[i] = x.at(static_cast<std::int64_t>(i));
    value(at, F);
    double squares = 0.0;
    for (const double f : F) squares += f * f;
    return std::sqrt(squares);
  }

  /// z = z - F(z), each row of a batch the same problem, with exact products or, if not `exact`, without any.
  /// f64 only.
  FixedPointProblem problem(bool exact = true) const {
    const auto map = [](const auto& system, const Tensor& z, auto variable, auto result) {
      using S = decltype(variable(0.0, 0));
      const std::int64_t batch = z.shape()[0], n = z.shape()[1];
      Tensor out = Tensor::empty(z.shape(), z.dtype());
      double* to = out.mutable_data<double>();
      std::vector<S> x(static_cast<std::size_t>(n)), F(static_cast<std::size_t>(n));
      for (std::int64_t s = 0; s < batch; ++s) {
        for (std::int64_t i = 0; i < n; ++i)
          x[static_cast<std::size_t>(i)] = variable(z.data<double>()[s * n + i], s * n + i);
        system(x, F);
        for (std::int64_t i = 0; i < n; ++i)
          to[s * n + i] = result(x[static_cast<std::size_t>(i)], F[static_cast<std::size_t>(i)]);
      }
      return out;
    };
    FixedPointProblem p;
    p.f = [map, F = value](const Tensor& z) {
      return map(
          F, z, [](double x, std::int64_t) { return x; }, [](double x, double f) { return x - f; });
    };
    if (exact)
      p.linearize = [map, F = dual](const Tensor& z) -> Linearization {
        return {.jvp = [map, F, z](const Tensor& v) {
          return map(
              F, z, [&](double x, std::int64_t at) { return Dual(x, v.data<double>()[at]); },
              [](const Dual& x, const Dual& f) { return x.slope - f.slope; });
        }};
      };
    return p;
  }

  /// The starting point as a state of `batch` equal rows.
  Tensor first(std::int64_t batch = 1) const {
    Tensor z = Tensor::empty({batch, size()}, DType::f64);
    for (std::int64_t i = 0; i < z.size(); ++i)
      z.mutable_data<double>()[i] = start[static_cast<std::size_t>(i % size())];
    return z;
  }
};

namespace nonlin {

template <class F>
NonlinProblem make(int number, std::string title, std::vector<double> start, F f) {
  return {number, std::move(title), std::move(start), f, f};
}

inline std::vector<double> points(int n, const std::function<double(double)>& at) {
  std::vector<double> x;
  for (int i = 1; i <= n; ++i) x.push_back(at(i));
  return x;
}

/// The entries of X X - B, with X and B of m x m row by row and B = 1e-4 I but for its entry (0, 1), which
/// is 1.
inline constexpr auto square_root(std::size_t m) {
  return [m](const auto& x, auto& F) {
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < m; ++j) {
        F[i * m + j] = i == j ? -1e-4 : i == 0 && j == 1 ? -1.0 : 0.0;
        for (std::size_t k = 0; k < m; ++k) F[i * m + j] = F[i * m + j] + x[i * m + k] * x[k * m + j];
      }
  };
}

}  // namespace nonlin

/// All 23, in order.
inline const std::vector<NonlinProblem>& nonlin_problems() {
  using nonlin::make, nonlin::points;
  static const double pi = std::acos(-1.0);
  static const std::vector<NonlinProblem> problems{
      make(1, "generalized Rosenbrock", points(10, [](double i) { return i == 1 ? -1.2 : 1.0; }),
           [](const auto& x, auto& F) {
             F[0] = 1.0 - x[0];
             for (std::size_t i = 1; i < x.size(); ++i) F[i] = 10.0 * (x[i] - x[i - 1] * x[i - 1]);
           }),
      make(2, "Powell singular", {3.0, -1.0, 0.0, 1.0},
           [](const auto& x, auto& F) {
             const auto a = x[1] - 2.0 * x[2], b = x[0] - x[3];
             F[0] = x[0] + 10.0 * x[1];
             F[1] = std::sqrt(5.0) * (x[2] - x[3]);
             F[2] = a * a;
             F[3] = std::sqrt(10.0) * (b * b);
           }),
      make(3, "Powell badly scaled", {0.0, 1.0},
           [](const auto& x, auto& F) {
             using std::exp;
             F[0] = 1e4 * x[0] * x[1] - 1.0;
             F[1] = exp(-x[0]) + exp(-x[1]) - 1.0001;
           }),
      make(4, "Wood", {-3.0, -1.0, -3.0, -1.0},
           [](const auto& x, auto& F) {
             const auto a = x[1] - x[0] * x[0], b = x[3] - x[2] * x[2];
             F[0] = -200.0 * x[0] * a - (1.0 - x[0]);
             F[1] = 200.0 * a + 20.2 * (x[1] - 1.0) + 19.8 * (x[3] - 1.0);
             F[2] = -180.0 * x[2] * b - (1.0 - x[2]);
             F[3] = 180.0 * b + 20.2 * (x[3] - 1.0) + 19.8 * (x[1] - 1.0);
           }),
      make(5, "helical valley", {-1.0, 0.0, 0.0},
           [](const auto& x, auto& F) {
             using std::atan, std::sqrt;
             auto turn = 0.0 * x[0];
             if (value_of(x[0]) != 0.0) turn = atan(x[1] / x[0]) / (2.0 * pi);
             if (value_of(x[0]) < 0.0) turn = turn + 0.5;
             if (value_of(x[0]) == 0.0 && value_of(x[1]) != 0.0)
               turn = turn + std::copysign(0.25, value_of(x[1]));
             F[0] = 10.0 * (x[2] - 10.0 * turn);
             F[1] = 10.0 * (sqrt(x[0] * x[0] + x[1] * x[1]) - 1.0);
             F[2] = x[2];
           }),
      // With the factors of that test set, j and k where Watson's gradient has j - 1 and k - 1, and its F[0].
      make(6, "Watson", {0.0, 0.0},
           [](const auto& x, auto& F) {
             const std::size_t n = x.size();
             for (auto& f : F) f = 0.0;
             for (int i = 1; i <= 29; ++i) {
               const double t = i / 29.0;
               auto slope = 0.0 * x[0], sum = 0.0 * x[0];
               for (std::size_t j = 0; j < n; ++j) {
                 const auto power = static_cast<double>(j);
                 if (j > 0) slope = slope + (power + 1.0) * std::pow(t, power - 1.0) * x[j];
                 sum = sum + std::pow(t, power) * x[j];
               }
               for (std::size_t k = 0; k < n; ++k) {
                 const auto power = static_cast<double>(k);
                 F[k] = F[k] +
                        std::pow(t, power - 1.0) * (slope - sum * sum - 1.0) * (power + 1.0 - 2.0 * t * sum);
               }
             }
             F[0] = F[0] + 3.0 * x[0] - 2.0 * x[0] * x[0] + 2.0 * x[0] * x[0] * x[0];
             F[1] = F[1] + x[1] - x[1] * x[1] - 1.0;
           }),
      make(7, "Chebyquad", {0.0, 2.0 / 3.0},
           [](const auto& x, auto& F) {
             const std::size_t n = x.size();
             for (std::size_t i = 1; i <= n; ++i)
               F[i - 1] = i % 2 == 0 ? 1.0 / (static_cast<double>(i) * static_cast<double>(i) - 1.0) : 0.0;
             for (std::size_t j = 0; j < n; ++j) {
               auto before = 0.0 * x[j] + 1.0, polynomial = x[j];  // of Chebyshev, of degree 0 and 1
               for (std::size_t i = 0; i < n; ++i) {
                 F[i] = F[i] + polynomial / static_cast<double>(n);
                 const auto next = 2.0 * x[j] * polynomial - before;
                 before = polynomial;
                 polynomial = next;
               }
             }
           }),
      make(8, "Brown almost linear", std::vector<double>(10, 0.5),
           [](const auto& x, auto& F) {
             const std::size_t n = x.size();
             auto sum = 0.0 * x[0], product = 0.0 * x[0] + 1.0;
             for (const auto& xi : x) {
               sum = sum + xi;
               product = product * xi;
             }
             for (std::size_t i = 0; i + 1 < n; ++i) F[i] = x[i] + sum - (static_cast<double>(n) + 1.0);
             F[n - 1] = product - 1.0;
           }),
      make(9, "discrete boundary value", points(10, [](double i) { return i * (i - 11.0) / 121.0; }),
           [](const auto& x, auto& F) {
             const std::size_t n = x.size();
             const double h = 1.0 / (static_cast<double>(n) + 1.0);
             for (std::size_t k = 0; k < n; ++k) {
               const auto a = x[k] + (static_cast<double>(k) + 1.0) * h + 1.0;
               F[k] = 2.0 * x[k] + 0.5 * h * h * (a * a * a);
               if (k > 0) F[k] = F[k] - x[k - 1];
               if (k + 1 < n) F[k] = F[k] - x[k + 1];
             }
           }),
      make(10, "discrete integral equation", points(10, [](double i) { return i * (i - 11.0) / 121.0; }),
           [](const auto& x, auto& F) {
             const std::size_t n = x.size();
             const double h = 1.0 / (static_cast<double>(n) + 1.0);
             for (std::size_t k = 0; k < n; ++k) {
               const double tk = (static_cast<double>(k) + 1.0) * h;
               auto sum = 0.0 * x[k];
               for (std::size_t j = 0; j < n; ++j) {
                 const double tj = (static_cast<double>(j) + 1.0) * h;
                 const auto a = x[j] + tj + 1.0;
                 if (j <= k) sum = sum + (1.0 - tk) * tj * (a * a * a);
                 if (j >= k) sum = sum + tk * (1.0 - tj) * (a * a * a);
               }
               F[k] = x[k] + 0.5 * h * sum;
             }
           }),
      make(11, "trigonometric", std::vector<double>(10, 0.1),
           [](const auto& x, auto& F) {
             using std::cos, std::sin;
             auto sum = 0.0 * x[0];
             for (const auto& xi : x) sum = sum + cos(xi);
             for (std::size_t k = 0; k < x.size(); ++k)
               F[k] = static_cast<double>(x.size()) - sum +
                      (static_cast<double>(k) + 1.0) * (1.0 - cos(x[k])) - sin(x[k]);
           }),
      make(12, "variably dimensioned", points(10, [](double i) { return 1.0 - i / 10.0; }),
           [](const auto& x, auto& F) {
             auto sum = 0.0 * x[0];
             for (std::size_t j = 0; j < x.size(); ++j)
               sum = sum + (static_cast<double>(j) + 1.0) * (x[j] - 1.0);
             for (std::size_t k = 0; k < x.size(); ++k)
               F[k] = x[k] - 1.0 + (static_cast<double>(k) + 1.0) * sum * (1.0 + 2.0 * sum * sum);
           }),
      make(13, "Broyden tridiagonal", std::vector<double>(10, -1.0),
           [](const auto& x, auto& F) {
             for (std::size_t k = 0; k < x.size(); ++k) {
               F[k] = (3.0 - 2.0 * x[k]) * x[k] + 1.0;
               if (k > 0) F[k] = F[k] - x[k - 1];
               if (k + 1 < x.size()) F[k] = F[k] - 2.0 * x[k + 1];
             }
           }),
      make(14, "Broyden banded", std::vector<double>(10, -1.0),
           [](const auto& x, auto& F) {
             for (std::size_t k = 0; k < x.size(); ++k) {
               F[k] = x[k] * (2.0 + 5.0 * x[k] * x[k]) + 1.0;
               for (std::size_t j = k < 5 ? 0 : k - 5; j < std::min(k + 2, x.size()); ++j)
                 if (j != k) F[k] = F[k] - x[j] * (1.0 + x[j]);
             }
           }),
      make(15, "Hammarling 2 by 2 matrix square root", {1.0, 0.0, 0.0, 1.0}, nonlin::square_root(2)),
      make(16, "Hammarling 3 by 3 matrix square root", {1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0},
           nonlin::square_root(3)),
      make(17, "Dennis and Schnabel 2 by 2", {1.0, 5.0},
           [](const auto& x, auto& F) {
             F[0] = x[0] + x[1] - 3.0;
             F[1] = x[0] * x[0] + x[1] * x[1] - 9.0;
           }),
      make(18, "sample problem 18", {2.0, 2.0},
           [](const auto& x, auto& F) {
             using std::exp;
             F[0] = F[1] = 0.0 * x[0];
             if (value_of(x[0]) != 0.0) F[0] = x[1] * x[1] * (1.0 - exp(-(x[0] * x[0]))) / x[0];
             if (value_of(x[1]) != 0.0) F[1] = x[0] * (1.0 - exp(-(x[1] * x[1]))) / x[1];
           }),
      make(19, "sample problem 19", {3.0, 3.0},
           [](const auto& x, auto& F) {
             const auto squares = x[0] * x[0] + x[1] * x[1];
             F[0] = x[0] * squares;
             F[1] = x[1] * squares;
           }),
      make(20, "x (x - 5)^2", {1.0},
           [](const auto& x, auto& F) { F[0] = x[0] * ((x[0] - 5.0) * (x[0] - 5.0)); }),
      make(21, "Freudenstein and Roth", {0.5, -2.0},
           [](const auto& x, auto& F) {
             const auto square = x[1] * x[1], cube = square * x[1];
             F[0] = x[0] - cube + 5.0 * square - 2.0 * x[1] - 13.0;
             F[1] = x[0] + cube + square - 14.0 * x[1] - 29.0;
           }),
      make(22, "Boggs", {1.0, 0.0},
           [](const auto& x, auto& F) {
             using std::cos;
             F[0] = x[0] * x[0] - x[1] + 1.0;
             F[1] = x[0] - cos(0.5 * pi * x[1]);
           }),
      make(23, "Chandrasekhar", std::vector<double>(10, 1.0),
           [](const auto& x, auto& F) {
             const auto n = static_cast<double>(x.size());
             for (std::size_t i = 0; i < x.size(); ++i) {
               const double mu = (static_cast<double>(i) + 1.0) / n;
               auto sum = 0.0 * x[0];
               for (std::size_t j = 0; j < x.size(); ++j)
                 sum = sum + mu / (mu + (static_cast<double>(j) + 1.0) / n) * x[j];
               F[i] = x[i] - 1.0 / (1.0 - 0.9 / (2.0 * n) * sum);
             }
           }),
  };
  return problems;
}

}  // namespace banach::test
