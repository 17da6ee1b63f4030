// Linear algebra against its defining equations, computed by plain loops.
#include <banach/engine/grad.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace banach;
using namespace banach::test;

namespace {

/// Matrix i of a stack, as a small matrix of its own with plain loops.
struct Matrix {
  std::int64_t rows, columns;
  std::vector<double> data;

  Matrix(std::int64_t m, std::int64_t n) : rows(m), columns(n), data(static_cast<std::size_t>(m * n)) {}
  Matrix(const Tensor& stack, std::int64_t i) : Matrix(stack.size(-2), stack.size(-1)) {
    for (std::int64_t k = 0; k < rows * columns; ++k)
      data[static_cast<std::size_t>(k)] = stack.at(i * rows * columns + k);
  }
  double& operator()(std::int64_t i, std::int64_t j) {
    return data[static_cast<std::size_t>(i * columns + j)];
  }
  double operator()(std::int64_t i, std::int64_t j) const {
    return data[static_cast<std::size_t>(i * columns + j)];
  }
};

Matrix operator*(const Matrix& a, const Matrix& b) {
  Matrix c(a.rows, b.columns);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < b.columns; ++j)
      for (std::int64_t k = 0; k < a.columns; ++k) c(i, j) += a(i, k) * b(k, j);
  return c;
}

Matrix turned(const Matrix& a) {
  Matrix t(a.columns, a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < a.columns; ++j) t(j, i) = a(i, j);
  return t;
}

Matrix symmetric(const Matrix& a) {
  Matrix s = a;
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < a.rows; ++j) s(i, j) = 0.5 * (a(i, j) + a(j, i));
  return s;
}

Matrix identity(std::int64_t n) {
  Matrix eye(n, n);
  for (std::int64_t i = 0; i < n; ++i) eye(i, i) = 1.0;
  return eye;
}

double difference(const Matrix& a, const Matrix& b) {
  REQUIRE(a.rows == b.rows);
  REQUIRE(a.columns == b.columns);
  double worst = 0.0;
  for (std::size_t i = 0; i < a.data.size(); ++i) {
    if (std::isnan(a.data[i]) || std::isnan(b.data[i])) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(a.data[i] - b.data[i]));
  }
  return worst;
}

/// By expansion along the first row.
double determinant(const Matrix& a) {
  if (a.rows == 0) return 1.0;
  double total = 0.0;
  for (std::int64_t j = 0; j < a.columns; ++j) {
    Matrix minor(a.rows - 1, a.columns - 1);
    for (std::int64_t r = 1; r < a.rows; ++r)
      for (std::int64_t c = 0, to = 0; c < a.columns; ++c)
        if (c != j) minor(r - 1, to++) = a(r, c);
    total += (j % 2 == 0 ? 1.0 : -1.0) * a(0, j) * determinant(minor);
  }
  return total;
}

Tensor positive_definite(std::int64_t batch, std::int64_t n, std::uint64_t seed) {
  const Var root = normal({batch, n, n}, seed), skewed = normal({batch, n, n}, seed + 1);
  return (matmul(root, root, {.transpose_b = true}) + Var(Tensor::eye(n, DType::f64)) + skewed -
          transpose(skewed))
      .value();
}

bool all_nan(const Tensor& x) {
  for (std::int64_t i = 0; i < x.size(); ++i)
    if (!std::isnan(x.at(i))) return false;
  return true;
}

Tensor entry(const Tensor& stack, std::int64_t i) { return slice(stack, 0, i, i + 1).value(); }

}  // namespace

TEST_CASE("Cholesky factors multiply to the symmetric part", "[linalg]") {
  const std::int64_t n = GENERATE(1, 2, 5, 40), batch = 3;
  const Tensor a = positive_definite(batch, n, 1);
  const Tensor l = cholesky(a).value(), r = cholesky(a, {.upper = true}).value();
  for (std::int64_t i = 0; i < batch; ++i) {
    const Matrix lower(l, i), upper(r, i), part = symmetric(Matrix(a, i));
    CHECK(difference(lower * turned(lower), part) < 1e-12 * static_cast<double>(n));
    CHECK(difference(turned(upper) * upper, part) < 1e-12 * static_cast<double>(n));
    for (std::int64_t k = 0; k < n; ++k) CHECK(lower(k, k) > 0.0);
    for (std::int64_t k = 0; k < n; ++k)
      for (std::int64_t j = k + 1; j < n; ++j) CHECK(lower(k, j) == 0.0);
  }
}

