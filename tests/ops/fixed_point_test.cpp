// The fixed-point node: values, statuses, capture, and every backward rule against its own closed form.
#include <banach/engine/blas.hpp>
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>
#include <tests/ops/counting.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

using Matrix = std::vector<double>;  // row-major (n, n)

Var f64(double value) { return leaf(scalar(value, DType::f64)); }

const FixedPointOptions tight{
    .solver = Picard{}, .backward = Implicit{Dense{}}, .tolerance = 1e-14, .max_steps = 5000};

FixedPointOptions with_rule(BackwardRule rule) {
  FixedPointOptions options = tight;
  options.backward = std::move(rule);
  return options;
}

// A random n x n matrix whose largest row sum is at most `bound`: a contraction in the largest norm.
Tensor contraction(Random& random, std::int64_t n, double bound) {
  Tensor a = normal(random, {n, n});
  double* p = a.mutable_data<double>();
  double top = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    double row = 0.0;
    for (std::int64_t j = 0; j < n; ++j) row += std::abs(p[i * n + j]);
    top = std::max(top, row);
  }
  for (std::int64_t i = 0; i < n * n; ++i) p[i] *= bound / top;
  return a;
}

std::vector<double> times(const Matrix& a, const std::vector<double>& x, bool transposed) {
  const std::size_t n = x.size();
  std::vector<double> y(n, 0.0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) y[i] += (transposed ? a[j * n + i] : a[i * n + j]) * x[j];
  return y;
}

// Gaussian elimination with partial pivoting, independent of the library: solves (I - A^T) x = g.
std::vector<double> dense_adjoint(const Matrix& a, std::vector<double> g) {
  const std::size_t n = g.size();
  Matrix m(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) m[i * n + j] = (i == j ? 1.0 : 0.0) - a[j * n + i];
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(m[i * n + k]) > std::abs(m[pivot * n + k])) pivot = i;
    for (std::size_t j = 0; j < n; ++j) std::swap(m[k * n + j], m[pivot * n + j]);
    std::swap(g[k], g[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = m[i * n + k] / m[k * n + k];
      for (std::size_t j = k; j < n; ++j) m[i * n + j] -= factor * m[k * n + j];
      g[i] -= factor * g[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) g[k] -= m[k * n + j] * g[j];
    g[k] /= m[k * n + k];
  }
  return g;
}

double largest_difference(const Tensor& a, const std::vector<double>& b) {
  double top = 0.0, scale = 0.0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    top = std::max(top, std::abs(a.at(static_cast<std::int64_t>(i)) - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return top / std::max(scale, 1e-300);
}

// One random problem z = A z + b or z = tanh(A z + b), one sample, loss <g, z>. The gradient in b is D
// lambda, where D = df/db is I or the slope of tanh, and J = D A.
struct Problem {
  bool curved;
  std::int64_t n;
  Tensor a, b, g, z;
  Matrix jacobian;
  std::vector<double> slope;

  Problem(std::uint64_t seed) {
    Random random(seed);
    curved = seed % 2 == 1;
    n = 1 + random.below(8);
    a = contraction(random, n, 0.9);
    b = normal(random, {1, n});
    g = normal(random, {1, n});
    const NoGrad off;
    z = fixed_point([&](const Var& s) { return body(s, Var(b)); }, Var(Tensor::zeros({1, n}, DType::f64)),
                    tight)
            .z.value();
    for (std::int64_t i = 0; i < n; ++i) slope.push_back(curved ? 1.0 - z.at(i) * z.at(i) : 1.0);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        jacobian.push_back(slope[static_cast<std::size_t>(i)] * a.at(i * n + j));
  }

  Var body(const Var& s, const Var& bias) const {
    const Var linear = matmul(s, Var(a), {.transpose_b = true}) + bias;
    return curved ? tanh(linear) : linear;
  }

  Tensor gradient(const BackwardRule& rule, AdjointReport* report = nullptr) const {
    Tape tape;
    const Var bias = leaf(b);
    const auto solved = fixed_point([&](const Var& s) { return body(s, bias); }, Var(z), with_rule(rule));
    const Tensor result = grad(sum(solved.z * Var(g)), {bias})[0].value();
    if (report) *report = solved.adjoint.last();
    return result;
  }

  std::vector<double> expected(const std::vector<double>& lambda) const {
    std::vector<double> result(lambda);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] *= slope[i];
    return result;
  }
};

struct Doubled {
  static constexpr std::string_view name = "doubled";
  Adjoint solve(const Linearized&, const Var& g) const { return {.lambda = 2.0 * g}; }
};

struct Misshapen {
  static constexpr std::string_view name = "misshapen";
  Adjoint solve(const Linearized&, const Var& g) const { return {.lambda = sum(g)}; }
};

}  // namespace

TEST_CASE("z = 0.999 z + b: every rule has its known gradient", "[fixed_point]") {
  const auto gradient = [](BackwardRule rule) {
    Tape tape;
    const Var b = leaf(tensor({1.0}, {1, 1}));
    FixedPointOptions options = with_rule(std::move(rule));
    const auto solved =
        fixed_point([&](const Var& z) { return 0.999 * z + b; }, Var(tensor({1000.0}, {1, 1})), options);
    return grad(sum(solved.z), {b})[0].item();
  };
  CHECK(gradient(Implicit{}) == Approx(1000.0).epsilon(1e-8));
  CHECK(gradient(Implicit{Dense{}}) == Approx(1000.0).epsilon(1e-8));
  CHECK(gradient(Implicit{Iterative{.solver = Anderson{}, .tolerance = 1e-12}}) ==
        Approx(1000.0).epsilon(1e-8));
  CHECK(gradient(Implicit{Iterative{.solver = Broyden{}, .tolerance = 1e-12}}) ==
        Approx(1000.0).epsilon(1e-8));
  CHECK(gradient(Implicit{Iterative{.solver = Picard{}, .max_steps = 40000, .tolerance = 1e-12}}) ==
        Approx(1000.0).epsilon(1e-8));
  CHECK(gradient(Neumann{10}) == Approx(9.955119790).epsilon(1e-9));
  CHECK(gradient(JacobianFree{}) == 1.0);
}

TEST_CASE("z = 0.999 z + b by Picard to 1e-10 within 1,000 steps reports max_steps", "[fixed_point]") {
  const auto solved =
      fixed_point([](const Var& z) { return 0.999 * z + 1.0; }, Var(Tensor::zeros({1, 1}, DType::f64)),
                  {.solver = Picard{}, .tolerance = 1e-10, .max_steps = 1000});
  CHECK(solved.report.samples[0].status == Status::max_steps);
  CHECK(solved.report.samples[0].nstep == 1000);
  CHECK_FALSE(solved.report.converged());
}

