// Rules that estimate the adjoint: each is exactly the approximation that it claims to be, or has the mean
// and the variance that it claims.
#include <banach/engine/memory_meter.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>
#include <numeric>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

FixedPointOptions with_rule(BackwardRule rule, double tolerance = 1e-13) {
  return {.solver = Picard{}, .backward = std::move(rule), .tolerance = tolerance, .max_steps = 2000};
}

Tensor repeated(const Tensor& row, std::int64_t times) { return repeat(Var(row), {times, 1}).value(); }

struct Moments {
  double mean = 0.0, error = 0.0;  // standard error of the mean
};

Moments moments(const std::vector<double>& x) {
  const double n = static_cast<double>(x.size()), mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double squares = 0.0;
  for (const double v : x) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / (n - 1) / n)};
}

std::vector<double> column(const Tensor& t, std::int64_t j) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < t.shape()[0]; ++i) values.push_back(t.at(i * t.shape()[1] + j));
  return values;
}

// z = A z + b or tanh(A z + b); the gradient of <g, z> in A and b.
struct Map {
  bool curved;
  Tensor a, b, g;

  explicit Map(std::uint64_t seed, std::int64_t batch, double size = 0.6) : curved(seed % 2 == 1) {
    Random random(seed);
    const std::int64_t n = 2 + random.below(4);
    a = normal(random, {n, n}, size / static_cast<double>(n));
    b = normal(random, {batch, n});
    g = normal(random, {batch, n});
  }

  struct Result {
    Vars gradients;
    AdjointLog log;
  };
  Result run(BackwardRule rule, Batch batch = Batch::axis0, const Solver& solver = Picard{}) const {
    Tape tape;
    const Vars x{leaf(a), leaf(b)};
    FixedPointOptions options = with_rule(std::move(rule));
    options.solver = solver;
    options.batch = batch;
    const auto body = [&](const Var& z) {
      const Var linear = matmul(z, x[0], {.transpose_b = true}) + x[1];
      return curved ? tanh(linear) : linear;
    };
    const FixedPoint solved = fixed_point(body, Var(Tensor::zeros(b.shape(), b.dtype())), options);
    return {grad(sum(solved.z * Var(g)), x), solved.adjoint};
  }
};

void check_close(const Vars& got, const Vars& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k)
    for (std::int64_t i = 0; i < got[k].size(); ++i)
      CHECK(got[k].value().at(i) == Approx(expected[k].value().at(i)).epsilon(tolerance).margin(tolerance));
}

// z = t z + b for many samples at once, each with its own draw: the gradient of sum z in b.
struct Scalar {
  Tensor gradient;
  AdjointReport report;
};
Scalar scalar_series(double t, std::int64_t samples, const RandomNeumann& rule) {
  Tape tape;
  const Var b = leaf(Tensor::ones({samples, 1}, DType::f64));
  const FixedPoint solved =
      fixed_point([&](const Var& z) { return t * z + b; },
                  Var(Tensor::full({samples, 1}, 1.0 / (1.0 - t), DType::f64)), with_rule(rule, 1e-10));
  const Tensor g = grad(sum(solved.z), {b})[0].value();
  return {g, solved.adjoint.last()};
}

}  // namespace

TEST_CASE("JacobianFree with a preconditioner is P^T g", "[fixed_point][rules]") {
  const auto two_terms = [](const Linearized& f, const Var& g) { return g + f.vjp_state(g); };
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Map map(seed, 3);
    for (const Batch batch : {Batch::axis0, Batch::none}) {
      const auto got = map.run(JacobianFree{two_terms}, batch), expected = map.run(Neumann{2}, batch);
      check_close(got.gradients, expected.gradients, 1e-12);
      CHECK(got.log.last().samples[0].adjoint_residual ==
            Approx(expected.log.last().samples[0].adjoint_residual));
      CHECK(got.log.last().samples[0].kind == GradientKind::approximate);
    }
  }
}

TEST_CASE("JacobianFree with the true inverse as preconditioner solves the adjoint equation",
          "[fixed_point][rules]") {
  const Var rate(tensor({0.5, -0.25, 0.9}, {1, 3}));
  Tape tape;
  const Var b = leaf(tensor({1.0, 2.0, 3.0}, {1, 3}));
  const FixedPoint solved =
      fixed_point([&](const Var& z) { return rate * z + b; }, Var(Tensor::zeros({1, 3}, DType::f64)),
                  with_rule(JacobianFree{[&](const Linearized&, const Var& g) { return g / (1.0 - rate); }}));
  const Tensor g = grad(sum(solved.z), {b})[0].value();
  CHECK(g.at(0) == Approx(2.0));
  CHECK(g.at(1) == Approx(0.8));
  CHECK(g.at(2) == Approx(10.0));
  CHECK(solved.adjoint.last().samples[0].adjoint_residual < 1e-14);
  CHECK(solved.adjoint.last().samples[0].adjoint == Status::converged);
}

