// The rules that differentiate an iteration of their own, against that iteration recorded by hand, sample by
// sample.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

using namespace banach;
using Catch::Matchers::Contains;

namespace {

Tensor normal(Random& random, const Shape& shape, double deviation = 1.0) {
  Tensor t = Tensor::empty(shape, DType::f64);
  random.fill_normal(t.mutable_data<double>(), t.size(), 0.0, deviation);
  return t;
}

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
          "[fixed_point][rules][memory]") {
  const std::int64_t n = 20000;
  const auto peak = [&](int steps) {
    memory::reset_peak();
    const auto before = memory::stats().live_bytes;
    Tape tape;
    const Var b = leaf(Tensor::ones({1, n}, DType::f64));
    FixedPointOptions options = picard(TruncatedUnroll{4}, 1.0, 0.0);
    options.max_steps = steps;
    const FixedPoint solved = fixed_point([&](const Var& z) { return 0.999 * z + b; },
                                          Var(Tensor::zeros({1, n}, DType::f64)), options);
    CHECK(solved.report.samples[0].nstep == steps);
    static_cast<void>(grad(sum(solved.z), {b}));
    return memory::stats().peak_bytes - before;
  };
  CHECK(std::abs(peak(2000) - peak(20)) < 1 << 20);
}

TEST_CASE("rules with an iteration of their own: Batch::none, empty batches, no steps",
          "[fixed_point][rules]") {
  for (const BackwardRule& rule : std::vector<BackwardRule>{Unrolled{}, TruncatedUnroll{3}}) {
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

TEST_CASE("TruncatedUnroll says what it needs", "[fixed_point][errors]") {
  const Var z0(Tensor::zeros({1, 1}, DType::f64));
  const auto half = [](const Var& z) { return 0.5 * z; };
  CHECK_THROWS_WITH(fixed_point(half, z0, {.backward = TruncatedUnroll{}}),
                    Contains("TruncatedUnroll") && Contains("Picard") && Contains("anderson"));
  CHECK_THROWS_WITH(fixed_point(half, z0, picard(TruncatedUnroll{0})),
                    Contains("[truncated_unroll]") && Contains("at least 1"));
}
