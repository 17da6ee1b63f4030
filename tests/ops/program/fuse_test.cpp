// Chains of elementwise instructions: what is joined, and that blocks change no bit.
#include <tests/ops/program/random_function.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

program::Code fused(const Body1& f, const Tensor& at) {
  program::Code code = program::record(f, at).code;
  program::fuse(code);
  return code;
}

std::size_t locals(const program::Code& code) {
  std::size_t count = 0;
  for (const program::Value& value : code.values) count += value.local;
  return count;
}

}  // namespace

TEST_CASE("a chain ends where the shape changes, or where an operation is not elementwise", "[program]") {
  const Tensor z = normal({6, 4}, 1);
  const Var w(normal({4, 4}, 2)), bias(normal({4}, 3)), wide(normal({6, 4}, 4));

  const program::Code layer = fused([&](const Var& x) { return tanh(matmul(x, w) + bias) * wide; }, z);
  REQUIRE(layer.instructions.size() == 4);
  REQUIRE(layer.chains.size() == 1);
  CHECK(layer.chains[0].begin == 1);
  CHECK(layer.chains[0].end == 4);
  CHECK(layer.chains[0].axis == 1);  // the bias is the same along axis 0 alone
  CHECK(layer.instructions[0].chain == -1);
  CHECK(locals(layer) == 2);

  CHECK(fused([](const Var& x) { return tanh(exp(x)); }, z).chains.at(0).axis == 2);
  CHECK(fused([](const Var& x) { return tanh(x); }, z).chains.empty());
  CHECK(fused([](const Var& x) { return tanh(sum(tanh(x), {1}, true)) + x; }, z).chains.empty());

  // An input that is the same along axis 1 alone cannot be cut along axis 0 first.
  const Var column(normal({6, 1}, 5));
  CHECK(fused([&](const Var& x) { return tanh(x) * column; }, z).chains.empty());
  // A chain may go on where only later instructions hinder it.
  const program::Code split = fused([&](const Var& x) { return exp(tanh(x)) * column; }, z);
  REQUIRE(split.chains.size() == 1);
  CHECK(split.chains[0].end == 2);
  CHECK(fused([&](const Var& x) { return Var(scalar(2.0, DType::f64)) * tanh(x); }, z).chains.at(0).axis ==
        2);
}

TEST_CASE("only values that nobody else reads are local to their chain", "[program]") {
  const Tensor z = normal({6, 4}, 1);
  const auto twice = fused(
      [](const Var& x) {
        const Var a = tanh(x), b = exp(a);
        return concat({slice(b, 1, 0, 2), slice(a, 1, 2, 4)}, 1);
      },
      z);
  REQUIRE(twice.chains.size() == 1);
  CHECK(locals(twice) == 0);
  // Through another shape.
  const auto viewed = fused(
      [](const Var& x) {
        const Var a = tanh(x), b = exp(a);
        return b + reshape(sin(reshape(a, {4, 6})), {6, 4});
      },
      z);
  CHECK(locals(viewed) == 0);
}

TEST_CASE("blocks of a chain, on any number of threads, give the bits of whole values", "[program]") {
  const Var image(normal({70, 33, 40}, 1)), row(normal({33, 40}, 2)), bias(normal({40}, 3)),
      number(scalar(0.3, DType::f64)), ones(normal({1, 1, 40}, 4));
  const auto elementwise = [&](const Var& x) {
    const Var a = tanh(x * image + bias), b = where(less(a, x), a * ones, maximum(a, image) - number);
    return square(b) * sigmoid(x) + 0.5 * a;
  };
  const Body1 bodies[] = {elementwise, [&](const Var& x) { return elementwise(x) * row; },
                          [&](const Var& x) { return elementwise(cumsum(elementwise(x), 0)); }};
  const Tensor at = normal({70, 33, 40}, 5), z = normal({70, 33, 40}, 6);
  for (const Body1& f : bodies)
    for (const DType dtype : {DType::f64, DType::f32}) {
      const auto body = [&](const Var& x) { return cast(f(cast(x, DType::f64)), dtype); };
      program::Code code = program::record(body, at.to(dtype)).code;
      program::Frame plain(code, {0, 70, 70});
      program::Code joined = code;
      program::fuse(joined);
      REQUIRE_FALSE(joined.chains.empty());
      bool cut = false;
      for (const program::Chain& chain : joined.chains) {
        const program::Blocks blocks = program::blocks(joined, chain, 70, 70);
        cut = cut || (blocks.block < blocks.rows && blocks.lanes > 1);
      }
      CHECK(cut);
      program::Frame frame(joined, {0, 70, 70});
      CHECK(frame.bytes() < plain.bytes());
      const Tensor expected = plain.run(z.to(dtype));
      check_threads([&] {
        const Tensor got = frame.run(z.to(dtype));
        CHECK(same_bits(got, expected));
        return Vars{got};
      });
    }
}