TEST_CASE("JacobianFree differentiates its preconditioner, and checks it",
          "[fixed_point][rules][higher_order]") {
  // P = 1 / (1 - t) by hand, with t captured: the derivative in t of dz/db = 1 / (1 - t).
  Tape tape;
  const Var t = leaf(tensor({0.6}, {1, 1})), b = leaf(tensor({1.0}, {1, 1}));
  const auto run = [&](std::function<Var(const Linearized&, const Var&)> preconditioner) {
    const FixedPoint solved = fixed_point([&](const Var& z) { return t * z + b; }, Var(tensor({2.5}, {1, 1})),
                                          with_rule(JacobianFree{std::move(preconditioner)}));
    return grad(sum(solved.z), {b}, {.create_graph = true})[0];
  };
  const Var first = run([&](const Linearized&, const Var& g) { return g / (1.0 - t); });
  CHECK(first.item() == Approx(2.5));
  CHECK(grad(sum(first), {t})[0].item() == Approx(6.25));
  CHECK_THROWS_WITH(run([](const Linearized&, const Var& g) { return sum(g); }), Contains("jacobian_free"));
}

TEST_CASE("RandomNeumann: each draw is one of the sums it may be, as often as it should",
          "[fixed_point][rules][random]") {
  const double t = 0.5, p = 0.6;
  const int min_terms = 2, samples = 5000;
  const Scalar drawn = scalar_series(t, samples, {.survival = p, .min_terms = min_terms, .seed = 3});
  std::vector<double> sums;  // with i terms beyond the first two
  double value = 1 + t;
  for (int i = 0; i < 60; ++i) {
    sums.push_back(value);
    value += std::pow(t, min_terms + i) / std::pow(p, i + 1);
  }
  std::vector<int> seen(6, 0);
  for (int s = 0; s < samples; ++s) {
    const double got = drawn.gradient.at(s);
    std::size_t nearest = 0;
    for (std::size_t i = 0; i < sums.size(); ++i)
      if (std::abs(sums[i] - got) < std::abs(sums[nearest] - got)) nearest = i;
    REQUIRE(got == Approx(sums[nearest]).epsilon(1e-12));
    if (nearest < seen.size()) ++seen[nearest];
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double share = std::pow(p, static_cast<double>(i)) * (1 - p);
    CHECK(std::abs(seen[i] - samples * share) < 4 * std::sqrt(samples * share * (1 - share)));
  }
  for (const GradientStatus& status : drawn.report.samples) {
    CHECK(status.kind == GradientKind::unbiased);
    CHECK(status.adjoint == Status::converged);
  }
  CHECK(drawn.report.rule == "random_neumann");
}

TEST_CASE("RandomNeumann: the mean is the exact gradient", "[fixed_point][rules][random][unsanitized]") {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    // Many samples with the same problem, so that one sweep draws many times.
    Map map(seed, 1);
    map.b = repeated(map.b, 3000);
    map.g = repeated(map.g, 3000);
    const Map one(seed, 1);
    const Vars exact = one.run(Implicit{Dense{}}).gradients;
    for (const int draws : {1, 3}) {
      const auto got = map.run(RandomNeumann{.survival = 0.75, .min_terms = 2, .draws = draws, .seed = seed});
      INFO("seed " << seed << ", draws " << draws);
      for (std::int64_t j = 0; j < one.b.shape()[1]; ++j) {
        const Moments m = moments(column(got.gradients[1].value(), j));
        CHECK(std::abs(m.mean - exact[1].value().at(j)) < 4 * m.error);
        CHECK(m.error > 0.0);
      }
      // That of the shared A sums over the samples, whose z are all the same.
      const std::int64_t n = one.b.shape()[1];
      for (std::int64_t j = 0; j < n * n; ++j) {
        const double state = exact[0].value().at(j) / exact[1].value().at(j / n);
        const std::vector<double> row = column(got.gradients[1].value(), j / n);
        const double total = std::accumulate(row.begin(), row.end(), 0.0);
        CHECK(got.gradients[0].value().at(j) == Approx(total * state).epsilon(1e-9));
      }
      for (const GradientStatus& status : got.log.last().samples) CHECK(status.adjoint == Status::converged);
    }
  }
}

