#include <banach/nn/dropout.hpp>
#include <banach/nn/linear.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <tests/threads.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

TEST_CASE("Dropout drops the fraction it is told to, and scales the rest", "[dropout]") {
  const double p = GENERATE(0.1, 0.5, 0.9);
  Random random(1);
  const Dropout layer(p, random);
  const std::int64_t n = 100000;
  const Tensor y = layer(Var(Tensor::ones({n}, DType::f64))).value();
  std::int64_t dropped = 0;
  bool scaled = true;
  for (std::int64_t i = 0; i < n; ++i) {
    dropped += y.at(i) == 0.0;
    scaled = scaled && (y.at(i) == 0.0 || y.at(i) == 1.0 / (1.0 - p));
  }
  CHECK(scaled);
  const double deviation = std::sqrt(static_cast<double>(n) * p * (1 - p));
  CHECK(std::abs(static_cast<double>(dropped) - p * static_cast<double>(n)) < 5 * deviation);
}

TEST_CASE("the masks of Dropout are decided by its seed and how many were drawn", "[dropout]") {
  Random random(7), again(7);
  Dropout layer(0.5, random), twin(0.5, again);
  const Var x(normal({40000}, 1).to(DType::f32));
  const Tensor first = layer(x).value(), second = layer(x).value();
  CHECK_FALSE(same_bits(first, second));
  {
    const KeepThreads keep;
    set_threads(5);
    CHECK(same_bits(twin(x).value(), first));
  }
  // Of another dtype, the same places.
  const Tensor wide = twin(Var(x.value().to(DType::f64))).value();
  bool same = true;
  for (std::int64_t i = 0; i < wide.size(); ++i) same = same && (wide.at(i) == 0.0) == (second.at(i) == 0.0);
  CHECK(same);
  // A checkpoint goes on where it was.
  Random other(8);
  Dropout resumed(0.5, other);
  load_state(resumed, state(layer));
  CHECK(same_bits(resumed(x).value(), layer(x).value()));

  eval(layer);
  CHECK(layer(x).value().same_storage(x.value()));
  CHECK(Dropout(0.0, random)(x).value().same_storage(x.value()));
  CHECK_THROWS_WITH(Dropout(1.0, random), Contains("[dropout] p must lie in [0, 1): got 1"));
}

TEST_CASE("Dropout's derivative drops what the value dropped", "[dropout]") {
  Random random(3);
  const Dropout layer(0.5, random);
  const DropoutMask mask = layer.mask();
  Tape tape;
  const Var x = leaf(normal({50}, 2)), y = mask(x);
  const Tensor g = grad(y, {x}, {.cotangent = Var(Tensor::ones({50}, DType::f64))})[0].value();
  for (std::int64_t i = 0; i < 50; ++i) CHECK(g.at(i) == (y.value().at(i) == 0.0 ? 0.0 : 2.0));
  CHECK(same_bits(mask(x).value(), y.value()));
}

TEST_CASE("one mask for a whole solve lets a fixed point with dropout converge", "[dropout]") {
  Random random(4);
  const Dropout layer(0.3, random);
  Linear recur(6, 6, random, {.dtype = DType::f64});
  const Var u(normal({5, 6}, 2));
  const DropoutMask drop = layer.mask();
  const auto body = [&](const Var& z) { return 0.3 * tanh(drop(recur(z)) + u); };
  const auto solved = fixed_point(body, zeros_like(u), {.tolerance = 1e-10, .batch = Batch::none});
  CHECK(solved.report.converged());
  CHECK(largest_difference(body(solved.z).value(), solved.z.value()) < 1e-9);
}
