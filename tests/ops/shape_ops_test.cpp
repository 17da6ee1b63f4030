#include <banach/engine/grad.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/shape_ops.hpp>

#include <catch2/catch.hpp>

#include <functional>
#include <vector>

using namespace banach;
using Catch::Matchers::Contains;

namespace {

using Position = std::vector<std::int64_t>;

Position position(const Shape& shape, std::int64_t index) {
  Position result(static_cast<std::size_t>(shape.rank()));
  for (int i = shape.rank() - 1; i >= 0; --i) {
    result[static_cast<std::size_t>(i)] = index % shape[i];
    index /= shape[i];
  }
  return result;
}

std::int64_t flat(const Shape& shape, const Position& at) {
  std::int64_t index = 0;
  for (int i = 0; i < shape.rank(); ++i) index = index * shape[i] + at[static_cast<std::size_t>(i)];
  return index;
}

// Every element of `y` is the element of `x` at the position that `source` names.
void check_moves(const Var& y, const Var& x, const Shape& shape,
                 const std::function<Position(Position)>& source) {
  REQUIRE(y.shape() == shape);
  REQUIRE(y.dtype() == x.dtype());
  bool equal = true;
  for (std::int64_t i = 0; i < y.size(); ++i)
    equal = equal && y.value().at(i) == x.value().at(flat(x.shape(), source(position(shape, i))));
  CHECK(equal);
}

Var values(const Shape& shape, DType dtype = DType::f64) {
  return Tensor::arange(shape.size()).to(dtype).reshape(shape);
}

}  // namespace

TEST_CASE("reshape shares the buffer and infers one extent", "[shape_ops]") {
  const Var x = values({2, 6});
  const Var y = reshape(x, {3, -1});
  CHECK(y.shape() == Shape{3, 4});
  CHECK(y.value().same_storage(x.value()));
  CHECK(reshape(values({0, 4}), {-1, 2}).shape() == Shape{0, 2});
  CHECK(flatten(values({2, 3, 4})).shape() == Shape{2, 12});
  CHECK(flatten(values({2, 3, 4}), 0).shape() == Shape{24});
  CHECK(flatten(values({5})).shape() == Shape{5, 1});
  CHECK_THROWS_WITH(reshape(x, {5, -1}), "[reshape] sizes must agree: (2,6) to (5,-1)");
  CHECK_THROWS_WITH(reshape(values({0}), {0, -1}), Contains("-1 has no unique value"));
  CHECK_THROWS_AS(reshape(x, {-2, -6}), ShapeError);
}

TEST_CASE("what changes nothing returns its input", "[shape_ops]") {
  const Var x = values({2, 3});
  for (const Var& y : {reshape(x, {2, 3}), broadcast_to(x, {2, 3}), sum_to(x, {2, 3}), permute(x, {0, 1}),
                       slice(x, 1, 0, 3), pad(x, {0, 0}, {0, 0}), concat({x}, 0)})
    CHECK(y.value().same_storage(x.value()));
}

TEST_CASE("permute puts every element in its place", "[shape_ops]") {
  const DType dtype = GENERATE(DType::f32, DType::f64, DType::i64);
  // Long enough for blocks, rest rows and columns, and several tasks.
  struct Case {
    Shape shape;
    Axes axes;
  };
  for (const auto& [shape, axes] :
       {Case{{2, 3}, {1, 0}}, Case{{35, 50}, {1, 0}}, Case{{300, 257}, {1, 0}}, Case{{4, 20, 33}, {0, 2, 1}},
        Case{{3, 7, 4, 16}, {0, 2, 1, 3}}, Case{{5, 6, 7, 8}, {3, 1, 0, 2}}, Case{{40, 50, 60}, {2, 1, 0}},
        Case{{2, 1, 3}, {2, -2, 0}}, Case{{0, 3}, {1, 0}},
        Case{{2, 2, 2, 2, 2, 2, 2, 2}, {7, 0, 6, 1, 5, 2, 4, 3}}}) {
    const Var x = values(shape, dtype);
    Ints extents;
    for (const std::int64_t axis : axes) extents.push_back(x.size(static_cast<int>(axis)));
    const Axes& order = axes;
    check_moves(permute(x, axes), x, Shape(extents), [&](const Position& at) {
      Position from(at.size());
      for (int i = 0; i < order.count(); ++i)
        from[static_cast<std::size_t>(normalize_axis(order[i], order.count(), "test"))] =
            at[static_cast<std::size_t>(i)];
      return from;
    });
  }
  CHECK(transpose(values({2, 3, 4})).shape() == Shape{2, 4, 3});
  CHECK_THROWS_WITH(transpose(values({3})), "[transpose] expects rank 2 or more: got (3)");
}

