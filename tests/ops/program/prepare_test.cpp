// What is done once for many runs.
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

TEST_CASE("a constant right factor is packed, one that varies is not", "[program]") {
  const std::int64_t n = 40;
  const Tensor z = normal({n, n}, 1), other = normal({n, n}, 2);
  const Var w(normal({n, n}, 3, 0.2));
  const auto prepared = [&](const Body1& f) {
    program::Code code = program::record(f, z).code;
    program::prepare(code);
    int count = 0;
    for (const program::Instruction& i : code.instructions) count += i.prepared != nullptr;
    program::Frame frame(code, 0, n, n);
    CHECK(relative(frame.run(other), f(Var(other)).value()) <= 1e-13);
    return count;
  };
  CHECK(prepared([&](const Var& x) { return matmul(x, w); }) == 1);
  CHECK(prepared([&](const Var& x) { return matmul(x, w, {.transpose_b = true}); }) == 1);
  CHECK(prepared([&](const Var& x) { return matmul(matmul(x, w), w * 0.5); }) == 2);
  CHECK(prepared([&](const Var& x) { return matmul(w, x); }) == 0);
  CHECK(prepared([&](const Var& x) { return matmul(x, x); }) == 0);
  CHECK(prepared([&](const Var& x) { return tanh(x); }) == 0);
}