TEST_CASE("RandomNeumann: the variance reported has the true one as mean",
          "[fixed_point][rules][random][unsanitized]") {
  for (const std::uint64_t seed : {0u, 2u, 4u}) {  // linear maps
    Map map(seed, 1);
    const std::int64_t n = map.a.shape()[0], samples = 5000;
    const double survival = 0.8;
    const int min_terms = 2;
    std::vector<std::vector<double>> terms{{map.g.data<double>(), map.g.data<double>() + n}};
    for (int i = 1; i < 60; ++i) {
      std::vector<double> next(static_cast<std::size_t>(n), 0.0);
      for (std::int64_t r = 0; r < n; ++r)
        for (std::int64_t c = 0; c < n; ++c)
          next[static_cast<std::size_t>(c)] +=
              map.a.at(r * n + c) * terms.back()[static_cast<std::size_t>(r)];
      terms.push_back(next);
    }
    double variance = 0.0;
    for (int i = 0; i < 60; ++i)
      for (int j = 0; j < 60; ++j) {
        const auto &ti = terms[static_cast<std::size_t>(i)], &tj = terms[static_cast<std::size_t>(j)];
        variance += std::inner_product(ti.begin(), ti.end(), tj.begin(), 0.0) *
                    (std::pow(survival, -std::max(0, std::min(i, j) - min_terms + 1)) - 1.0);
      }

    map.b = repeated(map.b, samples);
    map.g = repeated(map.g, samples);
    for (const int draws : {1, 4}) {
      INFO("seed " << seed << ", draws " << draws);
      const auto got = map.run(
          RandomNeumann{.survival = survival, .min_terms = min_terms, .draws = draws, .seed = seed + 9});
      std::vector<double> reported;
      for (const GradientStatus& status : got.log.last().samples) reported.push_back(status.variance);
      const Moments m = moments(reported);
      CHECK(std::abs(m.mean - variance / draws) < 4 * m.error);

      // What the draws scatter by in truth: each squared distance from the exact gradient is one sample of
      // it.
      std::vector<double> distances(static_cast<std::size_t>(samples), 0.0);
      const Vars exact = Map(seed, 1).run(Implicit{Dense{}}).gradients;
      for (std::int64_t s = 0; s < samples; ++s)
        for (std::int64_t j = 0; j < n; ++j)
          distances[static_cast<std::size_t>(s)] +=
              std::pow(got.gradients[1].value().at(s * n + j) - exact[1].value().at(j), 2);
      const Moments d = moments(distances);
      CHECK(std::abs(d.mean - variance / draws) < 4 * d.error);
    }
  }
}

TEST_CASE("RandomNeumann says where its variance is infinite, and the policy holds",
          "[fixed_point][rules][random][status]") {
  const auto run = [](Policy policy) {
    const Var rate(tensor({0.3, 0.95, -0.95}, {3, 1}));
    FixedPointOptions options = with_rule(RandomNeumann{.survival = 0.5, .seed = 1}, 1e-9);
    options.policy = policy;
    Tape tape;
    const Var b = leaf(Tensor::ones({3, 1}, DType::f64));
    const FixedPoint solved = fixed_point([&](const Var& z) { return rate * z + b; },
                                          Var(Tensor::zeros({3, 1}, DType::f64)), options);
    const Tensor g = grad(sum(solved.z), {b})[0].value();
    const auto& samples = solved.adjoint.last().samples;
    CHECK(samples[0].adjoint == Status::converged);
    CHECK(samples[0].kind == GradientKind::unbiased);
    for (const std::size_t i : {1u, 2u}) {
      CHECK(samples[i].forward == Status::converged);
      CHECK(samples[i].adjoint == Status::diverged);  // 0.95^2 > 0.5
      CHECK(samples[i].kind == GradientKind::approximate);
    }
    return g;
  };
  CHECK(run(Policy::report).all_finite());
  CHECK_THROWS_AS(run(Policy::raise), SolveError);
  const Tensor marked = run(Policy::nan);
  CHECK(std::isfinite(marked.at(0)));
  CHECK(std::isnan(marked.at(1)));
  // The border is at rho^2 = survival.
  CHECK(scalar_series(0.7, 1, {.survival = 0.495}).report.samples[0].adjoint == Status::converged);
  CHECK(scalar_series(0.7, 1, {.survival = 0.485}).report.samples[0].adjoint == Status::diverged);
}

TEST_CASE("RandomNeumann cut short is Neumann, and says that it is biased",
          "[fixed_point][rules][random][status]") {
  const Scalar drawn = scalar_series(0.5, 200, {.survival = 0.9, .min_terms = 3, .max_terms = 3});
  int cut = 0;
  for (std::size_t s = 0; s < 200; ++s) {
    CHECK(drawn.gradient.at(static_cast<std::int64_t>(s)) == Approx(1.75).epsilon(1e-15));
    const bool biased = drawn.report.samples[s].adjoint == Status::max_steps;
    CHECK((drawn.report.samples[s].kind == GradientKind::approximate) == biased);
    cut += biased;
  }
  CHECK(cut > 160);
  CHECK(cut < 200);
}