TEST_CASE("broadcast_to repeats", "[shape_ops]") {
  const auto check = [](const Shape& from, const Shape& to) {
    const Var x = values(from);
    check_moves(broadcast_to(x, to), x, to, [&](const Position& at) {
      Position source(static_cast<std::size_t>(from.rank()));
      for (int i = 0; i < from.rank(); ++i)
        source[static_cast<std::size_t>(i)] =
            from[i] == 1 ? 0 : at[static_cast<std::size_t>(i + to.rank() - from.rank())];
      return source;
    });
  };
  check({3}, {2, 3});
  check({}, {100, 400});
  check({3, 1}, {3, 70000});
  check({1, 4, 1, 2}, {5, 3, 4, 6, 2});
  check({1, 3}, {1, 1, 3});
  check({1}, {0});
}

TEST_CASE("sum_to is the transpose of broadcast_to", "[shape_ops]") {
  SampleGen g(1);
  const auto check = [&](const Shape& from, const Shape& to) {
    const Var x = g.normal(from), y = g.normal(to);
    const Var s = sum_to(y, from), b = broadcast_to(x, to);
    REQUIRE(s.shape() == from);
    double left = 0.0, right = 0.0;
    for (std::int64_t i = 0; i < x.size(); ++i) left += x.value().at(i) * s.value().at(i);
    for (std::int64_t i = 0; i < y.size(); ++i) right += y.value().at(i) * b.value().at(i);
    CHECK(left == Approx(right).epsilon(1e-12).margin(1e-12));
  };
  check({7}, {50, 7});
  check({50, 1}, {50, 700});
  check({700}, {300, 700});
  check({1, 4, 1, 2}, {5, 3, 4, 6, 2});
  check({4, 1, 1}, {9, 4, 5, 5});
  check({}, {3, 4});
  check({3, 1, 1, 1}, {3, 1, 2, 2});
  CHECK(sum_to(g.normal({0, 3}), {3}).value().at(1) == 0.0);
  CHECK_THROWS_AS(sum_to(values({2, 2}, DType::i64), {2}), DTypeError);
}

TEST_CASE("sum_to stays accurate in f32 over many rows", "[shape_ops]") {
  const Var x = Tensor::full({300000, 3}, 0.1, DType::f32);
  const double expected = 300000 * static_cast<double>(0.1f);
  CHECK(sum_to(x, {3}).value().at(2) == Approx(expected).epsilon(1e-6));
  CHECK(sum_to(reshape(x, {3, 300000}), {3, 1}).value().at(2) == Approx(expected).epsilon(1e-6));
}

TEST_CASE("slice takes ranges with a step", "[shape_ops]") {
  const Var x = values({4, 7, 3});
  check_moves(slice(x, 1, 1, 6, 2), x, {4, 3, 3}, [](Position at) { return at[1] = 1 + 2 * at[1], at; });
  check_moves(slice(x, 0, -3, -1), x, {2, 7, 3}, [](Position at) { return at[0] += 1, at; });
  check_moves(slice(x, -1, 2, 3), x, {4, 7, 1}, [](Position at) { return at[2] += 2, at; });
  CHECK(slice(x, 1, 3, 3).shape() == Shape{4, 0, 3});
  CHECK_THROWS_WITH(slice(x, 1, 0, 8), "[slice] range must lie inside axis 1: [0, 8) of (4,7,3)");
  CHECK_THROWS_WITH(slice(x, 1, -9, 2), Contains("[-2, 2) of (4,7,3)"));
  CHECK_THROWS_AS(slice(x, 3, 0, 1), ShapeError);
  CHECK_THROWS_AS(slice(x, 0, 0, 1, 0), ValueError);
}

TEST_CASE("slice gives back zeros where nothing was taken", "[shape_ops]") {
  Tape tape;
  const Var x = leaf(values({2, 5}).value());
  const Var g = grad(slice(x, 1, 1, 5, 3), {x}, {.cotangent = Var(tensor({1.0, 2.0, 3.0, 4.0}, {2, 2}))})[0];
  const double expected[] = {0, 1, 0, 0, 2, 0, 3, 0, 0, 4};
  for (std::int64_t i = 0; i < 10; ++i) CHECK(g.value().at(i) == expected[i]);
}

TEST_CASE("concat joins and its gradient splits", "[shape_ops]") {
  const Var a = values({2, 3}), b = values({2, 1}), c = values({2, 4});
  const Var joined = concat({a, b, c}, 1);
  REQUIRE(joined.shape() == Shape{2, 8});
  const double expected[] = {0, 1, 2, 0, 0, 1, 2, 3, 3, 4, 5, 1, 4, 5, 6, 7};
  for (std::int64_t i = 0; i < 16; ++i) CHECK(joined.value().at(i) == expected[i]);

  Tape tape;
  Vars parts;
  for (int i = 0; i < 100; ++i) parts.push_back(leaf(Tensor::full({1, 2}, i, DType::f64)));
  const Var all = concat(parts, 0);
  CHECK(all.value().at(2 * 57 + 1) == 57.0);
  const Var g = grad(all, {parts[57]}, {.cotangent = values({100, 2})})[0];
  CHECK(g.shape() == Shape{1, 2});
  CHECK(g.value().at(1) == 115.0);

  CHECK_THROWS_WITH(concat({a, values({3, 3})}, 1),
                    "[concat] extents must agree but for axis 1: (2,3) with (3,3)");
  CHECK_THROWS_WITH(concat({a, values({2, 3}, DType::f32)}, 0), "[concat] dtypes must agree: f64 with f32");
  CHECK_THROWS_AS(concat(Vars{}, 0), ShapeError);
}

