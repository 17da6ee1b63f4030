// The rules that differentiate an iteration of their own, against that iteration recorded by hand, sample by
// sample.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

// z = A z + b or z = tanh(A z + b) for a batch whose samples contract at different rates, loss <g, z>. A and
// b are captured.
struct Net {
  bool curved;
  std::int64_t batch, n;
  Tensor a, b, rate, z0, g;

  explicit Net(std::uint64_t seed, std::int64_t samples = 3) : curved(seed % 2 == 1), batch(samples) {
    Random random(seed);
    n = 2 + random.below(5);
    a = normal(random, {n, n}, 0.8 / static_cast<double>(n));
    b = normal(random, {batch, n});
    z0 = normal(random, {batch, n}, 0.3);
    g = normal(random, {batch, n});
    rate = Tensor::empty({batch, 1}, DType::f64);
    random.fill_uniform(rate.mutable_data<double>(), batch, 0.2, 1.0);
  }

  Var body(const Var& z, const Var& weight, const Var& bias, const Var& rates) const {
    const Var linear = rates * matmul(z, weight, {.transpose_b = true}) + bias;
    return curved ? tanh(linear) : linear;
  }

  FixedPoint solve(const Vars& x, const FixedPointOptions& options) const {
    return fixed_point([&](const Var& z) { return body(z, x[0], x[1], Var(rate)); }, x[2], options);
  }

  Vars leaves() const { return {leaf(a), leaf(b), leaf(z0)}; }

  // Each sample iterates by itself: `step` makes the next pair of iterates from the last two, and only the
  // last `kept` steps are differentiated.
  Var by_hand(const Vars& x, const PoolVector<int>& steps, int kept,
              const std::function<Var(const Var& before, const Var& z, const Var& fz)>& step) const {
    Vars answers;
    for (std::int64_t i = 0; i < batch; ++i) {
      const Var bias = slice(x[1], 0, i, i + 1), own(rate.rows(i, i + 1).clone());
      Var z = slice(x[2], 0, i, i + 1), before = z;
      const int count = steps[static_cast<std::size_t>(i)];
      for (int k = 0; k < count; ++k) {
        if (k > 0 && k == count - kept) z = z.detach(), before = before.detach();
        Var next = step(before, z, body(z, x[0], bias, own));
        before = std::exchange(z, std::move(next));
      }
      answers.push_back(z);
    }
    return concat(answers, 0);
  }
};

Var loss(const Net& net, const Var& z) { return sum(z * Var(net.g)) + 0.5 * sum(square(z)); }

PoolVector<int> steps_taken(const SolveReport& report) {
  PoolVector<int> steps;
  for (const SampleReport& sample : report.samples) steps.push_back(sample.best_step - 1);
  return steps;
}

void check_close(const Vars& got, const Vars& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k)
    for (std::int64_t i = 0; i < got[k].size(); ++i) {
      const double e = expected[k].value().at(i);
      INFO("gradient " << k << ", element " << i);
      CHECK(got[k].value().at(i) == Approx(e).epsilon(tolerance).margin(tolerance));
    }
}

void check_same_bits(const Vars& got, const Vars& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t k = 0; k < got.size(); ++k)
    for (std::int64_t i = 0; i < got[k].size(); ++i) CHECK(got[k].value().at(i) == expected[k].value().at(i));
}

// d/dx <direction, dloss/dx>
Vars second(const Var& value, const Vars& x, const Vars& directions) {
  const Vars first = grad(value, x, {.create_graph = true});
  Var inner = sum(first[0] * directions[0]);
  for (std::size_t i = 1; i < first.size(); ++i) inner = inner + sum(first[i] * directions[i]);
  return grad(inner, x);
}

FixedPointOptions picard(BackwardRule rule, double damping = 1.0, double tolerance = 1e-5) {
  return {.solver = Picard{.damping = damping},
          .backward = std::move(rule),
          .tolerance = tolerance,
          .max_steps = 500};
}

