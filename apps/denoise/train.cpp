#include <apps/denoise/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>

#include <apps/denoise/models.hpp>
#include <apps/denoise/signals.hpp>
#include <apps/training/training.hpp>
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
    if (estimate.report) training::count(result.statuses, estimate.report->samples, &QpSampleReport::status);
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

/// The best of them; adds them to the results.
double choose_lambda(const Settings& settings, Results& results) {
  results.candidates =
      try_lambdas(make_signals(settings.held_out(), Random(settings.seed, validation_stream)));
  return std::min_element(results.candidates.begin(), results.candidates.end(),
                          [](const Candidate& a, const Candidate& b) { return a.error < b.error; })
      ->lambda;
}

Tensor rows_of(const Tensor& signals, std::span<const std::int64_t> rows) {
  Tensor result = Tensor::empty({static_cast<std::int64_t>(rows.size()), length}, DType::f64);
  double* out = result.mutable_data<double>();
  for (const std::int64_t row : rows) out = std::copy_n(signals.data<double>() + row * length, length, out);
  return result;
}

nn::ParameterList parameters_of(const nn::ParameterGroups& groups) {
  nn::ParameterList parameters;
  for (const nn::ParameterGroup& group : groups)
    parameters.insert(parameters.end(), group.parameters.begin(), group.parameters.end());
  return parameters;
}

class Learner : public training::Trainee {
 public:
  Learner(const Settings& settings, const Signals& signals, const Signals& test_signals, double lambda,
          MethodResult& result)
      : settings_(settings),
        test_(test_signals),
        result_(result),
        model_(make_denoiser(result.name, settings.seed, lambda)),
        parameters_(parameters_of(model_->groups())),
        adam_(model_->groups(), {.learning_rate = highest_rate}),
        loader_(
            signals.size(),
            [&signals](std::span<const std::int64_t> rows, nn::Minibatch& batch) {
              batch = {rows_of(signals.noisy, rows), rows_of(signals.clean, rows)};
            },
            {.batch_size = settings.batch_size, .seed = settings.seed, .drop_last = true, .prefetch = 0}) {}

  void visit(nn::Visitor& visitor) override { model_->visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }
  void go_on(const nn::Progress& at) override {
    training::seek(loader_, at.step);
    probed_ = at.step - at.step % settings_.steps_an_epoch();
  }

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const nn::Minibatch batch = loader_.next();
    const auto [noisy, clean] = turn_over(
        {batch.x, batch.labels}, Random(settings_.seed, turn_stream).split(static_cast<std::uint64_t>(step)));
    const Tape tape;
    const Estimate estimate = (*model_)(Var(noisy));
    const Var loss = mse(estimate.z, Var(clean));
    const Vars gradients = nn::grad(loss, parameters_);
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    adam_.set_learning_rate(nn::CosineSchedule{.peak = highest_rate, .steps = settings_.steps()}(step));
    adam_.step(gradients);

    result_.steps.push_back({loss.item(), seconds_since(start)});
    if (!estimate.report) return {};
    training::count(result_.solve_statuses, estimate.report->samples, &QpSampleReport::status);
    training::count(result_.gradient_kinds, estimate.adjoint.last().samples, &GradientStatus::kind);
    return {};
  }

  void probe(std::int64_t step) override {
    Test at = test(*model_, test_);
    double train_error = 0.0;
    for (std::int64_t i = probed_; i < step; ++i)
      train_error += result_.steps[static_cast<std::size_t>(i)].loss;
    train_error /= static_cast<double>(std::max<std::int64_t>(1, step - probed_));
    probed_ = step;
    result_.epochs.push_back({static_cast<double>(step) / static_cast<double>(settings_.steps_an_epoch()),
                              train_error, at.error, training::total_seconds(result_.steps)});
    result_.test_seconds = at.seconds;
    result_.test_statuses = std::move(at.statuses);
    result_.shown = std::move(at.shown);
    result_.learned = model_->shown();
  }

 private:
  // The groups' peaks are relative to this one.
  static constexpr double highest_rate = 1e-2;

  const Settings& settings_;
  const Signals& test_;
  MethodResult& result_;
  std::unique_ptr<Denoiser> model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  nn::Loader loader_;
  std::int64_t probed_ = 0;  // the step of the last probe
};

cli::RunNotes notes_of(const Settings& settings) {
  return {"denoise", describe(settings), settings.methods.size()};
}

}  // namespace

void train(const Settings& settings, const training::Place& place, Results& results) {
  const cli::RunNotes notes = notes_of(settings);
  training::check(notes, place);  // before any work
  const Signals signals = make_signals(settings.signals, Random(settings.seed, train_stream)),
                test_signals = make_signals(settings.held_out(), Random(settings.seed, test_stream));
  results.settings = describe(settings);
  results.test_signals = test_signals.size();
  results.known_breakpoints_error = error_with_known_breakpoints(test_signals);
  results.noisy_error = mse(Var(test_signals.noisy), Var(test_signals.clean)).item();
  results.noisy = first_rows(test_signals.noisy, shown_signals);
  results.clean = first_rows(test_signals.clean, shown_signals);
  const auto uses_lambda = [](const std::string& name) { return name == "tv" || name.starts_with("tuned"); };
  if (std::any_of(settings.methods.begin(), settings.methods.end(), uses_lambda))
    results.lambda = choose_lambda(settings, results);
  std::vector<training::Run::Model> models;
  for (const std::string& name : settings.methods) {
    const std::int64_t parameters =
        nn::count(parameters_of(make_denoiser(name, settings.seed, results.lambda)->groups()));
    results.methods.push_back({.name = name, .parameters = parameters});
    models.push_back({name, parameters == 0 ? 0 : settings.steps()});
  }
  training::train({.notes = notes,
                   .place = place,
                   .models = models,
                   .probe_every = settings.steps_an_epoch(),
                   .make =
                       [&](std::size_t i) {
                         return std::make_unique<Learner>(settings, signals, test_signals, results.lambda,
                                                          results.methods[i]);
                       },
                   .results = training::kept(results.methods, from_text)});
}

}  // namespace banach::denoise
