// Memory: no two values that are needed at the same time share a place.
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::test;

namespace {

void check_places(const program::Code& code, std::int64_t rows) {
  const program::Plan plan = program::plan(code, rows, rows);
  const auto count = code.instructions.size();
  const auto chain_of = [&](std::size_t i) -> const program::Chain* {
    const std::int32_t chain = code.instructions[i].chain;
    return chain < 0 ? nullptr : &code.chains[static_cast<std::size_t>(chain)];
  };
  std::vector<std::int64_t> bytes(code.values.size());
  for (std::size_t i = 0; i < count; ++i)
    for (const std::int32_t v : code.instructions[i].outputs) {
      const program::Value& value = code.value(v);
      const auto size = static_cast<std::int64_t>(size_of(value.dtype));
      bytes[static_cast<std::size_t>(v)] = value.shape.size() * size;
      if (!value.local) continue;
      const program::Blocks cut = program::blocks(code, *chain_of(i), rows, rows);
      bytes[static_cast<std::size_t>(v)] = cut.lanes * cut.block * cut.row_elements * size;
    }

  // Written by instruction i, and read for the last time by instruction j: nobody may write there in (i, j),
  // and at j only an elementwise operation of the same shape. Blocks of a chain start again at its first
  // instruction, so what dies in it is needed to its end.
  for (std::size_t i = 0; i < count; ++i)
    for (const std::int32_t value : code.instructions[i].outputs) {
      const std::int64_t begin = plan.offset[static_cast<std::size_t>(value)];
      const std::int64_t size = bytes[static_cast<std::size_t>(value)];
      if (begin < 0) {
        CHECK(code.storage(code.output) == value);
        continue;
      }
      CHECK(begin % 64 == 0);
      CHECK(begin + size <= plan.bytes);
      std::size_t last = i;
      for (std::size_t j = i; j < count; ++j)
        for (const std::int32_t in : code.instructions[j].inputs)
          if (code.storage(in) == value) last = j;
      const std::size_t end = chain_of(last) ? static_cast<std::size_t>(chain_of(last)->end) - 1 : last;
      for (std::size_t j = i; j <= end; ++j)
        for (const std::int32_t other : code.instructions[j].outputs) {
          const std::int64_t from = plan.offset[static_cast<std::size_t>(other)];
          const std::int64_t other_size = bytes[static_cast<std::size_t>(other)];
          if (other == value || from < 0 || from >= begin + size || from + other_size <= begin) continue;
          // Its new owner, or the owner of that one, and so on.
          const bool inherited = j >= last && code.instructions[j].op->def().kind == OpKind::elementwise &&
                                 from == begin && other_size == size;
          CHECK(inherited);
        }
    }
}

}  // namespace

TEST_CASE("values that live at the same time have different places", "[program]") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const bool large = seed % 3 == 0;  // such that chains are cut into blocks
    const std::int64_t rows = large ? 3000 : 40, n = large ? 10 : 6;
    const RandomFunction f(seed, rows, n, seed % 2 == 1);
    const Body1 backward = [&](const Var& u) { return pulled(std::cref(f), normal({rows, n}, 7), u); };
    const Body1 body = seed % 4 < 2 ? Body1(std::cref(f)) : backward;
    program::Code code = program::record(body, normal({rows, n}, seed)).code;
    INFO("seed " << seed);
    check_places(code, rows);
    program::fuse(code);
    check_places(code, rows);
  }
}
