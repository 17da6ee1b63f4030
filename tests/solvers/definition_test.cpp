// Solvers against the papers' formulas, worked out here by other means: which points they try, and when they
// give something up.
#include "maps.hpp"
#include "nonlin_problems.hpp"

#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/minimize.hpp>
#include <banach/solvers/newton.hpp>
#include <banach/solvers/safeguard.hpp>
#include <banach/solvers/vector.hpp>

#include <functional>

using namespace banach;
using namespace banach::test;

namespace {

using Row = std::vector<double>;

double dot(const Row& a, const Row& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double length(const Row& a) { return std::sqrt(dot(a, a)); }

Row values(const Tensor& t) {
  Row row;
  for (std::int64_t i = 0; i < t.size(); ++i) row.push_back(t.at(i));
  return row;
}

/// f, and every point at which it was evaluated.
struct Watched {
  StateMap f;
  std::vector<Row> path;
  StateMap map() {
    return [this](const Tensor& z) {
      path.push_back(values(z));
      return f(z);
    };
  }
};

/// A function of one number and its derivative.
struct Scalar {
  std::function<double(double)> value, slope;
};

const Scalar arctangent{[](double x) { return std::atan(x); }, [](double x) { return 1.0 / (1.0 + x * x); }};
const Scalar cubic{[](double x) { return x * x * x - 2.0 * x + 2.0; },
                   [](double x) { return 3.0 * x * x - 2.0; }};
const Scalar exponential{[](double x) { return std::exp(x) - 3.0; }, [](double x) { return std::exp(x); }};
const Scalar waves{[](double x) { return x + 1.8 * std::sin(2.0 * x); },
                   [](double x) { return 1.0 + 3.6 * std::cos(2.0 * x); }};

/// The points at which a solver evaluates F, a root of which is wanted.
Row points(const Solver& solver, const Scalar& F, double start, int steps) {
  Row path;
  const FixedPointProblem problem{[&](const Tensor& z) {
                                    path.push_back(z.item());
                                    return Tensor::full({1, 1}, z.item() - F.value(z.item()), DType::f64);
                                  },
                                  [&](const Tensor& z) {
                                    const double slope = 1.0 - F.slope(z.item());
                                    return Linearization{.jvp = [slope](const Tensor& v) {
                                      return Tensor::full({1, 1}, slope * v.item(), DType::f64);
                                    }};
                                  }};
  solve_fixed_point(solver, problem, Tensor::full({1, 1}, start, DType::f64),
                    {.max_steps = steps,
                     .tolerance = 0.0,
                     .absolute_tolerance = 1e-13,
                     .divergence_factor = 1e12,
                     .stagnation_window = 1000,
                     .accept_rounding = false});
  return path;
}

void check_path(const Row& found, const Row& expected) {
  REQUIRE(found.size() > 3);
  REQUIRE(found.size() <= expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO("evaluation " << i + 1);
    CHECK(found[i] == Approx(expected[i]).epsilon(1e-6).margin(1e-9));
  }
}

}  // namespace

TEST_CASE("Anderson's step is the best affine combination of the last iterates", "[anderson]") {
  // Walker and Ni 2011, in the constrained form: alpha minimises ||sum alpha_i g_i|| with sum alpha_i = 1,
  // and the next iterate is sum alpha_i (z_i + damping g_i).
  const int memory = GENERATE(1, 2, 3);
  const double damping = GENERATE(0.3, 0.5, 1.0, 2.0);
  const std::int64_t n = 5;
  Random random(3);
  const Matrix w = random_with_radius(n, 0.3, random);
  Watched watched{tanh_map(w, random_state(1, n, DType::f64, random)), {}};
  solve_fixed_point(Anderson{.memory = memory, .damping = damping, .ridge = 0.0}, watched.map(),
                    random_state(1, n, DType::f64, random), {.max_steps = 6, .tolerance = 0.0});
  REQUIRE(watched.path.size() == 6);
  std::vector<Row> g;
  for (const Row& z : watched.path) {
    const Row f = values(watched.f(tensor(z, {1, n})));
    g.emplace_back();
    for (std::size_t i = 0; i < z.size(); ++i) g.back().push_back(f[i] - z[i]);
  }
  for (std::size_t k = 0; k + 1 < watched.path.size(); ++k) {
    const std::size_t used = std::min(k, static_cast<std::size_t>(memory)) + 1, first = k + 1 - used;
    // The conditions of a minimum under the constraint.
    const std::size_t m = used + 1;
    std::vector<double> system(m * m, 0.0), alpha(m, 0.0);
    for (std::size_t i = 0; i < used; ++i) {
      for (std::size_t j = 0; j < used; ++j) system[i * m + j] = dot(g[first + i], g[first + j]);
      system[i * m + used] = system[used * m + i] = 1.0;
    }
    alpha[used] = 1.0;
    std::vector<int> pivots(m);
    REQUIRE(blas::lu_factor(static_cast<std::int64_t>(m), system.data(), pivots.data()) == 0);
    blas::lu_solve(false, static_cast<std::int64_t>(m), 1, system.data(), pivots.data(), alpha.data());
    for (std::size_t c = 0; c < g[k].size(); ++c) {
      double expected = 0.0;
      for (std::size_t i = 0; i < used; ++i)
        expected += alpha[i] * (watched.path[first + i][c] + damping * g[first + i][c]);
      INFO("step " << k + 1 << ", entry " << c);
      CHECK(watched.path[k + 1][c] == Approx(expected).epsilon(1e-6).margin(1e-6));
    }
  }
}

TEST_CASE("Anderson's ridge shortens what a single difference says", "[anderson]") {
  // With one difference, gamma = dg^T g / ((1 + ridge) dg^T dg); the next iterate is z + g - (dz + dg) gamma.
  const double ridge = GENERATE(0.0, 0.25, 3.0);
  const std::int64_t n = 4;
  Random random(4);
  const Matrix w = random_with_radius(n, 0.4, random);
  Watched watched{tanh_map(w, random_state(1, n, DType::f64, random)), {}};
  solve_fixed_point(Anderson{.memory = 1, .ridge = ridge}, watched.map(),
                    random_state(1, n, DType::f64, random), {.max_steps = 5, .tolerance = 0.0});
  REQUIRE(watched.path.size() == 5);
  Row last_z, last_g;
  for (std::size_t k = 0; k + 1 < watched.path.size(); ++k) {
    const Row& z = watched.path[k];
    Row g = values(watched.f(tensor(z, {1, n}))), dg = g, dz = z;
    for (std::size_t i = 0; i < g.size(); ++i) g[i] -= z[i];
    double gamma = 0.0;
    if (k > 0) {
      for (std::size_t i = 0; i < g.size(); ++i) {
        dg[i] = g[i] - last_g[i];
        dz[i] = z[i] - last_z[i];
      }
      gamma = dot(dg, g) / ((1.0 + ridge) * dot(dg, dg));
    }
    for (std::size_t i = 0; i < g.size(); ++i)
      CHECK(watched.path[k + 1][i] ==
            Approx(z[i] + g[i] - (dz[i] + dg[i]) * gamma).epsilon(1e-9).margin(1e-9));
    last_z = z;
    last_g = g;
  }
}

TEST_CASE("Broyden's step solves with the matrix of the good update", "[broyden]") {
  // B (z' - z) = -damping g, with B <- B + (dg - B dz) dz^T / (dz^T dz) from B = -I, g = f(z) - z.
  const double damping = GENERATE(1.0, 0.6);
  const std::int64_t n = 5;
  Random random(6);
  const Matrix w = random_with_radius(n, 0.7, random);
  Watched watched{tanh_map(w, random_state(1, n, DType::f64, random)), {}};
  solve_fixed_point(Broyden{.damping = damping}, watched.map(), random_state(1, n, DType::f64, random),
                    {.max_steps = 8, .tolerance = 0.0});
  REQUIRE(watched.path.size() == 8);
  Matrix b(n);
  for (std::int64_t i = 0; i < n; ++i) b(i, i) = -1.0;
  Row last_z, last_g;
  for (std::size_t k = 0; k + 1 < watched.path.size(); ++k) {
    const Row &z = watched.path[k], &next = watched.path[k + 1];
    Row g = values(watched.f(tensor(z, {1, n})));
    for (std::size_t i = 0; i < g.size(); ++i) g[i] -= z[i];
    if (k > 0) {
      Row dz = z, miss = g;
      for (std::size_t i = 0; i < g.size(); ++i) dz[i] -= last_z[i];
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        miss[at] -= last_g[at];
        for (std::int64_t j = 0; j < n; ++j) miss[at] -= b(i, j) * dz[static_cast<std::size_t>(j)];
      }
      const double squares = dot(dz, dz);
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j)
          b(i, j) += miss[static_cast<std::size_t>(i)] * dz[static_cast<std::size_t>(j)] / squares;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      double image = 0.0;
      for (std::int64_t j = 0; j < n; ++j)
        image += b(i, j) * (next[static_cast<std::size_t>(j)] - z[static_cast<std::size_t>(j)]);
      CHECK(image == Approx(-damping * g[static_cast<std::size_t>(i)]).epsilon(1e-6).margin(1e-9));
    }
    last_z = z;
    last_g = g;
  }
}