TEST_CASE("RandomNeumann: sweeps draw anew, runs repeat, neighbours do not matter",
          "[fixed_point][rules][random]") {
  const auto two_sweeps = [](const RandomNeumann& rule, std::int64_t samples) {
    Tape tape;
    const Var b = leaf(Tensor::ones({samples, 1}, DType::f64));
    const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * z + b; },
                                          Var(Tensor::zeros({samples, 1}, DType::f64)), with_rule(rule));
    const Var total = sum(solved.z);
    const Var first = grad(total, {b})[0], again = grad(total, {b})[0];
    return Vars{first, again};
  };
  const Vars x = two_sweeps({.seed = 5}, 8), y = two_sweeps({.seed = 5}, 8), z = two_sweeps({.seed = 6}, 8),
             fewer = two_sweeps({.seed = 5}, 3);
  const auto distance = [](const Var& u, const Var& v) { return sum(abs(u - v)).item(); };
  CHECK(distance(x[0], y[0]) == 0.0);
  CHECK(distance(x[1], y[1]) == 0.0);
  CHECK(distance(x[0], x[1]) > 0.0);
  CHECK(distance(x[0], z[0]) > 0.0);
  CHECK(distance(slice(x[0], 0, 0, 3), fewer[0]) == 0.0);
  const RandomNeumann shared{.seed = 5};
  const Vars before = two_sweeps(shared, 8), after = two_sweeps(shared, 8);
  CHECK(distance(before[0], x[0]) == 0.0);
  CHECK(distance(before[0], after[0]) > 0.0);
}

TEST_CASE("RandomNeumann: second derivatives are unbiased", "[fixed_point][rules][random][higher_order]") {
  // z = tanh(t z + b) at samples that are all the same: d/dt of dz/db, whose z moves with t too.
  const std::int64_t samples = 4000;
  const auto second = [](BackwardRule rule, std::int64_t count) {
    Tape tape;
    const Var t = leaf(Tensor::full({count, 1}, 0.6, DType::f64)),
              b = leaf(Tensor::full({count, 1}, 0.2, DType::f64));
    const FixedPoint solved = fixed_point([&](const Var& z) { return tanh(t * z + b); },
                                          Var(Tensor::zeros({count, 1}, DType::f64)), with_rule(rule));
    const Var first = grad(sum(solved.z), {b}, {.create_graph = true})[0];
    return grad(sum(first), {t})[0].value();
  };
  const double exact = second(Implicit{Dense{}}, 1).item();
  const Moments m =
      moments(column(second(RandomNeumann{.survival = 0.8, .min_terms = 2, .seed = 11}, samples), 0));
  CHECK(std::abs(m.mean - exact) < 4 * m.error);
  CHECK(m.error < 0.05 * std::abs(exact));
}

TEST_CASE("RandomNeumann: Batch::none, f32, empty batches, no and broken cotangents",
          "[fixed_point][rules][random][status]") {
  const Map map(1, 3);
  const auto joint = map.run(RandomNeumann{.min_terms = 40}, Batch::none);
  REQUIRE(joint.log.last().samples.size() == 1);
  check_close(joint.gradients, map.run(Implicit{Dense{}}).gradients, 1e-6);

  Tape tape;
  const Var b = leaf(tensor({1.f, 2.f}, {2, 1}));
  const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({2, 1})),
                                        with_rule(RandomNeumann{.min_terms = 30}, 1e-6));
  const Var g = grad(sum(solved.z), {b})[0];
  CHECK(g.dtype() == DType::f32);
  CHECK(g.value().at(1) == Approx(2.0).epsilon(1e-5));
  CHECK(grad(sum(solved.z) * 0.0, {b})[0].value().at(0) == 0.0);
  CHECK(solved.adjoint.last().samples[0].variance == 0.0);
  CHECK(solved.adjoint.last().samples[0].adjoint == Status::converged);
  static_cast<void>(grad(sum(solved.z) * NAN, {b}));
  CHECK(solved.adjoint.last().samples[0].adjoint == Status::non_finite);

  const Var none = leaf(Tensor::zeros({0, 2}, DType::f64));
  const FixedPoint empty = fixed_point([&](const Var& z) { return 0.5 * z + none; },
                                       Var(Tensor::zeros({0, 2}, DType::f64)), with_rule(RandomNeumann{}));
  CHECK(grad(sum(empty.z), {none})[0].shape() == Shape{0, 2});
}

