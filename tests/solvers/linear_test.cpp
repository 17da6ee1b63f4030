#include "maps.hpp"

#include <banach/solvers/linear.hpp>
#include <tests/threads.hpp>

#include <numeric>

using namespace banach;
using namespace banach::test;

namespace {

// M x for one matrix a sample.
StateMap multiply(std::vector<Matrix> matrices) {
  return per_sample(
      [matrices = std::move(matrices)](std::int64_t s, const auto* in, auto* out, std::int64_t n) {
        using T = std::decay_t<decltype(*in)>;
        const Matrix& m = matrices[static_cast<std::size_t>(s)];
        for (std::int64_t i = 0; i < n; ++i) {
          double sum = 0.0;
          for (std::int64_t j = 0; j < n; ++j) sum += m(i, j) * static_cast<double>(in[j]);
          out[i] = static_cast<T>(sum);
        }
      });
}

struct Systems {
  std::vector<Matrix> m;
  Tensor b;
  StateMap apply;
  Systems(std::int64_t batch, std::int64_t n, double radius, DType dtype, std::uint64_t seed) {
    Random random(seed);
    for (std::int64_t s = 0; s < batch; ++s) m.push_back(random_with_radius(n, radius, random));
    b = random_state(batch, n, dtype, random);
    apply = multiply(m);
  }
  // Largest ||x - exact|| / ||exact|| over the samples.
  double error(const Tensor& x) const {
    double worst = 0.0;
    const std::int64_t n = b.shape()[1];
    for (std::size_t s = 0; s < m.size(); ++s) {
      std::vector<double> rhs;
      for (std::int64_t i = 0; i < n; ++i) rhs.push_back(b.at(static_cast<std::int64_t>(s) * n + i));
      const auto exact = solve_identity_minus(m[s], rhs);
      double squares = 0.0, scale = 0.0;
      for (std::int64_t i = 0; i < n; ++i) {
        squares +=
            std::pow(x.at(static_cast<std::int64_t>(s) * n + i) - exact[static_cast<std::size_t>(i)], 2);
        scale += std::pow(exact[static_cast<std::size_t>(i)], 2);
      }
      worst = std::max(worst, std::sqrt(squares / scale));
    }
    return worst;
  }
};

// ||b + M x - x|| / ||b||, computed apart from the solver.
double true_residual(const StateMap& apply, const Tensor& b, const Tensor& x, std::int64_t s) {
  const Tensor mx = apply(x);
  double squares = 0.0, scale = 0.0;
  const std::int64_t n = b.shape()[1];
  for (std::int64_t i = s * n; i < (s + 1) * n; ++i) {
    squares += std::pow(b.at(i) + mx.at(i) - x.at(i), 2);
    scale += b.at(i) * b.at(i);
  }
  return std::sqrt(squares / scale);
}

// ||x|| / ||b||: how much larger rounding is than b would suggest.
double growth(const Tensor& b, const Tensor& x, std::int64_t s) {
  double squares = 0.0, scale = 0.0;
  const std::int64_t n = b.shape()[1];
  for (std::int64_t i = s * n; i < (s + 1) * n; ++i) {
    squares += x.at(i) * x.at(i);
    scale += b.at(i) * b.at(i);
  }
  return std::sqrt(squares / scale);
}

// A random symmetric matrix with the eigenvalues value(0), ..., value(n - 1).
template <class Value>
Matrix symmetric(std::int64_t n, Random& random, Value value) {
  const Matrix q = random_orthogonal(n, random);
  Matrix m(n);
  for (std::int64_t k = 0; k < n; ++k)
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) m(i, j) += value(k) * q(k, i) * q(k, j);
  return m;
}

// One system (I - A) x with A given directly, as M = I - A.
StateMap of_matrix(std::int64_t n, const std::vector<double>& a) {
  Matrix m(n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      m(i, j) = (i == j ? 1.0 : 0.0) - a[static_cast<std::size_t>(i * n + j)];
  return multiply({m});
}

bool all_converged(const LinearSolution& s) {
  return std::all_of(s.status.begin(), s.status.end(),
                     [](Status status) { return status == Status::converged; });
}

const double not_a_number = std::nan("");

}  // namespace