TEST_CASE("phantom gradient at rho 0.9, tau 0.5, k 5", "[fixed_point]") {
  for (const auto form : {Phantom::Form::neumann, Phantom::Form::unrolled}) {
    Tape tape;
    const Var b = leaf(tensor({1.0}, {1, 1}));
    const auto solved = fixed_point([&](const Var& z) { return 0.9 * z + b; }, Var(tensor({10.0}, {1, 1})),
                                    with_rule(Phantom{.steps = 5, .damping = 0.5, .form = form}));
    CHECK(grad(sum(solved.z), {b})[0].item() == Approx(2.262190625).epsilon(1e-12));
    CHECK(solved.adjoint.last().samples[0].adjoint_residual == Approx(std::pow(0.95, 5)).epsilon(1e-10));
  }
}

TEST_CASE("a non-normal map where the Jacobian-free gradient points uphill", "[fixed_point]") {
  Tape tape;
  const Var b = leaf(tensor({0.0, 0.0}, {1, 2}));
  const Var a(tensor({0.5, -10.0, 0.0, 0.5}, {2, 2}));
  const auto gradient = [&](BackwardRule rule) {
    const auto solved = fixed_point([&](const Var& z) { return matmul(z, a, {.transpose_b = true}) + b; },
                                    Var(Tensor::zeros({1, 2}, DType::f64)), with_rule(std::move(rule)));
    return grad(sum(solved.z), {b})[0].value();
  };
  const Tensor exact = gradient(Implicit{}), free = gradient(JacobianFree{});
  CHECK(exact.at(0) == Approx(2.0).epsilon(1e-10));
  CHECK(exact.at(1) == Approx(-38.0).epsilon(1e-10));
  CHECK(exact.at(0) * free.at(0) + exact.at(1) * free.at(1) < 0.0);
}

TEST_CASE("z = 1 + t z: true derivatives of the solution to third order through the node",
          "[fixed_point][higher_order]") {
  for (const LinearSolver& solver : std::vector<LinearSolver>{Gmres{.tolerance = 1e-14}, Dense{}}) {
    Tape tape;
    const Var t = f64(0.5);
    FixedPointOptions options = with_rule(Implicit{solver});
    options.batch = Batch::none;
    Var d = fixed_point([&](const Var& z) { return 1.0 + t * z; }, Var(scalar(0.0, DType::f64)), options).z;
    for (const double expected : {2.0, 4.0, 16.0, 96.0, 768.0}) {
      CHECK(d.item() == Approx(expected).epsilon(1e-8));
      d = grad(d, {t}, {.create_graph = true})[0];
    }
  }
}

TEST_CASE("every rule against its own closed form on 25 random problems", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 25; ++seed) {
    const Problem problem(seed);
    const std::vector<double> g(problem.g.data<double>(), problem.g.data<double>() + problem.n);
    const auto transposed = [&](const std::vector<double>& x) { return times(problem.jacobian, x, true); };
    const auto add_to = [](std::vector<double>& x, const std::vector<double>& y) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    };
    INFO("seed " << seed);

    const std::vector<double> exact = dense_adjoint(problem.jacobian, g);
    for (const LinearSolver& solver :
         std::vector<LinearSolver>{Gmres{.tolerance = 1e-13}, Dense{},
                                   Iterative{.solver = Picard{}, .max_steps = 2000, .tolerance = 1e-13},
                                   Iterative{.solver = Anderson{}, .max_steps = 2000, .tolerance = 1e-13},
                                   Iterative{.solver = Broyden{}, .max_steps = 2000, .tolerance = 1e-13}}) {
      AdjointReport report;
      CHECK(largest_difference(problem.gradient(Implicit{solver}, &report), problem.expected(exact)) < 1e-9);
      CHECK(report.exact());
    }

    CHECK(largest_difference(problem.gradient(JacobianFree{}), problem.expected(g)) < 1e-12);

    std::vector<double> term = g, neumann = g;
    for (int i = 1; i < 7; ++i) add_to(neumann, term = transposed(term));
    CHECK(largest_difference(problem.gradient(Neumann{7}), problem.expected(neumann)) < 1e-12);

    const double tau = 0.6;
    std::vector<double> phantom = g;
    term = g;
    for (int i = 1; i < 4; ++i) {
      const std::vector<double> pulled = transposed(term);
      for (std::size_t k = 0; k < term.size(); ++k) term[k] = tau * pulled[k] + (1 - tau) * term[k];
      add_to(phantom, term);
    }
    for (double& x : phantom) x *= tau;
    for (const auto form : {Phantom::Form::neumann, Phantom::Form::unrolled})
      CHECK(largest_difference(problem.gradient(Phantom{4, tau, form}), problem.expected(phantom)) < 1e-12);
  }
}

TEST_CASE("Unrolled is the derivative of the iteration itself", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 25; ++seed) {
    const Problem problem(seed);
    const double damping = seed % 3 == 0 ? 0.7 : 1.0;
    const Tensor z0 = Tensor::full({1, problem.n}, 0.1, DType::f64);
    FixedPointOptions options = with_rule(Unrolled{});
    options.solver = Picard{.damping = damping};
    options.tolerance = 1e-3;
    Tape tape;
    const Var bias = leaf(problem.b), start = leaf(z0);
    const auto solved = fixed_point([&](const Var& s) { return problem.body(s, bias); }, start, options);
    const Vars got = grad(sum(solved.z * Var(problem.g)), {bias, start});

    // The same number of steps by hand.
    Var z = start;
    for (int i = 1; i < solved.report.samples[0].best_step; ++i) {
      const Var next = problem.body(z, bias);
      z = damping == 1.0 ? next : z + damping * (next - z);
    }
    const Vars expected = grad(sum(z * Var(problem.g)), {bias, start});
    INFO("seed " << seed);
    for (std::size_t k = 0; k < 2; ++k)
      for (std::int64_t i = 0; i < problem.n; ++i)
        CHECK(got[k].value().at(i) == Approx(expected[k].value().at(i)).epsilon(1e-12).margin(1e-15));
  }
}

