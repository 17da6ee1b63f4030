// Anderson and Broyden: their formulas, where they must converge, and how fast.
#include "maps.hpp"

using namespace banach;
using namespace banach::test;

namespace {

FixedPointSolution solve(const Solver& solver, const StateMap& f, const Tensor& like,
                         const StopOptions& options) {
  return solve_fixed_point(solver, f, Tensor::zeros(like.shape(), like.dtype()), options);
}

using Vector = std::vector<double>;

// x of A x = b.
Vector dense_solve(Matrix a, Vector b) {
  std::vector<int> pivots(b.size());
  REQUIRE(blas::lu_factor(a.n, a.a.data(), pivots.data()) == 0);
  blas::lu_solve(false, a.n, 1, a.a.data(), pivots.data(), b.data());
  return b;
}

double inner(const Vector& a, const Vector& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
// a + factor b
Vector plus(Vector a, double factor, const Vector& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
  return a;
}

// The iterates of a solver started by hand on z -> tanh(W z + u), one sample, and f at them.
struct Path {
  std::vector<Vector> z, f;
};
Path path_of(const Solver& solver, const StateMap& map, std::int64_t n, int steps) {
  Path path;
  Tensor z = Tensor::zeros({1, n}, DType::f64);
  const auto stepper = solver.start(FixedPointProblem{map}, 1, n, DType::f64);
  const char active = 1;
  for (int k = 0; k < steps; ++k) {
    const Tensor fz = map(z);
    const auto keep = [](const Tensor& t) { return Vector(t.data<double>(), t.data<double>() + t.size()); };
    path.z.push_back(keep(z));
    path.f.push_back(keep(fz));
    Tensor next = Tensor::zeros(z.shape(), DType::f64);
    stepper->propose(z, fz, {&active, 1}, next);
    z = next;
  }
  return path;
}

}  // namespace

TEST_CASE("Anderson mixes the last differences as the normal equations say") {
  const std::int64_t n = 12;
  const int memory = GENERATE(1, 3, 6);
  const double damping = GENERATE(1.0, 0.6), ridge = GENERATE(1e-10, 1e-3);
  Random random(31);
  const StateMap map = tanh_map(random_with_radius(n, 0.9, random), random_state(1, n, DType::f64, random));
  const Path path = path_of(Anderson{.memory = memory, .damping = damping, .ridge = ridge}, map, n, 14);
  for (std::size_t k = 0; k + 1 < path.z.size(); ++k) {
    const auto g = [&](std::size_t j) { return plus(path.f[j], -1.0, path.z[j]); };
    const std::size_t m = std::min<std::size_t>(k, static_cast<std::size_t>(memory));
    Vector next = plus(path.z[k], damping, g(k));
    if (m > 0) {
      Matrix gram(static_cast<std::int64_t>(m));
      Vector right(m);
      std::vector<Vector> dg, df;
      for (std::size_t j = k - m; j < k; ++j) {
        dg.push_back(plus(g(j + 1), -1.0, g(j)));
        df.push_back(plus(path.f[j + 1], -1.0, path.f[j]));
      }
      for (std::size_t i = 0; i < m; ++i) {
        right[i] = inner(dg[i], g(k));
        for (std::size_t j = 0; j < m; ++j)
          gram(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)) =
              inner(dg[i], dg[j]) * (i == j ? 1.0 + ridge : 1.0);
      }
      const Vector gamma = dense_solve(gram, right);
      for (std::size_t j = 0; j < m; ++j)
        next = plus(plus(next, -gamma[j], df[j]), (1.0 - damping) * gamma[j], dg[j]);
    }
    for (std::size_t i = 0; i < next.size(); ++i)
      CHECK(path.z[k + 1][i] == Approx(next[i]).margin(1e-6 * std::sqrt(inner(g(k), g(k)))));
  }
}

TEST_CASE("Broyden's low rank inverse is that of the dense matrix of the good update") {
  const std::int64_t n = 10;
  const int memory = GENERATE(3, 30);
  const double damping = GENERATE(1.0, 0.8);
  Random random(33);
  const StateMap map = tanh_map(random_with_radius(n, 0.8, random), random_state(1, n, DType::f64, random));
  const Path path = path_of(Broyden{.memory = memory, .damping = damping}, map, n, 13);
  const auto g = [&](std::size_t j) { return plus(path.f[j], -1.0, path.z[j]); };
  // B, for I - J, from the identity: B += (y - B dz) dz^T / dz^T dz, where y = -dg.
  Matrix b(n);
  const auto reset = [&] {
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j) b(i, j) = i == j ? 1.0 : 0.0;
  };
  reset();
  int pairs = 0;
  for (std::size_t k = 0; k + 1 < path.z.size(); ++k) {
    if (pairs == memory) {
      reset();
      pairs = 0;
    }
    if (k > 0) {
      const Vector dz = plus(path.z[k], -1.0, path.z[k - 1]), dg = plus(g(k), -1.0, g(k - 1));
      const double length = inner(dz, dz);
      for (std::int64_t i = 0; i < n; ++i) {
        double rest = -dg[static_cast<std::size_t>(i)];
        for (std::int64_t j = 0; j < n; ++j) rest -= b(i, j) * dz[static_cast<std::size_t>(j)];
        for (std::int64_t j = 0; j < n; ++j) b(i, j) += rest * dz[static_cast<std::size_t>(j)] / length;
      }
      ++pairs;
    }
    const Vector next = plus(path.z[k], damping, dense_solve(b, g(k)));
    for (std::size_t i = 0; i < next.size(); ++i)
      CHECK(path.z[k + 1][i] == Approx(next[i]).margin(1e-8 * std::sqrt(inner(g(k), g(k)))));
  }
}

