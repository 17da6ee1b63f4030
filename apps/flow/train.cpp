#include <apps/flow/train.hpp>

#include <algorithm>
#include <chrono>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/ops.hpp>

namespace banach::flow {
namespace {

using Clock = std::chrono::steady_clock;

// Streams of points: step k of the training takes number k.
constexpr std::uint64_t test_stream = ~std::uint64_t{0};
constexpr std::int64_t looks = 30;

class Learner : public training::Trainee {
 public:
  Learner(const Options& options, ModelResult& result)
      : options_(options),
        result_(result),
        test_(held_out(result)),
        model_(result.architecture, parse_estimator(result.estimator, result.settings), result.seed),
        parameters_(nn::parameters(model_)),
        adam_(parameters_),
        schedule_{.peak = options.learning_rate,
                  .steps = options.steps,
                  .warmup = std::min<std::int64_t>(100, options.steps / 10)} {}

  void visit(nn::Visitor& visitor) override { model_.visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }
  void go_on(const nn::Progress&) override {}

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const Points batch =
        draw_points(result_.data, options_.batch_size, result_.seed, static_cast<std::uint64_t>(step));
    const Tape tape;
    const nn::Transformed at = model_.forward(Var(batch.x.to(model_.dtype())));
    const Var loss = -mean(model_.log_density(at));
    const Var joint = options_.classify > 0.0
                          ? loss + options_.classify * cross_entropy(model_.logits(at.y), Var(batch.labels))
                          : loss;
    Vars gradients = nn::grad(joint, parameters_);
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    constexpr double longest = 10.0;
    nn::clip_by_global_norm(gradients, longest);
    adam_.set_learning_rate(schedule_(step));
    adam_.step(gradients);
    result_.steps.push_back(
        {.loss = loss.item(), .seconds = std::chrono::duration<double>(Clock::now() - start).count()});
    return {};
  }

  void probe(std::int64_t step) override {
    const std::int64_t most =
        step == options_.steps ? test_.x.size(0) : std::min<std::int64_t>(2000, test_.x.size(0));
    Probe at{.step = step, .seconds = result_.seconds()};
    at.nats = mean_of(log_densities(model_, test_.x.rows(0, most))).value;
    if (result_.architecture.classes > 0)
      at.correct = accuracy(model_, {test_.x.rows(0, most), test_.labels.rows(0, most)});
    result_.probes.push_back(at);
    result_.learned = nn::state(model_);
  }

 private:
  const Options& options_;
  ModelResult& result_;
  Points test_;
  PointFlow model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  nn::CosineSchedule schedule_;
};

}  // namespace

Points held_out(const ModelResult& model) {
  return draw_points(model.data, model.test, model.seed, test_stream);
}

double accuracy(PointFlow& model, const Points& points) {
  const NoGrad off;
  nn::eval(model);
  const Var z = model.forward(Var(points.x.to(model.dtype()))).y;
  const Tensor said = argmax(model.logits(z), 1).value();
  nn::train(model);
  double right = 0.0;
  for (std::int64_t i = 0; i < said.size(); ++i)
    right += said.data<std::int64_t>()[i] == points.labels.data<std::int64_t>()[i] ? 1.0 : 0.0;
  return right / static_cast<double>(said.size());
}

void train(const Options& options, const training::Place& place, Results& results) {
  std::vector<training::Run::Model> models;
  for (const std::string& data : options.data)
    for (const std::string& estimator : options.estimators) {
      ModelResult result{.name = fmt::format("{}, {}", data, estimator),
                         .data = data,
                         .estimator = estimator,
                         .architecture = options.architecture,
                         .settings = options.estimator,
                         .seed = options.common.seed,
                         .test = options.test};
      if (options.classify > 0.0) result.architecture.classes = classes_of(data);
      PointFlow model(result.architecture, Exact{}, result.seed);
      result.parameters = nn::count(nn::parameters(model));
      models.push_back({result.name, options.steps});
      results.models.push_back(std::move(result));
    }
  const cli::RunNotes notes("flow", describe(options), models.size());
  training::check(notes, place);
  results.settings = describe(options);
  training::train(
      {.notes = notes,
       .place = place,
       .models = models,
       .probe_every = std::max<std::int64_t>(1, options.steps / looks),
       .make = [&](std::size_t i) { return std::make_unique<Learner>(options, results.models[i]); },
       .results = training::kept(results.models, from_text)});
}

ModelResult load_model(const std::string& checkpoint, const std::string& name) {
  const nn::Progress progress = nn::load_progress(checkpoint);
  std::size_t count = 0;
  while (progress.notes.contains(fmt::format("result.{}", count))) ++count;
  if (!progress.notes.contains("flow.position") || count == 0)
    fail<FileError>("flow", fmt::format("{} is not a checkpoint of 'banach flow train'", checkpoint));
  std::vector<ModelResult> models(count);
  training::take(progress, models, from_text);
  std::vector<std::string> names;
  for (ModelResult& model : models) {
    if (model.learned.empty()) continue;  // its turn has not come
    if (name.empty() || model.name == name) return std::move(model);
    names.push_back(model.name);
  }
  fail<FileError>("flow",
                  fmt::format("{} has no model '{}', but: {}", checkpoint, name, fmt::join(names, "; ")));
}

}  // namespace banach::flow