TEST_CASE("solutions satisfy their equations", "[linalg]") {
  const std::int64_t n = GENERATE(1, 2, 7, 50), batch = 2, k = GENERATE(1, 4);
  const Tensor a = positive_definite(batch, n, 2), b = normal({batch, n, k}, 3);
  const double bound = 1e-10;
  const Tensor x = solve(a, b).value(), y = solve_spd(a, b).value();
  const Tensor turned_x = lu_solve(lu_factor(a), b, true).value(), inverted = inverse(a).value();
  for (std::int64_t i = 0; i < batch; ++i) {
    const Matrix m(a, i), right(b, i);
    CHECK(difference(m * Matrix(x, i), right) < bound);
    CHECK(difference(turned(m) * Matrix(turned_x, i), right) < bound);
    CHECK(difference(symmetric(m) * Matrix(y, i), right) < bound);
    CHECK(difference(m * Matrix(inverted, i), identity(n)) < bound);
  }
  for (const bool upper : {false, true})
    for (const bool transposed : {false, true})
      for (const bool unit : {false, true}) {
        const Tensor t = ((unit ? 0.1 : 1.0) * Var(a)).value();
        const Tensor z = solve_triangular(t, b, {upper, transposed, unit}).value();
        for (std::int64_t i = 0; i < batch; ++i) {
          Matrix m(t, i);
          for (std::int64_t r = 0; r < n; ++r) {
            if (unit) m(r, r) = 1.0;
            for (std::int64_t c = 0; c < n; ++c)
              if (c != r && (c > r) != upper) m(r, c) = 0.0;
          }
          const Matrix solution(z, i), image = (transposed ? turned(m) : m) * solution;
          double scale = 1.0;
          for (const double v : solution.data) scale = std::max(scale, std::abs(v));
          CHECK(difference(image, Matrix(b, i)) < 1e-12 * static_cast<double>(n) * scale);
        }
      }
}

TEST_CASE("a vector is a right-hand side for every matrix; leading axes broadcast", "[linalg]") {
  const Tensor a = positive_definite(3, 4, 4), b = normal({4}, 5), many = normal({2, 1, 4, 2}, 6);
  for (const Tensor& x : {solve(a, b).value(), solve_spd(Var(a) + transpose(a), 2.0 * Var(b)).value()})
    CHECK(x.shape() == Shape{3, 4});
  CHECK(solve(entry(a, 0).reshape({4, 4}), b).shape() == Shape{4});
  CHECK(solve_triangular(a, b).shape() == Shape{3, 4});
  const Tensor x = solve(a, many).value();
  REQUIRE(x.shape() == Shape{2, 3, 4, 2});
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      CHECK(difference(Matrix(a, j) * Matrix(x, 3 * i + j), Matrix(many, i)) < 1e-12);
  CHECK(solve(Tensor::zeros({0, 4, 4}), Tensor::zeros({4})).shape() == Shape{0, 4});
  CHECK(solve(Tensor::zeros({2, 0, 0}), Tensor::zeros({0, 3})).shape() == Shape{2, 0, 3});
  CHECK_THROWS_WITH(solve(a, normal({5}, 1)),
                    Catch::Contains("[solve] right-hand sides must have as many rows as the matrices"));
}

TEST_CASE("determinants agree with their expansion and with products of eigenvalues", "[linalg]") {
  const std::int64_t n = GENERATE(0, 1, 2, 3, 6), batch = 4;
  const Tensor a = normal({batch, n, n}, 7);
  const auto [sign, log_abs] = slogdet(a);
  for (std::int64_t i = 0; i < batch; ++i) {
    const double expected = determinant(Matrix(a, i));
    CHECK(sign.value().at(i) * std::exp(log_abs.value().at(i)) == Approx(expected).epsilon(1e-11));
  }
  if (n == 0) return;
  const Tensor spd = positive_definite(batch, n, 8), values = eigh(spd).values.value();
  const Tensor of_part = slogdet(0.5 * (Var(spd) + transpose(spd))).log_abs.value();
  for (std::int64_t i = 0; i < batch; ++i) {
    double total = 0.0;
    for (std::int64_t j = 0; j < n; ++j) total += std::log(values.at(i * n + j));
    CHECK(of_part.at(i) == Approx(total).epsilon(1e-11));
  }
  // Far outside the range of numbers.
  const auto large = slogdet(Var(Tensor::eye(300, DType::f64)) * -1e9);
  CHECK(large.sign.item() == 1.0);
  CHECK(large.log_abs.item() == Approx(300 * std::log(1e9)));
}

