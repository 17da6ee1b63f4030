#include <banach/engine/grad.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace banach;
using namespace banach::test;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

std::vector<double> list(const Var& x) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < x.size(); ++i) values.push_back(x.value().at(i));
  return values;
}

/// Position in an operand that is broadcast to `common`, of the element at row-major position i: by
/// definition.
std::int64_t position(const Shape& operand, const Shape& common, std::int64_t i) {
  std::int64_t at = 0, stride = 1;
  for (int axis = common.rank() - 1; axis >= 0; --axis) {
    const int own = axis - (common.rank() - operand.rank());
    if (own >= 0) {
      if (operand[own] != 1) at += i % common[axis] * stride;
      stride *= operand[own];
    }
    i /= common[axis];
  }
  return at;
}

/// A random shape that broadcasts to `common`: some leading axes gone, some extents 1.
Shape shrunk(const Shape& common, SampleGen& gen) {
  Ints extents;
  const auto from = static_cast<int>(gen.integer(0, 1) * gen.integer(0, common.rank()));
  for (int axis = from; axis < common.rank(); ++axis) extents.push_back(gen.integer(0, 2) ? common[axis] : 1);
  return Shape(extents);
}

Var derivative(Var (*f)(const Var&), double at) {
  Tape tape;
  const Var x = leaf(scalar(at, DType::f64));
  return grad(f(x), {x})[0];
}

}  // namespace

TEST_CASE("operators take numbers on either side, in the tensor's dtype") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Var x(tensor({1.0, -2.0, 4.0}).to(dtype));
    CHECK(list(x + 1.0) == std::vector<double>{2, -1, 5});
    CHECK(list(1.0 + x) == std::vector<double>{2, -1, 5});
    CHECK(list(x - 1.0) == std::vector<double>{0, -3, 3});
    CHECK(list(1.0 - x) == std::vector<double>{0, 3, -3});
    CHECK(list(x * 2.0) == std::vector<double>{2, -4, 8});
    CHECK(list(2.0 * x) == std::vector<double>{2, -4, 8});
    CHECK(list(x / 2.0) == std::vector<double>{0.5, -1, 2});
    CHECK(list(2.0 / x) == std::vector<double>{2, -1, 0.5});
    CHECK(list(-x) == std::vector<double>{-1, 2, -4});
    CHECK(list(2 * x + x * x - x / x) == std::vector<double>{2, -1, 23});
    for (const Var& y : {x + 1.0, 1.0 - x, x * 0.1, x / 3.0, 3.0 / x, maximum(x, 0.0), greater(x, 0.0)})
      CHECK(y.dtype() == dtype);
  }
}

TEST_CASE("division by a number is division, and multiplication by one changes no bit") {
  const Var x(tensor({5.0f, -0.0f, 7.0f}));
  CHECK((x / 3.0).value().at(0) == static_cast<double>(5.0f / 3.0f));
  CHECK(std::signbit((x * 1.0).value().at(1)));
  CHECK(std::signbit((x - 0.0).value().at(1)));
}

TEST_CASE("dtypes are not mixed, and integers are refused") {
  const Var single(Tensor::ones({2})), two(Tensor::ones({2}, DType::f64)), integers(Tensor::arange(2));
  CHECK_THROWS_AS(single + two, DTypeError);
  CHECK_THROWS_WITH(single + two, "[add] dtypes must agree (cast one): f32 with f64");
  CHECK_THROWS_WITH(two * single, "[mul] dtypes must agree (cast one): f64 with f32");
  CHECK_THROWS_AS(integers + 1.0, DTypeError);
  CHECK_THROWS_AS(integers / 2.0, DTypeError);
  CHECK_THROWS_AS(tanh(integers), DTypeError);
  CHECK_THROWS_WITH(Var(Tensor::ones({2, 3})) - Var(Tensor::ones({2})),
                    "[sub] shapes must broadcast (equal extents, or 1): (2,3) with (2)");
  CHECK_THROWS_AS(clamp(single, 1.0, 0.0), ValueError);
  CHECK_THROWS_AS(clamp(single, not_a_number, 1.0), ValueError);
}

