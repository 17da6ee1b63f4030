// Which programs may be cut along axis 0, and which of their constants are cut with them. That each operation
// tells the truth about its rows is for the registry's test.
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

struct Cut {
  bool possible;
  std::vector<std::uint64_t> by_rows;
};

Cut cut(const Body1& f, const Tensor& at) {
  program::Code code = program::record(f, at).code;
  Cut result{program::cut_rows(code), {}};
  for (const program::Instruction& i : code.instructions) result.by_rows.push_back(i.by_rows);
  return result;
}

}  // namespace

TEST_CASE("a program is cut if every instruction treats rows apart", "[program]") {
  const Tensor z = normal({6, 4}, 1);
  const Var w(normal({4, 4}, 2)), bias(normal({4}, 3)), u(normal({6, 4}, 4));
  const Cut layer = cut([&](const Var& x) { return tanh(matmul(x, w) + bias) * u; }, z);
  CHECK(layer.possible);
  CHECK(layer.by_rows == std::vector<std::uint64_t>{0b01, 0b01, 0b1, 0b11});

  CHECK(cut([](const Var& x) { return softmax(x, 1); }, z).possible);
  CHECK(cut([](const Var& x) { return reshape(tanh(reshape(x, {12, 2})), {6, 4}); }, z).possible);
  CHECK_FALSE(cut([](const Var& x) { return softmax(x, 0); }, z).possible);
  CHECK_FALSE(cut([](const Var& x) { return x - mean(x, {0}, true); }, z).possible);
  CHECK_FALSE(cut([](const Var& x) { return x + sum(x); }, z).possible);
  CHECK_FALSE(cut([&](const Var& x) { return matmul(u, matmul(x, x, {.transpose_a = true})); }, z).possible);
  // A view that joins parts of neighbouring rows.
  CHECK_FALSE(cut([](const Var& x) { return reshape(softmax(reshape(x, {3, 8}), 1), {6, 4}); }, z).possible);
  CHECK_FALSE(cut([](const Var& x) { return tanh(x); }, normal({1, 4}, 1)).possible);
  CHECK_FALSE(cut([](const Var& x) { return tanh(x); }, normal({}, 1)).possible);
}