TEST_CASE("pad surrounds with a value", "[shape_ops]") {
  const Var x = values({2, 2}, DType::i64);
  const Var y = pad(x, {1, 0}, {0, 2}, 9);
  REQUIRE(y.shape() == Shape{3, 4});
  const double expected[] = {9, 9, 9, 9, 0, 1, 9, 9, 2, 3, 9, 9};
  for (std::int64_t i = 0; i < 12; ++i) CHECK(y.value().at(i) == expected[i]);
  CHECK(pad(values({0, 2}), {1, 0}, {1, 0}, 2.0).value().at(3) == 2.0);
  CHECK_THROWS_WITH(pad(x, {1}, {1}), Contains("one entry for each axis"));
  CHECK_THROWS_AS(pad(x, {std::int64_t{1} << 62, 0}, {std::int64_t{1} << 62, 0}), ShapeError);
}

TEST_CASE("flip reverses the axes it is given", "[shape_ops]") {
  const DType dtype = GENERATE(DType::f32, DType::f64, DType::i64);
  struct Case {
    Shape shape;
    Axes axes;
  };
  for (const auto& [shape, axes] :
       {Case{{7}, {0}}, Case{{3, 4}, {}}, Case{{35, 50}, {-1}}, Case{{300, 257}, {0, 1}},
        Case{{4, 20, 33}, {1}}, Case{{3, 7, 4, 16}, {0, 2}}, Case{{70000}, {0}}, Case{{2, 0, 3}, {1, 2}}}) {
    const Var x = values(shape, dtype);
    const Shape extents = shape;
    const Axes flipped = normalize_axes(axes, shape.rank(), "test");
    check_moves(flip(x, axes), x, shape, [&](Position at) {
      for (const std::int64_t axis : flipped) {
        std::int64_t& place = at[static_cast<std::size_t>(axis)];
        place = extents[static_cast<int>(axis)] - 1 - place;
      }
      return at;
    });
  }
}

TEST_CASE("repeat sets copies side by side, stack on top of each other", "[shape_ops]") {
  struct Case {
    Shape shape;
    Ints counts;
    Shape result;
  };
  for (const auto& [shape, counts, result] :
       {Case{{3}, {4}, {12}}, Case{{3}, {2, 2}, {2, 6}}, Case{{2, 3}, {5}, {2, 15}},
        Case{{2, 3}, {2, 1, 3}, {2, 2, 9}}, Case{{4, 1, 3}, {1, 3, 2}, {4, 3, 6}}, Case{{}, {2, 3}, {2, 3}},
        Case{{3, 2}, {0, 2}, {0, 4}},
        Case{{1, 1, 1, 1, 2, 2, 1, 2}, {1, 2, 1, 2, 2, 1, 3, 1}, {1, 2, 1, 2, 4, 2, 3, 2}}}) {
    const Var x = values(shape);
    const Shape from = shape;
    check_moves(repeat(x, counts), x, result, [&](const Position& at) {
      Position source(static_cast<std::size_t>(from.rank()));
      const std::size_t skipped = at.size() - source.size();
      for (std::size_t i = 0; i < source.size(); ++i) source[i] = at[i + skipped] % from[static_cast<int>(i)];
      return source;
    });
  }

  const Var a = values({2, 3}), b = Var(Tensor::full({2, 3}, 7.0, DType::f64));
  for (int axis = 0; axis < 3; ++axis) {
    const Var both = stack({a, b}, axis);
    CHECK(both.shape()[axis] == 2);
    CHECK(reshape(slice(both, axis, 0, 1), {2, 3}).value().at(5) == 5.0);
    CHECK(reshape(slice(both, axis, 1, 2), {2, 3}).value().at(5) == 7.0);
  }
  CHECK(stack({a, b}, -1).shape() == Shape{2, 3, 2});
}

TEST_CASE("long and narrow matrices are transposed, in any order of axes", "[shape_ops]") {
  for (const Shape& shape : {Shape{3000, 7}, Shape{7, 3000}, Shape{2, 2500, 3}, Shape{40000, 2}}) {
    const Tensor x = Tensor::arange(shape.size()).reshape(shape);
    const int r = shape.rank() - 2;
    const Tensor y = permute(Var(x.to(DType::f64)), r == 0 ? Axes{1, 0} : Axes{0, 2, 1}).value();
    const std::int64_t rows = shape[r], columns = shape[r + 1];
    std::int64_t wrong = 0;
    for (std::int64_t o = 0; o < shape.size() / (rows * columns); ++o)
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
          wrong += y.at((o * columns + j) * rows + i) != static_cast<double>((o * rows + i) * columns + j);
    CHECK(wrong == 0);
  }
}
