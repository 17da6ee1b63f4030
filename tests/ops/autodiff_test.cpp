// The tape, the sweep and what is built on them, exercised with operations.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/memory_meter.hpp>
#include <banach/engine/random.hpp>
#include <banach/engine/trace.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <memory>
#include <thread>

using namespace banach;
using Catch::Matchers::Contains;

namespace {

Var f64(double value) { return leaf(scalar(value, DType::f64)); }

}  // namespace

TEST_CASE("derivatives of any order by sweeping the sweep", "[grad]") {
  Tape tape;
  const Var x = f64(0.7);
  Var y = tanh(x);
  const double t = std::tanh(0.7), s = 1 - t * t;
  const double expected[] = {s, -2 * t * s, s * (6 * t * t - 2), s * t * (16 - 24 * t * t)};
  for (const double derivative : expected) {
    y = grad(y, {x}, {.create_graph = true})[0];
    CHECK(y.item() == Approx(derivative).epsilon(1e-13));
  }
}

TEST_CASE("a variable used several times gets the sum", "[grad]") {
  Tape tape;
  const Var x = f64(3.0);
  CHECK(grad(x * x * x + x, {x})[0].item() == 28.0);
  CHECK(grad(x + x, {x})[0].item() == 2.0);
  const Var y = x * 2.0;
  const Vars both = grad(y * y, {y, x});
  CHECK(both[0].item() == 12.0);
  CHECK(both[1].item() == 24.0);
}

TEST_CASE("gradients of inputs the output does not depend on are zero", "[grad]") {
  Tape tape;
  const Var x = leaf(tensor({1.0, 2.0})), y = f64(1.0);
  const Vars g = grad(y * y, {x, y});
  CHECK(g[0].shape() == Shape{2});
  CHECK(g[0].value().at(0) == 0.0);
  CHECK(g[1].item() == 2.0);
}

TEST_CASE("a cotangent may be given, and is needed for outputs of several elements", "[grad]") {
  Tape tape;
  const Var x = leaf(tensor({1.0, 2.0}));
  CHECK_THROWS_WITH(grad(x * x, {x}), Contains("[grad]") && Contains("one element") && Contains("(2)"));
  const Var g = grad(x * x, {x}, {.cotangent = Var(tensor({1.0, 10.0}))})[0];
  CHECK(g.value().at(0) == 2.0);
  CHECK(g.value().at(1) == 40.0);
  CHECK_THROWS_AS(grad(x * x, {x}, {.cotangent = Var(tensor({1.0}))}), ShapeError);
}

TEST_CASE("nothing is recorded without a tape, under NoGrad, or from constants", "[tape]") {
  const Var c(tensor({1.0}));
  CHECK_FALSE((c * c).recorded());
  Tape tape;
  CHECK_FALSE((c * c).recorded());
  CHECK(tape.size() == 0);
  const Var x = leaf(tensor({1.0}));
  {
    const NoGrad off;
    CHECK_FALSE((x * x).recorded());
    const NoGrad off_again;
  }
  CHECK((x * x).recorded());
  CHECK_FALSE(x.detach().recorded());
}

TEST_CASE("a Var outlives its tape as a value, and using its node says which op and why", "[tape]") {
  Var y;
  {
    Tape tape;
    const Var x = f64(0.5);
    y = tanh(x);
  }
  CHECK(y.item() == Approx(std::tanh(0.5)));
  CHECK((y * 2.0).item() == Approx(2 * std::tanh(0.5)));  // no tape: plain arithmetic
  Tape other;
  const Var x = f64(1.0);
  CHECK_THROWS_AS(x * y, TapeError);
  CHECK_THROWS_WITH(x * y, Contains("[mul]") && Contains("input 1") && Contains("tanh") &&
                               Contains("closed") && Contains("detach"));
  CHECK_THROWS_WITH(grad(y, {x}), Contains("[grad]") && Contains("tanh") && Contains("closed"));
  CHECK((x * y.detach()).item() == Approx(std::tanh(0.5)));
}

TEST_CASE("two tapes do not mix", "[tape]") {
  Tape outer;
  const Var x = f64(2.0);
  Tape inner;
  const Var y = f64(3.0);
  CHECK_THROWS_WITH(x * y, Contains("[mul]") && Contains("input 0") && Contains("outer Tape"));
  CHECK((y * y).item() == 9.0);
}

