#include <apps/lab/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include <apps/cli/progress.hpp>
#include <apps/lab/checkpoint.hpp>
#include <apps/lab/data.hpp>
#include <apps/lab/models.hpp>
#include <apps/lab/noise.hpp>
#include <apps/lab/pass.hpp>
#include <apps/report/format.hpp>
#include <banach/engine/error.hpp>
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

/// The training of all rules, one after another.
class Training {
 public:
  Training(const TrainSettings& settings, const nn::ImageDataset& data, const std::string& checkpoint,
           const std::function<bool()>& stop, Results& results)
      : settings_(settings),
        data_(data),
        checkpoint_(checkpoint),
        stop_(stop),
        results_(results),
        // The convolutions in f64 cost much more.
        probe_batch_(data.train.range(
            0, std::min<std::int64_t>(settings.model == "conv" ? 32 : 128, data.train.size()))),
        noise_batches_(noise_batches()) {
    results_.probe_images = probe_batch_.x.size(0);
    results_.noise_batches = settings.probe_batches;
    results_.noise_draws = settings.probe_seeds;
    results_.noise_images = noise_batches_.empty() ? 0 : noise_batches_.front().x.size(0);
    results_.parameters = nn::count(nn::parameters(*new_model()));
    for (const Rule& rule : settings.rules)
      results_.rules.push_back({.spec = rule.spec,
                                .formula = rule.formula,
                                .paper = rule.paper,
                                .solver = solver_of(rule, settings.solver),
                                .random = rule.random});
  }

  void run(bool resume) {
    const std::size_t first = resume ? take_results(checkpoint_, results_) : 0;
    const auto steps_done = [&] {
      std::size_t done = 0;
      for (const RuleResult& rule : results_.rules) done += rule.steps.size();
      return static_cast<std::int64_t>(done);
    };
    bar_.emplace(static_cast<std::int64_t>(settings_.rules.size()) * settings_.steps, steps_done());
    for (std::size_t i = first; i < settings_.rules.size(); ++i) train_rule(i);
  }

 private:
  /// What a rule trains: together with the results all that a checkpoint holds.
  struct State {
    std::unique_ptr<Classifier> model;
    nn::Adam adam;
    nn::Loader loader;
    std::int64_t step = 0;
  };

  std::unique_ptr<Classifier> new_model() const {
    return make_classifier(settings_, data_.train.image_shape(), data_.train.classes());
  }

  void train_rule(std::size_t index) {
    const Rule& rule = settings_.rules[index];
    RuleResult& result = results_.rules[index];
    std::unique_ptr<Classifier> fresh = new_model();
    const nn::ParameterList parameters = nn::parameters(*fresh);
    // No prefetching: a batch made meanwhile would count as memory of the step.
    State state{
        std::move(fresh),
        nn::Adam(parameters,
                 {.learning_rate = settings_.learning_rate, .weight_decay = settings_.weight_decay}),
        nn::Loader(
            data_.train,
            {.batch_size = settings_.batch_size, .seed = settings_.seed, .drop_last = true, .prefetch = 0})};
    if (!result.steps.empty()) go_on(state);
    // The engine's tables grow in the first passes of a process. A fresh run makes those in its first probe;
    // after a resume they would count as memory of the next step.
    if (!result.probes.empty()) pass_at(*state.model, rule, 0);

    for (; state.step < settings_.steps; ++state.step) {
      if (due(result, state.step)) {
        probe(index, *state.model, state.step);
        save(state, index);
      }
      if (stop_()) {
        save(state, index);
        throw Error(fmt::format("interrupted in step {} of {}; --resume goes on from {}", state.step + 1,
                                rule.spec, checkpoint_));
      }
      const auto draw = static_cast<std::uint64_t>(state.step);
      if (!train_step(state, solve_options(settings_, rule, training_draws, draw), result)) {
        bar_->say(fmt::format("{}: {}", rule.spec, result.failure));
        break;
      }
      if (!std::isfinite(result.steps.back().loss) && result.steps_without_loss().size() == 1)
        bar_->say(fmt::format("{}: the loss of step {} is {}", rule.spec, state.step + 1,
                              report::format_number(result.steps.back().loss)));
      bar_->update(static_cast<std::int64_t>(index) * settings_.steps + state.step + 1,
                   fmt::format("{} ({} of {})", rule.spec, index + 1, settings_.rules.size()));
    }
    finish(index, *state.model, state.step);
    save(state, index + 1);
  }

  void go_on(State& state) const {
    const nn::Progress at = nn::load_checkpoint(checkpoint_, *state.model, state.adam);
    state.loader.seek(at.position);
    state.step = at.step;
  }

  void save(State& state, std::size_t rule) const {
    nn::Progress progress{
        .step = state.step, .position = state.loader.position(), .loader_seed = settings_.seed};
    put_results(progress, results_, rule);
    nn::save_checkpoint(checkpoint_, *state.model, state.adam, progress);
  }

  /// False, and the failure noted, if the gradient is not finite.
  bool train_step(State& state, const FixedPointOptions& options, RuleResult& result) const {
    const auto start = Clock::now();
    const nn::Minibatch batch = state.loader.next();
    const Pass pass = run_pass(*state.model, batch, options);
    const bool finite = std::all_of(pass.gradients.begin(), pass.gradients.end(),
                                    [](const Var& g) { return g.value().all_finite(); });
    if (!finite) {
      result.failure = fmt::format("training stopped: the gradient of step {} is not finite", state.step + 1);
      return false;
    }
    state.adam.set_learning_rate(learning_rate(state.step));
    state.adam.step(pass.gradients);
    state.model->after_step(
        batch.x, pass.z, Random(settings_.seed, step_stream).split(static_cast<std::uint64_t>(state.step)));

    result.steps.push_back(
        {pass.loss, pass.cost, std::chrono::duration<double>(Clock::now() - start).count()});
    for (const SampleReport& sample : pass.report.samples)
      ++result.forward_statuses[std::string(name(sample.status))];
    for (const auto& [name, value] : pass.figures) result.figures[name].add(value);
    if (!pass.adjoint) return true;
    for (const GradientStatus& sample : pass.adjoint->samples) {
      ++result.gradient_kinds[std::string(name(sample.kind))];
      ++result.adjoint_statuses[std::string(name(sample.adjoint))];
    }
    return true;
  }