TEST_CASE("Newton-Krylov solves each system as far as its forcing term asks, and no further", "[newton]") {
  const double forcing = GENERATE(0.3, 0.5, 0.9);
  const std::int64_t n = 60;
  Random random(5);
  const Matrix w = random_with_radius(n, 0.97, random);
  const Tensor u = random_state(1, n, DType::f64, random);
  const StateMap f = tanh_map(w, u);
  struct Step {
    Row z, g;
    int products = 0;
  };
  std::vector<Step> steps;
  const auto slope_at = [&](const Row& z) {
    Row slope = values(f(tensor(z, {1, n})));
    for (double& t : slope) t = 1.0 - t * t;
    return slope;
  };
  const FixedPointProblem problem{
      f, [&](const Tensor& z) {
        Step step{values(z), values(f(z))};
        for (std::size_t i = 0; i < step.g.size(); ++i) step.g[i] -= step.z[i];
        steps.push_back(step);
        return Linearization{.jvp = [&, slope = slope_at(step.z)](const Tensor& v) {
          ++steps.back().products;
          Tensor out = Tensor::zeros({1, n}, DType::f64);
          for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < n; ++j)
              out.mutable_data<double>()[i] += slope[static_cast<std::size_t>(i)] * w(i, j) * v.at(j);
          return out;
        }};
      }};
  const auto solved =
      solve_fixed_point(NewtonKrylov{.krylov = 60, .forcing = forcing}, problem,
                        Tensor::zeros({1, n}, DType::f64), {.max_steps = 60, .tolerance = 1e-6});
  REQUIRE(solved.report.converged());
  REQUIRE(steps.size() >= 4);
  double eta = forcing;
  for (std::size_t k = 0; k < steps.size(); ++k) {
    if (k > 0) {  // Eisenstat and Walker 1996, choice 2 with gamma = 0.9, alpha = 2, and its safeguard
      const double ratio = length(steps[k].g) / length(steps[k - 1].g), before = 0.9 * eta * eta;
      eta = 0.9 * ratio * ratio;
      if (before > 0.1) eta = std::max(eta, before);
      eta = std::min(eta, 0.9);
    }
    // The least residual over the Krylov space, dimension by dimension, by conjugate residuals.
    const Row slope = slope_at(steps[k].z);
    const auto apply = [&](const Row& v) {
      Row out = v;
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j)
          out[static_cast<std::size_t>(i)] -=
              slope[static_cast<std::size_t>(i)] * w(i, j) * v[static_cast<std::size_t>(j)];
      return out;
    };
    Row residual = steps[k].g;
    std::vector<Row> images;
    const double whole = length(residual);
    double previous = 1.0;
    for (int m = 0; m < steps[k].products; ++m) {
      previous = length(residual) / whole;
      Row image = apply(images.empty() ? residual : images.back());
      for (int pass = 0; pass < 2; ++pass)
        for (const Row& q : images) {
          const double overlap = dot(q, image);
          for (std::size_t i = 0; i < image.size(); ++i) image[i] -= overlap * q[i];
        }
      const double size = length(image);
      for (double& x : image) x /= size;
      const double overlap = dot(image, residual);
      for (std::size_t i = 0; i < image.size(); ++i) residual[i] -= overlap * image[i];
      images.push_back(image);
    }
    INFO("step " << k + 1 << ", eta " << eta << ", " << steps[k].products << " products");
    CHECK(steps[k].products > 0);
    CHECK(length(residual) / whole <= eta * (1 + 1e-9));
    CHECK(previous > eta * (1 - 1e-9));
  }
}