TEST_CASE("broadcasting agrees with its definition for random shapes up to rank 8") {
  SampleGen gen(11);
  for (int trial = 0; trial < 400; ++trial) {
    Ints extents;
    for (std::int64_t i = gen.integer(0, 8); i > 0; --i)
      extents.push_back(gen.integer(trial % 20 == 0 ? 0 : 1, 3));
    const Shape common(extents), sa = shrunk(common, gen), sb = shrunk(common, gen), sc = shrunk(common, gen);
    const Tensor a = gen.normal(sa), b = gen.normal(sb), c = gen.indices(sc, 2).to(DType::f64);
    INFO(sa.to_string() << " with " << sb.to_string() << " and " << sc.to_string());

    const Shape two = broadcast(sa, sb, "test"), three = broadcast(sc, two, "test");
    const Var difference = Var(a) - Var(b), chosen = where(Var(c), Var(a), Var(b));
    REQUIRE(difference.shape() == two);
    REQUIRE(chosen.shape() == three);
    bool right = true;
    for (std::int64_t i = 0; i < two.size(); ++i)
      right = right && difference.value().at(i) == a.at(position(sa, two, i)) - b.at(position(sb, two, i));
    for (std::int64_t i = 0; i < three.size(); ++i) {
      const bool first = c.at(position(sc, three, i)) != 0;
      right = right &&
              chosen.value().at(i) == (first ? a.at(position(sa, three, i)) : b.at(position(sb, three, i)));
    }
    CHECK(right);
  }
}

TEST_CASE("large arrays: pieces and threads change nothing") {
  SampleGen gen(12);
  const std::int64_t n = 100003;
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{n}, {n}},    {{n}, {}},        {{1}, {n}},    {{301, 333}, {333}},         {{301, 333}, {301, 1}},
      {{3, n}, {n}}, {{3, 1}, {1, n}}, {{n, 3}, {3}}, {{20, 5, 40, 30}, {5, 1, 1}}};
  for (const auto& [sa, sb] : shapes) {
    INFO(sa.to_string() << " with " << sb.to_string());
    const Tensor a = gen.normal(sa), b = gen.normal(sb);
    const Var one = check_threads([&] { return Vars{Var(a) * Var(b)}; })[0];
    bool right = true;
    for (std::int64_t i = 0; i < one.size(); ++i)
      right = right &&
              one.value().at(i) == a.at(position(sa, one.shape(), i)) * b.at(position(sb, one.shape(), i));
    CHECK(right);
  }
  const Tensor x = gen.normal({n});
  bool right = true;
  const Tensor y = tanh(Var(x)).value();
  for (std::int64_t i = 0; i < n; ++i) right = right && std::abs(y.at(i) - std::tanh(x.at(i))) <= 1e-15;
  CHECK(right);
}

TEST_CASE("broadcasting does not copy its operands") {
  const Var a(Tensor::ones({500, 1, 200})), row(Tensor::ones({10, 1}));
  const std::int64_t live = memory::stats().live_bytes, out = 500 * 10 * 200 * 4;
  memory::reset_peak();
  const Var product = a * row;
  CHECK(product.size() * 4 == out);
  CHECK(memory::stats().peak_bytes - live < out + out / 10);
}

TEST_CASE("what is defined at kinks and ties") {
  CHECK(derivative(relu, 0.0).item() == 0.0);
  CHECK(derivative(abs, 0.0).item() == 0.0);
  CHECK(derivative([](const Var& x) { return leaky_relu(x, 0.2); }, 0.0).item() == 0.2);
  CHECK(derivative([](const Var& x) { return clamp(x, 0.0, 1.0); }, 1.0).item() == 1.0);
  CHECK(derivative([](const Var& x) { return clamp(x, 0.0, 1.0); }, 1.5).item() == 0.0);
  CHECK(derivative([](const Var& x) { return maximum(x, 2.0); }, 2.0).item() == 0.5);
  CHECK(derivative([](const Var& x) { return minimum(x, 2.0); }, 2.0).item() == 0.5);
  CHECK(derivative([](const Var& x) { return maximum(x, x); }, 3.0).item() == 1.0);
  CHECK(derivative([](const Var& x) { return x * sign(x); }, -3.0).item() == -1.0);
}

