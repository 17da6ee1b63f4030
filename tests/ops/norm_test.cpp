#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/reduce.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

namespace {

/// The definition, in arithmetic.
Var composed(const Var& x, double eps) {
  const Var centred = x - mean(x, {-1}, true);
  return centred * rsqrt(mean(square(centred), {-1}, true) + eps);
}

}  // namespace

TEST_CASE("normalize agrees with its definition, and so do its first and second derivatives") {
  SampleGen gen(41);
  for (const Shape& shape : {Shape{4, 6}, Shape{2, 3, 5}, Shape{7}, Shape{3, 1}})
    for (const double eps : {1e-5, 0.3}) {
      INFO(shape.to_string() << " " << eps);
      Tape tape;
      const Var x = leaf(gen.normal(shape, 1.0)), u = leaf(gen.normal(shape)), w(gen.normal(shape));
      const Var y = normalize(x, eps), expected = composed(x, eps);
      CHECK(largest_difference(y, expected) < 1e-13);
      const GradOptions recorded{.create_graph = true, .cotangent = u};
      const Var g = grad(y, {x}, recorded)[0], expected_g = grad(expected, {x}, recorded)[0];
      CHECK(largest_difference(g, expected_g) < 1e-11);
      const Vars second = grad(g, {x, u}, {.cotangent = w}),
                 expected_second = grad(expected_g, {x, u}, {.cotangent = w});
      CHECK(largest_difference(second[0], expected_second[0]) < 1e-9);
      CHECK(largest_difference(second[1], expected_second[1]) < 1e-11);
    }
}

TEST_CASE("a row of two entries has a closed form") {
  const double eps = 0.01, half = 0.75;  // half the difference: the deviation
  const Var y = normalize(Var(tensor({1.0, 1.0 + 2 * half})), eps);
  CHECK(y.value().at(1) == Approx(half / std::sqrt(half * half + eps)).epsilon(1e-15));
  CHECK(y.value().at(0) == -y.value().at(1));
}

TEST_CASE("a constant row gives zeros, and finite derivatives") {
  Tape tape;
  const Var x = leaf(Tensor::full({2, 5}, 3.0)), y = normalize(x);
  CHECK(largest_difference(y, Var(Tensor::zeros({2, 5}))) == 0.0);
  CHECK(grad(y, {x}, {.cotangent = Var(Tensor::ones({2, 5}))})[0].value().all_finite());
}

TEST_CASE("rows far from zero keep their digits in f32") {
  SampleGen gen(42);
  const Tensor x = gen.normal({3, 1000}, 1000.0).to(DType::f32);
  CHECK(largest_difference(normalize(Var(x)), composed(Var(x.to(DType::f64)), 1e-5)) < 1e-3);
}

TEST_CASE("layer_norm scales and shifts, with gradients for all three") {
  SampleGen gen(43);
  Tape tape;
  const Var x = leaf(gen.normal({4, 3})), gamma = leaf(gen.normal({3})), beta = leaf(gen.normal({3})),
            u(gen.normal({4, 3}));
  const Var y = layer_norm(x, gamma, beta, 1e-3), plain = composed(x, 1e-3);
  CHECK(largest_difference(y, plain * gamma + beta) < 1e-14);
  const Vars g = grad(y, {x, gamma, beta}, {.cotangent = u});
  CHECK(largest_difference(g[0], grad(plain, {x}, {.cotangent = u * gamma})[0]) < 1e-12);
  CHECK(largest_difference(g[1], sum(u * plain, {0})) < 1e-13);
  CHECK(largest_difference(g[2], sum(u, {0})) < 1e-14);
}
