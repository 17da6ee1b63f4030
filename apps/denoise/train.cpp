#include <apps/denoise/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include <apps/cli/progress.hpp>
#include <apps/cli/run_notes.hpp>
#include <apps/denoise/models.hpp>
#include <apps/denoise/signals.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/checkpoint.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/loss.hpp>

namespace banach::denoise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t test_batch = 250;
constexpr std::int64_t shown_signals = 6;
// Streams of random numbers, apart from that of the parameters.
constexpr std::uint64_t train_stream = 1, validation_stream = 2, test_stream = 3, turn_stream = 4;

const cli::RunNotes run_notes("denoise");

std::string result_key(const std::string& method) { return "denoise.result." + method; }
std::string learned_key(const std::string& method) { return "denoise.learned." + method + "."; }

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::vector<double>> first_rows(const Tensor& signals, std::int64_t count) {
  std::vector<std::vector<double>> rows;
  const double* row = signals.data<double>();
  for (std::int64_t i = 0; i < std::min(count, signals.size(0)); ++i, row += length)
    rows.emplace_back(row, row + length);
  return rows;
}

struct Test {
  double error = 0, seconds = 0;  ///< mean squared error; a signal
  Tally statuses{};
  std::vector<std::vector<double>> shown{};
};

Test test(const Denoiser& denoiser, const Signals& signals) {
  const NoGrad off;
  const auto start = Clock::now();
  Test result;
  for (std::int64_t begin = 0; begin < signals.size(); begin += test_batch) {
    const std::int64_t end = std::min(begin + test_batch, signals.size());
    const Estimate estimate = denoiser(Var(signals.noisy.rows(begin, end)));
    result.error +=
        mse(estimate.z, Var(signals.clean.rows(begin, end))).item() * static_cast<double>(end - begin);
    if (estimate.report)
      for (const QpSampleReport& sample : estimate.report->samples)
        ++result.statuses[std::string(name(sample.status))];
    if (begin == 0) result.shown = first_rows(estimate.z.value(), shown_signals);
  }
  const auto count = static_cast<double>(signals.size());
  result.error /= count;
  result.seconds = seconds_since(start) / count;
  return result;
}

/// Errors of total variation on signals held out for that: first over a wide range of lambda, then around the
/// best.
std::vector<Candidate> try_lambdas(const Signals& validation) {
  std::vector<Candidate> tried;
  const auto attempt = [&](double lambda) {
    tried.push_back({lambda, test(*make_denoiser("tv", 0, lambda), validation).error});
  };
  const auto best = [&] {
    return std::min_element(tried.begin(), tried.end(),
                            [](const Candidate& a, const Candidate& b) { return a.error < b.error; })
        ->lambda;
  };
  for (int k = -2; k <= 5; ++k) attempt(noise * std::exp2(0.5 * k));  // 5 to 57
  for (const double step : {0.25, 0.125, 0.0625}) {
    const double middle = best();
    for (const double sign : {-1.0, 1.0}) attempt(middle * std::exp2(sign * step));
  }
  std::sort(tried.begin(), tried.end(),
            [](const Candidate& a, const Candidate& b) { return a.lambda < b.lambda; });
  return tried;
}

/// The training of all methods, one after another.
class Training {
 public:
  Training(const Settings& settings, const std::string& checkpoint, const std::function<bool()>& stop,
           Results& results)
      : settings_(settings),
        checkpoint_(checkpoint),
        stop_(stop),
        results_(results),
        train_(make_signals(settings.signals, Random(settings.seed, train_stream))),
        test_(make_signals(settings.held_out(), Random(settings.seed, test_stream))) {
    results_.test_signals = test_.size();
    results_.known_breakpoints_error = error_with_known_breakpoints(test_);
    results_.noisy_error = mse(Var(test_.noisy), Var(test_.clean)).item();
    results_.noisy = first_rows(test_.noisy, shown_signals);
    results_.clean = first_rows(test_.clean, shown_signals);
    const auto uses_lambda = [](const std::string& name) {
      return name == "tv" || name.starts_with("tuned");
    };
    if (std::any_of(settings.methods.begin(), settings.methods.end(), uses_lambda)) choose_lambda();
    for (const std::string& name : settings.methods) {
      results_.methods.push_back({.name = name});
      trained_ += !new_model(name)->groups().empty();
    }
  }

