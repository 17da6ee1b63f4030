// The operation; the layer has tests in tests/nn.
#include <banach/engine/grad.hpp>
#include <banach/ops/dropout.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

TEST_CASE("dropout keeps or drops each place, scales what it keeps, and its gradient does the same",
          "[dropout]") {
  const double p = GENERATE(0.1, 0.5, 0.85);
  const std::int64_t n = 150001;  // several pieces
  const RandomState state{3, 4, 5};
  const Tensor x = normal({n}, 1), u = normal({n}, 2);
  const Tape tape;
  const Var at = leaf(x);
  const Var y = dropout(at, p, state);
  const Tensor g = grad(y, {at}, {.cotangent = Var(u)})[0].value();
  const Tensor mask = dropout(Var(Tensor::ones({n}, DType::f64)), p, state).value(),
               narrow = dropout(Var(x.to(DType::f32)), p, state).value(),
               other = dropout(Var(x), p, RandomState{3, 4, 6}).value();
  std::int64_t dropped = 0, wrong = 0, moved = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const bool gone = mask.at(i) == 0.0;
    dropped += gone;
    wrong += !gone && mask.at(i) != 1.0 / (1.0 - p);
    wrong += y.value().at(i) != (gone ? 0.0 : x.at(i) * (1.0 / (1.0 - p)));
    wrong += g.at(i) != (gone ? 0.0 : u.at(i) * (1.0 / (1.0 - p)));
    wrong += (narrow.at(i) == 0.0) != gone;
    moved += (other.at(i) == 0.0) != gone;
  }
  CHECK(wrong == 0);
  const double expected = p * static_cast<double>(n), deviation = std::sqrt(expected * (1.0 - p));
  CHECK(std::abs(static_cast<double>(dropped) - expected) < 5 * deviation);
  CHECK(moved > n / 20);
  // The same state drops the same places of a shorter tensor.
  const Tensor part = dropout(Var(x.rows(0, 1000).clone()), p, state).value();
  CHECK(same_bits(part, y.value().rows(0, 1000)));
}