TEST_CASE("RandomNeumann checks its options", "[fixed_point][errors]") {
  const auto use = [](const RandomNeumann& rule) { return scalar_series(0.5, 1, rule); };
  for (const double survival : {0.0, 1.0, -1.0, static_cast<double>(NAN)})
    CHECK_THROWS_WITH(use({.survival = survival}), Contains("[random_neumann]") && Contains("survival"));
  CHECK_THROWS_WITH(use({.min_terms = 0}), Contains("min_terms"));
  CHECK_THROWS_WITH(use({.min_terms = 5, .max_terms = 4}), Contains("max_terms"));
  CHECK_THROWS_WITH(use({.draws = 0}), Contains("draws"));
}

TEST_CASE("Shine with the inverse learned exactly is Implicit", "[fixed_point][rules][shine]") {
  const Shine shine{.fallback = std::numeric_limits<double>::infinity()};
  // In one dimension, Broyden's first update is exact.
  const auto scalar_gradient = [](BackwardRule rule) {
    const Var rate(tensor({0.3, 0.9, -4.0}, {3, 1}));
    FixedPointOptions options = with_rule(std::move(rule), 1e-10);
    options.solver = Broyden{};
    Tape tape;
    const Var b = leaf(tensor({1.0, 2.0, 3.0}, {3, 1}));
    const FixedPoint solved = fixed_point([&](const Var& z) { return rate * z + b; },
                                          Var(Tensor::zeros({3, 1}, DType::f64)), options);
    const Tensor g = grad(sum(solved.z), {b})[0].value();
    for (const GradientStatus& status : solved.adjoint.last().samples) {
      CHECK(status.adjoint == Status::converged);
      CHECK(status.adjoint_residual < 1e-12);
      CHECK_FALSE(status.fell_back);
    }
    return g;
  };
  const Tensor got = scalar_gradient(shine);
  CHECK(got.at(0) == Approx(1 / 0.7).epsilon(1e-12));
  CHECK(got.at(1) == Approx(10.0).epsilon(1e-12));
  CHECK(got.at(2) == Approx(0.2).epsilon(1e-12));

  // In n dimensions, adjoint Broyden learns the inverse of an affine map in n steps.
  for (std::uint64_t seed = 0; seed < 20; seed += 2) {
    const Map map(seed, 3);
    const auto exact = map.run(Implicit{Dense{}});
    const auto learned = map.run(shine, Batch::axis0, AdjointBroyden{});
    check_close(learned.gradients, exact.gradients, 1e-7);
    CHECK(learned.log.last().samples[0].kind == GradientKind::approximate);
    CHECK(learned.log.last().evaluations == 1);  // that of the parameters' gradient
    const Map one(seed, 1);
    check_close(one.run(shine, Batch::none, AdjointBroyden{}).gradients, one.run(Implicit{Dense{}}).gradients,
                1e-7);
  }
}

TEST_CASE("Shine: the guard falls back on the Jacobian-free gradient, each sample by itself",
          "[fixed_point][rules][shine][status]") {
  const auto run = [](const Shine& shine) {
    const Var rate(tensor({0.1, 0.5, -0.5}, {3, 1}));  // 1 / (1 - rate) = 1.1, 2, 0.67
    FixedPointOptions options = with_rule(shine, 1e-10);
    options.solver = Broyden{};
    Tape tape;
    const Var b = leaf(Tensor::ones({3, 1}, DType::f64));
    const FixedPoint solved = fixed_point([&](const Var& z) { return rate * z + b; },
                                          Var(Tensor::zeros({3, 1}, DType::f64)), options);
    const Tensor g = grad(sum(solved.z), {b})[0].value();
    CHECK_FALSE(solved.adjoint.last().samples[0].fell_back);
    CHECK(solved.adjoint.last().samples[1].fell_back == (shine.fallback < 2.0));
    CHECK_FALSE(solved.adjoint.last().samples[2].fell_back);
    return g;
  };
  const Tensor guarded = run({});
  CHECK(guarded.at(0) == Approx(1 / 0.9));
  CHECK(guarded.at(1) == 1.0);
  CHECK(guarded.at(2) == Approx(1 / 1.5));
  CHECK(run({.fallback = 2.1}).at(1) == Approx(2.0));
  CHECK(run({.refinements = 2}).at(1) == Approx(1.75));  // refined from there, by Neumann's terms
}

