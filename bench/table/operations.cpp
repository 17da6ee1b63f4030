// Operations and small models: chains, a classifier's training step, convolutions, a million floats.
#include <bench/table/floors.hpp>
#include <bench/table/problems.hpp>
#include <bench/table/table.hpp>

#include <banach/banach.hpp>

#include <memory>
#include <optional>

#include <fmt/format.h>

namespace bench {

using namespace banach;

namespace {

constexpr int links = 1000;

Tensor tensor(const Shape& shape, double deviation, std::uint64_t seed) {
  const Floats values = normal(shape.size(), deviation, seed);
  return Tensor::from(std::span<const float>(values), shape);
}

Make chain(Var (*link)(const Var& y, const Var& x)) {
  return [=] {
    return Work{.run =
                    [link, start = Tensor::full({16}, 0.5)] {
                      const Tape tape;
                      const Var x = leaf(start);
                      Var y = x;
                      for (int i = 0; i < links; ++i) y = link(y, x);
                      grad(y, {x}, {.cotangent = x.detach()});
                    },
                .per = links};
  };
}

struct Mlp {
  Random random{1};
  nn::Linear first{mlp_sizes[0], mlp_sizes[1], random}, second{mlp_sizes[1], mlp_sizes[2], random},
      third{mlp_sizes[2], mlp_sizes[3], random};
  void visit(nn::Visitor& v) { v("first", first)("second", second)("third", third); }
};

struct MlpTraining {
  Mlp model;
  nn::ParameterList parameters = nn::parameters(model);
  nn::Sgd sgd{parameters, {.learning_rate = 1e-3}};
  Tensor x = tensor({mlp_batch, mlp_sizes[0]}, 1.0, 1), labels = Tensor::arange(mlp_batch);

  MlpTraining() {
    std::int64_t* label = labels.mutable_data<std::int64_t>();
    for (std::int64_t i = 0; i < mlp_batch; ++i) label[i] %= mlp_sizes[3];
  }
  void step() {
    const Tape tape;
    const Var logits = model.third(relu(model.second(relu(model.first(Var(x))))));
    sgd.step(nn::grad(cross_entropy(logits, Var(labels)), parameters));
  }
};

Work mlp_step() {
  const auto training = std::make_shared<MlpTraining>();
  return {.run = [=] { training->step(); }};
}

/// Forward products, and twice as many backward, but for the gradient of the input.
std::vector<Gemm> mlp_products() {
  std::vector<Gemm> all;
  for (int i = 0; i < 3; ++i) {
    const std::int64_t in = mlp_sizes[i], out = mlp_sizes[i + 1];
    all.push_back({mlp_batch, out, in});
    all.push_back({out, in, mlp_batch});
    if (i > 0) all.push_back({mlp_batch, in, out});
  }
  return all;
}

/// A function of tensors without a tape; or the gradient in all of them, at a point recorded before.
Work forward(const std::function<Var(const Vars&)>& f, const std::vector<Tensor>& inputs) {
  return {.run = [=, at = Vars(inputs.begin(), inputs.end())] { f(at); }};
}

Work backward(const std::function<Var(const Vars&)>& f, const std::vector<Tensor>& inputs) {
  struct Recorded {
    Tape tape;
    Vars leaves;
    Var y;
  };
  const auto recorded = std::make_shared<Recorded>();
  for (const Tensor& input : inputs) recorded->leaves.push_back(leaf(input));
  recorded->y = f(recorded->leaves);
  return {.run = [=, ones = ones_like(recorded->y)] {
    grad(recorded->y, recorded->leaves, {.cotangent = ones});
  }};
}

void add_convolution(Section& section, const std::string& name, const ConvSize& c, Goal goal = {}) {
  const auto inputs = [=] {
    return std::vector<Tensor>{tensor({c.batch, c.in, c.side, c.side}, 1.0, 1),
                               tensor({c.out, c.in, c.kernel, c.kernel}, 0.1, 2)};
  };
  const auto f = [=](const Vars& x) { return conv2d(x[0], x[1], {.padding = c.kernel / 2}); };
  const std::int64_t pixels = c.side * c.side, taps = c.in * c.kernel * c.kernel;
  section.lines.push_back({.name = name + ", forward",
                           .ours = [=] { return forward(f, inputs()); },
                           .floor = gemm_floor({{c.out, pixels, taps, c.batch}}),
                           .goal = goal});
  section.lines.push_back(
      {.name = name + ", backward",
       .ours = [=] { return backward(f, inputs()); },
       .floor = gemm_floor({{taps, pixels, c.out, c.batch}, {c.out, taps, pixels, c.batch}}),
       .goal = goal});
}

}  // namespace

Section operations_section() {
  Section section{"Operations, f32", {}};
  // Forward and backward read three rows of 16 floats and write three, at the least.
  const Make chain_floor = stream_floor(3 * 16 * links, links);
  section.lines.push_back({.name = "one chained add of 16 floats, with its backward",
                           .unit = Unit::nanoseconds,
                           .ours = chain([](const Var& y, const Var& x) { return y + x; }),
                           .floor = chain_floor,
                           .goal = {Goal::seconds, 100e-9}});
  section.lines.push_back({.name = "one chained tanh of 16 floats, with its backward",
                           .unit = Unit::nanoseconds,
                           .ours = chain([](const Var& y, const Var&) { return tanh(y); }),
                           .floor = chain_floor,
                           .goal = {Goal::seconds, 100e-9}});
  section.lines.push_back({.name = "MLP 784-256-256-10, batch 128, training step",
                           .ours = mlp_step,
                           .floor = gemm_floor(mlp_products()),
                           .goal = {Goal::peer, 1.0}});

  add_convolution(section, "conv 3x3, 32 to 32, 28x28, batch 64", {32, 32, 3}, {Goal::peer, 1.1});
  add_convolution(section, "the same, LibTorch channels-last", {32, 32, 3}, {Goal::peer, 1.1});
  add_convolution(section, "conv 3x3, 1 to 32", {1, 32, 3});
  add_convolution(section, "conv 3x3, 32 to 1", {32, 1, 3});
  add_convolution(section, "conv 1x1, 32 to 32", {32, 32, 1});

  const auto elements = [&](const char* name, const std::function<Var(const Vars&)>& f) {
    section.lines.push_back({.name = name,
                             .ours =
                                 [=] {
                                   return forward(f, {tensor({1000, 1000}, 1.0, 1), tensor({1000}, 1.0, 2),
                                                      tensor({1000}, 1.0, 3)});
                                 },
                             .floor = stream_floor(1'000'000),
                             .goal = {Goal::peer, 0.5}});
  };
  elements("tanh, 1e6", [](const Vars& x) { return tanh(x[0]); });
  elements("exp, 1e6", [](const Vars& x) { return exp(x[0]); });
  elements("softmax, 1000x1000", [](const Vars& x) { return softmax(x[0]); });
  elements("layer norm, 1000x1000", [](const Vars& x) { return layer_norm(x[0], x[1], x[2]); });
  return section;
}

}  // namespace bench