TEST_CASE("eigenvectors are orthonormal, diagonalise, and have fixed signs", "[linalg]") {
  const std::int64_t n = GENERATE(1, 2, 5, 30), batch = 3;
  const Tensor a = normal({batch, n, n}, 9);
  const auto [values, vectors] = eigh(a);
  for (std::int64_t i = 0; i < batch; ++i) {
    const Matrix v(vectors.value(), i);
    Matrix scaled = v;
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t r = 0; r < n; ++r) scaled(r, j) *= values.value().at(i * n + j);
      if (j > 0) CHECK(values.value().at(i * n + j) >= values.value().at(i * n + j - 1));
      double largest = 0.0;
      for (std::int64_t r = 0; r < n; ++r) largest = std::max(largest, std::abs(v(r, j)));
      std::int64_t first = 0;
      while (std::abs(v(first, j)) <= 0.4 * largest) ++first;
      CHECK(v(first, j) > 0.0);
    }
    CHECK(difference(turned(v) * v, identity(n)) < 1e-13 * static_cast<double>(n));
    CHECK(difference(scaled * turned(v), symmetric(Matrix(a, i))) < 1e-12 * static_cast<double>(n));
  }
}

TEST_CASE("triangles, diagonals and traces", "[linalg]") {
  const Tensor x = normal({2, 3, 4}, 10);
  for (const int offset : {-4, -2, 0, 1, 3, 9}) {
    const Tensor low = tril(x, offset).value(), high = triu(x, offset).value(),
                 d = diagonal(x, offset).value();
    std::int64_t length = 0;
    for (std::int64_t k = 0; k < 2; ++k)
      for (std::int64_t i = 0, on = 0; i < 3; ++i)
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t at = (k * 3 + i) * 4 + j;
          CHECK(low.at(at) == (j - i <= offset ? x.at(at) : 0.0));
          CHECK(high.at(at) == (j - i >= offset ? x.at(at) : 0.0));
          if (j - i == offset) CHECK(d.at(k * d.size(-1) + on++) == x.at(at));
          if (j - i == offset && k == 0) ++length;
        }
    CHECK(d.shape() == Shape{2, length});
  }
  const Tensor v = normal({2, 3}, 11);
  for (const int offset : {-1, 0, 2}) {
    const Var m = diagonal_matrix(v, offset);
    CHECK(m.shape() == Shape{2, 3 + std::abs(offset), 3 + std::abs(offset)});
    CHECK(same_bits(diagonal(m, offset).value(), v));
    CHECK(sum(abs(m)).item() == Approx(sum(abs(v)).item()));
  }
  const Tensor traces = trace(x).value();
  REQUIRE(traces.shape() == Shape{2});
  CHECK(traces.at(1) == Approx(x.at(12) + x.at(17) + x.at(22)));
}

TEST_CASE("a bad problem spoils neither its neighbours nor their gradients", "[linalg]") {
  const Tensor good = positive_definite(1, 3, 12);
  const Tensor indefinite = tensor({1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0}, {1, 3, 3});
  Tensor spoilt = good;
  spoilt.mutable_data<double>()[1] = std::numeric_limits<double>::quiet_NaN();
  const Tensor a = concat({Var(good), Var(indefinite), Var(spoilt), Var(good)}, 0).value();
  const Tensor b = normal({4, 3, 2}, 13);

  const auto check = [&](auto f) {
    const auto alone = [&](std::int64_t i) {
      const Tensor right = entry(b, i);
      return vjp([&](const Vars& at) { return Vars{f(at[0], Var(right))}; }, {Var(entry(a, i))},
                 {ones_like(f(Var(entry(a, i)), Var(right)))});
    };
    const Var whole = f(Var(a), Var(b));
    const Tensor gradient =
        vjp([&](const Vars& at) { return Vars{f(at[0], Var(b))}; }, {Var(a)}, {ones_like(whole)})
            .cotangents[0]
            .value();
    for (const std::int64_t i : {0, 3}) {
      CHECK(same_bits(entry(whole.value(), i), alone(i).outputs[0].value()));
      CHECK(same_bits(entry(gradient, i), alone(i).cotangents[0].value()));
      CHECK(std::isfinite(sum(entry(gradient, i)).item()));
    }
    for (const std::int64_t i : {1, 2}) {
      CHECK(all_nan(entry(whole.value(), i)));
      CHECK(all_nan(entry(gradient, i)));
    }
  };
  check([](const Var& m, const Var&) { return cholesky(m); });
  check([](const Var& m, const Var& right) { return solve_spd(m, right); });
  check([](const Var& m, const Var& right) { return solve(m, right); });
  check([](const Var& m, const Var&) { return inverse(m); });
}