TEST_CASE("Newton's line search tries the points of Dennis and Schnabel", "[newton]") {
  // From z along d = -F / F': t = 1, then the minimum of the parabola through ||F||^2 and its slope at 0 and
  // ||F||^2 at t, between 0.1 t and 0.5 t, until ||F|| has fallen by 1e-4 t of itself.
  struct Case {
    Scalar F;
    double start;
  };
  for (const Case& c : {Case{arctangent, 5.0}, Case{arctangent, -1.6}, Case{cubic, 0.0}, Case{cubic, 0.9},
                        Case{exponential, -3.0}, Case{waves, 2.0}, Case{waves, 3.4}}) {
    INFO("from " << c.start);
    const Row found = points(Newton{}, c.F, c.start, 30);
    Row expected{c.start};
    double z = c.start, size = std::abs(c.F.value(z)), t = 1.0;
    while (expected.size() < 30) {
      const double trial = z - t * c.F.value(z) / c.F.slope(z), reached = std::abs(c.F.value(trial));
      expected.push_back(trial);
      if (reached <= size * (1.0 - 1e-4 * t)) {
        z = trial;
        size = reached;
        t = 1.0;
      } else {  // of p(x) = size^2 (1 - 2 x) + k x^2 with p(t) = reached^2
        const double k = (reached * reached - size * size * (1.0 - 2.0 * t)) / (t * t);
        t = std::clamp(size * size / k, 0.1 * t, 0.5 * t);
      }
    }
    check_path(found, expected);
  }
}

