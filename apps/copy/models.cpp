#include <apps/copy/models.hpp>

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/copy/task.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/lstm.hpp>
#include <banach/nn/trellis_cell.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/index.hpp>

namespace banach::copy_task {
namespace {

/// Its biases start at the logarithms of how frequent the classes are, so that nothing else has to learn
/// that.
nn::Linear make_head(std::int64_t width, std::int64_t delay, Random& random) {
  nn::Linear head(width, classes, random);
  head.bias->update([&](Tensor& bias) {
    const auto share = [&](std::int64_t c) {
      return c < symbols  ? 1.0 / static_cast<double>(symbols)
             : c == blank ? 1.0 + static_cast<double>(delay) / static_cast<double>(remembered)
                          : 1e-3;
    };
    for (std::int64_t c = 0; c < classes; ++c)
      bias.mutable_data<float>()[c] = static_cast<float>(
          std::log(share(c) * static_cast<double>(remembered) / static_cast<double>(length(delay))));
  });
  return head;
}

Var encode(const Tensor& inputs) { return one_hot(Var(inputs), classes); }

/// The equilibrium of a trellis cell.
class Trellis final : public Model {
 public:
  Trellis(const Settings& s, Random random)
      : settings_(s),
        cell_({.input = classes, .hidden = s.hidden, .dilations = s.dilations}, random),
        head_(make_head(s.hidden, s.delay, random)),
        solve_{.backward = Implicit{Gmres{.max_steps = s.max_steps, .tolerance = s.tolerance}},
               .tolerance = s.tolerance,
               .max_steps = s.max_steps,
               .body = Body::replayed} {}

  Answer operator()(const Tensor& inputs, std::uint64_t probe) const override {
    const Var x = encode(inputs);
    const nn::SequenceBody f = cell_.bind(x);
    Answer answer;
    answer.solved = fixed_point(f, cell_.start(x), solve_);
    answer.logits = head_(cell_.output(answer.solved->z));
    if (settings_.jacobian > 0.0 && recording())
      answer.regularization = jacobian_regularization(f, answer.solved->z, {.seed = probe});
    return answer;
  }
  void visit(nn::Visitor& visitor) override { visitor("cell", cell_)("head", head_); }
  std::string description() const override {
    return fmt::format(
        "The equilibrium of a trellis cell of {} units with dilations {}: Anderson's acceleration to {:g}, "
        "at "
        "most {} evaluations; its gradient by GMRES, likewise.",
        settings_.hidden, fmt::join(settings_.dilations, ", "), settings_.tolerance, settings_.max_steps);
  }

 private:
  Settings settings_;
  nn::TrellisCell cell_;
  nn::Linear head_;
  FixedPointOptions solve_;
};

class Lstm final : public Model {
 public:
  Lstm(std::int64_t units, std::int64_t delay, Random random)
      : lstm_(classes, units, random), head_(make_head(units, delay, random)) {}

  Answer operator()(const Tensor& inputs, std::uint64_t) const override {
    return {.logits = head_(lstm_(encode(inputs)).h), .solved = {}, .regularization = {}};
  }
  void visit(nn::Visitor& visitor) override { visitor("lstm", lstm_)("head", head_); }
  std::string description() const override {
    return fmt::format("An LSTM of {} units, backpropagated through all positions.", head_.weight.shape()[1]);
  }

 private:
  nn::LSTM lstm_;
  nn::Linear head_;
};

std::int64_t lstm_parameters(std::int64_t units) {
  return 4 * units * (units + classes + 1) + classes * (units + 1);
}

}  // namespace

std::vector<std::string> model_names() { return {"trellis", "lstm"}; }

std::unique_ptr<Model> make_model(const std::string& name, const Settings& settings) {
  const Random random(settings.seed);
  auto trellis = std::make_unique<Trellis>(settings, random.split(0));
  if (name == "trellis") return trellis;
  std::int64_t units = 1;
  while (lstm_parameters(units) < nn::count(nn::parameters(*trellis))) ++units;
  return std::make_unique<Lstm>(units, settings.delay, random.split(1));
}

}  // namespace banach::copy_task