// It has no guarantee where the eigenvalues of I - M lie around zero: there it may fail, and must say so.
TEST_CASE("BiCGStab against LU on random systems") {
  const std::int64_t n = GENERATE(1, 2, 5, 30, 70);
  const double radius = GENERATE(0.3, 0.9, 0.99, 1.5, 3.0);
  const Systems systems(4, n, radius, DType::f64, static_cast<std::uint64_t>(n));
  const auto s = solve_linear(BiCgStab{.max_steps = 2000, .tolerance = 1e-12}, systems.apply, systems.b);
  if (radius < 1.0 || n <= 5) {
    CHECK(all_converged(s));
    CHECK(systems.error(s.x) < 1e-8);
  }
  for (std::int64_t i = 0; i < 4; ++i) {
    const bool small = true_residual(systems.apply, systems.b, s.x, i) <= 1.01e-12;
    CHECK((s.status[static_cast<std::size_t>(i)] == Status::converged) == small);
    CHECK(s.residual[static_cast<std::size_t>(i)] ==
          Approx(true_residual(systems.apply, systems.b, s.x, i)).margin(1e-14));
  }
}

TEST_CASE("conjugate gradients against LU on symmetric positive definite systems") {
  const std::int64_t n = GENERATE(1, 2, 5, 30, 70);
  const double smallest = GENERATE(0.5, 1e-2, 1e-4), largest = GENERATE(1.0, 20.0);
  Systems systems(4, n, 0.5, DType::f64, static_cast<std::uint64_t>(n));
  Random random(static_cast<std::uint64_t>(n));
  for (Matrix& m : systems.m)
    m = symmetric(n, random, [&](std::int64_t i) {
      return 1.0 - smallest * std::pow(largest / smallest, static_cast<double>(i) / static_cast<double>(n));
    });
  systems.apply = multiply(systems.m);
  const auto cg = solve_linear(Cg{.max_steps = 2000, .tolerance = 1e-9}, systems.apply, systems.b);
  CHECK(all_converged(cg));
  CHECK(systems.error(cg.x) < 1e-9 * largest / smallest);
  for (std::int64_t i = 0; i < 4; ++i)
    CHECK(cg.residual[static_cast<std::size_t>(i)] ==
          Approx(true_residual(systems.apply, systems.b, cg.x, i)).margin(1e-14));
  // The bound of Chebyshev's polynomials, 2 ((sqrt(k) - 1) / (sqrt(k) + 1))^steps, on the error's energy
  // norm, or the n steps of exact arithmetic where these are fewer and roundings few; and a check.
  const double k = largest / smallest, gain = (std::sqrt(k) + 1.0) / (std::sqrt(k) - 1.0);
  const double steps = std::log(2.0 * std::sqrt(k) / 1e-9) / std::log(gain);
  CHECK(cg.evaluations <= std::ceil(steps) + 2);
}

TEST_CASE("conjugate gradients say that a matrix is indefinite, or not symmetric") {
  Random random(31);
  const std::int64_t n = 12;
  const Matrix indefinite =
      symmetric(n, random, [](std::int64_t i) { return i == 4 ? 3.0 : 0.1 * static_cast<double>(i) - 1.0; });
  const Matrix definite = symmetric(n, random, [](std::int64_t i) { return 0.05 * static_cast<double>(i); });
  const Matrix general = random_with_radius(n, 3.0, random);
  const Tensor b = random_state(3, n, DType::f64, random);
  const StateMap apply = multiply({indefinite, definite, general});
  const auto cg = solve_linear(Cg{.tolerance = 1e-10}, apply, b);
  CHECK(cg.status[0] == Status::indefinite);
  CHECK(cg.status[1] == Status::converged);
  CHECK(cg.status[2] != Status::converged);
  for (std::int64_t i = 0; i < 3; ++i)
    CHECK(cg.residual[static_cast<std::size_t>(i)] == Approx(true_residual(apply, b, cg.x, i)).margin(1e-14));
  CHECK(name(Status::indefinite) == "indefinite");
}

