#include <apps/lab/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include <apps/cli/run.hpp>
#include <apps/lab/data.hpp>
#include <apps/lab/models.hpp>
#include <apps/lab/noise.hpp>
#include <apps/lab/pass.hpp>
#include <apps/report/format.hpp>
#include <apps/training/training.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/loss.hpp>

namespace banach::lab {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t test_batch = 500;
constexpr std::int64_t shown_images = 30;
// Streams of random numbers, apart from that of the parameters: of the steps, of what a rule draws in
// training and in probes, of the minibatches for bias and variance.
constexpr std::uint64_t step_stream = 2, training_draws = 3, probe_draws = 4, noise_stream = 5;

/// `stream` and `draw` decide what a rule draws, if it does.
FixedPointOptions solve_options(const TrainSettings& s, const Rule& rule, std::uint64_t stream = probe_draws,
                                std::uint64_t draw = 0) {
  constexpr double adjoint_tolerance = 1e-6;
  return {.solver = forward_solver(rule, s.solver),
          .backward = rule.backward(adjoint_tolerance, Random(s.seed, stream).split(draw).bits()),
          .tolerance = s.tolerance,
          .max_steps = most_steps(rule, s.max_steps)};
}

struct Evaluation {
  double accuracy = 0, loss = 0;
  std::vector<std::int64_t> predictions;
};

/// Accuracy and mean loss on a whole split, the model in evaluation.
Evaluation evaluate(const Classifier& trained, const nn::ImageSplit& split, FixedPointOptions options) {
  const NoGrad off;
  const std::unique_ptr<Classifier> model = trained.clone();
  nn::eval(*model);
  Evaluation result;
  for (std::int64_t begin = 0; begin < split.size(); begin += test_batch) {
    const std::int64_t end = std::min(begin + test_batch, split.size());
    const auto [x, labels] = split.range(begin, end);
    const Equation equation = model->equation(Var(x));
    options.batch = equation.batch;
    const Var logits = model->head(fixed_point(equation.f, equation.z0, options).z);
    result.loss += cross_entropy(logits, Var(labels)).item() * static_cast<double>(end - begin);
    const std::int64_t classes = logits.size(1);
    const float* row = logits.value().data<float>();
    for (std::int64_t i = begin; i < end; ++i, row += classes) {
      const std::int64_t predicted = std::max_element(row, row + classes) - row;
      result.predictions.push_back(predicted);
      result.accuracy += predicted == split.label(i) ? 1.0 : 0.0;
    }
  }
  result.accuracy /= static_cast<double>(split.size());
  result.loss /= static_cast<double>(split.size());
  return result;
}

Convergence convergence_of(const SolveReport& report) {
  Convergence result;
  const std::size_t batch = report.samples.size();
  for (std::size_t row = 0; row < report.trace.steps.size(); ++row) {
    const double* first = report.trace.rel_trace.data() + row * batch;
    const std::vector<double> values(first, first + batch);
    result.median.push_back(median(values));
    result.smallest.push_back(*std::min_element(values.begin(), values.end()));
    result.largest.push_back(*std::max_element(values.begin(), values.end()));
  }
  return result;
}

/// What all rules are compared on.
struct ProbeData {
  ProbeData(const TrainSettings& settings, const nn::ImageDataset& data)
      // The convolutions in f64 cost much more.
      : batch(data.train.range(
            0, std::min<std::int64_t>(settings.model == "conv" ? 32 : 128, data.train.size()))),
        noise(noise_batches(settings, data)) {}

  nn::Minibatch batch;               ///< for probes
  std::vector<nn::Minibatch> noise;  ///< for bias and variance