TEST_CASE("evaluations that a tanh layer of 256 units takes, in f32") {
  // z = tanh(W z + u), W with entries of deviation 0.6 / 16, 128 samples, to 1e-4: Picard takes 12.
  const std::int64_t n = 256;
  Random random(3);
  const Matrix w = random_matrix(n, random, 0.6 / 16.0);
  const Tensor u = random_state(128, n, DType::f32, random);
  CHECK(solve(Anderson{.memory = 6}, tanh_map(w, u), u, {}).report.nstep <= 12);
  CHECK(solve(Broyden{}, tanh_map(w, u), u, {}).report.nstep <= 12);
}

TEST_CASE("Anderson is no slower than Picard on a slow isotropic contraction") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 5)));
  Random random(seed);
  const StateMap f =
      linear_map(scaled(random_orthogonal(64, random), 0.9), random_state(8, 64, DType::f32, random));
  const Tensor z0 = Tensor::zeros({8, 64});
  const StopOptions options{.max_steps = 300, .tolerance = 1e-6};
  const auto picard = solve(Picard{}, f, z0, options);
  REQUIRE(picard.report.converged());
  for (const int memory : {1, 2, 5, 10, 20}) {
    const auto anderson = solve(Anderson{.memory = memory}, f, z0, options);
    CHECK(anderson.report.converged());
    CHECK(anderson.report.nstep <= picard.report.nstep);
  }
}

TEST_CASE("on 256 units contracting alike by 0.9, Anderson arrives at 1e-6 in f32 no later than Picard") {
  Random random(5);
  const Tensor u = random_state(2, 256, DType::f32, random);
  const StateMap f = linear_map(scaled(random_orthogonal(256, random), 0.9), u);
  const StopOptions options{.max_steps = 300, .tolerance = 1e-6};
  const auto picard = solve(Picard{}, f, u, options), anderson = solve(Anderson{.memory = 6}, f, u, options);
  CHECK(picard.report.converged());
  CHECK(anderson.report.converged());
  CHECK(anderson.report.nstep <= 125);
  CHECK(anderson.report.nstep <= picard.report.nstep);
}

TEST_CASE("seven rotations: Picard never converges, Anderson does") {
  const Tensor z0 = Tensor::zeros({1, 14}, DType::f64);
  const StopOptions options{.max_steps = 400, .tolerance = 1e-8, .stagnation_window = 400};
  CHECK_FALSE(solve(Picard{}, seven_rotations(), z0, options).report.converged());
  for (const auto& [memory, steps] : {std::pair(10, 400), std::pair(14, 30), std::pair(15, 30)}) {
    const auto s = solve(Anderson{.memory = memory}, seven_rotations(), z0, options);
    CHECK(s.report.converged());
    CHECK(s.report.nstep <= steps);
    for (int i = 0; i < 14; ++i) CHECK(s.z.at(i) == Approx(i + 1.0).epsilon(1e-5));
  }
  CHECK(solve(Broyden{}, seven_rotations(), z0, options).report.converged());
}

TEST_CASE("linear maps of complex spectra against the dense solution") {
  const double radius = GENERATE(0.5, 0.9, 0.99);
  const std::int64_t n = GENERATE(1, 2, 7, 40);
  Random random(static_cast<std::uint64_t>(n) + 100);
  const Matrix w = random_with_radius(n, radius, random);
  const Tensor u = random_state(4, n, DType::f64, random);
  for (const Solver& solver :
       {Solver(Picard{}), Solver(Anderson{}), Solver(Anderson{.memory = 10, .damping = 0.5}),
        Solver(Broyden{}), Solver(Broyden{.memory = 5})}) {
    const auto s = solve(solver, linear_map(w, u), u, {.max_steps = 6000, .tolerance = 1e-10});
    CHECK(s.report.converged());
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto row = u.rows(i, i + 1).values<double>();
      const auto exact = solve_identity_minus(w, {row.begin(), row.end()});
      double error = 0.0;
      for (std::int64_t j = 0; j < n; ++j)
        error += std::pow(s.z.at(i * n + j) - exact[static_cast<std::size_t>(j)], 2);
      CHECK(std::sqrt(error) <= 10.0 * s.report.samples[static_cast<std::size_t>(i)].error_estimate + 1e-9);
    }
  }
}