TEST_CASE(
    "Shine refines: from the Jacobian-free estimate by terms of Neumann's series, and better from its own",
    "[fixed_point][rules][shine]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Map map(seed, 3);
    INFO("seed " << seed);
    const Broyden solver{};
    check_close(map.run(Shine{1e-9, 3}, Batch::axis0, solver).gradients, map.run(Neumann{4}).gradients,
                1e-10);
    double before = std::numeric_limits<double>::infinity();
    for (const int refinements : {0, 2, 8}) {
      const auto got = map.run(Shine{1e9, refinements}, Batch::axis0, solver);
      double largest = 0.0;
      for (const GradientStatus& status : got.log.last().samples)
        largest = std::max(largest, status.adjoint_residual);
      CHECK(largest < before);
      before = largest;
      CHECK(got.log.last().evaluations == refinements + 1);
    }
    CHECK(before < 1e-3);
  }
}

TEST_CASE("Shine: derivatives of the estimate, f32, empty batches, nothing learned",
          "[fixed_point][rules][shine][higher_order]") {
  FixedPointOptions options = with_rule(Shine{1e9}, 1e-10);
  options.solver = Broyden{};
  {
    Tape tape;
    const Var t = leaf(tensor({0.6}, {1, 1})), b = leaf(tensor({1.0}, {1, 1}));
    const FixedPoint solved =
        fixed_point([&](const Var& z) { return t * z + b; }, Var(tensor({0.0}, {1, 1})), options);
    const Var first = grad(sum(solved.z), {t}, {.create_graph = true})[0];  // lambda z
    CHECK(first.item() == Approx(6.25).epsilon(1e-9));
    CHECK(grad(sum(first), {b})[0].item() == Approx(6.25).epsilon(1e-9));    // lambda dz/db
    CHECK(grad(sum(first), {t})[0].item() == Approx(15.625).epsilon(1e-9));  // lambda dz/dt; lambda held
  }
  Tape tape;
  options.tolerance = 1e-6;
  const Var b = leaf(tensor({1.f, 2.f}, {2, 1})), none = leaf(Tensor::zeros({0, 2}));
  const FixedPoint single =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({2, 1})), options);
  CHECK(grad(sum(single.z), {b})[0].value().at(1) == Approx(2.0).epsilon(1e-5));
  const FixedPoint empty =
      fixed_point([&](const Var& z) { return 0.5 * z + none; }, Var(Tensor::zeros({0, 2})), options);
  CHECK(grad(sum(empty.z), {none})[0].shape() == Shape{0, 2});
  options.max_steps = 0;
  const FixedPoint still =
      fixed_point([&](const Var& z) { return 0.5 * z + b; }, Var(Tensor::zeros({2, 1})), options);
  CHECK(grad(sum(still.z), {b})[0].value().at(1) == 1.0);
}

TEST_CASE("Shine: memory of the solver is kept for it, and for no other rule",
          "[fixed_point][rules][shine][memory]") {
  const auto live = [](BackwardRule rule) {
    Tape tape;
    const Var b = leaf(Tensor::ones({1, 10000}, DType::f64));
    FixedPointOptions options = with_rule(std::move(rule), 1e-6);
    options.solver = Broyden{.memory = 20};
    const auto before = memory::stats().live_bytes;
    const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * z + b; },
                                          Var(Tensor::zeros({1, 10000}, DType::f64)), options);
    return static_cast<double>(memory::stats().live_bytes - before) / (10000 * 8);
  };
  CHECK(live(Shine{}) > 40.0);
  CHECK(live(JacobianFree{}) < 10.0);
}

namespace {
struct Impatient {
  static constexpr std::string_view name = "impatient";
  Adjoint solve(const Linearized& f, const Var& g) const { return {.lambda = f.estimate_inverse(g)}; }
};
}  // namespace

TEST_CASE("Shine says what it needs", "[fixed_point][errors][shine]") {
  const auto run = [](BackwardRule rule, const Solver& solver) {
    Tape tape;
    const Var b = leaf(Tensor::ones({1, 1}, DType::f64));
    FixedPointOptions options = with_rule(std::move(rule));
    options.solver = solver;
    const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * z + b; },
                                          Var(Tensor::zeros({1, 1}, DType::f64)), options);
    return grad(sum(solved.z), {b});
  };
  CHECK_THROWS_WITH(run(Shine{}, Anderson{}),
                    Contains("Shine") && Contains("Broyden") && Contains("anderson"));
  CHECK_THROWS_WITH(run(Shine{0.0}, Broyden{}), Contains("[shine]") && Contains("fallback"));
  CHECK_THROWS_WITH(run(Shine{1.3, -1}, Broyden{}), Contains("refinements"));
  CHECK_THROWS_WITH(run(Impatient{}, Broyden{}), Contains("[estimate_inverse]") && Contains("needs_inverse"));
}