TEST_CASE("BiCGStab: breakdowns") {
  // A r is orthogonal to r: no step of either kind leads anywhere unless it is lengthened.
  const auto rotation =
      solve_linear(BiCgStab{.tolerance = 1e-12}, of_matrix(2, {0, 1, -1, 0}), tensor({1.0, 0.0}, {1, 2}));
  CHECK(all_converged(rotation));
  CHECK(rotation.x.at(1) == Approx(1.0));
  // A cyclic shift: the Krylov space of b = e1 holds the solution only when it is whole.
  std::vector<double> shift(25, 0.0);
  for (std::size_t i = 0; i < 5; ++i) shift[i * 5 + (i + 4) % 5] = 1.0;
  const StateMap apply = of_matrix(5, shift);
  const Tensor b = tensor({1.0, 0.0, 0.0, 0.0, 0.0}, {1, 5});
  const auto cyclic = solve_linear(BiCgStab{.tolerance = 1e-10}, apply, b);
  CHECK(all_converged(cyclic));
  CHECK(cyclic.residual[0] == Approx(true_residual(apply, b, cyclic.x, 0)).margin(1e-14));
}

TEST_CASE("GMRES and dense against LU on random systems") {
  const std::int64_t n = GENERATE(1, 2, 5, 30, 70);
  const double radius = GENERATE(0.3, 0.9, 0.99, 1.5, 3.0);
  const Systems systems(4, n, radius, DType::f64, static_cast<std::uint64_t>(n));
  const auto gmres =
      solve_linear(Gmres{.restart = 80, .max_steps = 400, .tolerance = 1e-12}, systems.apply, systems.b);
  CHECK(all_converged(gmres));
  CHECK(systems.error(gmres.x) < 1e-8);
  CHECK(gmres.evaluations <= n + 10);
  const auto dense = solve_linear(Dense{}, systems.apply, systems.b);
  CHECK(all_converged(dense));
  CHECK(systems.error(dense.x) < 1e-10);
  CHECK(dense.evaluations == n + 1);
  for (std::int64_t s = 0; s < 4; ++s) {
    CHECK(gmres.residual[static_cast<std::size_t>(s)] ==
          Approx(true_residual(systems.apply, systems.b, gmres.x, s)).margin(1e-14));
    CHECK(dense.residual[static_cast<std::size_t>(s)] < 1e-11);
  }
}

TEST_CASE("restarted GMRES and the iterative solvers reach the same answer") {
  const Systems systems(6, 50, 0.9, DType::f64, 4);
  CHECK(systems.error(solve_linear(Gmres{.restart = 10, .tolerance = 1e-11}, systems.apply, systems.b).x) <
        1e-9);
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})}) {
    const auto s = solve_linear(Iterative{.solver = solver, .max_steps = 1000, .tolerance = 1e-11},
                                systems.apply, systems.b);
    CHECK(all_converged(s));
    CHECK(systems.error(s.x) < 1e-8);
    for (std::int64_t i = 0; i < 6; ++i)
      CHECK(s.residual[static_cast<std::size_t>(i)] ==
            Approx(true_residual(systems.apply, systems.b, s.x, i)).margin(1e-14));
  }
}

TEMPLATE_TEST_CASE("Krylov solvers in f32 refine to 1e-6", "", Gmres, BiCgStab) {
  const double radius = GENERATE(0.5, 0.9, 0.99);
  const Systems systems(8, 100, radius, DType::f32, 17);
  const auto s = solve_linear(TestType{.tolerance = 1e-6}, systems.apply, systems.b);
  for (std::int64_t i = 0; i < 8; ++i) {
    CHECK(s.status[static_cast<std::size_t>(i)] == Status::converged);
    CHECK(true_residual(systems.apply, systems.b, s.x, i) < 1e-6 + 5e-7 * growth(systems.b, s.x, i));
  }
  const auto below = solve_linear(TestType{.max_steps = 500, .tolerance = 1e-12}, systems.apply, systems.b);
  for (std::int64_t i = 0; i < 8; ++i) {
    const Status status = below.status[static_cast<std::size_t>(i)];
    CHECK(below.residual[static_cast<std::size_t>(i)] < 5e-7 * growth(systems.b, below.x, i));
    CHECK((status == Status::converged || status == Status::stagnated));
  }
  CHECK(below.evaluations < (std::is_same_v<TestType, Gmres> ? 300 : 500));
}