TEST_CASE("tanh maps: Anderson converges wherever Picard does, and sooner on average") {
  const double radius = GENERATE(0.5, 0.8, 0.95, 1.2, 1.5, 2.0);
  const DType dtype = GENERATE(DType::f32, DType::f64);
  Random random(static_cast<std::uint64_t>(radius * 100));
  const Matrix w = random_with_radius(40, radius, random);
  const Tensor u = random_state(16, 40, dtype, random);
  const StopOptions options{.max_steps = 600, .tolerance = dtype == DType::f32 ? 1e-5 : 1e-9};
  const auto picard = solve(Picard{}, tanh_map(w, u), u, options);
  const auto anderson = solve(Anderson{}, tanh_map(w, u), u, options);
  const auto broyden = solve(Broyden{}, tanh_map(w, u), u, options);
  int picard_steps = 0, anderson_steps = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    picard_steps += picard.report.samples[i].nstep;
    anderson_steps += anderson.report.samples[i].nstep;
    if (picard.report.samples[i].status == Status::converged)
      CHECK(anderson.report.samples[i].status == Status::converged);
    if (radius < 2.0) CHECK(broyden.report.samples[i].status == Status::converged);
  }
  CHECK(anderson_steps < picard_steps);
  CHECK(broyden.report.count(Status::converged) >= picard.report.count(Status::converged));
}

TEST_CASE("Anderson follows Picard through a transient growth of the residuals") {
  // A Jordan block: spectral radius 1/2, but powers that grow a hundredfold before they decay.
  Matrix w(20);
  for (std::int64_t i = 0; i < 20; ++i) {
    w(i, i) = 0.5;
    if (i + 1 < 20) w(i, i + 1) = -0.8;
  }
  Random random(9);
  const Tensor u = random_state(8, 20, DType::f64, random);
  const StopOptions options{.max_steps = 600, .tolerance = 1e-8};
  CHECK(solve(Picard{}, linear_map(w, u), u, options).report.converged());
  CHECK(solve(Anderson{}, linear_map(w, u), u, options).report.converged());
}

TEST_CASE("quasi-Newton solvers find fixed points that repel Picard") {
  for (const Solver& solver : {Solver(Anderson{}), Solver(Broyden{})}) {
    const auto line = solve_fixed_point(solver, elementwise([](double z) { return 2.0 * z + 1.0; }),
                                        Tensor::zeros({1, 1}, DType::f64), {.tolerance = 1e-8});
    CHECK(line.report.converged());
    CHECK(line.report.nstep <= 4);
    CHECK(line.z.item() == Approx(-1.0));
    const auto logistic = solve_fixed_point(solver, elementwise([](double z) { return 3.2 * z * (1.0 - z); }),
                                            Tensor::full({1, 1}, 0.5, DType::f64), {.tolerance = 1e-10});
    CHECK(logistic.report.converged());
    CHECK(logistic.z.item() == Approx(0.6875).epsilon(1e-9));
  }
  const auto steep = solve_fixed_point(Broyden{}, elementwise([](double z) { return 1000.0 * z + 1.0; }),
                                       Tensor::zeros({1, 1}, DType::f64), {.tolerance = 1e-8});
  CHECK(steep.report.converged());
  CHECK(steep.z.item() == Approx(-1.0 / 999.0));
}

TEST_CASE("Broyden: a bounded memory is enough for more steps than it holds") {
  Random random(21);
  const Matrix w = random_with_radius(60, 0.95, random);
  const Tensor u = random_state(4, 60, DType::f64, random);
  for (const int memory : {5, 10, 30}) {
    CAPTURE(memory);
    const auto s =
        solve(Broyden{.memory = memory}, linear_map(w, u), u, {.max_steps = 1000, .tolerance = 1e-8});
    CHECK(s.report.converged());
    CHECK(s.report.history_bytes < (2 * memory + 6) * u.size() * 8);
  }
}

TEST_CASE("the history of Anderson is as large as its memory says") {
  const Tensor z0 = Tensor::zeros({4, 100});
  const StateMap f = elementwise([](double z) { return 0.5 * z + 1.0; });
  const auto bytes = [&](int memory) {
    return solve(Anderson{.memory = memory}, f, z0, {}).report.history_bytes;
  };
  CHECK(bytes(6) - bytes(5) == 2 * 4 * 100 * 4 + 4 * (36 - 25) * 8);
  CHECK(solve(Picard{}, f, z0, {}).report.history_bytes == 0);
}