TEST_CASE("tapes on the heap may end in any order", "[tape]") {
  auto first = std::make_unique<Tape>();
  const Var x = f64(2.0);
  auto second = std::make_unique<Tape>();
  first.reset();
  const Var y = f64(3.0);
  CHECK(grad(y * y, {y})[0].item() == 6.0);
  CHECK_THROWS_WITH(x * y, Contains("closed"));
  second.reset();
  CHECK(Tape::current() == nullptr);
}

TEST_CASE("a tape belongs to one thread", "[tape][threads]") {
  Tape tape;
  const Var x = f64(2.0);
  std::string without_tape, with_tape, in_grad;
  std::thread([&] {
    try {
      static_cast<void>(x * x);
    } catch (const TapeError& error) {
      without_tape = error.what();
    }
    try {
      static_cast<void>(grad(x, {x}));
    } catch (const TapeError& error) {
      in_grad = error.what();
    }
    Tape own;
    try {
      static_cast<void>(f64(1.0) * x);
    } catch (const TapeError& error) {
      with_tape = error.what();
    }
  }).join();
  for (const std::string& message : {without_tape, with_tape, in_grad})
    CHECK_THAT(message, Contains("another thread"));
  CHECK(grad(x * x, {x})[0].item() == 4.0);
}

TEST_CASE("errors around grad name what is wrong", "[grad]") {
  const Var c(tensor({1.0}));
  CHECK_THROWS_WITH(leaf(tensor({1.0})), Contains("Tape must be alive"));
  Tape tape;
  const Var x = f64(1.0);
  CHECK_THROWS_WITH(grad(c, {x}), Contains("the output") && Contains("constant"));
  CHECK_THROWS_WITH(grad(x * x, {c}), Contains("wrt[0]") && Contains("constant"));
  CHECK_THROWS_AS(leaf(Tensor::arange(3)), DTypeError);
  CHECK_THROWS_WITH(x * Var(), Contains("[mul]") && Contains("input 1 must be defined"));
}

TEST_CASE("a million-node chain, also on a stack of 512 kB", "[tape][small_stack]") {
  Tape tape;
  const Var x = f64(1.0);
  Var y = x;
  for (int i = 0; i < 1'000'000; ++i) y = y * 1.000001;
  CHECK(grad(y, {x})[0].item() == Approx(std::exp(1.0)).epsilon(1e-5));
}

TEST_CASE("cotangents are released at their last use", "[grad][memory]") {
  const std::int64_t n = 1 << 17;  // 1 MiB of f64
  Tape tape;
  const Var x = leaf(Tensor::ones({n}, DType::f64));
  Var y = x;
  for (int i = 0; i < 64; ++i) y = y * 1.01;  // keeps one scalar a step, nothing of size n
  memory::reset_peak();
  const auto before = memory::stats().live_bytes;
  static_cast<void>(grad(sum(y), {x}));
  CHECK(memory::stats().peak_bytes - before < 8 * n * 6);
}

TEST_CASE("a tape frees values that no derivative looks at", "[tape][memory]") {
  const std::int64_t n = 1 << 17;
  Tape tape;
  const Var x = leaf(Tensor::ones({n}, DType::f64));
  const auto before = memory::stats().live_bytes;
  {
    Var y = x;
    for (int i = 0; i < 64; ++i) y = y + x;
  }
  CHECK(memory::stats().live_bytes - before < 8 * n);
}

