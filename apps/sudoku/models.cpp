#include <apps/sudoku/models.hpp>

#include <fmt/format.h>

#include <apps/sudoku/boards.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/conv.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/optnet.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>

namespace banach::sudoku {
namespace {

/// Amos and Kolter 2017, section 4.4: argmin over z of 0.05 |z|^2 - x'z subject to Az = b and z >= 0, with a
/// learned A, which starts uniform on [0, 1), and b = A exp(log_z0), so that there always is such a z.
class OptNet final : public Model {
 public:
  explicit OptNet(Random random)
      : layer_(board_size, random, {.equalities = 40, .nonnegative = true, .learn_Q = false, .eps = 0.1}) {}

  void visit(nn::Visitor& visitor) override { layer_.visit(visitor); }
  std::string description() const override {
    return "quadratic program: minimise 0.05 |z|² − x'z over z ≥ 0 with 40 learned equalities Az = b";
  }
  Prediction operator()(const Var& puzzles) const override {
    QpSolved solved = layer_(puzzles);
    return {solved.z, std::move(solved.report), solved.adjoint};
  }

 private:
  nn::OptNet layer_;
};

/// In each cell a distribution over the digits.
Var distributions(const Var& scores) {
  return reshape(softmax(reshape(scores, {scores.size(0), cells, digits}), -1), {scores.size(0), board_size});
}

/// Convolutions of 3x3 over the cells, with the digits as channels.
class ConvNet final : public Model {
 public:
  explicit ConvNet(Random random) {
    std::int64_t in = digits;
    for (int i = 0; i < hidden_layers; ++i, in = channels)
      layers_.emplace_back(in, channels, 3, random, same);
    layers_.emplace_back(in, digits, 3, random, same);
  }
  void visit(nn::Visitor& visitor) override { visitor("layers", layers_); }
  std::string description() const override {
    return fmt::format(
        "convolutional network: {} layers of {} filters of 3x3 and relu, a softmax in each cell",
        hidden_layers, channels);
  }
  Prediction operator()(const Var& puzzles) const override {
    const std::int64_t batch = puzzles.size(0);
    Var x = reshape(permute(reshape(puzzles, {batch, cells, digits}), {0, 2, 1}), {batch, digits, 4, 4});
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) x = relu(layers_[i](x));
    x = permute(reshape(layers_.back()(x), {batch, digits, cells}), {0, 2, 1});
    return {distributions(x)};
  }

 private:
  static constexpr int hidden_layers = 5;
  static constexpr std::int64_t channels = 64;
  static inline const nn::ConvOptions same{.padding = 1};
  std::vector<nn::Conv2d> layers_;
};

class Mlp final : public Model {
 public:
  explicit Mlp(Random random) {
    std::int64_t in = board_size;
    for (int i = 0; i < hidden_layers; ++i, in = width) layers_.emplace_back(in, width, random);
    layers_.emplace_back(in, board_size, random);
  }
  void visit(nn::Visitor& visitor) override { visitor("layers", layers_); }
  std::string description() const override {
    return fmt::format("fully connected network: {} layers of {} units and relu, a softmax in each cell",
                       hidden_layers, width);
  }
  Prediction operator()(const Var& puzzles) const override {
    Var x = puzzles;
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) x = relu(layers_[i](x));
    return {distributions(layers_.back()(x))};
  }

 private:
  static constexpr int hidden_layers = 3;
  static constexpr std::int64_t width = 512;
  std::vector<nn::Linear> layers_;
};

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names{"optnet", "conv", "mlp"};
  return names;
}

std::unique_ptr<Model> make_model(const std::string& name, std::uint64_t seed) {
  const Random random(seed);
  if (name == "optnet") return std::make_unique<OptNet>(random);
  if (name == "conv") return std::make_unique<ConvNet>(random);
  if (name == "mlp") return std::make_unique<Mlp>(random);
  fail<ValueError>("sudoku", fmt::format("the model must be optnet, conv or mlp: got '{}'", name));
}

std::unique_ptr<Model> make_optnet(const Equalities& given) {
  auto model = make_model("optnet", 0);
  nn::load_state(*model,
                 {{"A", given.A.to(DType::f32)}, {"log_z0", log(Var(given.z0.to(DType::f32))).value()}});
  return model;
}

std::optional<Equalities> equalities(Model& model) {
  const auto state = nn::state(model);
  const auto A = state.find("A"), log_z0 = state.find("log_z0");
  if (A == state.end() || log_z0 == state.end()) return {};
  return Equalities{A->second, exp(Var(log_z0->second)).value()};
}

}  // namespace banach::sudoku