TEST_CASE("one factor solves many systems, and differentiates each", "[linalg]") {
  const Tensor a = positive_definite(2, 3, 14);
  const Tape tape;
  const Var m = leaf(a);
  const LuFactor factor = lu_factor(m);
  const Var b = normal({2, 3, 1}, 15), c = normal({2, 3, 1}, 16);
  const Var total = sum(lu_solve(factor, b) * c);
  // c^T A^-1 b: the derivative is -A^-T c b^T A^-T, and A^-T c is a solve with the same factor.
  const Var expected = -matmul(lu_solve(factor, c, true), lu_solve(factor, b), {.transpose_b = true});
  const Tensor got = grad(total, {m})[0].value();
  for (std::int64_t i = 0; i < 2; ++i) CHECK(difference(Matrix(got, i), Matrix(expected.value(), i)) < 1e-13);
}

TEST_CASE("gradients of eigenvectors near coinciding eigenvalues", "[linalg]") {
  // 5 is alone, 1 is double.
  const Matrix q = [] {
    const Tensor rotation = eigh(normal({3, 3}, 17)).vectors.value();
    return Matrix(rotation, 0);
  }();
  Matrix scaled = q;
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t j = 0; j < 3; ++j) scaled(r, j) *= j == 1 ? 5.0 : 1.0;
  const Matrix m = scaled * turned(q);
  const Tensor a = tensor(m.data, {3, 3}), weight = normal({3, 3}, 18);
  const auto quadratic = [&](int from, int to) {
    return [&weight, from, to](const Vars& at) {
      const Var v = slice(eigh(at[0]).vectors, 1, from, to);
      return Vars{sum(matmul(weight, v) * v)};
    };
  };
  const Var one = scalar(1.0, DType::f64);
  SECTION("only the separated one is used: as by differences") {
    const auto f = quadratic(2, 3);
    const Tensor got = vjp(f, {a}, {one}).cotangents[0].value();
    for (std::int64_t k = 0; k < 9; ++k) {
      const auto at = [&](double t) {
        Tensor moved = a;
        moved.mutable_data<double>()[k] += t;
        return f({moved})[0].item();
      };
      const double h = 1e-3;
      CHECK(got.at(k) == Approx((8 * (at(h) - at(-h)) - at(2 * h) + at(-2 * h)) / (12 * h)).margin(1e-9));
    }
  }
  SECTION("one of the double pair is used: no derivative") {
    CHECK(all_nan(vjp(quadratic(0, 1), {a}, {one}).cotangents[0].value()));
  }
  SECTION("the sum of the eigenvalues is the trace, double or not") {
    const auto f = [](const Vars& at) { return Vars{sum(eigh(at[0]).values)}; };
    const Tensor got = vjp(f, {a}, {one}).cotangents[0].value();
    CHECK(difference(Matrix(got, 0), identity(3)) < 1e-13);
  }
}

TEST_CASE("many small matrices: threads change no bit", "[linalg]") {
  const Tensor a = positive_definite(4000, 4, 19), b = normal({4000, 4, 1}, 20);
  check_threads([&] {
    const Eigh e = eigh(a);
    const SignLogDet d = slogdet(a);
    return Vars{cholesky(a), solve(a, b), solve_spd(a, b), solve_triangular(a, b),
                e.values,    e.vectors,   d.log_abs};
  });
}