TEST_CASE("a zero right-hand side costs nothing") {
  const StateMap never = [](const Tensor&) -> Tensor { throw std::logic_error("must not be called"); };
  const Tensor zero = Tensor::zeros({3, 4}, DType::f64);
  for (const auto& s : {solve_linear(Gmres{}, never, zero), solve_linear(BiCgStab{}, never, zero),
                        solve_linear(Cg{}, never, zero), solve_linear(Dense{}, never, zero)}) {
    CHECK(all_converged(s));
    CHECK(s.evaluations == 0);
    CHECK(s.residual[2] == 0.0);
    CHECK(s.x.at(11) == 0.0);
  }
  // Beside others it stays zero.
  Systems systems(2, 4, 0.5, DType::f64, 1);
  std::fill_n(systems.b.mutable_data<double>(), 4, 0.0);
  for (const auto& s :
       {solve_linear(Gmres{}, systems.apply, systems.b), solve_linear(BiCgStab{}, systems.apply, systems.b),
        solve_linear(Dense{}, systems.apply, systems.b),
        solve_linear(Iterative{}, systems.apply, systems.b)}) {
    CHECK(all_converged(s));
    CHECK(s.x.at(3) == 0.0);
    CHECK(s.residual[0] == 0.0);
    CHECK(s.x.at(4) != 0.0);
  }
}

TEST_CASE("empty batches and rows") {
  const StateMap id = [](const Tensor& x) { return x; };
  for (const Shape& shape : {Shape{0, 3}, Shape{2, 0}}) {
    const Tensor b = Tensor::zeros(shape);
    for (const auto& s :
         {solve_linear(Gmres{}, id, b), solve_linear(BiCgStab{}, id, b), solve_linear(Cg{}, id, b),
          solve_linear(Dense{}, id, b), solve_linear(Iterative{}, id, b)}) {
      CHECK(s.x.shape() == shape);
      CHECK(static_cast<std::int64_t>(s.status.size()) == shape[0]);
    }
  }
}

