#include <banach/engine/gradcheck.hpp>
#include <banach/nn/transformer_cell.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

TransformerCell cell_of(TransformerCellOptions options = {}) {
  Random random(5);
  options.d_model = 6, options.heads = 2, options.hidden = 5, options.dtype = DType::f64;
  return TransformerCell(options, random);
}

const FixedPointOptions exact{.backward = Implicit{Gmres{.tolerance = 1e-13}}, .tolerance = 1e-13};

Var equilibrium(const TransformerCell& cell, const Var& x, const SegmentMemory& memory = {}) {
  const FixedPoint solved = fixed_point(cell.bind(x, memory), cell.start(x), exact);
  CHECK(solved.report.converged());
  return solved.z;
}

SegmentMemory memory_of(const Var& z, const Var& x, std::int64_t end) {
  return {slice(z, 1, 0, end).value(), slice(x, 1, 0, end).value()};
}

// The cell's equations by operations that it does not use, for one sample z and x (length, d): a row of the
// encodings for each score.
Var by_hand(const std::map<std::string, Tensor>& at, const Var& z, const Var& x, std::int64_t heads,
            bool pre_norm) {
  const std::int64_t length = z.size(0), d = z.size(1), width = d / heads;
  const auto weight = [&](const std::string& name) {
    const Var v = at.at(name + ".direction");
    const auto g = at.find(name + ".magnitude");
    return g == at.end() ? v : v / norm(v, {1}, 2.0, true) * reshape(Var(g->second), {v.size(0), 1});
  };
  const auto map = [&](const std::string& name, const Var& v) {
    const auto b = at.find(name + ".bias");
    const Var y = matmul(v, transpose(weight(name)));
    return b == at.end() ? y : y + b->second;
  };
  const auto normed = [&](const std::string& name, const Var& v) {
    const Var centred = v - mean(v, {-1}, true);
    return centred / sqrt(mean(square(centred), {-1}, true) + 1e-5) * at.at(name + ".weight") +
           at.at(name + ".bias");
  };
  const Var from = pre_norm ? normed("attention_norm", z) : z, injected = map("inject", x);
  const auto part = [&](const Var& v, int k) { return slice(v, 1, k * d, (k + 1) * d); };
  const Var q = map("query", from) + part(injected, 0), k = map("key", from) + part(injected, 1),
            v = map("value", from) + part(injected, 2);

  Tensor encoding = Tensor::zeros({length, d}, DType::f64);
  for (std::int64_t t = 0; t < length; ++t)
    for (std::int64_t i = 0; i < d; ++i) {
      const double angle = static_cast<double>(t) /
                           std::pow(1e4, 2.0 * static_cast<double>(i % (d / 2)) / static_cast<double>(d));
      encoding.mutable_data<double>()[t * d + i] = i < d / 2 ? std::sin(angle) : std::cos(angle);
    }
  const Var r = map("position", Var(encoding));
  Vars rows;
  for (std::int64_t i = 0; i < length; ++i) {
    Vars parts;
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto of = [&](const Var& all, std::int64_t begin, std::int64_t end) {
        return slice(slice(all, 0, begin, end), 1, h * width, (h + 1) * width);
      };
      const auto bias = [&](const std::string& name) {
        return slice(Var(at.at(name)), 0, h * width, (h + 1) * width);
      };
      const Var query = of(q, i, i + 1), distances = flip(of(r, 0, i + 1), {0});
      const Var scores = (matmul(query + bias("content_bias"), transpose(of(k, 0, i + 1))) +
                          matmul(query + bias("position_bias"), transpose(distances))) /
                         std::sqrt(static_cast<double>(width));
      parts.push_back(matmul(softmax(scores), of(v, 0, i + 1)));
    }
    rows.push_back(concat(parts, 1));
  }
  const Var heard = map("project", concat(rows, 0));
  const auto feed = [&](const Var& a) { return map("narrow", relu(map("widen", a))); };
  if (pre_norm) {
    const Var a = x + heard;
    return a + feed(normed("feed_norm", a));
  }
  const Var a = normed("attention_norm", z + x + heard);
  return normed("feed_norm", a + feed(a));
}