 private:
  /// Drawn at random, the same at all points: as large as in training, or as the probe's batch where that is
  /// smaller.
  std::vector<nn::Minibatch> noise_batches(const TrainSettings& settings,
                                           const nn::ImageDataset& data) const {
    const std::int64_t images = std::min(settings.batch_size, batch.x.size(0));
    std::vector<nn::Minibatch> batches;
    Random random(settings.seed, noise_stream);
    for (std::int64_t i = 0; i < settings.probe_batches; ++i) {
      std::vector<std::int64_t> rows = random.permutation(data.train.size());
      rows.resize(static_cast<std::size_t>(images));
      batches.push_back(data.train.batch(rows));
    }
    return batches;
  }
};

class Learner : public training::Trainee {
 public:
  Learner(const TrainSettings& settings, const nn::ImageDataset& data, const ProbeData& probes,
          std::size_t index, std::vector<RuleResult>& results)
      : settings_(settings),
        data_(data),
        probes_(probes),
        index_(index),
        results_(results),
        model_(make_classifier(settings, data.train.image_shape(), data.train.classes())),
        adam_(nn::parameters(*model_),
              {.learning_rate = settings.learning_rate, .weight_decay = settings.weight_decay}),
        // No prefetching: a batch made meanwhile would count as memory of the step.
        loader_(
            data.train,
            {.batch_size = settings.batch_size, .seed = settings.seed, .drop_last = true, .prefetch = 0}) {}

  void visit(nn::Visitor& visitor) override { model_->visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }
  void go_on(const nn::Progress& at) override {
    training::seek(loader_, at.step);
    // The engine's tables grow in the first passes of a process. A fresh run makes those in its first probe;
    // after a resume they would count as memory of the next step.
    pass_at(rule(), 0);
  }

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const auto key = static_cast<std::uint64_t>(step);
    const nn::Minibatch batch = loader_.next();
    const Pass pass = run_pass(*model_, batch, solve_options(settings_, rule(), training_draws, key));
    RuleResult& result = results_[index_];
    result.failure = training::fault(step, pass.gradients);  // a loss that is not finite is only counted
    if (!result.failure.empty()) return result.failure;
    adam_.set_learning_rate(learning_rate(step));
    adam_.step(pass.gradients);
    model_->after_step(batch.x, pass.z, Random(settings_.seed, step_stream).split(key));

    result.steps.push_back(
        {pass.loss, pass.cost, std::chrono::duration<double>(Clock::now() - start).count()});
    if (!std::isfinite(pass.loss) && result.steps_without_loss().size() == 1)
      cli::note(fmt::format("{}: the loss of step {} is {}", result.spec, step + 1,
                            report::format_number(pass.loss)));
    training::count(result.forward_statuses, pass.report.samples, &SampleReport::status);
    for (const auto& [name, value] : pass.figures) result.figures[name].add(value);
    if (!pass.adjoint) return {};
    training::count(result.gradient_kinds, pass.adjoint->samples, &GradientStatus::kind);
    training::count(result.adjoint_statuses, pass.adjoint->samples, &GradientStatus::adjoint);
    return {};
  }

  /// Compares the rule's gradient with the exact one and tests the model; along the first rule's training,
  /// compares all rules' gradients.
  void probe(std::int64_t step) override {
    const ExactGradient exact = exact_gradient(*model_, probes_.batch);
    const std::vector<double> radii = spectral_radii(*model_, probes_.batch, exact);
    Evaluation test = evaluate(*model_, data_.test, solve_options(settings_, rule()));
    RuleResult& result = results_[index_];
    Pass at = pass_at(rule(), step);
    result.probes.push_back({.step = step,
                             .seconds = result.seconds(),
                             .test_accuracy = test.accuracy,
                             .test_loss = test.loss,
                             .quality = compare(at.gradients, exact),
                             .radius_median = median(radii),
                             .radius_largest = *std::max_element(radii.begin(), radii.end()),
                             .forward_residual = exact.forward_residual,
                             .adjoint_residual = exact.adjoint_residual,
                             .figures = std::move(at.figures)});
    result.accuracy = test.accuracy;
    test.predictions.resize(std::min<std::size_t>(shown_images, test.predictions.size()));
    result.predictions = std::move(test.predictions);
    result.convergence = convergence_of(at.report);
    if (index_ == 0) compare_all(step, exact);
  }