TEST_CASE("the trust region of Levenberg and Marquardt follows the ratio of what came to what was promised",
          "[newton]") {
  struct Case {
    Scalar F;
    double start, radius;
  };
  for (const bool scaled : {true, false})
    for (const Case& c : {Case{arctangent, 5.0, 100.0}, Case{arctangent, 3.0, 0.05}, Case{cubic, 0.0, 1.0},
                          Case{cubic, 0.9, 3.0}, Case{exponential, -3.0, 0.01},
                          Case{exponential, -3.0, 100.0}, Case{waves, 2.0, 0.3}, Case{waves, 3.4, 10.0}}) {
      INFO("from " << c.start << ", radius " << c.radius << ", scaled " << scaled);
      const Row found = points(LevenbergMarquardt{.radius = c.radius, .scaled = scaled}, c.F, c.start, 25);
      Row expected{c.start};
      double z = c.start, F = c.F.value(z), a = c.F.slope(z), scale = scaled ? std::abs(a) : 1.0;
      const double size = scaled ? std::max(std::abs(scale * z), std::abs(F)) : std::abs(z);
      double radius = c.radius * (size > 0.0 ? size : 1.0);
      while (expected.size() < 25) {
        const double newton = std::abs(F / a) * scale, step = std::min(newton, radius);
        const double trial = z - std::copysign(step / scale, F / a);
        expected.push_back(trial);
        const double left = 1.0 - step / newton, promised = 1.0 - left * left;
        const double quotient = std::abs(c.F.value(trial) / F), came = 1.0 - quotient * quotient;
        if (came <= 0.25 * promised)  // the minimum of the parabola through both ends
          radius = step * std::clamp(promised / (2.0 * promised - came), 0.1, 0.5);
        else if (came > 0.75 * promised)
          radius = std::max(radius, 2.0 * step);
        if (came < 1e-4 * promised) continue;
        z = trial;
        F = c.F.value(z);
        a = c.F.slope(z);
        if (scaled) scale = std::max(scale, std::abs(a));
      }
      check_path(found, expected);
    }
}

TEST_CASE("a step of Levenberg and Marquardt is the best one in its ellipsoid", "[newton]") {
  // Moré 1978: d minimises ||F + A d|| over ||D d|| <= radius, so (A^T A + mu D^2) d = -A^T F with mu >= 0,
  // and mu = 0 unless ||D d|| is the radius, which is met to a tenth. D holds the largest columns so far.
  const bool scaled = GENERATE(true, false);
  const double first_radius = GENERATE(100.0, 0.3);
  for (const NonlinProblem& p : nonlin_problems()) {
    const std::int64_t n = p.size();
    if (n < 2 || n > 4) continue;
    CAPTURE(p.number, scaled, first_radius);
    const auto size = static_cast<std::size_t>(n);
    FixedPointProblem problem = p.problem();
    std::vector<Row> path;
    problem.f = [&, f = problem.f](const Tensor& z) {
      path.push_back(values(z));
      return f(z);
    };
    solve_fixed_point(
        LevenbergMarquardt{.radius = first_radius, .scaled = scaled}, problem, p.first(),
        {.max_steps = 12, .tolerance = 0.0, .divergence_factor = 1e300, .accept_rounding = false});
    const FixedPointProblem plain = p.problem();
    const auto F = [&](const Row& z) {
      Row value = values(plain.f(tensor(z, {1, n})));
      for (std::size_t i = 0; i < size; ++i) value[i] = z[i] - value[i];
      return value;
    };
    std::vector<Row> columns(size);  // of A
    const auto linearise = [&](const Row& z) {
      const Linearization at = plain.linearize(tensor(z, {1, n}));
      for (std::size_t j = 0; j < size; ++j) {
        Tensor unit = Tensor::zeros({1, n}, DType::f64);
        unit.mutable_data<double>()[j] = 1.0;
        columns[j] = values(at.jvp(unit));
        for (std::size_t i = 0; i < size; ++i) columns[j][i] = (i == j ? 1.0 : 0.0) - columns[j][i];
      }
    };
    Row z = path[0], f = F(z), scale(size, scaled ? 0.0 : 1.0);
    const auto rescale = [&] {
      for (std::size_t j = 0; j < size && scaled; ++j) scale[j] = std::max(scale[j], length(columns[j]));
    };
    linearise(z);
    rescale();
    for (double& d : scale) d = d > 0.0 ? d : 1.0;
    double radius = 0.0;
    for (std::size_t j = 0; j < size; ++j) radius = std::hypot(radius, scale[j] * z[j]);
    radius = std::max(radius, scaled ? length(f) : 0.0);
    radius = first_radius * (radius > 0.0 ? radius : 1.0);
    for (std::size_t k = 1; k < path.size() && length(f) > 1e-6; ++k) {
      INFO("trial " << k);
      Row d = path[k], left = f, slope, weighted;
      for (std::size_t j = 0; j < size; ++j) d[j] -= z[j];
      for (std::size_t j = 0; j < size; ++j)
        for (std::size_t i = 0; i < size; ++i) left[i] += columns[j][i] * d[j];
      double step = 0.0, pull = 0.0;
      for (std::size_t j = 0; j < size; ++j) {
        slope.push_back(-dot(columns[j], left) / scale[j]);  // of the model, in the metric of D
        weighted.push_back(scale[j] * d[j]);
        pull += std::pow(dot(columns[j], f) / scale[j], 2);
      }
      step = length(weighted);
      pull = std::sqrt(pull);
      const double mu = dot(slope, weighted) / (step * step);
      Row off = slope;
      for (std::size_t j = 0; j < size; ++j) off[j] -= mu * weighted[j];
      CHECK(length(off) <= 1e-6 * pull);
      CHECK(mu * step >= -1e-6 * pull);
      CHECK(step <= 1.1 * radius * (1.0 + 1e-9));
      if (step < 0.9 * radius * (1.0 - 1e-9)) CHECK(std::abs(mu) * step <= 1e-6 * pull);
      const Row there = F(path[k]);
      const double promised = 1.0 - std::pow(length(left) / length(f), 2),
                   came = 1.0 - std::pow(length(there) / length(f), 2);
      if (!(promised > 1e-9)) break;
      if (!(came > 0.25 * promised))
        radius =
            step * (std::isfinite(came) ? std::clamp(promised / (2.0 * promised - came), 0.1, 0.5) : 0.1);
      else if (came > 0.75 * promised)
        radius = std::max(radius, 2.0 * step);
      if (!(came >= 1e-4 * promised)) continue;
      z = path[k];
      f = there;
      linearise(z);
      rescale();
    }
  }
}