  void run(bool resume) {
    const std::size_t first = resume ? take_results() : 0;
    std::int64_t done = 0;
    for (const MethodResult& method : results_.methods) {
      const std::int64_t epochs = static_cast<std::int64_t>(method.epochs.size());
      done += std::max<std::int64_t>(0, epochs - 1) * settings_.steps_an_epoch() + method.running_steps;
    }
    bar_.emplace(std::max<std::int64_t>(1, trained_ * settings_.steps()), done);
    done_ = done;
    for (std::size_t i = first; i < settings_.methods.size(); ++i) train_method(i);
  }

 private:
  struct State {
    std::unique_ptr<Denoiser> model;
    nn::Adam adam;
    nn::Loader loader;
    std::int64_t step = 0;
  };

  std::unique_ptr<Denoiser> new_model(const std::string& method) const {
    return make_denoiser(method, settings_.seed, results_.lambda);
  }

  void choose_lambda() {
    results_.candidates =
        try_lambdas(make_signals(settings_.held_out(), Random(settings_.seed, validation_stream)));
    results_.lambda =
        std::min_element(results_.candidates.begin(), results_.candidates.end(),
                         [](const Candidate& a, const Candidate& b) { return a.error < b.error; })
            ->lambda;
  }

  void train_method(std::size_t index) {
    MethodResult& result = results_.methods[index];
    std::unique_ptr<Denoiser> fresh = new_model(result.name);
    const nn::ParameterGroups groups = fresh->groups();
    nn::ParameterList parameters;
    for (const nn::ParameterGroup& group : groups)
      parameters.insert(parameters.end(), group.parameters.begin(), group.parameters.end());
    const std::int64_t steps = parameters.empty() ? 0 : settings_.steps();
    const auto fill = [this](std::span<const std::int64_t> rows, nn::Minibatch& batch) {
      batch = {rows_of(train_.noisy, rows), rows_of(train_.clean, rows)};
    };
    State state{
        std::move(fresh), nn::Adam(groups, {.learning_rate = highest_rate}),
        nn::Loader(
            train_.size(), fill,
            {.batch_size = settings_.batch_size, .seed = settings_.seed, .drop_last = true, .prefetch = 0})};
    result.parameters = nn::count(parameters);
    if (result.epochs.empty())
      look(*state.model, 0, result);
    else
      go_on(state);

    while (state.step < steps) {
      if (stop_()) {
        save(state, index);
        throw Error(fmt::format("interrupted in step {} of {}; --resume goes on from {}", state.step + 1,
                                result.name, checkpoint_));
      }
      if (!train_step(state, parameters, result)) {
        bar_->say(fmt::format("{}: {}", result.name, result.failure));
        break;
      }
      ++state.step;
      bar_->update(++done_, fmt::format("{} ({} of {})", result.name, index + 1, settings_.methods.size()));
      if (state.step % settings_.steps_an_epoch() != 0) continue;
      look(*state.model, state.step / settings_.steps_an_epoch(), result);
      if (state.step < steps) save(state, index);
    }
    result.learned = state.model->shown();
    save(state, index + 1);
  }

  static Tensor rows_of(const Tensor& signals, std::span<const std::int64_t> rows) {
    Tensor result = Tensor::empty({static_cast<std::int64_t>(rows.size()), length}, DType::f64);
    double* out = result.mutable_data<double>();
    for (const std::int64_t row : rows) out = std::copy_n(signals.data<double>() + row * length, length, out);
    return result;
  }