 private:
  const Rule& rule() const { return settings_.rules[index_]; }

  double learning_rate(std::int64_t step) const {
    if (!settings_.cosine_schedule) return settings_.learning_rate;
    return nn::CosineSchedule{.peak = settings_.learning_rate, .steps = settings_.steps}(step);
  }

  void compare_all(std::int64_t step, const ExactGradient& exact) {
    std::vector<Gradient> exact_each;
    for (const nn::Minibatch& batch : probes_.noise)
      exact_each.push_back(exact_gradient(*model_, batch).values);
    for (std::size_t i = 0; i < settings_.rules.size(); ++i) {
      const Rule& rule = settings_.rules[i];
      const Pass pass = pass_at(rule, step);
      results_[i].same_point.push_back({step, compare(pass.gradients, exact), pass.cost,
                                        exact_each.empty() ? Noise{} : noise_at(rule, exact_each)});
    }
  }

  Noise noise_at(const Rule& rule, const std::vector<Gradient>& exact) const {
    const std::int64_t draws = rule.random ? settings_.probe_seeds : 1;
    std::vector<std::vector<Gradient>> estimates;
    for (const nn::Minibatch& batch : probes_.noise) {
      estimates.emplace_back();
      for (std::int64_t draw = 0; draw < draws; ++draw) {
        const auto key =
            static_cast<std::uint64_t>(estimates.size()) << 32 | static_cast<std::uint64_t>(draw);
        const Pass pass =
            run_pass(*model_->clone(), batch, solve_options(settings_, rule, noise_stream, key));
        estimates.back().push_back(flat(pass.gradients));
      }
    }
    return noise_of(estimates, exact);
  }

  /// A pass over the probe's batch that leaves the model as it is.
  Pass pass_at(const Rule& rule, std::int64_t step) const {
    FixedPointOptions options = solve_options(settings_, rule, probe_draws, static_cast<std::uint64_t>(step));
    options.whole_trace = true;
    return run_pass(*model_->clone(), probes_.batch, options);
  }

  const TrainSettings& settings_;
  const nn::ImageDataset& data_;
  const ProbeData& probes_;
  std::size_t index_;
  std::vector<RuleResult>& results_;
  std::unique_ptr<Classifier> model_;
  nn::Adam adam_;
  nn::Loader loader_;
};

cli::RunNotes notes_of(const TrainSettings& settings) {
  return {"lab", describe(settings), settings.rules.size()};
}

}  // namespace

void train(const TrainSettings& settings, const nn::ImageDataset& data, const training::Place& place,
           Results& results) {
  const cli::RunNotes notes = notes_of(settings);
  training::check(notes, place);  // before any work
  const ProbeData probes(settings, data);
  results.settings = describe(settings);
  results.training_images = data.train.size();
  results.test_images = data.test.size();
  results.class_names = data.class_names;
  results.samples = sample_images(data.test, shown_images);
  results.probe_images = probes.batch.x.size(0);
  results.noise_batches = settings.probe_batches;
  results.noise_draws = settings.probe_seeds;
  results.noise_images = probes.noise.empty() ? 0 : probes.noise.front().x.size(0);
  results.parameters =
      nn::count(nn::parameters(*make_classifier(settings, data.train.image_shape(), data.train.classes())));
  std::vector<training::Run::Model> models;
  for (const Rule& rule : settings.rules) {
    results.rules.push_back({.spec = rule.spec,
                             .formula = rule.formula,
                             .paper = rule.paper,
                             .solver = solver_of(rule, settings.solver),
                             .random = rule.random});
    models.push_back({rule.spec, settings.steps});
  }
  training::train(
      {.notes = notes,
       .place = place,
       .models = models,
       .probe_every = settings.probe_every,
       .make =
           [&](std::size_t i) { return std::make_unique<Learner>(settings, data, probes, i, results.rules); },
       .results = training::kept(results.rules, from_text)});
}

}  // namespace banach::lab