TEST_CASE("a step of minimisation is that of Steihaug's conjugate gradients", "[minimize]") {
  // Nocedal and Wright 2006, algorithm 7.2, with the tolerance min(1/2, sqrt ||g||) ||g||, on a chained
  // Rosenbrock function: convex here, indefinite there.
  const double radius = GENERATE(0.05, 0.5, 1e3);
  const int limit = GENERATE(2, 200);
  const std::size_t n = 5;
  const auto value = [](const Row& x) {
    double sum = 0.0;
    for (std::size_t i = 0; i + 1 < x.size(); ++i)
      sum += 10.0 * std::pow(x[i + 1] - x[i] * x[i], 2) + std::pow(1.0 - x[i], 2);
    return sum;
  };
  const auto gradient = [](const Row& x) {
    Row g(x.size(), 0.0);
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      g[i] += -40.0 * x[i] * (x[i + 1] - x[i] * x[i]) - 2.0 * (1.0 - x[i]);
      g[i + 1] += 20.0 * (x[i + 1] - x[i] * x[i]);
    }
    return g;
  };
  const auto hessian = [](const Row& x, const Row& v) {
    Row h(x.size(), 0.0);
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      h[i] += (-40.0 * (x[i + 1] - 3.0 * x[i] * x[i]) + 2.0) * v[i] - 40.0 * x[i] * v[i + 1];
      h[i + 1] += -40.0 * x[i] * v[i] + 20.0 * v[i + 1];
    }
    return h;
  };
  std::vector<Row> path;
  const Shape shape{1, static_cast<std::int64_t>(n)};
  const MinimizationProblem problem{
      [&](const Tensor& z) {
        path.push_back(values(z));
        return MinimizationProblem::Point{Tensor::full({1}, value(path.back()), DType::f64),
                                          tensor(gradient(path.back()), shape)};
      },
      [&](const Tensor& z) -> StateMap {
        return [&, x = values(z)](const Tensor& v) { return tensor(hessian(x, values(v)), shape); };
      }};
  solve_minimum({.radius = radius, .krylov = limit}, problem, tensor(Row{-1.2, 1.0, 0.3, -0.8, 0.6}, shape),
                {.max_steps = 20, .tolerance = 0.0, .absolute_tolerance = 1e-6});
  REQUIRE(path.size() > 5);
  Row z = path[0];
  double region = radius;
  for (std::size_t k = 1; k < path.size(); ++k) {
    INFO("trial " << k);
    const Row g = gradient(z);
    Row s(n, 0.0), r = g, d = g;
    for (double& x : d) x = -x;
    const double enough = std::min(0.5, std::sqrt(length(g))) * length(g);
    for (int j = 0; j < limit && length(r) > enough; ++j) {
      const Row hd = hessian(z, d);
      const double curvature = dot(d, hd), full = dot(r, r) / curvature;
      Row ahead = s;
      for (std::size_t i = 0; i < n; ++i) ahead[i] += full * d[i];
      if (curvature <= 0.0 || length(ahead) >= region) {  // to the edge: ||s + t d|| = region
        const double dd = dot(d, d), sd = dot(s, d), rest = region * region - dot(s, s);
        const double t = (-sd + std::sqrt(sd * sd + dd * rest)) / dd;
        for (std::size_t i = 0; i < n; ++i) s[i] += t * d[i];
        break;
      }
      const double before = dot(r, r);
      for (std::size_t i = 0; i < n; ++i) r[i] += full * hd[i];
      s = ahead;
      for (std::size_t i = 0; i < n; ++i) d[i] = dot(r, r) / before * d[i] - r[i];
    }
    Row trial = z;
    for (std::size_t i = 0; i < n; ++i) trial[i] += s[i];
    for (std::size_t i = 0; i < n; ++i) CHECK(path[k][i] == Approx(trial[i]).epsilon(1e-6).margin(1e-7));
    const double promised = -dot(g, s) - 0.5 * dot(s, hessian(z, s)),
                 ratio = (value(z) - value(trial)) / promised;
    if (ratio <= 1e-4)
      region = 0.25 * length(s);
    else if (ratio < 0.25)
      region = 0.25 * std::max(length(s), region);
    else if (ratio > 0.75 && length(s) > 0.8 * region)
      region *= 2.0;
    if (ratio > 1e-4) z = path[k];
  }
}

