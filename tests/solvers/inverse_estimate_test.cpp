// What the solvers of Broyden's kind learn of (I - J)^-1, and the adjoint Broyden solver that learns it from
// products with J^T.
#include "maps.hpp"

#include <banach/solvers/newton.hpp>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// z -> phi(W z + u) with slope phi' as a function of phi.
template <class Phi, class Slope>
FixedPointProblem problem_of(const Matrix& w, const Tensor& u, Phi phi, Slope slope) {
  FixedPointProblem p{layer(w, u, phi), {}};
  p.linearize = [w, f = p.f, slope](const Tensor& z) {
    const Tensor value = f(z).to(DType::f64);
    return Linearization{
        .vjp = per_sample([w, value, slope](std::int64_t s, const auto* in, auto* out, std::int64_t n) {
          for (std::int64_t j = 0; j < n; ++j) {
            double sum = 0.0;
            for (std::int64_t i = 0; i < n; ++i)
              sum += w(i, j) * slope(value.at(s * n + i)) * static_cast<double>(in[i]);
            out[j] = static_cast<std::decay_t<decltype(*out)>>(sum);
          }
        })};
  };
  return p;
}
FixedPointProblem linear_problem(const Matrix& w, const Tensor& u) {
  return problem_of(
      w, u, [](double x) { return x; }, [](double) { return 1.0; });
}
FixedPointProblem tanh_problem(const Matrix& w, const Tensor& u) {
  return problem_of(
      w, u, [](double x) { return std::tanh(x); }, [](double t) { return 1.0 - t * t; });
}

// (I - sum u v^T)^T x of one sample.
std::vector<double> transposed_estimate(const InverseEstimate& e, std::int64_t sample,
                                        const std::vector<double>& x) {
  const std::int64_t pairs = e.u.shape()[1], n = e.u.shape()[2];
  std::vector<double> result = x;
  for (std::int64_t k = 0; k < pairs; ++k) {
    const std::int64_t row = (sample * pairs + k) * n;
    double dot = 0.0;
    for (std::int64_t i = 0; i < n; ++i) dot += e.u.at(row + i) * x[static_cast<std::size_t>(i)];
    for (std::int64_t i = 0; i < n; ++i) result[static_cast<std::size_t>(i)] -= dot * e.v.at(row + i);
  }
  return result;
}

std::vector<double> row_of(const Tensor& t, std::int64_t s) {
  const std::int64_t n = t.shape()[1];
  std::vector<double> row;
  for (std::int64_t i = 0; i < n; ++i) row.push_back(t.at(s * n + i));
  return row;
}

Matrix transposed(const Matrix& m) {
  Matrix t(m.n);
  for (std::int64_t i = 0; i < m.n; ++i)
    for (std::int64_t j = 0; j < m.n; ++j) t(j, i) = m(i, j);
  return t;
}

}  // namespace

TEST_CASE("adjoint Broyden ends on an affine map after n + 1 evaluations, with the exact inverse") {
  const std::int64_t n = GENERATE(1, 2, 3, 7, 12);
  const double radius = GENERATE(0.5, 0.9, 1.5);  // it does not need a contraction
  Random random(static_cast<std::uint64_t>(n) + 7);
  const Matrix w = random_with_radius(n, radius, random);
  const Tensor u = random_state(3, n, DType::f64, random), g = random_state(3, n, DType::f64, random);
  const auto s = solve_fixed_point(AdjointBroyden{}, linear_problem(w, u), Tensor::zeros({3, n}, DType::f64),
                                   {.tolerance = 1e-9, .keep_inverse = true});
  REQUIRE(s.report.converged());
  CHECK(s.report.solver == "adjoint_broyden");
  REQUIRE(s.inverse);
  for (std::int64_t i = 0; i < 3; ++i) {
    const SampleReport& sample = s.report.samples[static_cast<std::size_t>(i)];
    CHECK(sample.nstep <= n + 2);  // one more where rounding asks for it
    CHECK(sample.products == sample.nstep - 1);
    const auto exact = solve_identity_minus(w, row_of(u, i));
    const auto adjoint = solve_identity_minus(transposed(w), row_of(g, i));
    const auto estimate = transposed_estimate(*s.inverse, i, row_of(g, i));
    for (std::int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<std::size_t>(j);
      CHECK(s.z.at(i * n + j) == Approx(exact[at]).epsilon(1e-6).margin(1e-7));
      CHECK(estimate[at] == Approx(adjoint[at]).epsilon(1e-6).margin(1e-7));
    }
  }
}

