// Recording: what is constant, what is left out, and outlines.
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

TEST_CASE("what does not depend on the input is computed once, and frames allocate nothing", "[program]") {
  const Tensor w = normal({4, 4}, 1), z = normal({8, 4}, 2);
  Tape tape;
  const Var parameter = leaf(w);
  program::Recorded recorded = program::record(
      [&](const Var& x) { return tanh(matmul(x, matmul(parameter, parameter) * 0.1) + sum(exp(parameter))); },
      z);
  CHECK(recorded.code.instructions.size() == 3);
  const program::Program program(std::move(recorded.code), 8, 0);
  program::Frame frame = program.frame(0);
  frame.run(z);
  const auto before = memory::stats().system_allocations;
  for (int i = 0; i < 10; ++i) frame.run(z);
  CHECK(memory::stats().system_allocations == before);
}

TEST_CASE("an outline evaluates nothing, unless the function looks at values", "[program]") {
  const Tensor z = normal({8, 4}, 2);
  CHECK(program::outline([](const Var& x) { return tanh(x) + x; }, z).code.instructions.size() == 2);
  CHECK_FALSE(program::outline([](const Var& x) { return tanh(x) + x; }, z).value.defined());
  const program::Recorded read = program::outline([](const Var& x) { return x * x.value().at(0); }, z);
  CHECK(read.value.defined());
}