TEST_CASE("singular systems") {
  struct Case {
    const char* what;
    std::int64_t n;
    std::vector<double> a;
    std::vector<double> b;
    Status gmres;
  };
  const std::vector<Case> cases{
      {"zero", 1, {0}, {1}, Status::singular},
      {"inconsistent, symmetric", 2, {1, 0, 0, 0}, {1, 1}, Status::singular},
      {"consistent, b in a Krylov space that holds a solution", 2, {1, 0, 0, 0}, {1, 0}, Status::converged},
      {"consistent, but no solution in any Krylov space", 2, {0, 1, 0, 0}, {1, 0}, Status::singular},
      {"inconsistent, of rank two", 3, {2, 1, 0, 1, 2, 0, 0, 0, 0}, {1, -1, 3}, Status::singular},
  };
  for (const Case& c : cases)
    for (const DType dtype : {DType::f32, DType::f64}) {
      INFO(c.what);
      const Tensor b = tensor(c.b, {1, c.n}).to(dtype);
      const StateMap apply = of_matrix(c.n, c.a);
      const auto gmres = solve_linear(Gmres{}, apply, b);
      CHECK(gmres.status[0] == c.gmres);
      CHECK(gmres.x.all_finite());
      CHECK(gmres.residual[0] == Approx(true_residual(apply, b, gmres.x, 0)).margin(1e-7));
      const auto bicgstab = solve_linear(BiCgStab{}, apply, b);
      CHECK(bicgstab.status[0] == c.gmres);
      CHECK(bicgstab.residual[0] == Approx(true_residual(apply, b, bicgstab.x, 0)).margin(1e-7));
      const auto cg = solve_linear(Cg{}, apply, b);
      CHECK((cg.status[0] == Status::converged) == (c.gmres == Status::converged));
      CHECK(cg.residual[0] == Approx(true_residual(apply, b, cg.x, 0)).margin(1e-7));
      const auto dense = solve_linear(Dense{}, apply, b);
      CHECK(dense.status[0] == Status::singular);
      CHECK(dense.x.all_finite());
      // Least squares: A^T r = 0; least norm is checked below.
      std::vector<double> residual(static_cast<std::size_t>(c.n));
      for (std::int64_t i = 0; i < c.n; ++i) {
        residual[static_cast<std::size_t>(i)] = c.b[static_cast<std::size_t>(i)];
        for (std::int64_t j = 0; j < c.n; ++j)
          residual[static_cast<std::size_t>(i)] -= c.a[static_cast<std::size_t>(i * c.n + j)] * dense.x.at(j);
      }
      for (std::int64_t j = 0; j < c.n; ++j) {
        double slope = 0.0;
        for (std::int64_t i = 0; i < c.n; ++i)
          slope += c.a[static_cast<std::size_t>(i * c.n + j)] * residual[static_cast<std::size_t>(i)];
        CHECK(slope == Approx(0.0).margin(1e-5));
      }
    }
  const auto least = solve_linear(Dense{}, of_matrix(2, {1, 1, 1, 1}), tensor({2.0, 2.0}, {1, 2}));
  CHECK(least.x.at(0) == Approx(1.0));
  CHECK(least.x.at(1) == Approx(1.0));
  CHECK(solve_linear(Iterative{}, of_matrix(1, {0}), tensor({1.0}, {1, 1})).status[0] != Status::converged);
}

TEST_CASE("a random singular system in a batch of regular ones") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const std::int64_t n = 20;
  Systems systems(5, n, 0.8, dtype, 23);
  // Sample 2: A = I - M of rank n - 1, with a random left and right null vector.
  Random random(2);
  const Matrix q = random_orthogonal(n, random), p = random_orthogonal(n, random);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double a = 0.0;
      for (std::int64_t k = 1; k < n; ++k) a += q(k, i) * p(k, j);
      systems.m[2](i, j) = (i == j ? 1.0 : 0.0) - a;
    }
  systems.apply = multiply(systems.m);
  const auto gmres = solve_linear(Gmres{.restart = 30, .tolerance = 1e-5}, systems.apply, systems.b);
  const auto dense = solve_linear(Dense{}, systems.apply, systems.b);
  const auto bicgstab = solve_linear(BiCgStab{.tolerance = 1e-5}, systems.apply, systems.b);
  CHECK(bicgstab.residual[2] > 1e-3);
  CHECK(bicgstab.x.all_finite());
  for (std::size_t s = 0; s < 5; ++s) {
    CHECK((gmres.status[s] == Status::converged) == (s != 2));
    CHECK((bicgstab.status[s] == Status::converged) == (s != 2));
    CHECK(dense.status[s] == (s == 2 ? Status::singular : Status::converged));
  }
  CHECK((gmres.status[2] == Status::singular || gmres.status[2] == Status::stagnated));
  CHECK(gmres.residual[2] > 1e-3);
  CHECK(gmres.x.all_finite());
}

TEST_CASE("GMRES: breakdown with the exact solution is a success") {
  // Three distinct eigenvalues of A: three steps and one check.
  const auto s =
      solve_linear(Gmres{.tolerance = 1e-14},
                   of_matrix(5, {1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4}),
                   tensor({1.0, 2.0, 3.0, 4.0, 5.0}, {1, 5}));
  CHECK(all_converged(s));
  CHECK(s.evaluations == 4);
  CHECK(s.x.at(4) == Approx(1.25));
}