TEST_CASE("vjp and jvp agree with closed forms, with and without a tape", "[grad]") {
  const auto f = [](const Vars& in) { return Vars{in[0] * in[0] * in[1], sin(in[1])}; };
  const Vars at{Var(tensor({2.0, 3.0})), Var(tensor({0.5, 0.25}))};
  const auto check = [&] {
    const VjpResult pulled = vjp(f, at, {Var(tensor({1.0, 1.0})), Var(tensor({0.0, 2.0}))});
    CHECK(pulled.cotangents[0].value().at(0) == Approx(2.0));
    CHECK(pulled.cotangents[0].value().at(1) == Approx(1.5));
    CHECK(pulled.cotangents[1].value().at(1) == Approx(9.0 + 2 * std::cos(0.25)));
    const JvpResult pushed = jvp(f, at, {Var(tensor({1.0, 0.0})), Var(tensor({0.0, 1.0}))});
    CHECK(pushed.tangents[0].value().at(0) == Approx(2.0));
    CHECK(pushed.tangents[0].value().at(1) == Approx(9.0));
    CHECK(pushed.tangents[1].value().at(0) == 0.0);
    CHECK(pushed.tangents[1].value().at(1) == Approx(std::cos(0.25)));
  };
  check();
  {
    const NoGrad off;
    check();
  }
  Tape tape;
  check();
}

TEST_CASE("jvp of a vjp: Hessian-vector products, inside a tape and outside", "[grad]") {
  const auto energy = [](const Vars& in) { return Vars{sum(exp(in[0]) * in[0])}; };
  const auto gradient = [&](const Vars& in) {
    return vjp(energy, in, {Var(scalar(1.0, DType::f64))}).cotangents;
  };
  const Vars at{Var(tensor({0.3, -0.2}))}, v{Var(tensor({1.0, 2.0}))};
  const auto check = [&] {
    const Var hv = jvp(gradient, at, v).tangents[0];
    CHECK(hv.value().at(0) == Approx(std::exp(0.3) * 2.3));
    CHECK(hv.value().at(1) == Approx(2 * std::exp(-0.2) * 1.8));
  };
  check();
  Tape tape;
  check();
}

TEST_CASE("alias gives partial derivatives that can be differentiated on", "[grad]") {
  Tape tape;
  const Var x = f64(2.0);
  const Var part = alias(x);
  const Var y = part * part * x;  // partial in the alias: 2 x^2
  const Var partial = grad(y, {part}, {.create_graph = true})[0];
  CHECK(partial.item() == 8.0);
  CHECK(grad(partial, {x})[0].item() == 8.0);
}

TEST_CASE("gradcheck passes right derivatives and reports wrong ones", "[gradcheck]") {
  const Vars at{Var(tensor({0.3, 1.2, -0.7}))};
  const auto right = [](const Vars& in) { return Vars{tanh(in[0]) * exp(in[0])}; };
  const GradcheckReport good = gradcheck(right, at, {.order = 3, .tolerance = 1e-5});
  CHECK(good.passed);
  CHECK(good.error < 1e-6);
  const auto wrong = [](const Vars& in) {
    return Vars{in[0].detach() * in[0]};
  };  // loses half of its derivative
  const GradcheckReport bad = gradcheck(wrong, at);
  CHECK_FALSE(bad.passed);
  CHECK(bad.error > 0.1);
  CHECK_THAT(bad.to_string(), Contains("failed"));
  CHECK_THROWS_AS(gradcheck(right, {Var(tensor({1.f}))}), ValueError);
}

TEST_CASE("a trace captures outer Vars, replays, and pulls back", "[trace]") {
  Tape tape;
  const Var a = f64(3.0), unused = f64(1.0);
  const auto f = [&](const Vars& in) { return Vars{a * in[0] * in[0]}; };
  const std::array<Tensor, 1> at{scalar(2.0, DType::f64)};
  const auto nodes = tape.size();
  const Trace traced = trace(f, at);
  CHECK(tape.size() == nodes);  // nothing was recorded outside
  REQUIRE(traced.captured.size() == 1);
  CHECK(traced.captured[0].node() == a.node());
  CHECK(traced.results[0].item() == 12.0);

  const std::array<Var, 1> one{Var(scalar(1.0, DType::f64))};
  CHECK(traced.pull_back(one, traced.inputs)[0].item() == 12.0);
  CHECK(traced.pull_back(one, traced.captures)[0].item() == 4.0);

  const std::array<Var, 1> state{f64(5.0)}, captured{f64(2.0)};
  const Var y = traced.replay(state, captured)[0];
  CHECK(y.item() == 50.0);
  CHECK(grad(y, {state[0]})[0].item() == 20.0);
  CHECK(grad(y, {captured[0]})[0].item() == 25.0);
  static_cast<void>(unused);
}