TEST_CASE("Unrolled: each sample of a batch has its own number of steps", "[fixed_point][rules]") {
  const Tensor rates = tensor({0.1, 0.5, 0.8}, {3, 1});
  FixedPointOptions options = with_rule(Unrolled{});
  options.tolerance = 1e-6;
  Tape tape;
  const Var b = leaf(Tensor::ones({3, 1}, DType::f64));
  const auto solved = fixed_point([&](const Var& z) { return Var(rates) * z + b; },
                                  Var(Tensor::zeros({3, 1}, DType::f64)), options);
  const Var g = grad(sum(solved.z), {b})[0];
  for (std::int64_t i = 0; i < 3; ++i) {
    const SampleReport& sample = solved.report.samples[static_cast<std::size_t>(i)];
    const double rate = rates.at(i), sum_of_powers = (1 - std::pow(rate, sample.best_step - 1)) / (1 - rate);
    CHECK(solved.z.value().at(i) == Approx(sum_of_powers).epsilon(1e-12));
    CHECK(g.value().at(i) == Approx(sum_of_powers).epsilon(1e-12));
  }
  CHECK(solved.report.samples[0].nstep < solved.report.samples[2].nstep);
  REQUIRE(solved.adjoint.sweeps().size() == 1);
  for (const GradientStatus& status : solved.adjoint.last().samples) {
    CHECK(status.kind == GradientKind::approximate);
    CHECK(status.forward == Status::converged);
  }
}

TEST_CASE("Unrolled says which solver it needs", "[fixed_point][errors]") {
  FixedPointOptions options = with_rule(Unrolled{});
  options.solver = Anderson{};
  CHECK_THROWS_WITH(
      fixed_point([](const Var& z) { return 0.5 * z; }, Var(Tensor::zeros({1, 1}, DType::f64)), options),
      Contains("Unrolled") && Contains("Picard") && Contains("anderson"));
}

TEST_CASE("second and third derivatives through Implicit for a tanh map", "[fixed_point][higher_order]") {
  Random random(3);
  const Tensor a = contraction(random, 3, 0.8), b = normal(random, {2, 3}),
               z0 = Tensor::zeros({2, 3}, DType::f64);
  const auto f = [&](const Vars& in) {
    return Vars{
        fixed_point([&](const Var& z) { return tanh(matmul(z, in[0], {.transpose_b = true}) + in[1]); },
                    Var(z0), with_rule(Implicit{Dense{}}))
            .z};
  };
  const GradcheckReport report =
      gradcheck(f, {Var(a), Var(b)}, {.order = 3, .step = 2e-3, .tolerance = 1e-6});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("higher derivatives where rho(J) > 1 and Broyden finds the solution",
          "[fixed_point][higher_order]") {
  // J = W (1 - tanh^2): expanding in some directions, so that Picard fails.
  const Tensor w = tensor({-2.5, 0.6, 0.3, -2.0}, {2, 2}), b = tensor({0.3, -0.2}, {1, 2});
  FixedPointOptions options = with_rule(Implicit{Dense{}});
  options.solver = Broyden{};
  options.tolerance = 1e-13;
  const Tensor z0 = Tensor::zeros({1, 2}, DType::f64);
  const auto f = [&](const Vars& in) {
    auto solved =
        fixed_point([&](const Var& z) { return tanh(matmul(z, in[0], {.transpose_b = true}) + in[1]); },
                    Var(z0), options);
    if (!solved.report.converged()) throw std::runtime_error("Broyden: " + solved.report.to_string());
    return Vars{solved.z};
  };
  {
    const NoGrad off;
    const Tensor z = f({Var(w), Var(b)})[0].value();
    const double slope = 1 - z.at(0) * z.at(0);
    REQUIRE(std::abs(slope * -2.5) > 1.2);  // the trace alone puts an eigenvalue outside of the unit disc
    FixedPointOptions picard = options;
    picard.solver = Picard{};
    CHECK_FALSE(
        fixed_point([&](const Var& s) { return tanh(matmul(s, Var(w), {.transpose_b = true}) + Var(b)); },
                    Var(Tensor::full({1, 2}, 0.01, DType::f64)), picard)
            .report.converged());
  }
  const GradcheckReport report =
      gradcheck(f, {Var(w), Var(b)}, {.order = 3, .step = 1e-3, .tolerance = 1e-6});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("approximate rules differentiate their own estimate", "[fixed_point][higher_order]") {
  // For z = t z + b the estimates of dz/db are known functions of t: their derivatives in t are checked.
  const double t0 = 0.6, tau = 0.5;
  struct Case {
    BackwardRule rule;
    std::function<double(double)> derivative;
  };
  const std::vector<Case> cases{{JacobianFree{}, [](double) { return 0.0; }},
                                {Neumann{4}, [](double t) { return 1 + 2 * t + 3 * t * t; }},
                                {Phantom{3, tau, Phantom::Form::neumann}, [&](double t) {
                                   const double m = tau * t + 1 - tau;
                                   return tau * (tau + 2 * m * tau);
                                 }}};
  for (const Case& c : cases) {
    Tape tape;
    const Var t = leaf(tensor({t0}, {1, 1})), b = leaf(tensor({1.0}, {1, 1}));
    const auto solved =
        fixed_point([&](const Var& z) { return t * z + b; }, Var(tensor({2.5}, {1, 1})), with_rule(c.rule));
    const Var first = grad(sum(solved.z), {b}, {.create_graph = true})[0];
    const double second = first.recorded() ? grad(sum(first), {t})[0].item() : 0.0;
    INFO(c.rule.name());
    CHECK(second == Approx(c.derivative(t0)).epsilon(1e-12));
  }
}

TEST_CASE("a rule of one's own", "[fixed_point][rules]") {
  Tape tape;
  const Var b = leaf(tensor({1.0}, {1, 1}));
  const auto solved = fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(tensor({2.0}, {1, 1})),
                                  with_rule(Doubled{}));
  CHECK(grad(sum(solved.z), {b})[0].item() == 2.0);  // here even right: 1 / (1 - 0.5)
  const AdjointReport& report = solved.adjoint.last();
  CHECK(report.rule == "doubled");
  CHECK(report.samples[0].kind == GradientKind::approximate);
  CHECK(report.samples[0].adjoint == Status::converged);
}

TEST_CASE("reports tell a series cut by design from a solve that ran out of steps", "[fixed_point][status]") {
  const auto words = [](const BackwardRule& rule) {
    const Tape tape;
    const Var b = leaf(tensor({1.0}, {1, 1}));
    const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * z + b; }, zeros_like(b),
                                          {.solver = Broyden{}, .backward = rule, .tolerance = 1e-10});
    static_cast<void>(grad(sum(solved.z), {b}));
    return solved.adjoint.last().to_string();
  };
  const auto by_design = Contains("adjoint 1 max_steps (by design: a fixed number of terms)");
  for (const BackwardRule& rule :
       {BackwardRule(Neumann{3}), BackwardRule(Phantom{}),
        BackwardRule(Phantom{.form = Phantom::Form::neumann}), BackwardRule(JacobianFree{})})
    CHECK_THAT(words(rule), by_design);
  CHECK_THAT(words(Neumann{60}), Contains("adjoint 1 converged;"));
  const auto spent = words(Implicit{Iterative{.solver = Picard{}, .max_steps = 2, .tolerance = 1e-12}});
  CHECK_THAT(spent, Contains("adjoint 1 max_steps;"));
}