TEST_CASE("Phantom's path takes memory for its states and one evaluation", "[fixed_point][rules][memory]") {
  const Tensor a = normal({40, 40}, 1, 0.05), b = normal({30, 40}, 2);
  const auto peak = [&](int steps) {
    const Tape tape;
    const Var at_a = leaf(a);
    const auto f = [&](const Var& z) {
      Var y = z;
      for (int i = 0; i < 20; ++i) y = tanh(matmul(y, at_a) + b);
      return y;
    };
    const FixedPoint solved = fixed_point(f, Var(b), with_rule(Phantom{.steps = steps}, 1e-8));
    const memory::Meter meter;
    grad(sum(square(solved.z)), {at_a});
    return meter.peak_bytes();
  };
  peak(2);  // what is made once, is there now
  const std::int64_t state = b.size() * 8;
  CHECK(peak(12) - peak(4) < 8 * 2 * state);  // an evaluation takes 20 states
}

TEST_CASE("a series summed tile by tile is the one that a tape records", "[fixed_point][rules]") {
  const Tensor a = normal({5, 5}, 1, 0.3), b = normal({90, 5}, 2), g = normal({90, 5}, 3);
  for (const int terms : {1, 3, 4, 9})
    for (const BackwardRule& rule :
         {BackwardRule(Neumann{terms}),
          BackwardRule(Phantom{.steps = terms, .damping = 0.3, .form = Phantom::Form::neumann})}) {
      INFO(rule.name() << ", " << terms);
      const auto gradients = [&](bool create_graph) {
        const Tape tape;
        const Var at_a = leaf(a), at_b = leaf(b);
        const FixedPoint solved = fixed_point([&](const Var& z) { return tanh(matmul(z, at_a) + at_b); },
                                              zeros_like(at_b), with_rule(rule));
        Vars result = grad(solved.z, {at_a, at_b}, {.create_graph = create_graph, .cotangent = Var(g)});
        CHECK(solved.adjoint.last().evaluations == terms);
        return result;
      };
      const Vars got = gradients(false), expected = gradients(true);
      for (std::size_t i = 0; i < 2; ++i) CHECK(largest_difference(got[i], expected[i]) < 1e-13);
    }
}

namespace {

// z = rates z + b, element by element, and <g, z>: its gradient in b is lambda.
struct Scales {
  Tensor rates, g;

  struct Result {
    Tensor lambda;
    PoolVector<GradientStatus> samples;
  };
  Result run(const Phantom& rule, bool create_graph = false) const {
    const Tape tape;
    const Var b = leaf(Tensor::zeros(rates.shape(), rates.dtype()));
    const FixedPoint solved =
        fixed_point([&](const Var& z) { return Var(rates) * z + b; }, zeros_like(b), with_rule(rule));
    const Tensor lambda = grad(solved.z, {b}, {.create_graph = create_graph, .cotangent = Var(g)})[0].value();
    return {lambda, solved.adjoint.last().samples};
  }
};

Phantom neumann_form(int steps, bool guarded) {
  return {.steps = steps, .damping = 0.5, .form = Phantom::Form::neumann, .guarded = guarded};
}

}  // namespace

TEST_CASE("a guarded phantom gradient ends each sample's series at the least residual known",
          "[fixed_point][rules]") {
  const std::int64_t batch = 50, n = 3;
  Random random(4);
  Tensor rates = Tensor::zeros({batch, n}, DType::f64), g = rates.clone();
  for (std::int64_t i = 0; i < batch * n; ++i) {  // few bits: nothing is rounded below
    rates.mutable_data<double>()[i] = static_cast<double>(random.below(i % 2 == 0 ? 63 : 15)) / -8.0 + 0.875;
    g.mutable_data<double>()[i] = std::exp2(static_cast<double>(random.below(12))) * (i % 4 < 2 ? 1.0 : -1.0);
  }
  const Scales problem{rates, g};
  int cut_to_one = 0, cut = 0, whole = 0;
  for (const int steps : {1, 2, 3, 4, 8}) {
    const auto plain = problem.run(neumann_form(steps, false));
    for (const bool create_graph : {false, true}) {
      const auto guarded = problem.run(neumann_form(steps, true), create_graph);
      for (std::int64_t k = 0; k < batch; ++k) {
        INFO(steps << " steps, sample " << k << (create_graph ? ", recorded" : ""));
        int chosen = 0;
        double least = std::numeric_limits<double>::infinity();
        std::vector<double> term(static_cast<std::size_t>(n), 1.0);
        for (int i = 1; i < steps; ++i) {
          double square = 0.0;
          for (std::int64_t j = 0; j < n; ++j) {
            term[static_cast<std::size_t>(j)] *= 0.5 * rates.at(k * n + j) + 0.5;
            square += std::pow(term[static_cast<std::size_t>(j)] * g.at(k * n + j), 2);
          }
          if (square <= least) chosen = i, least = square;
        }
        if (chosen == steps - 1) chosen = steps;
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = 0.0;
          for (int i = 0; i < chosen; ++i) sum += std::pow(0.5 * rates.at(k * n + j) + 0.5, i);
          CHECK(guarded.lambda.at(k * n + j) == 0.5 * sum * g.at(k * n + j));
        }
        const GradientStatus &got = guarded.samples[static_cast<std::size_t>(k)],
                             &other = plain.samples[static_cast<std::size_t>(k)];
        CHECK(got.fell_back == (chosen < steps));
        CHECK_FALSE(other.fell_back);
        // J is normal: once the terms grow they grow for good.
        CHECK(got.adjoint_residual <= other.adjoint_residual);
        if (got.fell_back)
          CHECK(got.adjoint_residual == Approx(std::sqrt(least) / [&] {
                  double square = 0.0;
                  for (std::int64_t j = 0; j < n; ++j) square += std::pow(g.at(k * n + j), 2);
                  return std::sqrt(square);
                }()));
        (chosen == steps ? whole : chosen == 1 ? cut_to_one : cut) += 1;
      }
    }
  }
  CHECK(cut_to_one > 20);
  CHECK(cut > 20);
  CHECK(whole > 20);
}

