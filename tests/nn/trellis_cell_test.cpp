#include <banach/engine/gradcheck.hpp>
#include <banach/nn/trellis_cell.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

TrellisCell cell_of(std::vector<std::int64_t> dilations, bool weight_norm = true, double dropout = 0.0) {
  Random random(5);
  return TrellisCell({.input = 3,
                      .hidden = 4,
                      .dilations = std::move(dilations),
                      .weight_norm = weight_norm,
                      .dropout = dropout,
                      .dtype = DType::f64},
                     random);
}

const FixedPointOptions exact{.backward = Implicit{Gmres{.tolerance = 1e-13}}, .tolerance = 1e-13};

Var equilibrium(const TrellisCell& cell, const Var& x, const SegmentMemory& memory = {}) {
  const FixedPoint solved = fixed_point(cell.bind(x, memory), cell.start(x), exact);
  CHECK(solved.report.converged());
  return solved.z;
}

double sigma(double a) { return 1.0 / (1.0 + std::exp(-a)); }

// The cell's equations, number by number: `depth` layers from z = 0.
Tensor by_hand(TrellisCell& cell, const std::vector<std::int64_t>& dilations, const Tensor& x, int depth) {
  const auto weights = state(cell);
  const std::int64_t batch = x.shape()[0], length = x.shape()[1], in = x.shape()[2], hidden = 4,
                     share = hidden / static_cast<std::int64_t>(dilations.size());
  Tensor z = Tensor::zeros({batch, length, 2 * hidden}, DType::f64);
  const auto at = [&](const Tensor& v, std::int64_t b, std::int64_t t, std::int64_t k) {
    return t < 0 ? 0.0 : v.at((b * length + t) * v.shape()[2] + k);
  };
  for (int layer = 0; layer < depth; ++layer) {
    Tensor next = Tensor::zeros(z.shape(), DType::f64);
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t t = 0; t < length; ++t)
        for (std::int64_t channel = 0; channel < hidden; ++channel) {
          const std::int64_t level = channel / share, before = t - dilations[static_cast<std::size_t>(level)];
          const std::string path = "levels." + std::to_string(level) + ".";
          const auto gate = [&](std::int64_t which) {
            const std::int64_t row = which * share + channel % share;
            const auto product = [&](const std::string& name, const Tensor& v, std::int64_t n) {
              const Tensor& w = weights.at(path + name + ".direction");
              double sum = 0.0, squares = 0.0;
              for (std::int64_t k = 0; k < n; ++k) {
                const double past = w.at(row * 2 * n + k), now = w.at(row * 2 * n + n + k);
                sum += past * at(v, b, before, k) + now * at(v, b, t, k);
                squares += past * past + now * now;
              }
              const auto magnitude = weights.find(path + name + ".magnitude");
              return magnitude == weights.end() ? sum : sum * magnitude->second.at(row) / std::sqrt(squares);
            };
            return product("recur", z, hidden) + product("inject", x, in) +
                   weights.at(path + "inject.bias").at(row);
          };
          const double c =
              sigma(gate(1)) * at(z, b, before, hidden + channel) + sigma(gate(0)) * std::tanh(gate(3));
          double* out = next.mutable_data<double>() + (b * length + t) * 2 * hidden + channel;
          out[hidden] = c;
          out[0] = sigma(gate(2)) * std::tanh(c);
        }
    z = next;
  }
  return z;
}

}  // namespace

TEST_CASE("TrellisCell is its equations, layer after layer", "[trellis]") {
  const Tensor x = normal({2, 7, 3}, 1);
  for (const std::vector<std::int64_t>& dilations : {std::vector<std::int64_t>{1}, {3}, {1, 2}, {1, 2, 4, 9}})
    for (const bool norm : {true, false}) {
      TrellisCell cell = cell_of(dilations, norm);
      if (norm)
        for (const NamedParameter& p : select(parameters(cell), "*magnitude"))
          p.parameter->update([](Tensor& value) {
            for (std::int64_t i = 0; i < value.size(); ++i) value.mutable_data<double>()[i] *= 1.3;
          });
      const Var z = weight_tied(cell.bind(Var(x)), cell.start(Var(x)), {.layers = 5}).z;
      CHECK(largest_difference(z, Var(by_hand(cell, dilations, x, 5))) < 1e-13);
      CHECK(same_bits(cell.output(z), slice(z, 2, 0, 4)));
    }
}

TEST_CASE("TrellisCell never looks ahead", "[trellis]") {
  const TrellisCell cell = cell_of({1, 2});
  const Tensor x = normal({1, 8, 3}, 2);
  const Var whole = equilibrium(cell, Var(x));
  for (const std::int64_t t : {1, 4, 7}) {
    Tensor changed = x.clone();
    for (std::int64_t k = t * 3; k < 24; ++k) changed.mutable_data<double>()[k] = 9.0;
    const Var z = equilibrium(cell, Var(changed));
    CHECK(largest_difference(slice(z, 1, 0, t), slice(whole, 1, 0, t)) < 1e-11);
    CHECK(largest_difference(slice(z, 1, t, t + 1), slice(whole, 1, t, t + 1)) > 1e-3);
  }
}