TEST_CASE("the gradient status has four parts", "[fixed_point][status]") {
  Tape tape;
  const Var b = leaf(tensor({1.0}, {1, 1}));
  const auto run = [&](double rate, FixedPointOptions options) {
    const auto solved = fixed_point([&](const Var& z) { return rate * z + b; },
                                    Var(Tensor::zeros({1, 1}, DType::f64)), options);
    CHECK_FALSE(solved.adjoint.run());
    CHECK_THROWS_AS(solved.adjoint.last(), ValueError);
    static_cast<void>(grad(sum(solved.z), {b}));
    REQUIRE(solved.adjoint.sweeps().size() == 1);
    return solved.adjoint.last().samples[0];
  };
  const GradientStatus exact = run(0.5, tight);
  CHECK(exact.kind == GradientKind::exact);
  CHECK(exact.forward == Status::converged);
  CHECK(exact.adjoint == Status::converged);
  CHECK(exact.adjoint_residual < 1e-12);

  FixedPointOptions few = tight;
  few.max_steps = 3;
  const GradientStatus early = run(0.5, few);  // exact needs both converged
  CHECK(early.kind == GradientKind::approximate);
  CHECK(early.forward == Status::max_steps);

  const GradientStatus truncated = run(0.5, with_rule(Neumann{3}));
  CHECK(truncated.kind == GradientKind::approximate);
  CHECK(truncated.adjoint == Status::max_steps);
  CHECK(truncated.adjoint_residual == Approx(0.125));

  FixedPointOptions expanding = with_rule(Neumann{3});
  expanding.solver = Broyden{};
  CHECK(run(-2.0, expanding).adjoint == Status::diverged);  // the series of (1 + 2)^-1 does not converge

  FixedPointOptions unsolved =
      with_rule(Implicit{Iterative{.solver = Picard{}, .max_steps = 2, .tolerance = 1e-12}});
  const GradientStatus short_adjoint = run(0.9, unsolved);
  CHECK(short_adjoint.kind == GradientKind::approximate);
  CHECK(short_adjoint.adjoint == Status::max_steps);
}

TEST_CASE("policies: report, raise, nan", "[fixed_point][status]") {
  const auto f = [](const Var& z) { return Var(tensor({0.5, 2.0}, {2, 1})) * z + 1.0; };
  const Var z0(Tensor::zeros({2, 1}, DType::f64));
  FixedPointOptions options = tight;
  CHECK(fixed_point(f, z0, options).z.value().all_finite());
  options.policy = Policy::raise;
  CHECK_THROWS_AS(fixed_point(f, z0, options), SolveError);
  CHECK_THROWS_WITH(fixed_point(f, z0, options), Contains("[fixed_point]") && Contains("diverged"));
  options.policy = Policy::nan;
  const Tensor z = fixed_point(f, z0, options).z.value();
  CHECK(z.at(0) == Approx(2.0));
  CHECK(std::isnan(z.at(1)));
}

TEST_CASE("NaN injected at evaluation 7 in sample 3 of 8 harms nobody else", "[fixed_point][status]") {
  Random random(11);
  const Tensor rates = normal(random, {8, 1}, 0.3);
  const auto run = [&](const Solver& solver, bool inject) {
    int evaluation = 0;
    const auto f = [&](const Var& z) {
      Tensor next = (Var(rates) * tanh(z) + 1.0).value();
      if (++evaluation >= 7 && inject) next.mutable_data<double>()[3] = NAN;
      return Var(next);
    };
    return fixed_point(f, Var(Tensor::zeros({8, 1}, DType::f64)),
                       {.solver = solver, .tolerance = 1e-13, .max_steps = 200});
  };
  for (const Solver& solver :
       {Solver(Picard{}), Solver(Picard{.damping = 0.5}), Solver(Anderson{}), Solver(Broyden{})}) {
    const auto with = run(solver, true), without = run(solver, false);
    INFO(solver.name());
    for (std::size_t i = 0; i < 8; ++i) {
      if (i == 3 && without.report.samples[3].nstep >= 7) {
        CHECK(with.report.samples[3].status == Status::non_finite);
        CHECK(with.report.samples[3].nstep == 7);
        CHECK(std::isfinite(with.z.value().at(3)));
        continue;
      }
      CHECK(with.report.samples[i].status == without.report.samples[i].status);
      CHECK(with.report.samples[i].nstep == without.report.samples[i].nstep);
      CHECK(with.z.value().at(static_cast<std::int64_t>(i)) ==
            without.z.value().at(static_cast<std::int64_t>(i)));
    }
  }
}

TEST_CASE("a sample solved alone agrees with the batch, value and gradient", "[fixed_point]") {
  Random random(5);
  const Tensor a = contraction(random, 4, 0.9), b = normal(random, {6, 4});
  const auto solve = [&](const Tensor& bias_value) {
    Tape tape;
    const Var bias = leaf(bias_value);
    FixedPointOptions options = tight;
    options.solver = Anderson{};
    options.tolerance = 1e-9;
    const auto solved =
        fixed_point([&](const Var& z) { return tanh(matmul(z, Var(a), {.transpose_b = true}) + bias); },
                    Var(Tensor::zeros(bias_value.shape(), DType::f64)), options);
    return std::pair(solved.z.value(), grad(sum(square(solved.z)), {bias})[0].value());
  };
  const auto [z, g] = solve(b);
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto [zi, gi] = solve(b.rows(i, i + 1).clone());
    for (std::int64_t j = 0; j < 4; ++j) {
      CHECK(zi.at(j) == Approx(z.at(4 * i + j)).epsilon(1e-12));
      CHECK(gi.at(j) == Approx(g.at(4 * i + j)).epsilon(1e-12));
    }
  }
}