TEST_CASE("a trace works under NoGrad and nests", "[trace]") {
  const NoGrad off;
  const std::array<Tensor, 1> at{scalar(2.0, DType::f64)};
  const auto f = [](const Vars& in) {
    const Var x = in[0];
    const std::array<Tensor, 1> inner_at{scalar(3.0, DType::f64)};
    const Trace inner = trace([&](const Vars& y) { return Vars{x * y[0]}; }, inner_at);
    return inner.replay({&x, 1}, inner.captured);  // x * x
  };
  const Trace outer = trace(f, at);
  const std::array<Var, 1> one{Var(scalar(1.0, DType::f64))};
  CHECK(outer.results[0].item() == 4.0);
  CHECK(outer.pull_back(one, outer.inputs)[0].item() == 4.0);
}

TEST_CASE("a tape is not used from another thread by its own members either", "[tape][threads]") {
  Tape tape;
  std::string message;
  std::thread([&] {
    try {
      static_cast<void>(tape.leaf(scalar(1.0, DType::f64)));
    } catch (const TapeError& error) {
      message = error.what();
    }
  }).join();
  CHECK_THAT(message, Contains("thread"));
}

TEST_CASE("output and wrt must share a tape", "[grad]") {
  Tape outer;
  const Var y = f64(1.0);
  Tape inner;
  const Var b = f64(1.0);
  CHECK_THROWS_WITH(grad(y, {b}), Contains("wrt[0]") && Contains("same tape"));
}

TEST_CASE("a trace of functions that return an argument, a constant or a captured Var is replayed",
          "[trace]") {
  Tape tape;
  const Var a = f64(3.0), fixed = Var(scalar(7.0, DType::f64));
  const std::array<Tensor, 2> at{scalar(2.0, DType::f64), scalar(5.0, DType::f64)};
  const Trace traced = trace([&](const Vars& in) { return Vars{in[0], in[1], a, fixed}; }, at);
  const std::array<Var, 2> other{f64(-1.0), f64(-2.0)};
  const std::array<Var, 1> captured{f64(-3.0)};
  REQUIRE(traced.captured.size() == 1);
  const Vars replayed = traced.replay(other, captured);
  REQUIRE(replayed.size() == 4);
  CHECK(replayed[0].item() == -1.0);
  CHECK(replayed[1].item() == -2.0);
  CHECK(replayed[2].item() == -3.0);
  CHECK(replayed[3].item() == 7.0);
}

TEST_CASE("cotangents of long arrays add up, element by element", "[grad]") {
  const std::int64_t n = 100003;
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const bool recorded = GENERATE(false, true);
  Tensors factors;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    factors.push_back(Tensor::empty({n}, dtype));
    dispatch_floating(dtype, [&](auto zero) {
      Random(seed).fill_normal(factors.back().mutable_data<decltype(zero)>(), n);
    });
  }
  Tape tape;
  const Var x = leaf(Tensor::ones({n}, dtype));
  const Var y = x * Var(factors[0]) + x * Var(factors[1]) + x * Var(factors[2]);
  const Var g = grad(sum(y), {x}, {.create_graph = recorded})[0];
  const double epsilon = dtype == DType::f32 ? 1e-6 : 1e-15;
  double worst = 0.0;
  for (std::int64_t i = 0; i < n; ++i)
    worst =
        std::max(worst, std::abs(g.value().at(i) - (factors[0].at(i) + factors[1].at(i) + factors[2].at(i))));
  CHECK(worst < 10 * epsilon);
}