// Peak memory, in iterates, of so many steps with this rule and a sweep.
double peak_iterates(BackwardRule rule, int steps) {
  const std::int64_t n = 20000;
  memory::reset_peak();
  const auto before = memory::stats().live_bytes;
  Tape tape;
  const Var b = leaf(Tensor::ones({1, n}, DType::f64));
  FixedPointOptions options = picard(std::move(rule), 1.0, 0.0);
  options.max_steps = steps;
  const FixedPoint solved = fixed_point([&](const Var& z) { return 0.999 * z + tanh(b); },
                                        Var(Tensor::zeros({1, n}, DType::f64)), options);
  CHECK(solved.report.samples[0].nstep == steps);
  static_cast<void>(grad(sum(solved.z), {b}));
  return static_cast<double>(memory::stats().peak_bytes - before) / static_cast<double>(n * 8);
}

// z + z^2 + 0.01, slowest near zero: the smallest residual is met midway to infinity. The other sample
// converges.
FixedPoint solve_passing_by(const Vars& x, BackwardRule rule, int max_steps = 60) {
  FixedPointOptions options = picard(std::move(rule));
  options.max_steps = max_steps;
  const Var curved(tensor({1.0, 0.0}, {2, 1})), rate(tensor({1.0, 0.5}, {2, 1}));
  return fixed_point([&](const Var& z) { return rate * z + curved * square(z) + x[0]; }, x[1], options);
}

}  // namespace

TEST_CASE("TruncatedUnroll is the derivative of each sample's own last steps", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 25; ++seed) {
    const Net net(seed);
    const double damping = seed % 3 == 0 ? 0.7 : 1.0;
    const auto step = [&](const Var&, const Var& z, const Var& fz) { return z + damping * (fz - z); };
    for (const int kept : {1, 3, 12}) {
      INFO("seed " << seed << ", steps " << kept);
      Tape tape;
      const Vars x = net.leaves();
      const FixedPoint solved = net.solve(x, picard(TruncatedUnroll{kept}, damping));
      REQUIRE(solved.report.converged());
      const Vars got = grad(loss(net, solved.z), x);
      const Var z = net.by_hand(x, steps_taken(solved.report), kept, step);
      check_close({solved.z}, {z}, 1e-13);
      check_close(got, grad(loss(net, z), x), 1e-12);
      CHECK(solved.adjoint.last().rule == "truncated_unroll");
      CHECK(solved.adjoint.last().evaluations <= kept);
      CHECK(solved.adjoint.last().samples[0].kind == GradientKind::approximate);
    }
  }
}

TEST_CASE("TruncatedUnroll of all steps is Unrolled, bit for bit", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Net net(seed);
    const auto run = [&](BackwardRule rule) {
      Tape tape;
      const Vars x = net.leaves();
      const FixedPoint solved = net.solve(x, picard(std::move(rule)));
      Vars result = grad(loss(net, solved.z), x);
      result.push_back(solved.z.detach());
      result.push_back(Var(scalar(solved.report.nstep, DType::f64)));
      return result;
    };
    const Vars unrolled = run(Unrolled{});
    const int needed = static_cast<int>(unrolled.back().item()) - 1;
    check_same_bits(run(TruncatedUnroll{needed}), unrolled);
    check_same_bits(run(TruncatedUnroll{1000}), unrolled);
    CHECK(sum(abs(run(TruncatedUnroll{needed - 1})[2] - unrolled[2])).item() > 0.0);
  }
}

TEST_CASE("TruncatedUnroll: second derivatives are those of the last steps",
          "[fixed_point][rules][higher_order]") {
  const Net net(3, 2);
  Random random(1);
  Tape tape;
  const Vars x = net.leaves();
  const Vars directions{Var(normal(random, net.a.shape())), Var(normal(random, net.b.shape())),
                        Var(normal(random, net.z0.shape()))};
  const FixedPoint solved = net.solve(x, picard(TruncatedUnroll{4}));
  const auto step = [](const Var&, const Var&, const Var& fz) { return fz; };
  const Var z = net.by_hand(x, steps_taken(solved.report), 4, step);
  check_close(second(loss(net, solved.z), x, directions), second(loss(net, z), x, directions), 1e-12);
}