TEST_CASE("the trust region of minimisation follows the ratio of what came to what was promised",
          "[minimize]") {
  struct Case {
    Scalar phi;
    std::function<double(double)> curvature;
    double start, radius;
  };
  const Scalar bump{[](double x) { return std::log(std::cosh(x)); }, [](double x) { return std::tanh(x); }};
  const Scalar wells{[](double x) { return 0.25 * x * x * x * x - 0.5 * x * x; },
                     [](double x) { return x * x * x - x; }};
  const Scalar ripple{[](double x) { return 0.5 * x * x - std::cos(3.0 * x); },
                      [](double x) { return x + 3.0 * std::sin(3.0 * x); }};
  const auto of_bump = [](double x) { return 1.0 / std::pow(std::cosh(x), 2); };
  const auto of_wells = [](double x) { return 3.0 * x * x - 1.0; };
  const auto of_ripple = [](double x) { return 1.0 + 9.0 * std::cos(3.0 * x); };
  for (const Case& c :
       {Case{bump, of_bump, 3.3, 1.0}, Case{bump, of_bump, 1.2, 100.0}, Case{wells, of_wells, 0.3, 0.1},
        Case{wells, of_wells, -5.0, 1.0}, Case{ripple, of_ripple, 2.0, 1.0},
        Case{ripple, of_ripple, 1.1, 8.0}, Case{ripple, of_ripple, 6.5, 0.4}}) {
    INFO("from " << c.start << ", radius " << c.radius);
    Row found;
    const MinimizationProblem problem{[&](const Tensor& z) {
                                        found.push_back(z.item());
                                        return MinimizationProblem::Point{
                                            Tensor::full({1}, c.phi.value(z.item()), DType::f64),
                                            Tensor::full({1, 1}, c.phi.slope(z.item()), DType::f64)};
                                      },
                                      [&](const Tensor& z) -> StateMap {
                                        return [h = c.curvature(z.item())](const Tensor& v) {
                                          return Tensor::full({1, 1}, h * v.item(), DType::f64);
                                        };
                                      }};
    const double limit = 2.5;
    solve_minimum({.radius = c.radius, .max_radius = limit}, problem,
                  Tensor::full({1, 1}, c.start, DType::f64),
                  {.max_steps = 25, .tolerance = 0.0, .absolute_tolerance = 1e-5});
    Row expected{c.start};
    double z = c.start, radius = c.radius;
    while (expected.size() < 25) {
      const double g = c.phi.slope(z), h = c.curvature(z);
      const double step = h > 0.0 ? std::min(std::abs(g) / h, radius) : radius;
      const double trial = z - std::copysign(step, g);
      expected.push_back(trial);
      const double ratio =
          (c.phi.value(z) - c.phi.value(trial)) / (step * std::abs(g) - 0.5 * h * step * step);
      if (ratio <= 1e-4)
        radius = 0.25 * step;
      else if (ratio < 0.25)
        radius = 0.25 * std::max(step, radius);
      else if (ratio > 0.75 && step > 0.8 * radius)
        radius = std::min(2.0 * radius, limit);
      if (ratio > 1e-4) z = trial;
    }
    check_path(found, expected);
  }
}

