// Convolutions in single precision that go by Winograd's minimal filtering, beside double, which never does.
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/conv.hpp>
#include <banach/ops/conv_bias.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/winograd.hpp>
#include <tests/isa.hpp>
#include <tests/tensors.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <vector>

using namespace banach;
using namespace banach::test;

namespace {

constexpr float no_number = std::numeric_limits<float>::quiet_NaN(),
                inf = std::numeric_limits<float>::infinity();

struct Case {
  Shape x, w;
  Pair padding;
  std::int64_t groups = 1;

  Conv2dOptions options() const { return {.padding = padding, .groups = groups}; }
  Pair input() const { return {x[2], x[3]}; }
};

// Whole and ragged tiles, margins of every width, channels that fill vectors and not, groups; images of which
// several make a block, and the other way round, in rows of one segment and of several.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {{3, 16, 28, 28}, {16, 16, 3, 3}, 1},      {{2, 32, 12, 16}, {48, 32, 3, 3}, 1},
      {{9, 17, 14, 15}, {20, 17, 3, 3}, 1},      {{2, 20, 18, 13}, {33, 20, 3, 3}, 0},
      {{2, 16, 15, 17}, {16, 16, 3, 3}, 2},      {{2, 16, 13, 21}, {18, 16, 3, 3}, {4, 0}},
      {{2, 16, 17, 20}, {16, 16, 3, 3}, {0, 5}}, {{2, 36, 13, 14}, {40, 18, 3, 3}, 1, 2},
      {{1, 16, 10, 71}, {16, 16, 3, 3}, 1},      {{1, 64, 40, 37}, {70, 64, 3, 3}, 1}};
  return all;
}

ConvGeometry geometry(const Case& c) {
  return {c.x[0],
          c.x[1],
          c.w[0],
          {c.x[2], c.x[3]},
          {c.w[2], c.w[3]},
          {c.x[2] + 2 * c.padding.h - 2, c.x[3] + 2 * c.padding.w - 2},
          1,
          c.padding,
          1,
          c.groups};
}

/// The operands of the trilinear form.
struct Operands {
  Var x, w, y;
  Operands to(DType dtype) const { return {x.value().to(dtype), w.value().to(dtype), y.value().to(dtype)}; }
};

/// Numbers of single precision.
Operands operands(const Case& c, std::uint64_t seed) {
  SampleGen g(seed);
  const Var x = g.normal(c.x), w = g.normal(c.w);
  return Operands{x, w, g.normal(geometry(c).y())}.to(DType::f32);
}

/// The three operations.
Vars all_three(const Case& c, const Operands& of) {
  return {conv2d(of.x, of.w, c.options()), conv2d_input_grad(of.y, of.w, c.input(), c.options()),
          conv2d_weight_grad(of.x, of.y, 3, c.options())};
}

double largest(const Var& a) { return largest_difference(a, Tensor::zeros(a.shape(), a.dtype())); }

/// The largest error, in units of what the sums of absolute values come to at most.
std::vector<double> errors(const Case& c, const Operands& of) {
  const Operands wide = of.to(DType::f64);
  const Vars got = all_three(c, of), exact = all_three(c, wide);
  const Vars scale = all_three(c, {abs(wide.x), abs(wide.w), abs(wide.y)});
  std::vector<double> result;
  for (std::size_t i = 0; i < got.size(); ++i)
    result.push_back(largest_difference(got[i], exact[i]) / largest(scale[i]));
  return result;
}

double inner(const Var& a, const Var& b) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) sum += a.value().at(i) * b.value().at(i);
  return sum;
}

Var with(const Var& x, std::int64_t i, float value) {
  Tensor changed = x.value().to(DType::f64).to(DType::f32);
  changed.mutable_data<float>()[i] = value;
  return changed;
}

/// Whether infinities and NaN stand in the same places, and all else is close in the scale of its image.
void check_like(const Var& got, const Var& exact, double tolerance) {
  REQUIRE(got.shape() == exact.shape());
  std::int64_t differ = 0;
  const std::int64_t images = got.size(0), size = got.size() / images;
  for (std::int64_t image = 0; image < images; ++image) {
    double scale = 0.0;
    for (std::int64_t i = image * size; i < (image + 1) * size; ++i)
      if (std::isfinite(exact.value().at(i))) scale = std::max(scale, std::abs(exact.value().at(i)));
    for (std::int64_t i = image * size; i < (image + 1) * size; ++i) {
      const double a = got.value().at(i), b = exact.value().at(i);
      differ += std::isfinite(b) ? !(std::abs(a - b) <= tolerance * scale)
                : std::isnan(b)  ? !std::isnan(a)
                                 : a != b;
    }
  }
  CHECK(differ == 0);
}

}  // namespace

TEST_CASE("Winograd's convolutions take large 3x3 filters of stride 1 alone", "[winograd]") {
  for (const Case& c : cases()) CHECK(winograd::pays(geometry(c)));
  const ConvGeometry taken = geometry(cases()[0]);
  const auto changed = [&](auto change) {
    ConvGeometry g = taken;
    change(g);
    return winograd::pays(g);
  };
  CHECK(changed([](ConvGeometry& g) { g.images = 1; }));
  CHECK(!changed([](ConvGeometry& g) { g.stride = {1, 2}; }));
  CHECK(!changed([](ConvGeometry& g) { g.dilation = {2, 1}; }));
  CHECK(!changed([](ConvGeometry& g) { g.kernel = {3, 1}; }));
  CHECK(!changed([](ConvGeometry& g) { g.groups = 2; }));
  CHECK(!changed([](ConvGeometry& g) { g.channels = 1; }));
  CHECK(!changed([](ConvGeometry& g) { g.outputs = 1; }));
  CHECK(!changed([](ConvGeometry& g) { g.input = g.output = 2; }));
}