TEST_CASE("TruncatedUnroll: a sample that went past its best iterate", "[fixed_point][rules][status]") {
  const Tensor b = tensor({0.01, 1.0}, {2, 1}), z0 = tensor({-0.5, 0.0}, {2, 1});
  for (const int kept : {2, 5, 100}) {
    Tape tape;
    const Vars x{leaf(b), leaf(z0)};
    const FixedPoint solved = solve_passing_by(x, TruncatedUnroll{kept});
    const SampleReport& sample = solved.report.samples[0];
    REQUIRE(sample.status != Status::converged);
    REQUIRE(sample.best_step < sample.nstep);
    REQUIRE(sample.best_step > 6);
    const Vars got = grad(sum(solved.z), x);
    double z = -0.5, slope_b = 0.0, slope_z = kept >= sample.best_step - 1 ? 1.0 : 0.0;
    for (int k = 1; k < sample.best_step; ++k) {
      if (k >= sample.best_step - kept) {
        slope_b = (1 + 2 * z) * slope_b + 1;
        slope_z *= 1 + 2 * z;
      }
      z += z * z + 0.01;
    }
    CHECK(solved.z.value().at(0) == Approx(z).epsilon(1e-12));
    CHECK(got[0].value().at(0) == Approx(slope_b).epsilon(1e-12));
    CHECK(got[1].value().at(0) == Approx(slope_z).epsilon(1e-12).margin(1e-300));
    CHECK(solved.adjoint.last().samples[0].forward == sample.status);
    CHECK(solved.adjoint.last().samples[1].forward == Status::converged);
    // The other sample is as good as alone.
    CHECK(got[0].value().at(1) ==
          Approx(2 - std::pow(0.5, std::min(kept, solved.report.samples[1].best_step - 1) - 1)));
  }
}

TEST_CASE("TruncatedUnroll: memory does not depend on the number of iterations",
          "[fixed_point][rules][memory][unsanitized]") {
  CHECK(std::abs(peak_iterates(TruncatedUnroll{4}, 2000) - peak_iterates(TruncatedUnroll{4}, 20)) < 6.0);
}

TEST_CASE("Unrolled with checkpoints is Unrolled, bit for bit", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const Net net(seed);
    const auto run = [&](BackwardRule rule) {
      Tape tape;
      const Vars x = net.leaves();
      const FixedPoint solved = net.solve(x, picard(std::move(rule), seed % 3 == 0 ? 0.7 : 1.0));
      Vars result = grad(sum(solved.z * Var(net.g)), x);
      result.push_back(solved.z.detach());
      result.push_back(Var(scalar(solved.report.nstep, DType::f64)));
      CHECK(solved.adjoint.sweeps().size() == 1);
      CHECK(solved.adjoint.last().evaluations == solved.report.nstep - 1);
      CHECK(solved.adjoint.last().samples[0].forward == Status::converged);
      CHECK(solved.adjoint.last().rule == "unrolled");
      return result;
    };
    const Vars all = run(Unrolled{});
    for (const int every : {1, 2, 3, 5, 1000}) {
      INFO("seed " << seed << ", every " << every);
      check_same_bits(run(Unrolled{every}), all);
    }
  }
}

TEST_CASE("Unrolled with checkpoints: samples that go astray or break, and gradients of some variables alone",
          "[fixed_point][rules][status]") {
  const Tensor b = tensor({0.01, 1.0}, {2, 1}), z0 = tensor({-0.5, 0.0}, {2, 1});
  const auto run = [&](int every, std::initializer_list<std::size_t> wanted) {
    Tape tape;
    const Vars x{leaf(b), leaf(z0)};
    const FixedPoint solved = solve_passing_by(x, Unrolled{every});
    REQUIRE(solved.report.samples[0].best_step < solved.report.samples[0].nstep);
    Vars wrt;
    for (const std::size_t i : wanted) wrt.push_back(x[i]);
    return grad(sum(solved.z), wrt);
  };
  const Vars all = run(0, {0, 1});
  for (const int every : {1, 3, 7, 100}) {
    check_same_bits(run(every, {0, 1}), all);
    check_same_bits(run(every, {0}), {all[0]});
    check_same_bits(run(every, {1}), {all[1]});
  }

  FixedPointOptions options = picard(Unrolled{3}, 1.0, 1e-9);
  Tape tape;
  const Var w = leaf(tensor({0.5}));
  int evaluation = 0;
  const auto breaking = [&](const Var& z) {
    const Tensor sign = ++evaluation == 9 ? tensor({1.0, -1.0}, {2, 1}) : tensor({1.0, 1.0}, {2, 1});
    return w * z + 1.0 + 0.0 * log(Var(sign));
  };
  const FixedPoint solved = fixed_point(breaking, Var(Tensor::zeros({2, 1}, DType::f64)), options);
  CHECK(solved.report.samples[1].status == Status::non_finite);
  const Var g = grad(sum(solved.z), {w})[0];
  CHECK(g.value().all_finite());
  CHECK(g.item() > 7.5);  // 1 / (1 - w)^2 of the good sample, and nearly that of the broken one
}