TEST_CASE("the safeguard: back to the best iterate, more patience each time, then Picard until a tenth",
          "[safeguard]") {
  const double unit = GENERATE(1.0, 1e-6, 1e6);  // residuals have no natural size
  const std::int64_t batch = 2;
  Safeguard<double> guard(batch, 1, DType::f64, {.growth = 10.0, .patience = 3, .restarts = 2});
  // What becomes of each sample at the point z with the given residual; the second goes through the same,
  // elsewhere.
  enum class Goes { on, back, picard };
  const auto meets = [&](double z, double residual, double* where = nullptr) {
    Goes result[2];
    for (std::int64_t s = 0; s < batch; ++s) {
      const double at = unit * (z + 1000.0 * static_cast<double>(s)), value = at + unit * residual;
      const double *pz = &at, *pf = &value;
      const bool restart = guard.restart(s, pz, pf);
      result[s] = !restart ? Goes::on : pz == &at ? Goes::picard : Goes::back;
      if (where) where[s] = *pz / unit;
      if (restart && pz == &at) CHECK(pf == &value);
    }
    CHECK(result[0] == result[1]);
    return result[0];
  };
  double where[2];
  const auto leads_back_to = [&](double best) {
    return where[0] == Approx(best) && where[1] == Approx(best + 1000.0);
  };

  SECTION("a residual that grows") {
    CHECK(meets(1, 1.0) == Goes::on);
    CHECK(meets(2, 9.9) == Goes::on);
    CHECK(meets(3, 10.1, where) == Goes::back);
    CHECK(leads_back_to(1));
    CHECK(meets(4, 39.0) == Goes::on);  // twice the slack, squared
    CHECK(meets(5, 41.0, where) == Goes::back);
    CHECK(leads_back_to(1));
    CHECK(meets(6, 0.9) == Goes::picard);
    CHECK(meets(7, 0.15) == Goes::picard);
    CHECK(meets(8, 0.09) == Goes::on);  // a tenth of what it was at the restart
    CHECK(meets(9, 0.95, where) == Goes::back);
    CHECK(leads_back_to(8));
  }
  SECTION("a residual that does not fall") {
    CHECK(meets(1, 1.0) == Goes::on);
    for (int i = 0; i < 2; ++i) CHECK(meets(2 + i, 2.0) == Goes::on);
    CHECK(meets(5, 2.0, where) == Goes::back);
    CHECK(leads_back_to(1));
    for (int i = 0; i < 6; ++i) CHECK(meets(6 + i, 2.0) == Goes::on);
    CHECK(meets(12, 2.0, where) == Goes::back);
    CHECK(leads_back_to(1));
    CHECK(meets(13, 2.0) == Goes::picard);
  }
  SECTION("success makes the limits what they were") {
    CHECK(meets(1, 1.0) == Goes::on);
    CHECK(meets(2, 11.0) == Goes::back);
    CHECK(meets(3, 0.99) == Goes::on);
    CHECK(meets(4, 10.0, where) == Goes::back);
    CHECK(leads_back_to(3));
    CHECK(meets(5, 20.0) == Goes::on);
  }
  SECTION("Picard's steps that run away end") {
    CHECK(meets(1, 1.0) == Goes::on);
    CHECK(meets(2, 11.0) == Goes::back);
    CHECK(meets(3, 41.0) == Goes::back);
    CHECK(meets(4, 9000.0) == Goes::picard);
    CHECK(meets(5, 11000.0, where) == Goes::back);
    CHECK(leads_back_to(1));
    CHECK(meets(6, 39.0) == Goes::on);  // as after one restart
    CHECK(meets(7, 41.0) == Goes::back);
    CHECK(meets(8, 5.0) == Goes::picard);
  }
}

TEMPLATE_TEST_CASE("norms and distances of vectors whose squares leave the range of numbers", "", float,
                   double) {
  using T = TestType;
  const double large = std::numeric_limits<T>::max() / 16.0, small = std::numeric_limits<T>::min() * 4.0;
  for (const double unit : {large, small, 1.0}) {
    CAPTURE(unit);
    const T a[4] = {static_cast<T>(3 * unit), static_cast<T>(-4 * unit), T(0), static_cast<T>(12 * unit)};
    const T b[4] = {T(0), T(0), T(0), static_cast<T>(12 * unit)};
    CHECK(vec::norm(a, 4) == Approx(13 * unit).epsilon(1e-6));
    CHECK(vec::distance(a, b, 4) == Approx(5 * unit).epsilon(1e-6));
    CHECK(vec::norm(b, 3) == 0.0);
    const auto rows = vec::row_norms(Tensor::from(std::span<const T>(a), {2, 2}));
    CHECK(rows[0] == Approx(5 * unit).epsilon(1e-6));
    CHECK(rows[1] == Approx(12 * unit).epsilon(1e-6));
  }
  const T infinite[2] = {T(1), std::numeric_limits<T>::infinity()},
          unknown[2] = {T(1), static_cast<T>(std::nan(""))};
  CHECK(std::isinf(vec::norm(infinite, 2)));
  CHECK(std::isnan(vec::norm(unknown, 2)));
  CHECK_FALSE(vec::all_finite(infinite, 2));
  CHECK(vec::all_finite(infinite, 1));
}