TEST_CASE("a keyed leaf is one node for as long as its value is the same", "[tape]") {
  Tape tape;
  const Tensor first = tensor({1.0, 2.0}), second = tensor({3.0, 4.0});
  const Var a = Tape::current()->keyed_leaf(7, first), again = Tape::current()->keyed_leaf(7, first);
  CHECK(a.node() == again.node());
  const Var other = Tape::current()->keyed_leaf(8, first), moved = Tape::current()->keyed_leaf(7, second);
  CHECK(other.node() != a.node());
  CHECK(moved.node() != a.node());
  CHECK(Tape::current()->keyed_leaf(7, second).node() == moved.node());
  const Vars all = tape.keyed_leaves(7);  // the newest first
  REQUIRE(all.size() == 2);
  CHECK(all[0].node() == moved.node());
  CHECK(all[1].node() == a.node());
  CHECK(tape.keyed_leaves(8).size() == 1);
  CHECK(tape.keyed_leaves(9).empty());
  CHECK(grad(sum(a * a + moved), {a, moved})[0].value().at(1) == 4.0);

  // Inside a trace it is captured from the tape that the user opened.
  const std::array<Tensor, 1> at{tensor({5.0, 6.0})};
  const Trace traced = trace(
      [&](const Vars& in) {
        CHECK(Tape::current()->keyed_leaves(7).size() == 2);
        return Vars{in[0] * Tape::current()->keyed_leaf(7, second) * Tape::current()->keyed_leaf(10, first)};
      },
      at);
  REQUIRE(traced.captured.size() == 2);
  CHECK(traced.captured[0].node() == moved.node());
  CHECK(traced.captured[1].node() == tape.keyed_leaves(10).at(0).node());
}

TEST_CASE("recording stops and goes on by scopes, however they are nested", "[tape]") {
  CHECK_FALSE(recording());
  const Tape tape;
  CHECK(recording());
  {
    const NoGrad off;
    CHECK_FALSE(recording());
    {
      const NoGrad deeper;
      CHECK_FALSE(recording());
      {
        const EnableGrad on;
        CHECK(recording());
        const NoGrad once_more;
        CHECK_FALSE(recording());
      }
      CHECK_FALSE(recording());
    }
    CHECK_FALSE(recording());
  }
  CHECK(recording());
}

TEST_CASE("operations of several outputs: each output, both, or one twice", "[grad]") {
  Tape tape;
  const Var x = leaf(tensor({4.0, 1.0, 1.0, 3.0}, {2, 2}));
  const auto [values, vectors] = eigh(x);
  // sum of squares of the eigenvalues: ||x||_F^2; v v^T summed over all: the identity.
  CHECK(grad(sum(values * values), {x})[0].value().at(0) == Approx(8.0));
  const Var both = sum(values * values) + sum(square(matmul(vectors, vectors, {.transpose_b = true})));
  const Var g = grad(both, {x})[0];
  CHECK(g.value().at(3) == Approx(6.0));
  CHECK(g.value().at(1) == Approx(2.0));
  const Vars of_outputs = grad(both, {values, vectors});
  CHECK(of_outputs[0].value().at(0) == Approx(2.0 * values.value().at(0)));
  CHECK(of_outputs[1].shape() == Shape{2, 2});

  // Many outputs: a body of five states and one wanted among them.
  const std::array<Tensor, 5> at{tensor({1.0}), tensor({2.0}), tensor({3.0}), tensor({4.0}), tensor({5.0})};
  const Trace traced = trace(
      [](const Vars& in) {
        Vars out;
        for (std::size_t i = 0; i < in.size(); ++i) out.push_back(in[i] * in[(i + 1) % in.size()]);
        return out;
      },
      at);
  const std::array<Var, 5> u{Var(tensor({1.0})), Var(), Var(), Var(tensor({1.0})), Var()};
  const Vars pulled = traced.pull_back(u, traced.inputs);
  CHECK(pulled[0].item() == 2.0);
  CHECK(pulled[1].item() == 1.0);
  CHECK_FALSE(pulled[2].defined());
  CHECK(pulled[3].item() == 5.0);
  CHECK(pulled[4].item() == 4.0);
}