TEST_CASE("BiCGStab: the budget counts every application") {
  const Systems systems(3, 40, 0.9, DType::f64, 8);
  for (const int steps : {0, 1, 2, 3, 5, 8, 20, 60}) {
    const auto s = solve_linear(BiCgStab{.max_steps = steps, .tolerance = 1e-14}, systems.apply, systems.b);
    CHECK(s.evaluations <= steps);
    for (std::int64_t i = 0; i < 3; ++i) {
      CHECK(s.status[static_cast<std::size_t>(i)] == Status::max_steps);
      CHECK(s.residual[static_cast<std::size_t>(i)] <= 1.0);
      CHECK(s.residual[static_cast<std::size_t>(i)] ==
            Approx(true_residual(systems.apply, systems.b, s.x, i)));
    }
  }
}

TEST_CASE("GMRES: the budget counts every application") {
  const Systems systems(3, 40, 0.99, DType::f64, 8);
  double last = 1.0;
  for (const int steps : {0, 1, 2, 5, 20, 41}) {
    const auto s =
        solve_linear(Gmres{.restart = 50, .max_steps = steps, .tolerance = 1e-12}, systems.apply, systems.b);
    CHECK(s.evaluations <= steps);
    const double worst = *std::max_element(s.residual.begin(), s.residual.end());
    CHECK(worst <= last * (1.0 + 1e-12));
    last = worst;
    if (steps < 41) CHECK(s.status[0] == Status::max_steps);
    for (std::int64_t i = 0; i < 3; ++i)
      CHECK(s.residual[static_cast<std::size_t>(i)] ==
            Approx(true_residual(systems.apply, systems.b, s.x, i)));
  }
  CHECK(last < 1e-6);
}

TEST_CASE("GMRES(1) on a rotation cannot get anywhere and says so") {
  // A = [[0, 1], [-1, 0]]: A r is orthogonal to r.
  const auto s = solve_linear(Gmres{.restart = 1}, of_matrix(2, {0, 1, -1, 0}), tensor({1.0, 0.0}, {1, 2}));
  CHECK(s.status[0] == Status::stagnated);
  CHECK(s.evaluations == 2);
  CHECK(all_converged(
      solve_linear(Gmres{.restart = 2}, of_matrix(2, {0, 1, -1, 0}), tensor({1.0, 0.0}, {1, 2}))));
}

TEST_CASE("a NaN in one system leaves the others untouched") {
  const Systems systems(8, 20, 0.9, DType::f64, 6);
  const StateMap spoilt = [&](const Tensor& x) {
    Tensor y = systems.apply(x);
    y.mutable_data<double>()[3 * 20 + 7] = not_a_number;
    return y;
  };
  Tensor spoilt_b = systems.b.clone();
  spoilt_b.mutable_data<double>()[5 * 20] = not_a_number;
  const auto check = [&](const auto& solver) {
    const auto expected = solve_linear(solver, systems.apply, systems.b);
    const auto s = solve_linear(solver, spoilt, spoilt_b);
    for (std::int64_t i = 0; i < 8; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (i == 3 || i == 5) {
        CHECK(s.status[at] == Status::non_finite);
        continue;
      }
      CHECK(s.status[at] == Status::converged);
      for (std::int64_t j = 0; j < 20; ++j) CHECK(s.x.at(i * 20 + j) == expected.x.at(i * 20 + j));
    }
    CHECK(s.x.all_finite());
  };
  check(Gmres{});
  check(BiCgStab{});
  check(Dense{});
  check(Iterative{});
  check(Iterative{.solver = Anderson{}});
}