TEST_CASE("Broyden's estimate is that of the good update over its own steps") {
  const std::int64_t n = 4;
  Random random(5);
  const Matrix w = random_with_radius(n, 0.9, random);
  const Tensor u = random_state(1, n, DType::f64, random), x = random_state(1, n, DType::f64, random);
  std::vector<Tensor> path;
  const StateMap f = linear_map(w, u);
  const auto s =
      solve_fixed_point(Broyden{},
                        [&](const Tensor& z) {
                          path.push_back(z.clone());
                          return f(z);
                        },
                        Tensor::zeros({1, n}, DType::f64), {.tolerance = 1e-6, .keep_inverse = true});
  REQUIRE(s.report.converged());
  REQUIRE(path.size() > 4);
  // B of g(z) = f(z) - z, dense: B <- B + (dg - B dz) dz^T / (dz^T dz), without the pair of the last
  // evaluation, from which no step was taken.
  Matrix b(n);
  for (std::int64_t i = 0; i < n; ++i) b(i, i) = -1.0;
  for (std::size_t k = 1; k + 1 < path.size(); ++k) {
    const Tensor before = f(path[k - 1]), after = f(path[k]);
    std::vector<double> dz, miss;
    double squares = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      dz.push_back(path[k].at(i) - path[k - 1].at(i));
      squares += dz.back() * dz.back();
    }
    for (std::int64_t i = 0; i < n; ++i) {
      double left = after.at(i) - before.at(i) - dz[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j < n; ++j) left -= b(i, j) * dz[static_cast<std::size_t>(j)];
      miss.push_back(left);
    }
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        b(i, j) += miss[static_cast<std::size_t>(i)] * dz[static_cast<std::size_t>(j)] / squares;
  }
  // (I - J)^-T x is about -B^-T x: solve with I - (I + B^T).
  Matrix shifted = transposed(b);
  for (std::int64_t i = 0; i < n; ++i) shifted(i, i) += 1.0;
  const auto expected = solve_identity_minus(shifted, row_of(x, 0));
  const auto got = transposed_estimate(*s.inverse, 0, row_of(x, 0));
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-8));
}

TEST_CASE("estimates: only on request, only of solvers that have one, the identity where nothing is known") {
  const StateMap f = elementwise([](double z) { return 0.5 * z + 1.0; });
  const Tensor z0 = Tensor::zeros({2, 3}, DType::f64);
  CHECK_FALSE(solve_fixed_point(Broyden{}, f, z0, {}).inverse);
  CHECK_FALSE(solve_fixed_point(Anderson{}, f, z0, {.keep_inverse = true}).inverse);
  CHECK(Solver(Broyden{}).keeps_inverse());
  CHECK(Solver(AdjointBroyden{}).keeps_inverse());
  CHECK_FALSE(Solver(Anderson{}).keeps_inverse());
  const auto none = solve_fixed_point(Broyden{.memory = 2}, f, z0, {.max_steps = 0, .keep_inverse = true});
  REQUIRE(none.inverse);
  CHECK(none.inverse->u.shape() == Shape{2, 2, 3});
  for (std::int64_t i = 0; i < 12; ++i) CHECK(none.inverse->v.at(i) == 0.0);
  CHECK(solve_fixed_point(Broyden{}, f, Tensor::zeros({0, 3}), {.keep_inverse = true}).inverse->u.size() ==
        0);
}