TEST_CASE("captures become inputs by themselves; nested nodes work to second order",
          "[fixed_point][higher_order]") {
  const Tensor z0 = Tensor::zeros({1, 2}, DType::f64);
  const auto f = [&](const Vars& in) {
    const auto outer = [&](const Var& z) {
      const auto inner = [&](const Var& y) { return tanh(0.4 * y + in[0] * z); };
      return 0.5 * fixed_point(inner, Var(z0), with_rule(Implicit{Dense{}})).z + in[1];
    };
    return Vars{fixed_point(outer, Var(z0), with_rule(Implicit{Dense{}})).z};
  };
  const GradcheckReport report =
      gradcheck(f, {Var(tensor({0.3, -0.8}, {1, 2})), Var(tensor({0.5, 1.0}, {1, 2}))}, {.tolerance = 1e-7});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("several states are one problem", "[fixed_point][states]") {
  // x = 0.3 y + a, y = 0.5 sum(x) + b, with shapes (2,3) and (2): solved by hand.
  const auto f = [&](const Vars& in) {
    const auto body = [&](const Vars& s) {
      return Vars{0.3 * broadcast_to(reshape(s[1], {2, 1}), {2, 3}) + in[0], 0.5 * sum(s[0], {1}) + in[1]};
    };
    FixedPoints solved = fixed_point(
        body, {Var(Tensor::zeros({2, 3}, DType::f64)), Var(Tensor::zeros({2}, DType::f64))}, tight);
    return solved.z;
  };
  const Var a(tensor({1.0, 2.0, 3.0, 0.0, 0.0, 1.0}, {2, 3})), b(tensor({0.5, -1.0}));
  const Vars z = f({a, b});
  for (std::int64_t i = 0; i < 2; ++i) {
    const double total = i == 0 ? 6.0 : 1.0;
    const double y = (0.5 * total + b.value().at(i)) / (1 - 0.45);
    CHECK(z[1].value().at(i) == Approx(y).epsilon(1e-12));
    CHECK(z[0].value().at(3 * i) == Approx(0.3 * y + a.value().at(3 * i)).epsilon(1e-12));
  }
  const GradcheckReport report = gradcheck(f, {a, b}, {.tolerance = 1e-8});
  INFO(report.to_string());
  CHECK(report.passed);

  const auto wrong = [](const Vars& s) { return Vars{s[0], sum(s[0])}; };
  CHECK_THROWS_WITH(fixed_point(wrong, {a, b}, tight), Contains("state 1") && Contains("(2)"));
  CHECK_THROWS_WITH(fixed_point([](const Vars& s) { return s; }, {a, Var(tensor({1.0}))}, tight),
                    Contains("axis 0"));
}

TEST_CASE("Batch::none solves one problem, also where f couples its rows", "[fixed_point]") {
  Tape tape;
  const Var b = leaf(tensor({1.0, 2.0, 3.0, 4.0}, {4, 1}));
  FixedPointOptions options = tight;
  options.batch = Batch::none;
  const auto solved = fixed_point([&](const Var& z) { return 0.5 * mean(z) + b; },
                                  Var(Tensor::zeros({4, 1}, DType::f64)), options);
  CHECK(solved.report.samples.size() == 1);
  CHECK(solved.z.value().at(0) == Approx(1.0 + 2.5));  // mean z = 2 mean b
  const Var g = grad(sum(solved.z), {b})[0];
  CHECK(g.value().at(2) == Approx(2.0));
}

TEST_CASE("memory does not depend on the number of steps", "[fixed_point][memory][unsanitized]") {
  const std::int64_t n = 20000;
  const auto peak = [&](const Solver& solver, int steps) {
    memory::reset_peak();
    const auto before = memory::stats().live_bytes;
    Tape tape;
    const Var b = leaf(Tensor::ones({1, n}, DType::f64));
    const auto solved =
        fixed_point([&](const Var& z) { return 0.999 * z + b; }, Var(Tensor::zeros({1, n}, DType::f64)),
                    {.solver = solver, .backward = JacobianFree{}, .tolerance = 0.0, .max_steps = steps});
    CHECK(solved.report.samples[0].nstep == steps);
    static_cast<void>(grad(sum(solved.z), {b}));
    return memory::stats().peak_bytes - before;
  };
  const auto few = peak(Picard{}, 10), many = peak(Picard{}, 10000);
  CHECK(std::abs(many - few) < 1 << 20);
}

TEST_CASE("gradients for the inputs alone skip the others", "[fixed_point]") {
  Tape tape;
  const Var x = leaf(tensor({1.0}, {1, 1})), w = leaf(tensor({0.5}, {1, 1}));
  const auto solved = fixed_point([&](const Var& z) { return w * z + x; }, Var(tensor({2.0}, {1, 1})), tight);
  CHECK(grad(sum(solved.z), {x})[0].item() == Approx(2.0));
  CHECK(grad(sum(solved.z), {w})[0].item() == Approx(4.0));
  CHECK(solved.adjoint.sweeps().size() == 2);  // one entry a sweep
}

TEST_CASE("warm start: the solution of a nearby problem saves evaluations", "[fixed_point]") {
  const auto solve = [](double b, const Var& z0) {
    return fixed_point([&](const Var& z) { return 0.9 * tanh(z) + b; }, z0,
                       {.solver = Picard{}, .tolerance = 1e-8, .max_steps = 1000});
  };
  const auto cold = solve(0.5, Var(Tensor::zeros({1, 1}, DType::f64)));
  const auto warm = solve(0.5, cold.z);
  CHECK(warm.report.samples[0].nstep <= 2);
  CHECK(warm.report.converged());
}

TEST_CASE("f32 solves and gradients", "[fixed_point]") {
  Tape tape;
  const Var b = leaf(tensor({1.f, 2.f}, {2, 1}));
  const auto solved =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({2, 1})), {.tolerance = 1e-6});
  CHECK(solved.report.converged());
  CHECK(solved.z.value().at(1) == Approx(4.0).epsilon(1e-5));
  const Var g = grad(sum(solved.z), {b})[0];
  CHECK(g.dtype() == DType::f32);
  CHECK(g.value().at(0) == Approx(2.0).epsilon(1e-5));
}

