#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace banach;
using namespace banach::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("softmax agrees with its formula along every axis") {
  SampleGen gen(31);
  const Var x(gen.normal({3, 4, 5}));
  for (int axis = -3; axis < 3; ++axis) {
    const Var e = exp(x), total = sum(e, {axis}, true);
    CHECK(largest_difference(softmax(x, axis), e / total) < 1e-15);
    CHECK(largest_difference(log_softmax(x, axis), x - log(total)) < 1e-14);
    CHECK(largest_difference(logsumexp(x, {axis}, true), log(total)) < 1e-14);
  }
  CHECK_THROWS_WITH(softmax(x, 3), "[softmax] axis must lie in [-3, 3): got 3");
}

TEST_CASE("logsumexp over any axes") {
  SampleGen gen(32);
  const Var x(gen.normal({2, 3, 4, 2}));
  for (const Axes& axes : {Axes{}, Axes{0}, Axes{1, 3}, Axes{0, 2}, Axes{-1, -2}, Axes{0, 1, 2, 3}})
    for (const bool keep : {false, true}) {
      INFO(axes.to_string() << keep);
      CHECK(largest_difference(logsumexp(x, axes, keep), log(sum(exp(x), axes, keep))) < 1e-14);
    }
  CHECK(logsumexp(Var(scalar(3.0, DType::f64))).item() == 3.0);
  CHECK(logsumexp(Var(Tensor::zeros({2, 0})), {1}).value().at(1) == -infinity);
}

TEST_CASE("large entries do not overflow, and a common shift changes nothing") {
  const Var x(tensor({1000.0, 1001.0, 1002.0})), moved(tensor({0.0, 1.0, 2.0}));
  CHECK(largest_difference(softmax(x), softmax(moved)) < 1e-15);
  CHECK(largest_difference(log_softmax(x), log_softmax(moved)) < 1e-15);
  CHECK(logsumexp(x).item() == Approx(1000.0 + logsumexp(moved).item()).epsilon(1e-15));
  CHECK(log_softmax(Var(tensor({0.0, -1000.0}))).value().at(1) == -1000.0);
}

TEST_CASE("minus infinity masks an entry, values and derivatives staying finite") {
  Tape tape;
  const Var x = leaf(tensor({0.0, -infinity, 0.0}));
  const Var p = softmax(x);
  CHECK(p.value().at(1) == 0.0);
  CHECK(p.value().at(0) == 0.5);
  const Var g = grad(sum(p * Var(tensor({1.0, 2.0, 3.0}))), {x})[0];
  CHECK(g.value().at(0) == -0.5);
  CHECK(g.value().at(1) == 0.0);
  CHECK(logsumexp(x).item() == Approx(std::log(2.0)));
  CHECK(grad(logsumexp(x), {x})[0].value().at(1) == 0.0);
}

TEST_CASE("two classes are a sigmoid") {
  const Var x(tensor({0.3, -1.7}));
  CHECK(softmax(x).value().at(0) == Approx(sigmoid(Var(scalar(2.0, DType::f64))).item()).epsilon(1e-15));
  CHECK(log_softmax(x).value().at(0) ==
        Approx(-softplus(Var(scalar(-2.0, DType::f64))).item()).epsilon(1e-15));
}

TEST_CASE("fused vjps agree with those composed of operations") {
  SampleGen gen(33);
  Tape tape;
  const Var x = leaf(gen.normal({3, 5})), u(gen.normal({3, 5}));
  const Var composed = exp(x) / sum(exp(x), {-1}, true);
  CHECK(largest_difference(grad(softmax(x), {x}, {.cotangent = u})[0],
                           grad(composed, {x}, {.cotangent = u})[0]) < 1e-15);
  CHECK(largest_difference(grad(log_softmax(x), {x}, {.cotangent = u})[0],
                           grad(log(composed), {x}, {.cotangent = u})[0]) < 1e-14);
}

TEST_CASE("many rows give the same bits with one thread and two") {
  SampleGen gen(34);
  const Var x(gen.normal({9000, 10}).to(DType::f32));
  check_threads([&] {
    Tape tape;
    const Var leaf_x = leaf(x.value()), y = log_softmax(leaf_x);
    return Vars{y.detach(), grad(y, {leaf_x}, {.cotangent = x})[0], logsumexp(x, {1})};
  });
}
