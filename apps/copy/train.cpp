#include <apps/copy/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <apps/copy/models.hpp>
#include <apps/copy/task.hpp>
#include <apps/training/training.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/optim.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/ops.hpp>

namespace banach::copy_task {
namespace {

using Clock = std::chrono::steady_clock;

// Streams of sequences: step k of the training takes number k.
constexpr std::uint64_t held_out = ~std::uint64_t{0};
constexpr std::int64_t recalls_kept = 6;

Var loss_of(const Var& logits, const Tensor& targets) {
  return cross_entropy(reshape(logits, {targets.size(), classes}), reshape(Var(targets), {targets.size()}));
}

/// The share of the peak rate: up over the first 50 steps, down to zero over the last fifth. In between it
/// stays: what is left to learn there is to be sure.
double rise_and_fall(std::int64_t step, std::int64_t steps) {
  const auto at = static_cast<double>(step);
  return std::min({1.0, (at + 1.0) / 50.0, 5.0 * (1.0 - at / static_cast<double>(steps))});
}

double peak_rate(const std::string& model, const Settings& settings) {
  return model == "trellis"       ? settings.trellis_rate
         : model == "transformer" ? settings.transformer_rate
                                  : settings.lstm_rate;
}

class Learner : public training::Trainee {
 public:
  Learner(const Settings& settings, const Sequences& test, ModelResult& result)
      : settings_(settings),
        test_(test),
        result_(result),
        model_(make_model(result.name, settings)),
        parameters_(nn::parameters(*model_)),
        adam_(parameters_),
        peak_(peak_rate(result.name, settings)) {}

  void visit(nn::Visitor& visitor) override { model_->visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }
  void go_on(const nn::Progress&) override {}

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const auto stream = static_cast<std::uint64_t>(step);
    const Sequences batch = make_sequences(settings_.batch_size, settings_.delay, settings_.seed, stream);
    const Tape tape;
    const Answer answer = (*model_)(batch.inputs, stream);
    const Var loss = loss_of(answer.logits, batch.targets);
    const double weight = settings_.jacobian *
                          std::pow(1.0 - static_cast<double>(step) / static_cast<double>(settings_.steps), 4);
    Vars gradients =
        nn::grad(answer.regularization.defined() ? loss + weight * answer.regularization : loss, parameters_);
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    nn::clip_by_global_norm(gradients, 1.0);
    adam_.set_learning_rate(peak_ * rise_and_fall(step, settings_.steps));
    adam_.step(gradients);

    Step done{.loss = loss.item()};
    if (answer.solved) {
      done.forward = answer.solved->report.nstep;
      done.backward = answer.solved->adjoint.last().evaluations;
      training::count(result_.solves, answer.solved->report.samples, &SampleReport::status);
    }
    done.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    result_.steps.push_back(done);
    return {};
  }

  void probe(std::int64_t step) override {
    const NoGrad off;
    const std::int64_t positions = length(settings_.delay), all = test_.inputs.shape()[0];
    Probe at{.step = step, .seconds = result_.seconds()};
    result_.recalls.clear();
    for (std::int64_t begin = 0; begin < all; begin += settings_.batch_size) {
      const std::int64_t end = std::min(all, begin + settings_.batch_size);
      const Tensor targets = test_.targets.rows(begin, end);
      const Var logits = (*model_)(test_.inputs.rows(begin, end), 0).logits;
      at.loss +=
          loss_of(logits, targets).item() * static_cast<double>(end - begin) / static_cast<double>(all);
      const Var recalled = slice(logits, 1, positions - remembered, positions);
      const Tensor said = argmax(recalled, 2).value(), chances = softmax(recalled).value();
      for (std::int64_t i = 0; i < end - begin; ++i) {
        Recall recall;
        for (std::int64_t k = 0; k < remembered; ++k) {
          const std::int64_t place = i * remembered + k;
          const auto symbol = targets.data<std::int64_t>()[(i + 1) * positions - remembered + k];
          recall.symbols.push_back(said.data<std::int64_t>()[place]);
          recall.probability.push_back(chances.at(place * classes + symbol));
          at.wrong += recall.symbols.back() == symbol ? 0.0 : 1.0 / static_cast<double>(all * remembered);
        }
        if (begin + i < recalls_kept) result_.recalls.push_back(std::move(recall));
      }
    }
    result_.probes.push_back(at);
  }

 private:
  const Settings& settings_;
  const Sequences& test_;
  ModelResult& result_;
  std::unique_ptr<Model> model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  double peak_;
};

cli::RunNotes notes_of(const Settings& settings) {
  return {"copy", describe(settings), settings.models.size()};
}

}  // namespace

void train(const Settings& settings, const training::Place& place, Results& results) {
  const cli::RunNotes notes = notes_of(settings);
  training::check(notes, place);  // before any work
  results.settings = describe(settings);
  results.delay = settings.delay;
  results.test = settings.test;
  results.memoryless = memoryless_loss(settings.delay);
  const Sequences test = make_sequences(settings.test, settings.delay, settings.seed, held_out);
  for (std::int64_t i = 0; i < std::min(recalls_kept, settings.test); ++i) {
    const auto* symbol = test.inputs.data<std::int64_t>() + i * length(settings.delay);
    results.asked.emplace_back(symbol, symbol + remembered);
  }
  std::vector<training::Run::Model> models;
  for (const std::string& name : settings.models) {
    const auto model = make_model(name, settings);
    results.models.push_back(
        {.name = name, .description = model->description(), .parameters = nn::count(nn::parameters(*model))});
    models.push_back({name, settings.steps});
  }
  training::train(
      {.notes = notes,
       .place = place,
       .models = models,
       .probe_every = settings.probe_every,
       .make = [&](std::size_t i) { return std::make_unique<Learner>(settings, test, results.models[i]); },
       .results = training::kept(results.models, from_text)});
}

}  // namespace banach::copy_task