TEST_CASE("Winograd's convolutions agree with sums in double, with every instruction set", "[winograd]") {
  const KeepIsa keep;
  for (const simd::Isa isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
    if (!simd::supported(isa)) continue;
    simd::select(isa);
    for (const Case& c : cases()) {
      INFO(simd::name(isa) << ", image " << c.x.to_string() << ", filter " << c.w.to_string());
      for (const double error : errors(c, operands(c, 1))) CHECK(error < 5e-7);
    }
  }
}

TEST_CASE("Winograd's convolutions are parts of one trilinear form", "[winograd]") {
  for (const Case& c : cases()) {
    const Operands of = operands(c, 2);
    const Vars got = all_three(c, of);
    const double form = inner(got[0], of.y), scale = std::sqrt(inner(got[0], got[0]) * inner(of.y, of.y));
    CHECK(std::abs(inner(got[1], of.x) - form) < 1e-6 * scale);
    CHECK(std::abs(inner(got[2], of.w) - form) < 1e-6 * scale);
  }
}

TEST_CASE("Winograd's convolutions add the bias to their sums", "[winograd]") {
  const Case& c = cases()[7];
  const Operands of = operands(c, 3);
  SampleGen g(4);
  const Var bias = g.normal({c.w[0]}).to(DType::f32);
  const Var y = conv2d(of.x, of.w, c.options()), shifted = conv2d(of.x, of.w, bias, c.options());
  const std::int64_t area = y.size(2) * y.size(3);
  std::int64_t differ = 0;
  for (std::int64_t i = 0; i < y.size(); ++i)
    differ += shifted.value().data<float>()[i] !=
              y.value().data<float>()[i] + bias.value().data<float>()[i / area % c.w[0]];
  CHECK(differ == 0);
}

TEST_CASE("Winograd's convolutions give an image the same bits alone as among others", "[winograd]") {
  for (const Case& c : cases()) {
    const Operands of = operands(c, 5);
    const Vars got = all_three(c, of);
    for (std::int64_t begin = 0; begin < c.x[0]; begin += 2) {
      const std::int64_t end = std::min(begin + 2, c.x[0]);
      Case part = c;
      part.x = Shape{end - begin, c.x[1], c.x[2], c.x[3]};
      const Operands cut{of.x.value().rows(begin, end), of.w, of.y.value().rows(begin, end)};
      const SerialLoops serial;
      const Vars alone = all_three(part, cut);
      for (const int i : {0, 1}) CHECK(same_bits(alone[i], got[i].value().rows(begin, end)));
    }
  }
}

TEST_CASE("Winograd's convolutions are the same for any number of threads", "[winograd]") {
  for (const Case& c : cases()) {
    const Operands of = operands(c, 6);
    check_threads([&] { return all_three(c, of); });
  }
}

TEST_CASE("what is not finite reaches the same sums by Winograd's convolutions", "[winograd]") {
  for (const Case& c : {cases()[0], cases()[2], cases()[7], cases()[5]}) {
    const Operands plain = operands(c, 7);
    const Vars untouched = all_three(c, plain);
    const std::int64_t image = plain.x.size() / c.x[0], of_y = plain.y.size() / c.x[0];
    // In the last but one image: a corner, an edge, the middle.
    for (const std::int64_t place : {std::int64_t{0}, c.x[3] - 1, image / 2 + c.x[3] / 2})
      for (const float value : {no_number, inf, -inf, 1e37f, 3e38f}) {
        INFO(value << " at " << place << ", image " << c.x.to_string());
        const float small = std::abs(value) < inf && value > 1e37f ? 1e-3f : 1.0f;  // sums stay finite
        const Var w = plain.w * Var(Tensor::full({}, small, DType::f32));
        const std::int64_t skip = c.x[0] - 2;
        const Operands of{with(plain.x, skip * image + place, value), w,
                          with(plain.y, skip * of_y + place % of_y, value)};
        const Vars got = all_three(c, of), exact = all_three(c, of.to(DType::f64));
        check_like(got[0], exact[0], 1e-5);
        check_like(got[1], exact[1], 1e-5);
        if (!std::isfinite(value)) check_like(got[2], exact[2], 1e-4);
        if (small == 1.0f)  // the others' bits
          for (const int i : {0, 1})
            CHECK(same_bits(got[i].value().rows(skip + 1, c.x[0]),
                            untouched[i].value().rows(skip + 1, c.x[0])));
      }
    // Padding holds zeros, and 0 * inf is NaN, but the input gradient has no products with what is not there.
    for (const float value : {no_number, inf, -inf, 1e37f, 3e38f}) {
      INFO(value << " in the filter, image " << c.x.to_string());
      const Var shrunk = plain.x * Var(Tensor::full({}, 1e-3, DType::f32));
      const Operands of{shrunk, with(plain.w, plain.w.size() / 2 + 2, value),
                        plain.y * Var(Tensor::full({}, 1e-3, DType::f32))};
      const Vars got = all_three(c, of), exact = all_three(c, of.to(DType::f64));
      check_like(got[0], exact[0], 1e-5);
      check_like(got[1], exact[1], 1e-5);
    }
  }
}