TEST_CASE("bad use is refused in words", "[fixed_point][errors]") {
  const Var z0(Tensor::zeros({2, 3}, DType::f64));
  const auto id = [](const Var& z) { return 0.5 * z; };
  CHECK_THROWS_WITH(fixed_point([](const Var& z) { return sum(z, {1}); }, z0),
                    Contains("(2,3)") && Contains("(2)"));
  CHECK_THROWS_AS(fixed_point([](const Var& z) { return cast(z, DType::f32); }, z0), Error);
  CHECK_THROWS_AS(fixed_point(id, Var(Tensor::arange(3))), DTypeError);
  CHECK_THROWS_AS(fixed_point(id, Var()), Error);
  CHECK_THROWS_AS(fixed_point(id, z0, {.tolerance = -1.0}), ValueError);
  CHECK_THROWS_AS(fixed_point(id, z0, {.tolerance = NAN}), ValueError);
  CHECK_THROWS_AS(fixed_point(id, z0, {.max_steps = -1}), ValueError);
  const auto use = [&](BackwardRule rule) {
    Tape tape;
    const Var b = leaf(Tensor::ones({2, 3}, DType::f64));
    const auto solved =
        fixed_point([&](const Var& z) { return 0.5 * z + b; }, z0, with_rule(std::move(rule)));
    static_cast<void>(grad(sum(solved.z), {b}));
  };
  CHECK_THROWS_WITH(use(Neumann{0}), Contains("[neumann]") && Contains("at least 1"));
  CHECK_THROWS_WITH(use(Phantom{.damping = 0.0}), Contains("[phantom]") && Contains("damping"));
  CHECK_THROWS_WITH(use(Misshapen{}), Contains("misshapen") && Contains("(2,3)"));
}

TEST_CASE("an empty batch, and no steps at all", "[fixed_point]") {
  const auto id = [](const Var& z) { return 0.5 * z; };
  const auto none = fixed_point(id, Var(Tensor::zeros({0, 3}, DType::f64)));
  CHECK(none.z.shape() == Shape{0, 3});
  CHECK(none.report.samples.empty());
  const auto zero = fixed_point(id, Var(Tensor::ones({2, 1}, DType::f64)), {.max_steps = 0});
  CHECK(zero.z.value().at(1) == 1.0);
  CHECK(zero.report.samples[0].status == Status::max_steps);
}

TEST_CASE("a state without entries is its own fixed point, in every sample", "[fixed_point]") {
  for (const Body body : {Body::eager, Body::replayed})
    for (const Batch batch : {Batch::axis0, Batch::none}) {
      const Tape tape;
      const Var u = leaf(Tensor::zeros({2, 0, 3}, DType::f64));
      const FixedPoint found = fixed_point([&](const Var& z) { return 0.5 * z + u; }, zeros_like(u),
                                           {.batch = batch, .policy = Policy::raise, .body = body});
      CHECK(found.z.shape() == u.shape());
      CHECK(found.report.samples.size() == (batch == Batch::axis0 ? 2 : 1));
      CHECK(found.report.converged());
      for (const SampleReport& sample : found.report.samples) CHECK(sample.abs_lowest == 0.0);
      CHECK(grad(sum(found.z), {u})[0].shape() == u.shape());
      CHECK(found.adjoint.last().exact());
    }
}

TEST_CASE("forward mode passes through the node, with and without a tape", "[fixed_point][higher_order]") {
  FixedPointOptions options = with_rule(Implicit{Dense{}});
  options.batch = Batch::none;
  const auto f = [&](const Vars& in) {
    return Vars{
        fixed_point([&](const Var& z) { return 1.0 + in[0] * z; }, Var(scalar(0.0, DType::f64)), options).z};
  };
  const Vars at{Var(scalar(0.5, DType::f64))}, tangent{Var(scalar(3.0, DType::f64))};
  CHECK(jvp(f, at, tangent).tangents[0].item() == Approx(12.0).epsilon(1e-10));
  Tape tape;
  const Var t = leaf(at[0].value());
  const Var pushed = jvp(f, {t}, tangent).tangents[0];  // 3 / (1 - t)^2
  CHECK(pushed.item() == Approx(12.0).epsilon(1e-10));
  CHECK(grad(pushed, {t})[0].item() == Approx(48.0).epsilon(1e-8));
}

TEST_CASE("Unrolled: a sample that breaks does not harm the gradient of the others",
          "[fixed_point][rules][status]") {
  FixedPointOptions options = with_rule(Unrolled{});
  options.tolerance = 1e-9;
  Tape tape;
  const Var w = leaf(tensor({0.5}));
  const Tensor kick = tensor({1.0, 1.0}, {2, 1});
  int evaluation = 0;
  const auto f = [&](const Var& z) {
    ++evaluation;
    // Sample 1 meets log of a negative number at its third evaluation.
    const Tensor sign = evaluation == 3 ? tensor({1.0, -1.0}, {2, 1}) : kick;
    return w * z + 1.0 + 0.0 * log(Var(sign));
  };
  const auto solved = fixed_point(f, Var(Tensor::zeros({2, 1}, DType::f64)), options);
  CHECK(solved.report.samples[0].status == Status::converged);
  CHECK(solved.report.samples[1].status == Status::non_finite);
  CHECK(solved.z.value().all_finite());
  const Tensor g = grad(sum(solved.z), {w})[0].value();
  CHECK(g.all_finite());
  CHECK(g.item() > 3.9);  // 1 / (1 - w)^2 of the good sample, and the broken one's two steps
}

TEST_CASE("z = 0.9 z converges to zero, z = z + 1 never, under the default tolerances",
          "[fixed_point][status]") {
  const Var one(Tensor::ones({1, 1}, DType::f64));
  for (const Solver& solver :
       {Solver(Picard{}), Solver(Picard{.damping = 0.5}), Solver(Anderson{}), Solver(Broyden{})}) {
    INFO(solver.name());
    const FixedPointOptions options{.solver = solver, .max_steps = 2000};
    const auto zero = fixed_point([](const Var& z) { return 0.9 * z; }, one, options);
    CHECK(zero.report.converged());
    CHECK(std::abs(zero.z.item()) < 1e-8);
    CHECK_FALSE(fixed_point([](const Var& z) { return z + 1.0; }, one, options).report.converged());
  }
}