TEMPLATE_TEST_CASE("a system in a batch is solved as if alone, with any number of threads", "", Gmres,
                   BiCgStab, Cg) {
  const Systems systems(7, 300, 0.9, DType::f32, 12);
  const auto together = solve_linear(TestType{}, systems.apply, systems.b);
  for (std::int64_t i = 0; i < 7; ++i) {
    const auto alone = solve_linear(TestType{}, multiply({systems.m[static_cast<std::size_t>(i)]}),
                                    systems.b.rows(i, i + 1));
    for (std::int64_t j = 0; j < 300; ++j) REQUIRE(alone.x.at(j) == together.x.at(i * 300 + j));
  }
  const KeepThreads keep;
  for (const int threads : {1, 4}) {
    set_threads(threads);
    const auto again = solve_linear(TestType{}, systems.apply, systems.b);
    for (std::int64_t i = 0; i < again.x.size(); ++i) REQUIRE(again.x.at(i) == together.x.at(i));
  }
}

TEMPLATE_TEST_CASE("a linear solver says which systems still count", "", Gmres, BiCgStab, Cg, Iterative) {
  const Systems systems(6, 20, 0.5, DType::f64, 13);
  std::int64_t wanted_rows = 0;
  const auto spoilt = [&](const Tensor& x, StateMap::Marks wanted) {
    Tensor product = systems.apply(x);
    for (std::size_t s = 0; s < wanted.size(); ++s)
      if (wanted[s])
        ++wanted_rows;
      else
        std::fill_n(product.mutable_data<double>() + static_cast<std::int64_t>(s) * 20, 20, not_a_number);
    return product;
  };
  const auto expected = solve_linear(TestType{}, systems.apply, systems.b);
  const auto found = solve_linear(TestType{}, StateMap(spoilt), systems.b);
  CHECK(same_bits(found.x, expected.x));
  CHECK(found.status == expected.status);
  CHECK(found.residual == expected.residual);
  CHECK(wanted_rows == std::accumulate(expected.applications.begin(), expected.applications.end(), 0));
}

TEST_CASE("extreme scales of the right-hand side") {
  for (const auto& [dtype, scale] : {std::pair(DType::f64, 1e250), std::pair(DType::f64, 1e-250),
                                     std::pair(DType::f32, 1e30), std::pair(DType::f32, 1e-30)}) {
    const Systems systems(2, 10, 0.5, dtype, 3);
    Tensor b = systems.b.to(DType::f64);
    double* values = b.mutable_data<double>();
    for (std::int64_t i = 0; i < b.size(); ++i) values[i] *= scale;
    for (const auto& s : {solve_linear(Gmres{}, systems.apply, b.to(dtype)),
                          solve_linear(BiCgStab{}, systems.apply, b.to(dtype)),
                          solve_linear(Dense{}, systems.apply, b.to(dtype)),
                          solve_linear(Iterative{}, systems.apply, b.to(dtype))}) {
      CHECK(all_converged(s));
      Tensor x = s.x.to(DType::f64);
      double* unscaled = x.mutable_data<double>();
      for (std::int64_t i = 0; i < x.size(); ++i) unscaled[i] /= scale;
      CHECK(systems.error(x) < 1e-4);
    }
  }
}

TEST_CASE("linear solvers name what is wrong") {
  const StateMap id = [](const Tensor& x) { return x; };
  const Tensor b = Tensor::ones({2, 3});
  CHECK_THROWS_AS(solve_linear(Gmres{.restart = 0}, id, b), ValueError);
  CHECK_THROWS_WITH(solve_linear(Gmres{.max_steps = -1}, id, b),
                    "[gmres] max_steps must not be negative: got -1");
  CHECK_THROWS_AS(solve_linear(Gmres{.tolerance = not_a_number}, id, b), ValueError);
  CHECK_THROWS_AS(solve_linear(Iterative{.tolerance = -1.0}, id, b), ValueError);
  CHECK_THROWS_WITH(solve_linear(BiCgStab{.max_steps = -1}, id, b),
                    "[bicgstab] max_steps must not be negative: got -1");
  CHECK_THROWS_AS(solve_linear(Cg{.tolerance = not_a_number}, id, b), ValueError);
  CHECK_THROWS_AS(solve_linear(Dense{}, id, Tensor::ones({3})), ShapeError);
  const StateMap wrong = [](const Tensor&) { return Tensor::ones({2, 2}); };
  CHECK_THROWS_WITH(solve_linear(Gmres{}, wrong, b), "[gmres] the map must keep the shape: (2,3) -> (2,2)");
  CHECK_THROWS_WITH(solve_linear(BiCgStab{}, wrong, b),
                    "[bicgstab] the map must keep the shape: (2,3) -> (2,2)");
  CHECK_THROWS_WITH(solve_linear(Cg{}, wrong, b), "[cg] the map must keep the shape: (2,3) -> (2,2)");
  CHECK_THROWS_WITH(solve_linear(Dense{}, wrong, b), "[dense] the map must keep the shape: (2,3) -> (2,2)");
  CHECK_THROWS_WITH(solve_linear(Iterative{}, wrong, b),
                    "[iterative] the map must keep the shape: (2,3) -> (2,2)");
}