TEST_CASE("Unrolled with checkpoints: second derivatives, and a node inside the body of another",
          "[fixed_point][rules][higher_order]") {
  const Net net(3, 2);
  Random random(1);
  const Vars directions{Var(normal(random, net.a.shape())), Var(normal(random, net.b.shape())),
                        Var(normal(random, net.z0.shape()))};
  const auto run = [&](BackwardRule rule) {
    Tape tape;
    const Vars x = net.leaves();
    return second(loss(net, net.solve(x, picard(std::move(rule))).z), x, directions);
  };
  check_close(run(Unrolled{4}), run(Unrolled{}), 1e-12);

  for (const BackwardRule& rule : std::vector<BackwardRule>{Unrolled{3}, Reversible{0.2}}) {
    const auto nested = [&](const Vars& in) {
      const auto outer = [&](const Var& z) {
        const auto inner = [&](const Var& y) { return tanh(0.4 * y + in[0] * z); };
        return 0.5 * fixed_point(inner, Var(Tensor::zeros({1, 2}, DType::f64)), picard(rule, 1.0, 1e-14)).z +
               in[1];
      };
      return Vars{fixed_point(outer, Var(Tensor::zeros({1, 2}, DType::f64)),
                              {.backward = Implicit{Dense{}}, .tolerance = 1e-13, .max_steps = 500})
                      .z};
    };
    const GradcheckReport report = gradcheck(
        nested, {Var(tensor({0.3, -0.8}, {1, 2})), Var(tensor({0.5, 1.0}, {1, 2}))}, {.tolerance = 1e-6});
    INFO(rule.name() << ": " << report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("Unrolled with checkpoints takes memory for N / m iterates and m recorded steps",
          "[fixed_point][rules][memory][unsanitized]") {
  // A handful for the solve and the sweep, N / m kept, and what a recorded step keeps.
  const auto bound = [](int every, int steps) { return 16.0 + steps / every + 1.5 * every; };
  for (const auto& [every, steps] : {std::pair{20, 400}, std::pair{10, 100}, std::pair{40, 400}})
    CHECK(peak_iterates(Unrolled{every}, steps + 1) < bound(every, steps));
  CHECK(peak_iterates(Unrolled{}, 401) > 400.0);
}

// w_{k+1} = (1 - b) w_{k-1} + b f(w_k)
auto reversible_step(double b) {
  return [b](const Var& before, const Var&, const Var& fz) { return (1.0 - b) * before + b * fz; };
}

TEST_CASE("Reversible is the derivative of its own iteration", "[fixed_point][rules]") {
  for (std::uint64_t seed = 0; seed < 25; ++seed) {
    const Net net(seed);
    for (const double b : {0.3, 0.6, 1.4}) {
      INFO("seed " << seed << ", damping " << b);
      Tape tape;
      const Vars x = net.leaves();
      FixedPointOptions options = picard(Reversible{b}, 1.0, 1e-3);
      options.max_steps = 16;  // rounding errors grow by up to 2.5 every second one on the way back
      const FixedPoint solved = net.solve(x, options);
      CHECK(solved.report.solver == "reversible");
      const Vars got = grad(loss(net, solved.z), x);
      const Var z = net.by_hand(x, steps_taken(solved.report), 1000, reversible_step(b));
      check_close({solved.z}, {z}, 1e-13);
      check_close(got, grad(loss(net, z), x), 1e-10);
      const AdjointReport& report = solved.adjoint.last();
      CHECK(report.rule == "reversible");
      for (std::size_t i = 0; i < report.samples.size(); ++i) {
        CHECK(report.samples[i].kind == GradientKind::approximate);
        CHECK(report.samples[i].forward == solved.report.samples[i].status);
        CHECK(report.samples[i].adjoint == report.samples[i].forward);
        CHECK(report.samples[i].reconstruction_error < 1e-9);
      }
      // Without a tape it is the same iteration.
      const NoGrad off;
      check_same_bits({net.solve(x, options).z}, {solved.z});
    }
  }
}

TEST_CASE("Reversible: two half steps are one coupled step of the paper", "[fixed_point][rules]") {
  const double b = 0.7;
  const auto f = [](double x) { return 0.5 * std::cos(x) + 0.2; };
  double y = 0.3, z = 0.3;
  for (int i = 0; i < 5; ++i) {
    y = (1 - b) * y + b * f(z);
    z = (1 - b) * z + b * f(y);
  }
  FixedPointOptions options = picard(Reversible{b}, 1.0, 0.0);
  options.max_steps = 11;
  const FixedPoint solved =
      fixed_point([](const Var& x) { return 0.5 * cos(x) + 0.2; }, Var(tensor({0.3}, {1, 1})), options);
  REQUIRE(solved.report.samples[0].best_step == 11);
  CHECK(solved.z.item() == Approx(z).epsilon(1e-15));
}

TEST_CASE("Reversible: second derivatives are those of the iteration", "[fixed_point][rules][higher_order]") {
  for (const std::uint64_t seed : {2u, 3u}) {
    const Net net(seed, 2);
    Random random(1);
    Tape tape;
    const Vars x = net.leaves();
    const Vars directions{Var(normal(random, net.a.shape())), Var(normal(random, net.b.shape())),
                          Var(normal(random, net.z0.shape()))};
    const FixedPoint solved = net.solve(x, picard(Reversible{0.5}));
    const Var z = net.by_hand(x, steps_taken(solved.report), 1000, reversible_step(0.5));
    check_close(second(loss(net, solved.z), x, directions), second(loss(net, z), x, directions), 1e-11);
  }
}

TEST_CASE("Reversible: a sample that went past its best iterate", "[fixed_point][rules][status]") {
  Tape tape;
  const Vars x{leaf(tensor({0.01, 1.0}, {2, 1})), leaf(tensor({-0.5, 0.0}, {2, 1}))};
  const FixedPoint solved = solve_passing_by(x, Reversible{0.5}, 100);
  const SampleReport& sample = solved.report.samples[0];
  REQUIRE(sample.best_step < sample.nstep);
  REQUIRE(sample.best_step > 6);
  const Vars got = grad(sum(solved.z), x);
  Var z = slice(x[1], 0, 0, 1), before = z;
  for (int k = 1; k < sample.best_step; ++k)
    before = std::exchange(z, 0.5 * before + 0.5 * (z + square(z) + slice(x[0], 0, 0, 1)));
  const Vars expected = grad(sum(z), x);
  for (std::size_t k = 0; k < 2; ++k)
    CHECK(got[k].value().at(0) == Approx(expected[k].value().at(0)).epsilon(1e-8));
  CHECK(solved.adjoint.last().samples[1].forward == Status::converged);
}

TEST_CASE("Reversible: memory does not depend on the number of steps",
          "[fixed_point][rules][memory][unsanitized]") {
  CHECK(std::abs(peak_iterates(Reversible{0.1}, 200) - peak_iterates(Reversible{0.1}, 10)) < 0.8);
}

TEST_CASE("Reversible says when its steps cannot be inverted, and the policy holds",
          "[fixed_point][rules][status]") {
  // Each step back multiplies rounding errors by 1 / |1 - b| = 100 in two evaluations; only sample 1 takes
  // many of them.
  const auto run = [](Policy policy, double tolerance = 1e-3) {
    FixedPointOptions options = picard(Reversible{0.99, tolerance}, 1.0, 1e-5);
    options.policy = policy;
    Tape tape;
    const Vars x{leaf(tensor({1.0, 1.0}, {2, 1})), leaf(tensor({0.5})), leaf(tensor({0.1, 0.1}, {2, 1}))};
    const Var rate(tensor({0.01, 0.9}, {2, 1}));
    const FixedPoint solved =
        fixed_point([&](const Var& z) { return tanh(rate * z + x[0] * x[1]); }, x[2], options);
    Vars result = grad(sum(solved.z), x);
    result.push_back(Var(scalar(solved.adjoint.last().samples[1].reconstruction_error, DType::f64)));
    CHECK(solved.adjoint.last().samples[0].adjoint == Status::converged);
    CHECK(solved.adjoint.last().samples[0].reconstruction_error < 1e-6);
    CHECK(solved.adjoint.last().samples[1].forward == Status::converged);
    CHECK((solved.adjoint.last().samples[1].adjoint == Status::converged) == (tolerance > 1e10));
    return result;
  };
  const Vars reported = run(Policy::report);
  CHECK(reported[3].item() > 1e-3);
  CHECK(reported[0].value().all_finite());
  CHECK_THROWS_WITH(run(Policy::raise), Contains("[reversible]") && Contains("1 diverged"));
  CHECK_NOTHROW(run(Policy::raise, 1e30));
  const Vars marked = run(Policy::nan);
  CHECK(marked[0].value().at(0) == reported[0].value().at(0));
  CHECK(std::isnan(marked[0].value().at(1)));
  CHECK(std::isnan(marked[1].item()));
  CHECK(std::isfinite(marked[2].value().at(0)));
  CHECK(std::isnan(marked[2].value().at(1)));
}

TEST_CASE("rules with an iteration of their own: f32 agrees with f64", "[fixed_point][rules]") {
  for (const BackwardRule& rule :
       std::vector<BackwardRule>{Unrolled{}, Unrolled{3}, TruncatedUnroll{5}, Reversible{0.5}}) {
    INFO(rule.name());
    const auto run = [&](DType dtype) {
      Tape tape;
      const Vars x{leaf(tensor({1.0, 2.0}, {2, 1}).to(dtype)), leaf(tensor({0.5}).to(dtype))};
      FixedPointOptions options = picard(rule, 1.0, 0.0);
      options.max_steps = 12;
      const FixedPoint solved = fixed_point([&](const Var& z) { return tanh(x[1] * z + x[0]); },
                                            Var(Tensor::zeros({2, 1}, dtype)), options);
      Vars g = grad(sum(solved.z), x);
      CHECK(g[0].dtype() == dtype);
      return g;
    };
    check_close(run(DType::f32), run(DType::f64), 1e-5);
  }
}

TEST_CASE("rules with an iteration of their own: Batch::none, empty batches, no steps",
          "[fixed_point][rules]") {
  for (const BackwardRule& rule : std::vector<BackwardRule>{Unrolled{}, Unrolled{4}, TruncatedUnroll{3}}) {
    INFO(rule.name());
    FixedPointOptions options = picard(rule);
    Tape tape;
    const Var b = leaf(tensor({1.0, 2.0, 3.0, 4.0}, {4, 1}));
    options.batch = Batch::none;
    const auto coupled = [&](const Var& z) { return 0.5 * mean(z) + b; };
    const FixedPoint solved = fixed_point(coupled, Var(Tensor::zeros({4, 1}, DType::f64)), options);
    REQUIRE(solved.report.samples.size() == 1);
    const int steps = solved.report.samples[0].best_step - 1;
    const int kept = rule.name() == TruncatedUnroll::name ? 3 : steps;
    // d mean / d b is 1/4 each, times 1 + 1/2 + ..., and the last step adds b itself.
    CHECK(grad(sum(solved.z), {b})[0].value().at(2) == Approx(2.0 - std::pow(0.5, kept - 1)));
    const FixedPoint single = fixed_point([&](const Var& z) { return 0.5 * z + slice(b, 0, 0, 1); },
                                          Var(Tensor::zeros({1, 1}, DType::f64)), options);
    CHECK(grad(sum(single.z), {b})[0].value().at(3) == 0.0);

    options.batch = Batch::axis0;
    const Var none = leaf(Tensor::zeros({0, 3}, DType::f64));
    CHECK(fixed_point([&](const Var& z) { return 0.5 * z; }, none, options).z.shape() == Shape{0, 3});
    options.max_steps = 0;
    const Var z0 = leaf(Tensor::ones({4, 1}, DType::f64));
    const FixedPoint still = fixed_point([&](const Var& z) { return 0.5 * z + b; }, z0, options);
    CHECK(still.z.value().at(3) == 1.0);
    CHECK(still.report.samples[0].status == Status::max_steps);
    CHECK(grad(sum(still.z), {z0})[0].value().at(0) == 1.0);
  }
}

TEST_CASE("Reversible: Batch::none, empty batches, no steps", "[fixed_point][rules]") {
  FixedPointOptions options = picard(Reversible{0.5}, 1.0, 1e-10);
  options.batch = Batch::none;
  Tape tape;
  const Var b = leaf(tensor({1.0, 2.0, 3.0, 4.0}, {4, 1})), z0 = leaf(Tensor::zeros({4, 1}, DType::f64));
  const FixedPoint solved = fixed_point([&](const Var& z) { return 0.5 * mean(z) + b; }, z0, options);
  REQUIRE(solved.report.samples.size() == 1);
  CHECK(grad(sum(solved.z), {b})[0].value().at(2) == Approx(2.0).epsilon(1e-8));
  CHECK(solved.adjoint.last().samples.size() == 1);

  options.batch = Batch::axis0;
  const Var none = leaf(Tensor::zeros({0, 3}, DType::f64));
  const FixedPoint empty = fixed_point([&](const Var& z) { return 0.5 * z; }, none, options);
  CHECK(empty.z.shape() == Shape{0, 3});
  CHECK(grad(sum(empty.z), {none})[0].shape() == Shape{0, 3});
  options.max_steps = 0;
  const FixedPoint still = fixed_point([&](const Var& z) { return 0.5 * z + b; }, z0, options);
  CHECK(still.z.value().at(3) == 0.0);
  CHECK(grad(sum(still.z), {z0})[0].value().at(0) == 1.0);
}

TEST_CASE("more captured variables than a mask has bits", "[fixed_point][rules]") {
  for (const BackwardRule& rule : std::vector<BackwardRule>{Unrolled{3}, Reversible{0.5}}) {
    Tape tape;
    Vars x;
    for (int i = 0; i < 70; ++i) x.push_back(leaf(tensor({0.01 * i}, {1, 1})));
    const auto f = [&](const Var& z) {
      Var value = 0.5 * z;
      for (const Var& part : x) value = value + part;
      return value;
    };
    const FixedPoint solved = fixed_point(f, Var(Tensor::zeros({1, 1}, DType::f64)), picard(rule, 1.0, 1e-9));
    for (const Var& g : grad(sum(solved.z), x)) CHECK(g.item() == Approx(2.0).epsilon(1e-7));
  }
}

TEST_CASE("options of these rules are checked", "[fixed_point][errors]") {
  const Var z0(Tensor::zeros({1, 1}, DType::f64));
  const auto half = [](const Var& z) { return 0.5 * z; };
  CHECK_THROWS_WITH(fixed_point(half, z0, picard(Unrolled{-1})), Contains("checkpoint_every"));
  CHECK_THROWS_WITH(fixed_point(half, z0, {.backward = Unrolled{2}}), Contains("Picard"));
  for (const double b : {0.0, 1.0, 2.0, -0.5, static_cast<double>(NAN)})
    CHECK_THROWS_WITH(fixed_point(half, z0, {.backward = Reversible{b}}),
                      Contains("[reversible]") && Contains("damping"));
  CHECK_THROWS_AS(fixed_point(half, z0, {.backward = Reversible{0.5, 0.0}}), ValueError);
}

TEST_CASE("TruncatedUnroll says what it needs", "[fixed_point][errors]") {
  const Var z0(Tensor::zeros({1, 1}, DType::f64));
  const auto half = [](const Var& z) { return 0.5 * z; };
  CHECK_THROWS_WITH(fixed_point(half, z0, {.backward = TruncatedUnroll{}}),
                    Contains("TruncatedUnroll") && Contains("Picard") && Contains("anderson"));
  CHECK_THROWS_WITH(fixed_point(half, z0, picard(TruncatedUnroll{0})),
                    Contains("[truncated_unroll]") && Contains("at least 1"));
}