TEST_CASE("NaN is passed on, except by what chooses") {
  const Var x(tensor({not_a_number, 1.0}));
  for (const Var& y : {relu(x), leaky_relu(x), clamp(x, -1.0, 1.0), maximum(x, 0.0), minimum(x, 0.0), sign(x),
                       abs(x), softplus(x), sigmoid(x), maximum(Var(tensor({0.0, 0.0})), x)})
    CHECK((std::isnan(y.value().at(0)) && !std::isnan(y.value().at(1))));
  CHECK(list(where(x, 1.0, Var(tensor({2.0, 2.0})))) == std::vector<double>{1, 1});
  CHECK(list(where(Var(tensor({0.0, 1.0})), x, 5.0)) == std::vector<double>{5, 1});
  CHECK(list(not_equal(x, x)) == std::vector<double>{1, 0});
  CHECK(list(equal(x, x)) == std::vector<double>{0, 1});
}

TEST_CASE("where hides what it does not choose, in the derivative too") {
  Tape tape;
  const Var x = leaf(tensor({-1.0, 4.0}));
  const Var y = where(greater(x, 0.0), sqrt(x), 0.0);
  CHECK(list(y) == std::vector<double>{0, 2});
  // The cotangent of sqrt is zero at the first entry; its own derivative there is NaN, as everywhere in this
  // field.
  const Var safe = where(greater(x, 0.0), sqrt(where(greater(x, 0.0), x, 1.0)), 0.0);
  CHECK(list(grad(sum(safe), {x})[0]) == std::vector<double>{0, 0.25});
}

TEST_CASE("higher derivatives of tanh and sigmoid are the known polynomials") {
  const double at = 0.4;
  Tape tape;
  const Var x = leaf(scalar(at, DType::f64));
  const auto third = [&](const Var& y) {
    const Var d1 = grad(y, {x}, {.create_graph = true})[0];
    const Var d2 = grad(d1, {x}, {.create_graph = true})[0];
    return grad(d2, {x})[0].item();
  };
  const double t = std::tanh(at), s = 1 / (1 + std::exp(-at));
  CHECK(third(tanh(x)) == Approx(-2 * (1 - t * t) * (1 - 3 * t * t)).epsilon(1e-13));
  CHECK(third(sigmoid(x)) == Approx(s * (1 - s) * (1 - 6 * s + 6 * s * s)).epsilon(1e-13));
  CHECK(third(softplus(x)) == Approx(s * (1 - s) * (1 - 2 * s)).epsilon(1e-13));
}

TEST_CASE("cotangents of broadcast operands are summed to their shapes") {
  Tape tape;
  const Var x = leaf(Tensor::ones({4, 3})), bias = leaf(tensor({1.0f, 2.0f, 3.0f})),
            scale = leaf(scalar(2.0));
  const Vars g = grad(sum(x * scale + bias), {x, bias, scale});
  CHECK(g[0].shape() == Shape{4, 3});
  CHECK(list(g[1]) == std::vector<double>{4, 4, 4});
  CHECK(g[2].item() == 12.0);
}

TEST_CASE("the gradients of activations are the same in long arrays as in short ones") {
  // Long enough to be cut into pieces: what stands in the middle must be as it is alone.
  const std::int64_t n = 200000, piece = 1000;
  const Tensor x = normal({n}, 31), g = normal({n}, 32);
  const std::vector<std::function<Var(const Var&)>> functions{[](const Var& v) { return leaky_relu(v, 0.1); },
                                                              [](const Var& v) { return relu(v); },
                                                              [](const Var& v) { return elu(v); },
                                                              [](const Var& v) { return gelu(v); },
                                                              [](const Var& v) { return silu(v); },
                                                              [](const Var& v) { return tanh(v); },
                                                              [](const Var& v) { return sigmoid(v); },
                                                              [](const Var& v) { return softplus(v); }};
  for (std::size_t k = 0; k < functions.size(); ++k) {
    CAPTURE(k);
    const auto both = [&](std::int64_t begin, std::int64_t end) {
      const Tape tape;
      const Var at = leaf(x.rows(begin, end).clone());
      const Var y = functions[k](at);
      return Vars{y.detach(), grad(sum(y * Var(g.rows(begin, end).clone())), {at})[0]};
    };
    const Vars whole = both(0, n);
    for (const std::int64_t begin : {std::int64_t{0}, n / 3, n / 2, n - piece}) {
      const Vars part = both(begin, begin + piece);
      for (std::size_t i = 0; i < 2; ++i)
        CHECK(largest_difference(part[i], Var(whole[i].value().rows(begin, begin + piece))) < 1e-14);
    }
  }
}