TEMPLATE_TEST_CASE("a linear solver asks no more of a sample that has ended", "", Gmres, BiCgStab, Cg) {
  // From its second product on, M gives NaN in sample 0; sample 1 needs some steps more.
  const std::int64_t n = 12;
  int calls = 0;
  bool only_zeros = true;
  const StateMap map = [&](const Tensor& v) {
    ++calls;
    Tensor product = Tensor::empty(v.shape(), v.dtype());
    for (std::int64_t i = 0; i < n; ++i) {
      if (calls > 2) only_zeros = only_zeros && v.at(i) == 0.0;
      const double slope = static_cast<double>(i) / 15.0;
      product.mutable_data<double>()[i] = calls < 2 ? slope * v.at(i) : not_a_number;
      product.mutable_data<double>()[n + i] = slope * v.at(n + i);
    }
    return product;
  };
  const LinearSolution solved = solve_linear(TestType{.tolerance = 1e-10}, map, normal({2, n}, 21));
  CHECK(solved.status[1] == Status::converged);
  CHECK(calls > 3);
  CHECK(only_zeros);
}

TEMPLATE_TEST_CASE("unless told otherwise, linear solvers go on to a residual of 1e-6", "", Gmres, BiCgStab,
                   Cg, Iterative) {
  const std::int64_t n = 40;
  const Tensor b = normal({2, n}, 22);
  const StateMap map = per_sample([](std::int64_t, const auto* in, auto* out, std::int64_t size) {
    for (std::int64_t i = 0; i < size; ++i)
      out[i] = static_cast<std::decay_t<decltype(*out)>>(
          0.95 * static_cast<double>(i) / static_cast<double>(size) * static_cast<double>(in[i]));
  });
  const LinearSolution solved = solve_linear(TestType{}, map, b);
  const Tensor image = map(solved.x);
  for (std::int64_t s = 0; s < 2; ++s) {
    double residual = 0.0, size = 0.0;
    for (std::int64_t i = s * n; i < (s + 1) * n; ++i) {
      residual += std::pow(b.at(i) + image.at(i) - solved.x.at(i), 2);
      size += std::pow(b.at(i), 2);
    }
    CHECK(solved.status[static_cast<std::size_t>(s)] == Status::converged);
    CHECK(std::sqrt(residual / size) <= 1.01e-6);
  }
}

TEST_CASE("no linear solver takes more products than it may, and every one tells how many it took") {
  const Systems systems(3, 40, 0.99, DType::f64, 31);
  const auto check = [&](auto solver, int limit) {
    solver.max_steps = limit;
    solver.tolerance = 1e-12;
    int products = 0;
    const LinearSolution s = solve_linear(
        solver,
        [&](const Tensor& v) {
          ++products;
          return systems.apply(v);
        },
        systems.b);
    CAPTURE(solver.name, limit);
    CHECK(products <= limit);
    CHECK(s.evaluations == products);
    CHECK(*std::max_element(s.applications.begin(), s.applications.end()) == products);
  };
  for (int limit = 0; limit <= 30; ++limit) {
    for (const int restart : {1, 2, 3, 5, 30}) check(Gmres{.restart = restart}, limit);
    check(BiCgStab{}, limit);
    check(Cg{}, limit);
  }
}
