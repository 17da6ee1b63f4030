#include <apps/copy/models.hpp>

#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/copy/task.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/lstm.hpp>
#include <banach/nn/transformer_cell.hpp>
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

/// The equilibrium of a cell.
class Equilibrium final : public Model {
 public:
  /// `embed`, if there is one, makes x of the one-hot symbols.
  Equilibrium(const Settings& s, const std::string& described, nn::AnyCell cell,
              std::optional<nn::Linear> embed, nn::Linear head, BackwardRule rule, double jacobian)
      : jacobian_(jacobian),
        description_(
            fmt::format("The equilibrium of {}; Anderson's acceleration to {:g}, at most {} evaluations.",
                        described, s.tolerance, s.max_steps)),
        embed_(std::move(embed)),
        cell_(std::move(cell)),
        head_(std::move(head)),
        solve_{.backward = std::move(rule),
               .tolerance = s.tolerance,
               .max_steps = s.max_steps,
               .body = Body::replayed} {}

  Answer operator()(const Tensor& inputs, std::uint64_t probe) const override {
    const Var x = embed_ ? (*embed_)(encode(inputs)) : encode(inputs);
    const nn::SequenceBody f = cell_.bind(x, {});
    Answer answer;
    answer.solved = fixed_point(f, cell_.start(x), solve_);
    answer.logits = head_(cell_.output(answer.solved->z));
    if (jacobian_ > 0.0 && recording())
      answer.regularization = jacobian_regularization(f, answer.solved->z, {.seed = probe});
    return answer;
  }
  void visit(nn::Visitor& visitor) override { visitor("embed", embed_)("cell", cell_)("head", head_); }
  std::string description() const override { return description_; }

 private:
  double jacobian_;
  std::string description_;
  std::optional<nn::Linear> embed_;
  nn::AnyCell cell_;
  nn::Linear head_;
  FixedPointOptions solve_;
};

std::unique_ptr<Model> make_trellis(const Settings& s, Random random) {
  nn::TrellisCell cell({.input = classes, .hidden = s.hidden, .dilations = s.dilations}, random);
  return std::make_unique<Equilibrium>(
      s,
      fmt::format("a trellis cell of {} units with dilations {}; the gradient by GMRES to the same tolerance",
                  s.hidden, fmt::join(s.dilations, ", ")),
      std::move(cell), std::nullopt, make_head(s.hidden, s.delay, random),
      Implicit{Gmres{.max_steps = s.max_steps, .tolerance = s.tolerance}}, s.jacobian);
}

/// About as many parameters as the trellis has by default. Second derivatives of attention keep all scores,
/// so its Jacobian is not regularised, and its gradient comes from a rule whose status needs none.
std::unique_ptr<Model> make_transformer(const Settings& s, Random random) {
  constexpr std::int64_t width = 32, heads = 4, hidden = 104;
  const Phantom rule{.steps = 8, .damping = 0.8};
  nn::Linear embed(classes, width, random, {.bias = false});
  nn::TransformerCell cell({.d_model = width, .heads = heads, .hidden = hidden}, random);
  return std::make_unique<Equilibrium>(
      s,
      fmt::format("a transformer cell of width {}, {} heads with relative positions, {} hidden units; the "
                  "phantom gradient of {} steps, damped by {}",
                  width, heads, hidden, rule.steps, rule.damping),
      std::move(cell), std::move(embed), make_head(width, s.delay, random), rule, 0.0);
}

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

std::vector<std::string> model_names() { return {"trellis", "transformer", "lstm"}; }

std::unique_ptr<Model> make_model(const std::string& name, const Settings& settings) {
  const Random random(settings.seed);
  if (name == "transformer") return make_transformer(settings, random.split(2));
  auto trellis = make_trellis(settings, random.split(0));
  if (name == "trellis") return trellis;
  std::int64_t units = 1;
  while (lstm_parameters(units) < nn::count(nn::parameters(*trellis))) ++units;
  return std::make_unique<Lstm>(units, settings.delay, random.split(1));
}

}  // namespace banach::copy_task