// All parameters away from where they start, norms included.
void stir(TransformerCell& cell) {
  std::uint64_t seed = 100;
  for (const NamedParameter& p : parameters(cell))
    p.parameter->update([&](Tensor& value) {
      const Tensor noise = normal(value.shape(), ++seed, 0.1);
      for (std::int64_t i = 0; i < value.size(); ++i) value.mutable_data<double>()[i] += noise.at(i);
    });
}

}  // namespace

TEST_CASE("TransformerCell is its equations", "[transformer]") {
  const Tensor z = normal({2, 7, 6}, 1), x = normal({2, 7, 6}, 2);
  for (const bool pre_norm : {false, true})
    for (const bool weight_norm : {false, true}) {
      TransformerCell cell = cell_of({.pre_norm = pre_norm, .weight_norm = weight_norm});
      stir(cell);
      const Var y = cell.bind(Var(x))(Var(z));
      for (std::int64_t i = 0; i < 2; ++i) {
        const auto sample = [&](const Tensor& t) { return reshape(Var(t.rows(i, i + 1)), {7, 6}); };
        const Var expected = by_hand(state(cell), sample(z), sample(x), 2, pre_norm);
        CHECK(largest_difference(sample(y.value()), expected) < 1e-13);
      }
    }
}

TEST_CASE("TransformerCell never looks ahead", "[transformer]") {
  const Tensor x = normal({1, 20, 6}, 2), z = normal({1, 20, 6}, 3);
  for (const bool pre_norm : {false, true}) {
    const TransformerCell cell = cell_of({.pre_norm = pre_norm});
    const Var once = cell.bind(Var(x))(Var(z)), whole = equilibrium(cell, Var(x));
    for (const std::int64_t t : {1, 4, 17}) {
      const auto changed = [&](const Tensor& from) {
        Tensor to = from.clone();
        for (std::int64_t k = t * 6; k < 120; ++k) to.mutable_data<double>()[k] += 3.0 * std::sin(double(k));
        return Var(to);
      };
      const Var next = cell.bind(changed(x))(changed(z)), moved = equilibrium(cell, changed(x));
      CHECK(largest_difference(slice(next, 1, 0, t), slice(once, 1, 0, t)) < 1e-14);
      CHECK(largest_difference(slice(moved, 1, 0, t), slice(whole, 1, 0, t)) < 1e-11);
      CHECK(largest_difference(slice(moved, 1, t, t + 1), slice(whole, 1, t, t + 1)) > 1e-2);
    }
  }
}

TEST_CASE("TransformerCell: memory is the same context in one longer segment", "[transformer]") {
  const Tensor x = normal({2, 21, 6}, 4), z = normal({2, 21, 6}, 5);
  for (const bool pre_norm : {false, true}) {
    const TransformerCell cell = cell_of({.memory = 100, .pre_norm = pre_norm});
    const Var layer = cell.bind(Var(x))(Var(z)), whole = equilibrium(cell, Var(x));
    for (const std::int64_t at : {1, 4, 20}) {
      const Var segment = slice(Var(x), 1, at, 21);
      const Var one = cell.bind(segment, memory_of(Var(z), Var(x), at))(slice(Var(z), 1, at, 21));
      CHECK(largest_difference(one, slice(layer, 1, at, 21)) < 1e-13);
      const Var solved = equilibrium(cell, segment, memory_of(whole, Var(x), at));
      CHECK(largest_difference(solved, slice(whole, 1, at, 21)) < 1e-11);
    }
    SegmentMemory memory;
    for (const auto& [begin, end] : {std::pair{0, 3}, {3, 4}, {4, 21}}) {
      const Var segment = slice(Var(x), 1, begin, end), solved = equilibrium(cell, segment, memory);
      CHECK(largest_difference(solved, slice(whole, 1, begin, end)) < 1e-11);
      memory = cell.remember(memory, solved.value(), segment.value());
      CHECK(memory.z.shape() == Shape{2, end, 6});
    }
  }
  const TransformerCell forgetful = cell_of({.memory = 4});
  const SegmentMemory memory = forgetful.remember({}, z, x);
  CHECK(same_bits(Var(memory.x), slice(Var(x), 1, 17, 21)));
  CHECK_FALSE(cell_of().remember({}, z, x).z.defined());
}

