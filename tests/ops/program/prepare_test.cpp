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
    program::Frame frame(code, {0, n, n});
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

TEST_CASE("the vjp of attention makes its weights once a tile, with the same bits", "[program]") {
  const std::int64_t n = 5;
  for (const std::int64_t length : {3, 20, 70})
    for (const bool masked : {false, true}) {
      const Shape shape{n, length, 6};
      const Tensor u = normal(shape, 1), other = normal(shape, 2);
      const Var q(normal(shape, 3)), k(normal(shape, 4)), v(normal(shape, 5)),
          mask(normal({n, 1, length, length}, 6));
      const auto attention = [&](const Vars& x) {
        const AttentionOptions options{.causal = true, .heads = 2};
        return Vars{masked ? scaled_dot_product_attention(x[0], x[1], x[2], x[3], options)
                           : scaled_dot_product_attention(x[0], x[1], x[2], options)};
      };
      const Vars at = masked ? Vars{q, k, v, mask} : Vars{q, k, v};
      const auto f = [&](const Var& cotangent) {
        const Vars pulled = vjp(attention, at, {cotangent}).cotangents;
        return pulled[0] + pulled[1] * 2.0 + pulled[2] * 3.0;
      };
      program::Code code = program::outline(f, u).code;
      REQUIRE(program::cut_rows(code));
      program::prepare(code);
      int prepared = 0;
      for (const program::Instruction& i : code.instructions) {
        CHECK(i.prepared == nullptr);  // tiles do that
        Vars inputs;
        for (const std::int32_t in : i.inputs)
          inputs.push_back(Var(code.varies(in) ? other : code.value(in).constant));
        prepared += program::prepare_rows(code, i, inputs) != nullptr;
      }
      CHECK(prepared == 1);
      const Tensor expected = f(Var(other)).value();
      for (const auto& [begin, end] : {std::pair{0, 5}, {0, 2}, {2, 5}, {4, 5}}) {
        program::Frame frame(code, {begin, end, n});
        const Tensor got = frame.run(other.rows(begin, end));
        CHECK(largest_difference(got, expected.rows(begin, end)) == 0.0);
      }
    }
}

TEST_CASE("weights of attention that would leave the cache are made anew", "[program]") {
  const Shape shape{1, 300, 2};
  const Tensor u = normal(shape, 1), other = normal(shape, 2);
  const Var q(normal(shape, 3));
  const auto f = [&](const Var& cotangent) {
    const auto attention = [&](const Vars& x) { return Vars{scaled_dot_product_attention(x[0], q, q)}; };
    return vjp(attention, {q}, {cotangent}).cotangents[0];
  };
  program::Code code = program::outline(f, u).code;
  program::prepare(code);
  for (const program::Instruction& i : code.instructions) CHECK(i.prepared == nullptr);
  program::Frame frame(code, {0, 1, 1});
  CHECK(largest_difference(frame.run(other), f(Var(other)).value()) == 0.0);
}

TEST_CASE("r of relative attention is packed once for all tiles", "[program]") {
  const std::int64_t n = 5;
  const Tensor z = normal({n, 20, 6}, 1), other = normal({n, 20, 6}, 2);
  const Var k(normal({n, 33, 6}, 3)), r(normal({33, 6}, 4)), bias(normal({6}, 5));
  const auto f = [&](const Var& x) { return relative_attention(x, k, k, r, bias, bias, {.heads = 2}); };
  program::Code code = program::record(f, z).code;
  REQUIRE(program::cut_rows(code));
  program::prepare(code);
  int prepared = 0;
  for (const program::Instruction& i : code.instructions) prepared += i.prepared != nullptr;
  CHECK(prepared == 1);
  const Tensor expected = f(Var(other)).value();
  for (const auto& [begin, end] : {std::pair{0, 5}, {0, 2}, {4, 5}}) {
    program::Frame frame(code, {begin, end, n});
    CHECK(largest_difference(frame.run(other.rows(begin, end)), expected.rows(begin, end)) == 0.0);
  }
}

TEST_CASE("the vjp of relative attention makes its weights once a tile, with the same bits", "[program]") {
  const std::int64_t n = 5;
  for (const std::int64_t length : {3, 16, 35}) {
    const Shape shape{n, length, 6}, longer{n, length + 7, 6};
    const Tensor u = normal(shape, 1), other = normal(shape, 2);
    const Var q(normal(shape, 3)), k(normal(longer, 4)), v(normal(longer, 5)), r(normal({length + 7, 6}, 6)),
        bias(normal({6}, 7));
    const auto f = [&](const Var& cotangent) {
      const auto attention = [&](const Vars& x) {
        return Vars{relative_attention(x[0], x[1], x[2], r, bias, bias, {.heads = 2})};
      };
      const Vars pulled = vjp(attention, {q, k, v}, {cotangent}).cotangents;
      return pulled[0] + slice(pulled[1] * 2.0 + pulled[2] * 3.0, 1, 7, length + 7);
    };
    program::Code code = program::outline(f, u).code;
    REQUIRE(program::cut_rows(code));
    program::prepare(code);
    int prepared = 0;
    for (const program::Instruction& i : code.instructions) {
      Vars inputs;
      for (const std::int32_t in : i.inputs)
        inputs.push_back(Var(code.varies(in) ? other : code.value(in).constant));
      prepared += program::prepare_rows(code, i, inputs) != nullptr;
    }
    CHECK(prepared == 1);
    const Tensor expected = f(Var(other)).value();
    for (const auto& [begin, end] : {std::pair{0, 5}, {0, 2}, {2, 5}}) {
      program::Frame frame(code, {begin, end, n});
      CHECK(largest_difference(frame.run(other.rows(begin, end)), expected.rows(begin, end)) == 0.0);
    }
  }
}
