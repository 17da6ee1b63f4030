// Programs at work: eager evaluation is the specification.
#include <banach/ops/implicit/root.hpp>
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

TEST_CASE("random programs, whole and in tiles, give what their functions give", "[program]") {
  const std::int64_t rows = 80, n = 6;
  int cut = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const bool mixing = seed % 5 == 4;
    const RandomFunction f(seed, rows, n, mixing);
    INFO("seed " << seed);
    const Tensor at = normal({rows, n}, 1000 + seed), other = normal({rows, n}, 2000 + seed);
    program::Recorded recorded = program::record(std::ref(f), at);
    CHECK(same_bits(recorded.value, f(Var(at))));
    const program::Program program(std::move(recorded.code), rows, 0);
    CHECK((program.tiles() > 1) == !mixing);
    cut += program.tiles() > 1;
    for (const Tensor& z : {other, at, other}) CHECK(relative(program.run(z), f(Var(z)).value()) <= 1e-13);

    const program::Program backward(
        program::outline([&](const Var& u) { return pulled(f, at, u); }, other).code, rows, 0);
    CHECK((backward.tiles() > 1) == !mixing);
    const Body1 body = std::cref(f);
    CHECK(relative(backward.run(other), pulled(body, at, Var(other)).value()) <= 1e-13);
  }
  CHECK(cut == 120);
}

TEST_CASE("a program's output may be its input, a constant, or a view of either", "[program]") {
  const Tensor z = normal({40, 4}, 1), constant = normal({40, 4}, 2);
  const Body1 functions[] = {
      [](const Var& x) { return x; },
      [](const Var& x) {
        return reshape(reshape(x, {160}), {40, 4});
      },
      [&](const Var&) { return Var(constant); },
      [&](const Var&) {
        return reshape(Var(constant) * 2.0, {40, 4});
      },
      [&](const Var& x) {
        return reshape(tanh(reshape(x, {80, 2})), {40, 4});
      },
      [&](const Var& x) {
        tanh(x);  // nobody needs it
        return x + Var(constant);
      },
  };
  for (const Body1& f : functions) {
    program::Recorded recorded = program::record(f, z);
    CHECK(recorded.code.instructions.size() <= 1);
    const program::Program program(std::move(recorded.code), 40, 0);
    const Tensor other = normal({40, 4}, 3);
    const Tensor first = program.run(z), second = program.run(other);
    CHECK(same_bits(first, f(Var(z))));
    CHECK(same_bits(second, f(Var(other))));
  }
}

TEST_CASE("a body with an implicit node inside is replayed", "[program]") {
  const auto f = [](const Var& x) {
    return root([&](const Var& y) { return y * y * y + y - x; }, zeros_like(x)).z * 0.5 + 1.0;
  };
  const Tensor z = normal({5, 2}, 4), other = normal({5, 2}, 5);
  const program::Program program(program::record(f, z).code, 5, 0);
  CHECK(program.tiles() == 1);
  CHECK(relative(program.run(other), f(Var(other)).value()) <= 1e-8);
}
