#include <apps/flow/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/run.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/reduce.hpp>

namespace banach::flow {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t looks = 30;
constexpr std::int64_t most_trained_exactly = 256;  // entries: each has a recorded product with the Jacobian

class Learner : public training::Trainee {
 public:
  Learner(const Options& options, ModelResult& result)
      : options_(options),
        result_(result),
        source_(source_of(result)),
        test_(source_->held_out(result.test)),
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
    const Labelled batch = source_->batch(options_.batch_size, static_cast<std::uint64_t>(step));
    const Tape tape;
    const Var loss = loss_of(Var(batch.x.to(model_.dtype())), batch.labels);
    Vars gradients = nn::grad(loss, parameters_);
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
    const auto rows = [&](std::int64_t few) { return step == options_.steps ? test_.x.size(0) : few; };
    const std::int64_t weighed = rows(result_.weighed_on_the_way()),
                       labelled = rows(result_.labelled_on_the_way());
    Look at{.step = step, .seconds = result_.seconds()};
    if (result_.architecture.weigh) at.nats = mean_of(log_densities(model_, test_.x.rows(0, weighed))).value;
    if (result_.classifies())
      at.correct = accuracy(model_, {test_.x.rows(0, labelled), test_.labels.rows(0, labelled)});
    if (step == options_.steps && !std::isfinite(at.nats))
      result_.failure = "training ended with a log p that is not finite";
    result_.probes.push_back(at);
    result_.learned = nn::state(model_);
  }

 private:
  Var loss_of(const Var& x, const Tensor& labels) const {
    if (!result_.architecture.weigh) return classification(model_.transform(x), labels);
    const nn::Transformed at = model_.forward(x);
    const double unit = result_.points() ? 1.0 : result_.entries();
    const Var weighed = (-options_.density / unit) * mean(model_.log_density(at));
    return result_.classifies() ? weighed + classification(at.y, labels) : weighed;
  }
  Var classification(const Var& z, const Tensor& labels) const {
    return options_.classify * cross_entropy(model_.logits(z), Var(labels));
  }

  const Options& options_;
  ModelResult& result_;
  std::unique_ptr<Source> source_;
  Labelled test_;
  FlowModel model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  nn::CosineSchedule schedule_;
};

ModelResult new_result(const Options& options, const std::string& data, const std::string& estimator) {
  ModelResult result{.name = options.density > 0.0 ? fmt::format("{}, {}", data, estimator) : data,
                     .data = data,
                     .estimator = estimator,
                     .architecture = options.architecture,
                     .settings = options.estimator,
                     .folder = options.source.folder,
                     .reduce = options.source.reduce,
                     .seed = options.common.seed};
  const std::unique_ptr<Source> source = source_of(result);
  const DataKind kind = source->kind();
  if (options.density > 0.0 && estimator == "exact" && kind.entries() > most_trained_exactly)
    throw cli::UsageError(fmt::format(
        "--estimators exact: the memory of a step grows with the {} entries of a sample, of which "
        "it takes {} at most; take --reduce, or roulette:0.15:4",
        kind.entries(), most_trained_exactly));
  result.architecture.sample = kind.sample;
  result.architecture.levels = kind.levels;
  result.architecture.weigh = options.density > 0.0;
  if (options.classify > 0.0) result.architecture.classes = kind.classes;
  result.test = source->held_out(options.test).x.size(0);
  FlowModel model(result.architecture, Exact{}, result.seed);
  if (model.blocks() == 0)
    throw cli::UsageError(fmt::format("--reduce {}: leaves images that cannot be squeezed, and so no blocks",
                                      options.source.reduce));
  if (model.scales() < result.architecture.scales)
    throw cli::UsageError(
        fmt::format("--scales {}: images of {} x {} pixels have {} at most, as each halves even sides",
                    result.architecture.scales, kind.sample[1], kind.sample[2], model.scales()));
  result.parameters = nn::count(nn::parameters(model));
  return result;
}

}  // namespace

void train(const Options& options, const training::Place& place, Results& results) {
  std::vector<training::Run::Model> models;
  for (const std::string& data : options.data)
    for (const std::string& estimator : options.estimators) {
      results.models.push_back(new_result(options, data, estimator));
      models.push_back({results.models.back().name, options.steps});
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
  const nn::Progress progress = cli::read_checkpoint(checkpoint, "banach flow train");
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