  /// False, and the failure noted, if the loss or its gradient is not finite.
  bool train_step(State& state, const nn::ParameterList& parameters, MethodResult& result) const {
    const auto start = Clock::now();
    const nn::Minibatch batch = state.loader.next();
    const auto key = static_cast<std::uint64_t>(state.step);
    const auto [noisy, clean] =
        turn_over({batch.x, batch.labels}, Random(settings_.seed, turn_stream).split(key));
    const Tape tape;
    const Estimate estimate = (*state.model)(Var(noisy));
    const Var loss = mse(estimate.z, Var(clean));
    const Vars gradients = nn::grad(loss, parameters);
    const bool finite_gradient =
        std::all_of(gradients.begin(), gradients.end(), [](const Var& g) { return g.value().all_finite(); });
    if (!finite_gradient || !std::isfinite(loss.item())) {
      result.failure = fmt::format("training stopped: the {} of step {} is not finite",
                                   finite_gradient ? "loss" : "gradient", state.step + 1);
      return false;
    }
    state.adam.set_learning_rate(
        nn::CosineSchedule{.peak = highest_rate, .steps = settings_.steps()}(state.step));
    state.adam.step(gradients);

    result.running_error += loss.item();
    ++result.running_steps;
    result.running_seconds += seconds_since(start);
    if (!estimate.report) return true;
    for (const QpSampleReport& sample : estimate.report->samples)
      ++result.solve_statuses[std::string(name(sample.status))];
    for (const GradientStatus& sample : estimate.adjoint.last().samples)
      ++result.gradient_kinds[std::string(name(sample.kind))];
    return true;
  }

  /// Tests the model at the end of an epoch.
  void look(const Denoiser& model, std::int64_t epoch, MethodResult& result) const {
    Test at = test(model, test_);
    const double steps = static_cast<double>(std::max<std::int64_t>(1, result.running_steps));
    result.epochs.push_back({epoch, result.running_error / steps, at.error, result.running_seconds});
    result.running_error = 0.0;
    result.running_steps = 0;
    result.test_seconds = at.seconds;
    result.test_statuses = std::move(at.statuses);
    result.shown = std::move(at.shown);
  }

  void go_on(State& state) const {
    const nn::Progress at = nn::load_checkpoint(checkpoint_, *state.model, state.adam);
    state.loader.seek(at.position);
    state.step = at.step;
  }

  void save(const State& state, std::size_t place) const {
    nn::Progress progress{
        .step = state.step, .position = state.loader.position(), .loader_seed = settings_.seed};
    run_notes.put(progress.notes, results_.settings, place);
    for (const MethodResult& method : results_.methods) {
      progress.notes[result_key(method.name)] = to_text(method);
      for (const auto& [name, values] : method.learned)
        progress.extra[learned_key(method.name) + name] = values;
    }
    nn::save_checkpoint(checkpoint_, *state.model, state.adam, progress);
  }

  std::size_t take_results() {
    const auto [progress, place] = run_notes.resume(checkpoint_, results_.settings, results_.methods.size());
    for (MethodResult& method : results_.methods) {
      const auto text = progress.notes.find(result_key(method.name));
      if (text == progress.notes.end())
        fail<FileError>("resume", fmt::format("{} lacks the results of {}", checkpoint_, method.name));
      method = from_text(text->second);
      const std::string key = learned_key(method.name);
      for (const auto& [name, values] : progress.extra)
        if (name.starts_with(key)) method.learned[name.substr(key.size())] = values;
    }
    return place;
  }

  // The groups' peaks are relative to this one.
  static constexpr double highest_rate = 1e-2;

  const Settings& settings_;
  const std::string checkpoint_;
  const std::function<bool()>& stop_;
  Results& results_;
  const Signals train_, test_;
  std::int64_t trained_ = 0, done_ = 0;
  std::optional<cli::Progress> bar_;
};

}  // namespace

void train(const Settings& settings, const std::string& checkpoint, bool resume,
           const std::function<bool()>& stop, Results& results) {
  results.settings = describe(settings);
  if (resume) run_notes.resume(checkpoint, results.settings, settings.methods.size());  // before any work
  Training(settings, checkpoint, stop, results).run(resume);
}

void check_replaceable(const std::string& checkpoint, const Settings& settings) {
  run_notes.check_replaceable(checkpoint, describe(settings), settings.methods.size());
}

}  // namespace banach::denoise