TEST_CASE("a derivative of the adjoint has a status of its own, and obeys the policy",
          "[fixed_point][status]") {
  // GMRES stopped after two products cannot solve a system of three unknowns.
  const Tensor a = tensor({0.5, 0.4, 0.0, 0.1, 0.6, 0.3, 0.2, 0.0, 0.4}, {3, 3});
  FixedPointOptions options = with_rule(Implicit{Gmres{.max_steps = 2, .tolerance = 1e-12}});
  options.solver = Anderson{};
  AdjointLog log;
  const auto f = [&](const Vars& in) {
    auto solved = fixed_point([&](const Var& z) { return matmul(z, Var(a)) + in[0]; },
                              Var(Tensor::zeros({1, 3}, DType::f64)), options);
    log = solved.adjoint;
    return Vars{solved.z};
  };
  const Vars at{Var(tensor({1.0, 2.0, 3.0}, {1, 3}))}, tangent{Var(tensor({1.0, 0.0, 0.0}, {1, 3}))};
  static_cast<void>(jvp(f, at, tangent));
  CHECK_FALSE(log.last().exact());
  CHECK(log.last().samples[0].adjoint == Status::max_steps);
  options.policy = Policy::raise;
  CHECK_THROWS_AS(jvp(f, at, tangent), SolveError);
  options.policy = Policy::nan;
  CHECK(std::isnan(jvp(f, at, tangent).tangents[0].value().at(0)));
}

TEST_CASE("Policy::nan leaves the second derivatives of the samples that converged",
          "[fixed_point][status]") {
  // Sample 0 is one-dimensional in effect, so two products do; sample 1 is not.
  const Tensor d = tensor({0.5, 0.5, 0.9, -0.7}, {2, 2});
  const auto second = [&](Policy policy) {
    FixedPointOptions options = with_rule(Implicit{Gmres{.max_steps = 2, .tolerance = 1e-12}});
    options.solver = Anderson{};
    options.policy = policy;
    Tape tape;
    const Var x = leaf(tensor({0.3, 0.3, 0.2, -0.4}, {2, 2}));
    const auto solved = fixed_point([&](const Var& z) { return tanh(Var(d) * z + x); },
                                    Var(Tensor::zeros({2, 2}, DType::f64)), options);
    const Var first = grad(sum(solved.z), {x}, {.create_graph = true})[0];
    return grad(slice(slice(first, 0, 0, 1), 1, 0, 1), {x},
                {.cotangent = Var(Tensor::ones({1, 1}, DType::f64))})[0]
        .value();
  };
  CHECK(second(Policy::nan).at(0) == Approx(second(Policy::report).at(0)).epsilon(1e-12));
}

TEST_CASE("a NaN cotangent is not a converged adjoint", "[fixed_point][status]") {
  Tape tape;
  const Var b = leaf(tensor({1.0}, {1, 1}));
  const auto solved = fixed_point([&](const Var& z) { return 0.5 * z + b; },
                                  Var(Tensor::zeros({1, 1}, DType::f64)), with_rule(JacobianFree{}));
  static_cast<void>(grad(sum(solved.z) * NAN, {b}));
  CHECK(solved.adjoint.last().samples[0].adjoint == Status::non_finite);
}

TEST_CASE("a gradient with respect to the solution itself solves nothing", "[fixed_point]") {
  Tape tape;
  const Var b = leaf(tensor({1.0}, {1, 1}));
  const auto solved =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({1, 1}, DType::f64)), tight);
  CHECK(grad(sum(solved.z), {solved.z})[0].item() == 1.0);
  CHECK_FALSE(solved.adjoint.run());
}

namespace {
struct Talkative {
  int statuses, cotangents;
  static constexpr std::string_view name = "talkative";
  Adjoint solve(const Linearized&, const Var& g) const {
    Adjoint adjoint{.lambda = g};
    adjoint.status.assign(static_cast<std::size_t>(statuses), Status::converged);
    adjoint.theta = Vars(static_cast<std::size_t>(cotangents), g);
    return adjoint;
  }
};
}  // namespace

TEST_CASE("what a rule of one's own returns is checked", "[fixed_point][errors]") {
  const auto run = [](const Talkative& rule) {
    Tape tape;
    const Var b = leaf(Tensor::ones({2, 1}, DType::f64));
    const auto solved = fixed_point([&](const Var& z) { return 0.5 * z + b; },
                                    Var(Tensor::zeros({2, 1}, DType::f64)), with_rule(rule));
    static_cast<void>(grad(sum(solved.z), {b}));
  };
  CHECK_NOTHROW(run({2, 1}));
  CHECK_THROWS_WITH(run({1, 0}), Contains("talkative") && Contains("2 problems"));
  CHECK_THROWS_WITH(run({0, 3}), Contains("talkative") && Contains("1 captured"));
}

TEST_CASE("the sweep of an unrolled phantom gradient counts the products of all its steps", "[fixed_point]") {
  const auto evaluations = [](int steps) {
    const Tape tape;
    const Var b = leaf(tensor({1.0, 2.0}, {2, 1}));
    const auto solved =
        fixed_point([&](const Var& z) { return 0.5 * tanh(z) + b; }, Var(Tensor::zeros({2, 1}, DType::f64)),
                    {.backward = Phantom{.steps = steps}});
    grad(sum(solved.z), {b});
    return solved.adjoint.last().evaluations;
  };
  const int one = evaluations(1);
  for (const int steps : {2, 3, 7}) CHECK(evaluations(steps) == one + steps - 1);
}

TEST_CASE("a sweep leaves out nodes on which no wanted input depends", "[fixed_point]") {
  const Tape tape;
  const Var b = leaf(tensor({1.0}, {1, 1})), x = leaf(tensor({2.0}, {1, 1}));
  const auto solved =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({1, 1}, DType::f64)));
  const Var loss = sum(solved.z * 3.0 + x * x);
  CHECK(grad(loss, {x})[0].item() == 4.0);
  CHECK_FALSE(solved.adjoint.run());
  CHECK(grad(loss, {b})[0].item() == Approx(6.0).epsilon(1e-3));
  CHECK(solved.adjoint.run());
}

TEST_CASE("a sweep leaves out nodes that depend on nothing wanted, also those after the wanted input",
          "[fixed_point]") {
  const Tape tape;
  const Var x = leaf(tensor({2.0}, {1, 1})), b = leaf(tensor({1.0}, {1, 1}));
  const auto solved =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({1, 1}, DType::f64)));
  const Var loss = sum(solved.z * x);
  CHECK(grad(loss, {x})[0].item() == Approx(2.0).epsilon(1e-3));
  CHECK_FALSE(solved.adjoint.run());
  CHECK(grad(loss, {b, x})[0].item() == Approx(4.0).epsilon(1e-3));
  CHECK(solved.adjoint.sweeps().size() == 1);
}