namespace {

const Op& op_named(std::string_view name) {
  for (const Op* op : registered_ops())
    if (op->name() == name) return *op;
  FAIL("no such operation");
  throw;
}

}  // namespace

TEST_CASE("a buffer that is given up is written to, if nobody else sees it", "[elementwise]") {
  const Op &neg_op = op_named("neg"), &add_op = op_named("add");
  const auto at = [](const Var& x) { return x.value().data<double>(); };
  Var x(tensor({1.0, 2.0}));
  const double* buffer = at(x);
  x = apply(neg_op, {std::move(x)});
  CHECK(at(x) == buffer);
  CHECK(x.value().at(1) == -2.0);

  const Var shared = x;
  x = apply(neg_op, {std::move(x)});
  CHECK(at(x) != buffer);
  CHECK(shared.value().at(1) == -2.0);

  // Only one that has the output's shape, and never an input that is not given up.
  Var row(tensor({1.0, 2.0}, {1, 2}));
  const double* of_row = at(row);
  const Var sum = apply(add_op, {std::move(row), Var(tensor({10.0, 20.0}, {2, 1}))});
  CHECK(at(sum) != of_row);
  CHECK(sum.value().at(3) == 22.0);
  Var scaled(tensor({3.0, 4.0}));
  const double* of_scaled = at(scaled);
  CHECK(at(apply(add_op, {shared, std::move(scaled)})) == of_scaled);
  CHECK(shared.value().at(0) == -1.0);

  Tape tape;
  Var y = neg(leaf(tensor({1.0, 2.0})));
  const Var z = y;
  y = apply(neg_op, {std::move(y)});
  CHECK(z.value().at(0) == -1.0);
  CHECK(y.value().at(0) == 1.0);
}

TEST_CASE("a node may have many inputs, some of them constants", "[elementwise]") {
  Tape tape;
  const Var x = leaf(tensor({2.0, 3.0}));
  Vars parts;
  for (int i = 0; i < 80; ++i)
    parts.push_back(i % 3 == 0 ? Var(tensor({1.0})) : slice(square(x), 0, i % 2, i % 2 + 1));
  const Var joined = concat(parts, 0);
  parts.clear();
  const Var g = grad(sum(square(joined)), {x})[0];
  double count[2] = {};
  for (int i = 0; i < 80; ++i) count[i % 2] += i % 3 != 0;
  CHECK(g.value().at(0) == Approx(count[0] * 4 * 8.0));
  CHECK(g.value().at(1) == Approx(count[1] * 4 * 27.0));
}

TEST_CASE("an asked cotangent survives the vjps that use it", "[elementwise]") {
  Tape tape;
  const Var x = leaf(tensor({0.5, -0.25})), y = tanh(x), z = y + y, w = -z;
  const Vars g = grad(sum(w), {x, y, z, w});
  CHECK(g[3].value().at(0) == 1.0);
  CHECK(g[2].value().at(0) == -1.0);
  CHECK(g[1].value().at(0) == -2.0);
  for (int i = 0; i < 2; ++i)
    CHECK(g[0].value().at(i) == Approx(-2.0 * (1 - std::pow(std::tanh(x.value().at(i)), 2))));
  // The cotangent that the caller gave is the caller's.
  const Var seed(tensor({1.0, 1.0}));
  grad(w, {x}, {.cotangent = seed});
  CHECK(seed.value().at(0) == 1.0);
}