TEST_CASE("difference quotients: each sample with its own step, zero for a zero direction", "[newton]") {
  const std::int64_t n = 3;
  Random random(12);
  const Matrix w = random_with_radius(n, 0.8, random);
  const Tensor u = random_state(3, n, DType::f64, random);
  const FixedPointProblem problem{tanh_map(w, u), {}};
  Tensor z = random_state(3, n, DType::f64, random), v = random_state(3, n, DType::f64, random);
  for (std::int64_t i = 0; i < n; ++i) {
    z.mutable_data<double>()[i] *= 1e-8;  // units of its own
    v.mutable_data<double>()[i] *= 1e12;
    v.mutable_data<double>()[n + i] = 0.0;
  }
  const Tensor fz = problem.f(z), quotient = Derivatives("test", problem).jvp_at(z, fz)(v);
  for (std::int64_t s = 0; s < 3; ++s)
    for (std::int64_t i = 0; i < n; ++i) {
      double exact = 0.0;
      for (std::int64_t j = 0; j < n; ++j) exact += w(i, j) * v.at(s * n + j);
      exact *= 1.0 - std::pow(fz.at(s * n + i), 2);
      CHECK(quotient.at(s * n + i) == Approx(exact).epsilon(1e-5));
    }
}

TEST_CASE("Newton-Krylov's line search knows how far its directions descend", "[newton]") {
  // Along a direction d with A d = g but for a residual of `left` ||g||, the slope of ||g|| is -(1 - left^2)
  // ||g||; after a failure the second trial is the minimum of the parabola through it.
  const std::int64_t n = 12;
  Random random(21);
  const Matrix w = random_with_radius(n, 3.0, random);
  const Tensor u = random_state(1, n, DType::f64, random);
  int failures = 0;
  for (int start = 0; start < 30; ++start) {
    std::vector<Row> path;
    const StateMap f = per_sample([&](std::int64_t, const auto* in, auto* out, std::int64_t) {
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = static_cast<double>(in[i]) - u.at(i);
        for (std::int64_t j = 0; j < n; ++j) sum += w(i, j) * static_cast<double>(in[j]);
        out[i] = static_cast<std::decay_t<decltype(*out)>>(static_cast<double>(in[i]) - std::atan(sum));
      }
    });
    Row slope;
    const FixedPointProblem problem{[&](const Tensor& z) {
                                      path.push_back(values(z));
                                      return f(z);
                                    },
                                    [&](const Tensor& z) {
                                      Row local(static_cast<std::size_t>(n));
                                      for (std::int64_t i = 0; i < n; ++i) {
                                        double sum = z.at(i) - u.at(i);
                                        for (std::int64_t j = 0; j < n; ++j) sum += w(i, j) * z.at(j);
                                        local[static_cast<std::size_t>(i)] = 1.0 / (1.0 + sum * sum);
                                      }
                                      if (slope.empty()) slope = local;
                                      return Linearization{.jvp = [&w, local, n](const Tensor& v) {
                                        Tensor out = v.clone();
                                        for (std::int64_t i = 0; i < n; ++i) {
                                          double sum = v.at(i);
                                          for (std::int64_t j = 0; j < n; ++j) sum += w(i, j) * v.at(j);
                                          out.mutable_data<double>()[i] -=
                                              local[static_cast<std::size_t>(i)] * sum;
                                        }
                                        return out;
                                      }};
                                    }};
    Tensor z0 = random_state(1, n, DType::f64, random);
    for (std::int64_t i = 0; i < n; ++i) z0.mutable_data<double>()[i] *= 1.5;
    solve_fixed_point(NewtonKrylov{.forcing = 0.7}, problem, z0, {.max_steps = 3, .tolerance = 1e-9});
    if (path.size() < 3) continue;
    const auto residual = [&](const Row& z) {
      Row g = values(f(tensor(z, {1, n})));
      for (std::size_t i = 0; i < g.size(); ++i) g[i] -= z[i];
      return g;
    };
    const Row g = residual(path[0]);
    Row d = path[1], left = g, second = path[2];
    for (std::size_t i = 0; i < d.size(); ++i) {
      d[i] -= path[0][i];
      second[i] -= path[0][i];
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const auto at = static_cast<std::size_t>(i);
      double sum = d[at];
      for (std::int64_t j = 0; j < n; ++j) sum += w(i, j) * d[static_cast<std::size_t>(j)];
      left[at] -= slope[at] * sum;
    }
    const double part = length(left) / length(g), descent = 1.0 - part * part;
    const double growth = length(residual(path[1])) / length(g);
    const double t = dot(second, d) / dot(d, d);
    const bool accepted = growth <= 1.0 - 1e-4 * descent;
    INFO("start " << start << ", residual " << part << ", growth " << growth);
    if (accepted) continue;
    ++failures;
    CHECK(t == Approx(std::clamp(descent / (growth * growth - 1.0 + 2.0 * descent), 0.1, 0.5)).epsilon(1e-6));
  }
  CHECK(failures >= 3);
}