TEST_CASE("TransformerCell: derivatives through the equilibrium", "[transformer]") {
  for (const bool pre_norm : {false, true})
    for (const bool with_memory : {false, true}) {
      TransformerCell cell = cell_of({.pre_norm = pre_norm, .weight_norm = !with_memory});
      const ParameterList list = parameters(cell);
      const SegmentMemory memory =
          with_memory ? SegmentMemory{normal({2, 3, 6}, 6), normal({2, 3, 6}, 7)} : SegmentMemory{};
      Vars inputs{Var(normal({2, 4, 6}, 8))};
      for (const NamedParameter& p : list) inputs.push_back(Var(p.parameter->value()));
      const GradcheckReport report = gradcheck(
          [&](const Vars& at) {
            const Substitution given(list, Vars(at.begin() + 1, at.end()));
            return Vars{equilibrium(cell, at.front(), memory)};
          },
          inputs, {.order = 1, .step = 3e-4});
      INFO(report.to_string());
      CHECK(report.passed);
    }
}

TEST_CASE("TransformerCell starts as a contraction, on which Anderson converges", "[transformer]") {
  for (const bool pre_norm : {false, true})
    for (const bool weight_norm : {false, true})
      for (const std::uint64_t seed : {1, 2, 3}) {
        INFO(pre_norm << " " << weight_norm << " " << seed);
        Random random(seed);
        const TransformerCell cell(
            {.d_model = 32, .heads = 4, .hidden = 64, .pre_norm = pre_norm, .weight_norm = weight_norm},
            random);
        const Var x(normal({3, 24, 32}, seed).to(DType::f32));
        const SequenceBody f = cell.bind(x);
        const FixedPoint solved = fixed_point(f, cell.start(x), {.tolerance = 1e-5, .max_steps = 30});
        CHECK(solved.report.converged());
        for (const SpectralRadius& radius : spectral_radius(f, solved.z)) CHECK(radius.radius() < 0.8);
      }
}

TEST_CASE("TransformerCell drops the same units at every position and step", "[transformer]") {
  TransformerCell cell = cell_of({.dropout = 0.5});
  const Var x(normal({3, 6, 6}, 9)), z(normal({3, 6, 6}, 10));
  const SequenceBody f = cell.bind(x), other = cell.bind(x);
  CHECK(same_bits(f(z), f(z)));
  CHECK(largest_difference(f(z), other(z)) > 1e-3);
  const FixedPoint solved = fixed_point(f, cell.start(x), exact);
  CHECK(solved.report.converged());
  CHECK(largest_difference(f(solved.z), solved.z) < 1e-11);

  // What is dropped, is so at all positions: a column of the next map that gets no gradient from one of them
  // gets none from any.
  for (const char* name : {"project.direction", "narrow.direction"}) {
    TransformerCell plain = cell_of({.weight_norm = false, .dropout = 0.3});
    const ParameterList one = select(parameters(plain), name);
    const Tape tape;
    const Var first(x.value().rows(0, 1));
    const Var y = plain.bind(first)(Var(z.value().rows(0, 1)));
    int dropped = 0;
    std::vector<int> silent(static_cast<std::size_t>(one[0].parameter->shape()[1]));
    for (std::int64_t t = 0; t < 6; ++t) {
      Tensor u = Tensor::zeros(y.shape(), DType::f64);
      for (std::int64_t k = 0; k < 6; ++k) u.mutable_data<double>()[t * 6 + k] = std::cos(double(k));
      const Tensor g = banach::grad(y, {one[0].parameter->var()}, {.cotangent = Var(u)})[0].value();
      const std::int64_t width = g.shape()[1];
      for (std::int64_t c = 0; c < width; ++c) {
        double sum = 0.0;
        for (std::int64_t row = 0; row < g.shape()[0]; ++row) sum += std::abs(g.at(row * width + c));
        silent[static_cast<std::size_t>(c)] += sum == 0.0;
      }
    }
    for (const int count : silent) dropped += count == 6;
    INFO(name);
    CHECK(dropped > 0);
    CHECK(dropped < static_cast<int>(silent.size()));
  }
  eval(cell);
  CHECK(same_bits(cell.bind(x)(z), cell_of().bind(x)(z)));
}