TEST_CASE("gradcheck measures the error that is there, at the order where it is", "[gradcheck]") {
  const Vars at{Var(tensor({0.7}))};
  for (const double part : {0.01, 0.3}) {
    // The value is x^2, the derivative lacks a part of itself.
    const auto lacking = [&](const Vars& in) {
      const Var y = in[0] * in[0];
      return Vars{(1.0 - part) * y + part * y.detach()};
    };
    const GradcheckReport report = gradcheck(lacking, at, {.order = 1, .tolerance = 0.99 * part});
    CHECK_FALSE(report.passed);
    CHECK(report.error == Approx(part).epsilon(1e-6));
    CHECK(report.analytic == Approx((1.0 - part) * report.numeric).epsilon(1e-6));
    CHECK(report.order == 1);
    CHECK(gradcheck(lacking, at, {.order = 1, .tolerance = 1.01 * part}).passed);
  }
  // x^2 / 2 with the right derivative, x, which is a constant to the next one.
  const auto flat = [](const Vars& in) {
    return Vars{in[0].detach() * in[0] - 0.5 * in[0].detach() * in[0].detach()};
  };
  CHECK(gradcheck(flat, at, {.order = 1}).passed);
  const GradcheckReport second = gradcheck(flat, at);
  CHECK_FALSE(second.passed);
  CHECK(second.order == 2);
  CHECK(second.error == Approx(1.0));
  CHECK(second.analytic == Approx(0.0).margin(1e-12));
  // Two inputs and two outputs, right in all but one of the four partial derivatives.
  const Vars two{Var(tensor({0.3, -0.4})), Var(tensor({1.1, 0.2}))};
  const auto one_wrong = [](const Vars& in) { return Vars{in[0] * in[1], in[0] + sin(in[1].detach())}; };
  CHECK_FALSE(gradcheck(one_wrong, two, {.order = 1}).passed);
  const auto infinite = [](const Vars& in) { return Vars{log(in[0])}; };
  CHECK_FALSE(gradcheck(infinite, {Var(tensor({-1.0}))}, {.order = 1}).passed);
  CHECK_THROWS_AS(gradcheck(flat, at, {.order = 0}), ValueError);
  // Differences of fourth order are exact for polynomials up to it, whatever the step.
  const auto quartic = [](const Vars& in) { return Vars{in[0] * in[0] * in[0] * in[0]}; };
  for (const double step : {1e-3, 0.2})
    CHECK(gradcheck(quartic, {Var(tensor({0.5, -2.0, 300.0}))}, {.order = 1, .step = step, .tolerance = 1e-9})
              .passed);
}

TEST_CASE("a trace of a body that makes a leaf of its own is replayed with it as a constant", "[trace]") {
  const NoGrad off;
  const std::array<Tensor, 1> at{tensor({2.0, 3.0})};
  const Trace traced = trace(
      [](const Vars& in) {
        const Var own = leaf(tensor({5.0, 7.0}));
        return Vars{in[0] * own, own};
      },
      at);
  const std::array<Var, 1> moved{Var(tensor({1.0, -1.0}))};
  const Vars replayed = traced.replay(moved, {});
  CHECK(replayed[0].value().at(0) == 5.0);
  CHECK(replayed[0].value().at(1) == -7.0);
  CHECK(replayed[1].value().at(1) == 7.0);
}

TEST_CASE("a trace is replayed with values for each input and each capture, and no others", "[trace]") {
  Tape tape;
  const Var a = f64(3.0);
  const std::array<Tensor, 1> at{scalar(2.0, DType::f64)};
  const Trace traced = trace([&](const Vars& in) { return Vars{a * in[0]}; }, at);
  const std::array<Var, 1> one{f64(1.0)};
  const std::array<Var, 2> two{f64(1.0), f64(1.0)};
  CHECK_NOTHROW(traced.replay(one, one));
  CHECK_THROWS_AS(traced.replay(two, one), ValueError);
  CHECK_THROWS_AS(traced.replay(one, two), ValueError);
  CHECK_THROWS_AS(traced.replay(one, {}), ValueError);
}

TEST_CASE("a replay keeps no value beyond its last use", "[trace]") {
  const NoGrad off;
  // Also none that has no use at all: further outputs, and what nothing comes of.
  const int kind = GENERATE(0, 1, 2);
  const auto chain = [kind](const Vars& in) {
    Var x = in[0];
    for (int i = 0; i < 50; ++i) {
      if (kind == 1) exp(x);
      x = (kind == 2 ? sort(x).values : tanh(x)) + in[0];
    }
    return Vars{x};
  };
  const std::array<Tensor, 1> at{test::normal({1000}, 1)};
  const Trace traced = trace(chain, at);
  const std::array<Var, 1> start{Var(at[0])};
  const memory::Meter meter;
  const Vars replayed = traced.replay(start, {});
  CHECK(meter.peak_bytes() < 6 * 1000 * 8);
  CHECK(test::same_bits(replayed[0], chain({start[0]})[0]));
}