TEST_CASE("adjoint Broyden on curved maps, also where Picard is repelled") {
  const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 6)));
  Random random(seed);
  const std::int64_t n = 6;
  const Matrix w = random_with_radius(n, seed % 2 == 0 ? 0.9 : 1.6, random);
  const Tensor u = random_state(4, n, DType::f64, random), z0 = Tensor::zeros({4, n}, DType::f64);
  const FixedPointProblem p = tanh_problem(w, u);
  const StopOptions options{.max_steps = 300, .tolerance = 1e-10};
  for (const AdjointBroyden& solver : {AdjointBroyden{}, AdjointBroyden{.memory = 4, .damping = 0.8}}) {
    const auto s = solve_fixed_point(solver, p, z0, options);
    CHECK(s.report.converged());
    const Tensor fz = p.f(s.z);
    for (std::int64_t i = 0; i < z0.size(); ++i) CHECK(fz.at(i) == Approx(s.z.at(i)).margin(1e-8));
    // A sample alone takes the same steps.
    const FixedPointProblem own = tanh_problem(w, u.rows(2, 3).clone());
    const auto alone = solve_fixed_point(solver, own, Tensor::zeros({1, n}, DType::f64), options);
    CHECK(alone.report.samples[0].nstep == s.report.samples[2].nstep);
    for (std::int64_t i = 0; i < n; ++i) CHECK(alone.z.at(i) == s.z.at(2 * n + i));
  }
}

TEST_CASE("adjoint Broyden: f32, a broken sample, a full memory") {
  Random random(2);
  const std::int64_t n = 10;
  const Matrix w = random_with_radius(n, 0.9, random);
  const Tensor u = random_state(2, n, DType::f32, random);
  const FixedPointProblem p = linear_problem(w, u);
  const auto single = solve_fixed_point(AdjointBroyden{}, p, Tensor::zeros({2, n}), {.tolerance = 1e-5});
  CHECK(single.report.converged());
  CHECK(single.z.dtype() == DType::f32);
  const auto forgetful = solve_fixed_point(AdjointBroyden{.memory = 3}, p, Tensor::zeros({2, n}, DType::f64),
                                           {.max_steps = 300, .tolerance = 1e-8});
  CHECK(forgetful.report.converged());

  FixedPointProblem broken = p;
  int evaluation = 0;
  broken.f = [&](const Tensor& z) {
    Tensor out = p.f(z);
    if (++evaluation == 3) out.mutable_data<double>()[n] = std::nan("");
    return out;
  };
  const auto s = solve_fixed_point(AdjointBroyden{}, broken, Tensor::zeros({2, n}, DType::f64),
                                   {.tolerance = 1e-8, .keep_inverse = true});
  CHECK(s.report.samples[0].status == Status::converged);
  CHECK(s.report.samples[1].status == Status::non_finite);
  CHECK(s.inverse->u.all_finite());
  CHECK(s.inverse->v.all_finite());
}

TEST_CASE("adjoint Broyden says what it needs") {
  const StateMap f = elementwise([](double z) { return 0.5 * z; });
  const Tensor z0 = Tensor::ones({1, 1}, DType::f64);
  CHECK_THROWS_WITH(solve_fixed_point(AdjointBroyden{}, f, z0, {}),
                    Contains("[adjoint_broyden]") && Contains("linearize"));
  const FixedPointProblem forward{f, [&](const Tensor&) { return Linearization{.jvp = f}; }};
  CHECK_THROWS_WITH(solve_fixed_point(AdjointBroyden{}, forward, z0, {}), Contains("vjp"));
  CHECK_THROWS_AS(solve_fixed_point(AdjointBroyden{.memory = 0}, forward, z0, {}), ValueError);
  CHECK_THROWS_AS(solve_fixed_point(AdjointBroyden{.damping = 0.0}, forward, z0, {}), ValueError);
}