  double learning_rate(std::int64_t step) const {
    if (!settings_.cosine_schedule) return settings_.learning_rate;
    return nn::CosineSchedule{.peak = settings_.learning_rate, .steps = settings_.steps}(step);
  }

  /// A resumed run has already seen the probe of the step it starts with.
  bool due(const RuleResult& result, std::int64_t step) const {
    return step % settings_.probe_every == 0 && (result.probes.empty() || result.probes.back().step < step);
  }

  /// Compares the rule's gradient with the exact one and tests the model; along the first rule's training,
  /// compares all rules' gradients.
  Evaluation probe(std::size_t index, const Classifier& model, std::int64_t step) {
    const ExactGradient exact = exact_gradient(model, probe_batch_);
    const std::vector<double> radii = spectral_radii(model, probe_batch_, exact);
    Evaluation test = evaluate(model, data_.test, solve_options(settings_, settings_.rules[index]));
    RuleResult& own = results_.rules[index];
    Pass at = pass_at(model, settings_.rules[index], step);
    own.probes.push_back({.step = step,
                          .seconds = own.seconds(),
                          .test_accuracy = test.accuracy,
                          .test_loss = test.loss,
                          .quality = compare(at.gradients, exact),
                          .radius_median = median(radii),
                          .radius_largest = *std::max_element(radii.begin(), radii.end()),
                          .forward_residual = exact.forward_residual,
                          .adjoint_residual = exact.adjoint_residual,
                          .figures = std::move(at.figures)});
    if (index == 0) compare_all(model, step, exact);
    return test;
  }

  void compare_all(const Classifier& model, std::int64_t step, const ExactGradient& exact) {
    std::vector<Gradient> exact_each;
    for (const nn::Minibatch& batch : noise_batches_)
      exact_each.push_back(exact_gradient(model, batch).values);
    for (std::size_t i = 0; i < settings_.rules.size(); ++i) {
      const Rule& rule = settings_.rules[i];
      const Pass pass = pass_at(model, rule, step);
      results_.rules[i].same_point.push_back(
          {step, compare(pass.gradients, exact), pass.cost,
           exact_each.empty() ? Noise{} : noise_at(model, rule, exact_each)});
    }
  }

  Noise noise_at(const Classifier& model, const Rule& rule, const std::vector<Gradient>& exact) const {
    const std::int64_t draws = rule.random ? settings_.probe_seeds : 1;
    std::vector<std::vector<Gradient>> estimates;
    for (const nn::Minibatch& batch : noise_batches_) {
      estimates.emplace_back();
      for (std::int64_t draw = 0; draw < draws; ++draw) {
        const auto key =
            static_cast<std::uint64_t>(estimates.size()) << 32 | static_cast<std::uint64_t>(draw);
        const Pass pass = run_pass(*model.clone(), batch, solve_options(settings_, rule, noise_stream, key));
        estimates.back().push_back(flat(pass.gradients));
      }
    }
    return noise_of(estimates, exact);
  }

  /// Drawn at random, the same at all points: as large as in training, or as the probe's batch where that is
  /// smaller.
  std::vector<nn::Minibatch> noise_batches() const {
    const std::int64_t images = std::min(settings_.batch_size, probe_batch_.x.size(0));
    std::vector<nn::Minibatch> batches;
    Random random(settings_.seed, noise_stream);
    for (std::int64_t i = 0; i < settings_.probe_batches; ++i) {
      std::vector<std::int64_t> rows = random.permutation(data_.train.size());
      rows.resize(static_cast<std::size_t>(images));
      batches.push_back(data_.train.batch(rows));
    }
    return batches;
  }

  /// A pass over the probe's batch that leaves the model as it is.
  Pass pass_at(const Classifier& model, const Rule& rule, std::int64_t step) const {
    FixedPointOptions options = solve_options(settings_, rule, probe_draws, static_cast<std::uint64_t>(step));
    options.whole_trace = true;
    return run_pass(*model.clone(), probe_batch_, options);
  }

  void finish(std::size_t index, const Classifier& model, std::int64_t step) {
    RuleResult& result = results_.rules[index];
    Evaluation test = probe(index, model, step);
    result.accuracy = test.accuracy;
    test.predictions.resize(std::min<std::size_t>(shown_images, test.predictions.size()));
    result.predictions = std::move(test.predictions);
    result.convergence = convergence_of(pass_at(model, settings_.rules[index], step).report);
  }

  const TrainSettings& settings_;
  const nn::ImageDataset& data_;
  const std::string checkpoint_;
  const std::function<bool()>& stop_;
  Results& results_;
  nn::Minibatch probe_batch_;
  std::vector<nn::Minibatch> noise_batches_;
  std::optional<cli::Progress> bar_;
};

}  // namespace

void train(const TrainSettings& settings, const nn::ImageDataset& data, const std::string& checkpoint,
           bool resume, const std::function<bool()>& stop, Results& results) {
  results.settings = describe(settings);
  results.training_images = data.train.size();
  results.test_images = data.test.size();
  results.class_names = data.class_names;
  results.samples = sample_images(data.test, shown_images);
  Training(settings, data, checkpoint, stop, results).run(resume);
}

}  // namespace banach::lab