namespace {

const std::vector<BackwardRule>& all_rules() {
  static const std::vector<BackwardRule> rules{Implicit{},
                                               Implicit{Dense{}},
                                               Implicit{BiCgStab{}},
                                               Implicit{Iterative{}},
                                               JacobianFree{},
                                               Neumann{},
                                               Neumann{9},
                                               RandomNeumann{},
                                               Phantom{},
                                               Phantom{.steps = 4, .form = Phantom::Form::neumann},
                                               Phantom{.form = Phantom::Form::neumann, .guarded = true},
                                               Shine{},
                                               Shine{.refinements = 3},
                                               Unrolled{},
                                               Unrolled{3},
                                               TruncatedUnroll{},
                                               TruncatedUnroll{3},
                                               Reversible{0.5}};
  return rules;
}

// What serves all of them.
FixedPointOptions options_for(const BackwardRule& rule) {
  FixedPointOptions options{.solver = Picard{}, .backward = rule, .tolerance = 1e-7};
  if (rule.needs_inverse()) options.solver = Broyden{};
  return options;
}

}  // namespace

TEST_CASE("a sweep reports as many products as it takes, recorded or not", "[fixed_point][rules]") {
  const bool recorded = GENERATE(false, true);
  for (const BackwardRule& rule : all_rules()) {
    INFO(rule.name() << (recorded ? ", recorded" : ""));
    const Tape tape;
    const Var b = leaf(tensor({1.0, -0.5, 2.0, 0.3}, {2, 2}));
    const auto f = [&](const Var& z) { return apply(counting_op, {0.4 * sin(z) + b}); };
    const auto solved = fixed_point(f, Var(Tensor::zeros({2, 2}, DType::f64)), options_for(rule));
    REQUIRE(solved.report.converged());
    evaluations_counted = 0;
    grad(sum(solved.z), {b}, {.create_graph = recorded});
    REQUIRE(solved.adjoint.sweeps().size() == 1);
    CHECK(evaluations_counted > 0);
    CHECK(solved.adjoint.last().evaluations == evaluations_counted);
  }
}

TEST_CASE("a node inside the body of another one is judged where the sweep meets it",
          "[fixed_point][status]") {
  // The outer rule goes on from the solution, so that the inner node is solved again elsewhere: to its
  // tolerance, or to what its few steps reach.
  for (const bool enough : {true, false}) {
    const Tape tape;
    const Var a = leaf(tensor({0.7, -0.2}, {2, 1}));
    AdjointLog log;
    const auto outer = [&](const Var& z) {
      const auto inner =
          fixed_point([&](const Var& y) { return 0.6 * tanh(y) + z; }, Var(Tensor::zeros({2, 1}, DType::f64)),
                      {.solver = Picard{}, .tolerance = 1e-6, .max_steps = enough ? 100 : 2});
      log = inner.adjoint;
      return 0.3 * inner.z + a;
    };
    const auto solved =
        fixed_point(outer, Var(Tensor::zeros({2, 1}, DType::f64)),
                    {.solver = Picard{}, .backward = Phantom{.steps = 3, .damping = 0.5}, .tolerance = 1e-1});
    grad(sum(solved.z), {a});
    REQUIRE(log.sweeps().size() == 4);  // three steps, and the status of the whole
    for (const AdjointReport& sweep : log.sweeps())
      for (const GradientStatus& sample : sweep.samples) {
        CHECK(sample.forward == (enough ? Status::converged : Status::max_steps));
        CHECK(sample.kind == (enough ? GradientKind::exact : GradientKind::approximate));
      }
  }
}

TEST_CASE("policies change nothing where all is well, under every rule", "[fixed_point][rules][status]") {
  for (const BackwardRule& rule : all_rules()) {
    INFO(rule.name());
    const auto gradient = [&](Policy policy) {
      const Tape tape;
      const Var b = leaf(tensor({1.0, -0.5, 2.0, 0.3}, {2, 2}));
      FixedPointOptions options = options_for(rule);
      if (rule.name() == RandomNeumann::name)
        options.backward = RandomNeumann{};  // with a counter of its own
      options.policy = policy;
      const auto solved = fixed_point([&](const Var& z) { return 0.4 * sin(z) + b; },
                                      Var(Tensor::zeros({2, 2}, DType::f64)), options);
      const Var g = grad(sum(solved.z), {b})[0];
      for (const GradientStatus& sample : solved.adjoint.last().samples) {
        CHECK(sample.forward == Status::converged);
        CHECK(std::isnan(sample.variance) == (rule.name() != RandomNeumann::name));
        CHECK(std::isnan(sample.reconstruction_error) == (rule.name() != Reversible::name));
        if (rule.name() != Shine::name) CHECK_FALSE(sample.fell_back);
      }
      return g;
    };
    const Var reported = gradient(Policy::report);
    CHECK(same_bits(gradient(Policy::raise), reported));
    CHECK(same_bits(gradient(Policy::nan), reported));
  }
}

TEST_CASE("bodies that ignore their state, or capture nothing, under every rule", "[fixed_point][rules]") {
  for (const BackwardRule& rule : all_rules()) {
    INFO(rule.name());
    const bool iterates = rule.iterates();
    const double scale =
        rule.name() == Phantom::name ? 0.0 : 1.0;  // its damping is not the same in all forms
    const Tape tape;
    const Var b = leaf(tensor({1.5, -0.5}, {2, 1})), z0 = leaf(tensor({0.2, 0.1}, {2, 1}));
    const auto constant = fixed_point([&](const Var&) { return b * b; }, z0, options_for(rule));
    CHECK(constant.report.converged());
    CHECK(largest_difference(constant.z, b * b) < 1e-6);
    const Vars g = grad(sum(constant.z), {b, z0});
    for (int i = 0; i < 2; ++i) {
      if (scale > 0.0) CHECK(g[0].value().at(i) == Approx(2.0 * b.value().at(i)).epsilon(1e-5));
      CHECK(g[1].value().at(i) == Approx(0.0).margin(1e-5));
    }
    const auto alone = fixed_point([](const Var& z) { return 0.5 * z + 1.0; }, z0, options_for(rule));
    CHECK(alone.report.converged());
    CHECK(alone.z.value().at(1) == Approx(2.0));
    CHECK(alone.z.recorded() == iterates);
    if (iterates) CHECK(std::abs(grad(sum(alone.z), {z0})[0].value().at(0)) < 1e-6);
  }
}