TEST_CASE("TransformerCell: its state is all that it is", "[transformer]") {
  TransformerCell cell = cell_of({.dropout = 0.3});
  stir(cell);
  const auto saved = state(cell);
  Random other(99);
  TransformerCell loaded({.d_model = 6, .heads = 2, .hidden = 5, .dropout = 0.3, .dtype = DType::f64}, other);
  load_state(loaded, saved);
  const Var x(normal({2, 5, 6}, 11)), z(normal({2, 5, 6}, 12));
  CHECK(same_bits(loaded.bind(x)(z), cell.bind(x)(z)));  // the next masks too
}

TEST_CASE("TransformerCell runs in tiles, in f32, on nothing, as any cell", "[transformer]") {
  Random random(8);
  const AnyCell cell = TransformerCell({.d_model = 8, .heads = 2, .hidden = 12, .dropout = 0.2}, random);
  const Var x(normal({70, 6, 8}, 13).to(DType::f32));
  const SegmentMemory memory{normal({70, 5, 8}, 14).to(DType::f32), normal({70, 5, 8}, 15).to(DType::f32)};
  const SequenceBody f = cell.bind(x, memory);
  const auto solved = [&](Body body) {
    return run(f, cell.start(x), FixedPointOptions{.tolerance = 1e-6, .body = body}).z;
  };
  CHECK(largest_difference(solved(Body::eager), solved(Body::replayed)) < 1e-5);
  CHECK(run(f, cell.start(x), WeightTied{.layers = 3}).z.shape() == x.shape());
  const Var none(Tensor::zeros({0, 6, 8}, DType::f32));
  CHECK(fixed_point(cell.bind(none, {}), cell.start(none)).z.shape() == none.shape());
}

TEST_CASE("TransformerCell says what it refuses", "[transformer][errors]") {
  Random random(8);
  const auto made = [&](const TransformerCellOptions& options) { return TransformerCell(options, random); };
  CHECK_THROWS_WITH(made({.d_model = 0, .hidden = 4}),
                    Contains("[transformer_cell]") && Contains("got 0, 1 and 4"));
  CHECK_THROWS_WITH(made({.d_model = 4, .heads = 3, .hidden = 4}),
                    Contains("heads must divide d_model: 3 for 4"));
  CHECK_THROWS_WITH(made({.d_model = 4, .hidden = 4, .memory = -1}), Contains("got -1"));
  CHECK_THROWS_AS(made({.d_model = 4, .hidden = 4, .dropout = 1.0}), ValueError);
  const TransformerCell cell = cell_of();
  CHECK_THROWS_WITH(cell.bind(Var(normal({2, 5, 4}, 1))), Contains("(batch,length,6): got (2,5,4)"));
  CHECK_THROWS_WITH(
      cell.bind(Var(normal({2, 0, 6}, 1))),
      Contains("[transformer_cell] x must have at least one position: got the empty sequence (2,0,6)"));
  const Var x(normal({2, 5, 6}, 1));
  CHECK_THROWS_WITH(cell.bind(x, {normal({1, 1, 6}, 1), normal({1, 1, 6}, 1)}),
                    Contains("(2,m,6): got (1,1,6)"));
  CHECK_THROWS_AS(cell.bind(x, {normal({2, 3, 6}, 1), {}}), ValueError);
  CHECK_THROWS_WITH(cell.bind(Var(x.value().to(DType::f32))),
                    Contains("[transformer_cell] x must be f64, as the parameters: got f32"));
  CHECK_THROWS_AS(cell.bind(x, {normal({2, 3, 6}, 1), normal({2, 3, 6}, 1).to(DType::f32)}), DTypeError);
}

TEST_CASE("encodings of distances are sines and cosines of falling frequency", "[transformer]") {
  for (const std::int64_t width : {1, 4, 5}) {
    const Tensor at = sinusoidal_encoding(3, width, DType::f64);
    const std::int64_t sines = (width + 1) / 2;
    for (std::int64_t t = 0; t < 3; ++t)
      for (std::int64_t i = 0; i < width; ++i) {
        const double angle =
            static_cast<double>(t) *
            std::exp(-std::log(1e4) * 2.0 * static_cast<double>(i % sines) / static_cast<double>(width));
        CHECK(at.at(t * width + i) == Approx(i < sines ? std::sin(angle) : std::cos(angle)).margin(1e-15));
      }
  }
}