TEST_CASE("a guarded sample whose series grows changes no bit of its neighbours", "[fixed_point][rules]") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const std::int64_t batch = 70, n = 5, bad = 33;
  Tensor rates = normal({batch, n}, 1, 0.3), g = normal({batch, n}, 2);
  for (std::int64_t j = 0; j < n; ++j)
    rates.mutable_data<double>()[bad * n + j] = -5.0 - static_cast<double>(j);
  const Scales problem{cast(Var(rates), dtype).value(), cast(Var(g), dtype).value()};
  for (const bool create_graph : {false, true}) {
    const auto plain = problem.run(neumann_form(8, false), create_graph),
               guarded = problem.run(neumann_form(8, true), create_graph);
    for (std::int64_t i = 0; i < batch * n; ++i) {
      INFO("sample " << i / n << (create_graph ? ", recorded" : ""));
      if (i / n == bad)
        CHECK(guarded.lambda.at(i) == 0.5 * problem.g.at(i));
      else
        CHECK(guarded.lambda.at(i) == plain.lambda.at(i));
    }
    for (std::int64_t k = 0; k < batch; ++k)
      CHECK(guarded.samples[static_cast<std::size_t>(k)].fell_back == (k == bad));
  }
}

TEST_CASE("a guarded phantom gradient: terms that overflow end a series", "[fixed_point][rules]") {
  const Scales problem{tensor({0.5, -1e200, 0.5, 0.5}, {2, 2}), tensor({1.0, 1e200, 1.0, 1.0}, {2, 2})};
  for (const bool create_graph : {false, true}) {
    CHECK_FALSE(problem.run(neumann_form(5, false), create_graph).lambda.all_finite());
    const auto guarded = problem.run(neumann_form(5, true), create_graph);
    CHECK(guarded.lambda.at(0) == 0.5);
    CHECK(guarded.lambda.at(1) == 0.5e200);
    CHECK(guarded.lambda.at(2) == 0.5 * (1.0 - std::pow(0.75, 5)) / 0.25);
  }
}

TEST_CASE("a guarded phantom gradient is differentiated with its number of terms held constant",
          "[fixed_point][rules][higher_order]") {
  // Of squares 4097, 2310, 1335, 973, 1936, ... the fourth is the least: lambda has three terms.
  const Tape tape;
  const Var t = leaf(tensor({0.5, -6.0}, {1, 2})), b = leaf(tensor({0.5, 7.0}, {1, 2}));
  const FixedPoint solved = fixed_point([&](const Var& z) { return t * z + b; },
                                        Var(tensor({1.0, 1.0}, {1, 2})), with_rule(neumann_form(7, true)));
  const Var lambda =
      grad(solved.z, {b}, {.create_graph = true, .cotangent = Var(tensor({64.0, 1.0}, {1, 2}))})[0];
  CHECK(lambda.value().at(0) == 32.0 * (1.0 + 0.75 + 0.75 * 0.75));
  CHECK(lambda.value().at(1) == 0.5 * (1.0 - 2.5 + 2.5 * 2.5));
  const Tensor slope = grad(sum(lambda), {t})[0].value();
  CHECK(slope.at(0) == 32.0 * (0.5 + 2 * 0.75 * 0.5));
  CHECK(slope.at(1) == 0.5 * (0.5 + 2 * -2.5 * 0.5));
}
