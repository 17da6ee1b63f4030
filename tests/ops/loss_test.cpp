#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

namespace {

/// The definition, in other operations.
Var composed(const Var& logits, const Var& labels) {
  const Var picked = gather(log_softmax(logits), 1, reshape(labels, Shape{labels.size(), 1}));
  return -mean(picked);
}

}  // namespace

TEST_CASE("cross_entropy agrees with its definition, and so do its first and second derivatives") {
  SampleGen gen(51);
  const Var labels(gen.indices({6}, 4)), w(gen.normal({6, 4}));
  Tape tape;
  const Var logits = leaf(gen.normal({6, 4}));
  const Var loss = cross_entropy(logits, labels), expected = composed(logits, labels);
  CHECK(loss.item() == Approx(expected.item()).epsilon(1e-14));
  const Var g = grad(loss, {logits}, {.create_graph = true})[0],
            expected_g = grad(expected, {logits}, {.create_graph = true})[0];
  CHECK(largest_difference(g, expected_g) < 1e-15);
  CHECK(largest_difference(grad(g, {logits}, {.cotangent = w})[0],
                           grad(expected_g, {logits}, {.cotangent = w})[0]) < 1e-15);
}

TEST_CASE("cross_entropy in closed form") {
  CHECK(cross_entropy(Var(Tensor::zeros({5, 10}, DType::f64)), Var(Tensor::arange(5))).item() ==
        Approx(std::log(10.0)).epsilon(1e-15));
  CHECK(cross_entropy(Var(tensor({500.0, 0.0}, {1, 2})), Var(Tensor::arange(1))).item() == 0.0);
  CHECK(cross_entropy(Var(tensor({-500.0, 0.0}, {1, 2})), Var(Tensor::arange(1))).item() == 500.0);
}

TEST_CASE("cross_entropy says which label is wrong") {
  const Var logits(Tensor::zeros({3, 3}));
  const Var labels(tensor<std::int64_t>({0, 2, -1}));
  CHECK_THROWS_AS(cross_entropy(logits, labels), ValueError);
  CHECK_THROWS_WITH(cross_entropy(logits, labels), "[cross_entropy] labels must lie in [0, 3): got -1 at 2");
  CHECK_THROWS_AS(cross_entropy(logits, Var(Tensor::zeros({3}))), DTypeError);
  CHECK_THROWS_AS(cross_entropy(logits, Var(Tensor::arange(2))), ShapeError);
}

TEST_CASE("mse and its derivative") {
  Tape tape;
  const Var a = leaf(tensor({1.0, 2.0, 4.0})), b = leaf(tensor({0.0, 4.0, 4.0}));
  const Var loss = mse(a, b);
  CHECK(loss.item() == Approx(5.0 / 3.0));
  const Vars g = grad(loss, {a, b});
  CHECK(largest_difference(g[0], Var(tensor({2.0 / 3.0, -4.0 / 3.0, 0.0}))) < 1e-15);
  CHECK(largest_difference(g[1], -g[0]) == 0.0);
  CHECK_THROWS_WITH(mse(Var(Tensor::zeros({2, 1})), Var(Tensor::zeros({2}))),
                    "[mse] prediction and target must have one shape, not empty: (2,1) with (2)");
}

TEST_CASE("losses of large batches: the same bits with one thread and two") {
  SampleGen gen(52);
  const Var logits(gen.normal({9000, 10}).to(DType::f32)), labels(gen.indices({9000}, 10));
  const Var target(gen.normal({9000, 10}).to(DType::f32)), probability = sigmoid(target);
  const Vars losses = check_threads([&] {
    return Vars{mse(logits, target), bce_with_logits(logits, probability), cross_entropy(logits, labels),
                huber(logits, target)};
  });
  const double squares = losses[0].item(), binary = losses[1].item();
  CHECK(binary == Approx(mean(softplus(logits) - logits * probability).item()).epsilon(1e-6));
  CHECK(squares == Approx(mean(square(logits - target)).item()).epsilon(1e-6));
}