TEST_CASE("TrellisCell: derivatives through the equilibrium", "[trellis]") {
  for (const std::vector<std::int64_t>& dilations : {std::vector<std::int64_t>{1}, {1, 3}}) {
    TrellisCell cell = cell_of(dilations);
    const ParameterList list = parameters(cell);
    Vars inputs{Var(normal({2, 5, 3}, 3))};
    for (const NamedParameter& p : list) inputs.push_back(Var(p.parameter->value()));
    const GradcheckReport report = gradcheck(
        [&](const Vars& at) {
          const Substitution given(list, Vars(at.begin() + 1, at.end()));
          return Vars{equilibrium(cell, at.front())};
        },
        inputs, {.order = 1, .step = 3e-4});
    INFO(report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("TrellisCell: two segments with memory are the whole", "[trellis]") {
  for (const std::vector<std::int64_t>& dilations : {std::vector<std::int64_t>{1}, {2, 5}}) {
    const TrellisCell cell = cell_of(dilations);
    const Tensor x = normal({2, 9, 3}, 4);
    const Var whole = equilibrium(cell, Var(x));
    SegmentMemory memory;
    Vars parts;
    for (const auto& [begin, end] : {std::pair{0, 2}, {2, 3}, {3, 7}, {7, 9}}) {
      const Var segment = slice(Var(x), 1, begin, end);
      parts.push_back(equilibrium(cell, segment, memory));
      memory = cell.remember(memory, parts.back().value(), segment.value());
    }
    CHECK(memory.z.shape() == Shape{2, dilations.back(), 8});
    CHECK(largest_difference(concat(parts, 1), whole) < 1e-10);
  }
}

TEST_CASE("TrellisCell drops the same channels at every position and step", "[trellis]") {
  TrellisCell cell = cell_of({1, 2}, true, 0.5);
  const Var x(normal({3, 6, 3}, 5));
  const SequenceBody f = cell.bind(x), other = cell.bind(x);
  const Var z(normal({3, 6, 8}, 6));
  CHECK(same_bits(f(z), f(z)));
  CHECK(largest_difference(f(z), other(z)) > 1e-3);
  const FixedPoint solved = fixed_point(f, cell.start(x), exact);
  CHECK(solved.report.converged());
  // A channel of h that is dropped has no influence, wherever it stands.
  int dropped = 0;
  for (std::int64_t channel = 0; channel < 4; ++channel) {
    int silent = 0;
    for (std::int64_t t = 0; t < 6; ++t) {
      Tensor moved = z.value().clone();
      moved.mutable_data<double>()[t * 8 + channel] += 1.0;
      silent += same_bits(f(Var(moved)), f(z));
    }
    CHECK((silent == 0 || silent == 6));
    dropped += silent == 6;
  }
  CHECK(dropped > 0);
  eval(cell);
  CHECK(same_bits(cell.bind(x)(z), cell_of({1, 2}).bind(x)(z)));
}

TEST_CASE("TrellisCell runs in tiles, in f32, on nothing", "[trellis]") {
  Random random(8);
  TrellisCell cell({.input = 3, .hidden = 4, .dilations = {1, 2}, .dropout = 0.2}, random);
  const Var x(normal({70, 6, 3}, 9).to(DType::f32));
  const SequenceBody f = cell.bind(x);
  const FixedPoint eager = fixed_point(f, cell.start(x), {.tolerance = 1e-6}),
                   replayed = fixed_point(f, cell.start(x), {.tolerance = 1e-6, .body = Body::replayed});
  CHECK(largest_difference(eager.z, replayed.z) < 1e-5);
  const Var none(Tensor::zeros({0, 6, 3}, DType::f32));
  CHECK(fixed_point(cell.bind(none), cell.start(none)).z.shape() == Shape{0, 6, 8});
}

TEST_CASE("TrellisCell says what it refuses", "[trellis][errors]") {
  Random random(8);
  CHECK_THROWS_WITH(TrellisCell({.input = 0, .hidden = 4}, random), Contains("[trellis_cell]"));
  CHECK_THROWS_WITH(TrellisCell({.input = 1, .hidden = 4, .dilations = {1, 2, 3}}, random),
                    Contains("divide"));
  CHECK_THROWS_WITH(TrellisCell({.input = 1, .hidden = 4, .dilations = {0}}, random), Contains("got 0"));
  CHECK_THROWS_AS(TrellisCell({.input = 1, .hidden = 4, .dilations = {}}, random), ValueError);
  const TrellisCell cell = cell_of({1});
  CHECK_THROWS_WITH(cell.bind(Var(normal({2, 5, 4}, 1))), Contains("(batch,length,3): got (2,5,4)"));
  CHECK_THROWS_WITH(
      cell.bind(Var(normal({2, 0, 3}, 1))),
      Contains("[trellis_cell] x must have at least one position: got the empty sequence (2,0,3)"));
  CHECK_THROWS_WITH(cell.bind(Var(normal({2, 5, 3}, 1)), {normal({1, 1, 8}, 1), {}}),
                    Contains("memory of z"));
  CHECK_THROWS_WITH(cell.bind(Var(normal({2, 5, 3}, 1).to(DType::f32))),
                    Contains("[trellis_cell] x must be f64, as the parameters: got f32"));
}
