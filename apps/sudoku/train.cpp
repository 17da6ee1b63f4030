#include <apps/sudoku/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <span>

#include <fmt/format.h>

#include <apps/cli/progress.hpp>
#include <apps/sudoku/constraints.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/checkpoint.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/loss.hpp>

namespace banach::sudoku {
namespace {

using Clock = std::chrono::steady_clock;
const cli::RunNotes run_notes("sudoku");

std::string part_name(const char* part, std::size_t model) {
  return fmt::format("sudoku.{}.{}", part, model);
}

/// (steps, 2): loss and seconds.
Tensor to_tensor(const std::vector<Step>& steps) {
  std::vector<double> values;
  for (const Step& s : steps) values.insert(values.end(), {s.loss, s.seconds});
  return tensor(values, {static_cast<std::int64_t>(steps.size()), 2});
}

std::vector<Step> from_tensor(const Tensor& tensor) {
  if (tensor.dtype() != DType::f64 || tensor.rank() != 2 || tensor.size(1) != 2)
    fail<FileError>("resume", fmt::format("the steps must be f64 (steps, 2): got {}{}", name(tensor.dtype()),
                                          tensor.shape().to_string()));
  std::vector<Step> steps;
  for (std::int64_t i = 0; i < tensor.size(0); ++i) steps.push_back({tensor.at(2 * i), tensor.at(2 * i + 1)});
  return steps;
}

std::vector<Board> puzzles(std::span<const Example> examples) {
  std::vector<Board> boards;
  for (const Example& example : examples) boards.push_back(example.puzzle);
  return boards;
}
std::vector<Board> solutions(std::span<const Example> examples) {
  std::vector<Board> boards;
  for (const Example& example : examples) boards.push_back(example.solution);
  return boards;
}

nn::Loader make_loader(const std::vector<Example>& examples, const Settings& settings) {
  const auto fill = [&examples](std::span<const std::int64_t> rows, nn::Minibatch& batch) {
    std::vector<Example> chosen;
    for (const std::int64_t row : rows) chosen.push_back(examples[static_cast<std::size_t>(row)]);
    batch = {one_hot(puzzles(chosen)), one_hot(solutions(chosen))};
  };
  return {static_cast<std::int64_t>(examples.size()),
          fill,
          {.batch_size = settings.batch_size, .seed = settings.seed, .drop_last = true, .prefetch = 0}};
}

/// Predicts boards, `batch` at a time, and compares them with the solutions.
Errors evaluate(const Model& model, std::span<const Example> examples, std::vector<Board>* predictions) {
  constexpr std::size_t batch = 500;
  const NoGrad off;
  double wrong_boards = 0, wrong_cells = 0, squares = 0;
  if (predictions) predictions->clear();
  for (std::size_t begin = 0; begin < examples.size(); begin += batch) {
    const auto part = examples.subspan(begin, std::min(batch, examples.size() - begin));
    const Tensor predicted = model(Var(one_hot(puzzles(part)))).boards.value();
    const Tensor truth = one_hot(solutions(part));
    const float *row = predicted.data<float>(), *true_row = truth.data<float>();
    for (const Example& example : part) {
      const Board board = read_board(row);
      if (predictions) predictions->push_back(board);
      wrong_boards += is_solution(board) ? 0 : 1;
      for (std::size_t cell = 0; cell < board.size(); ++cell)
        wrong_cells += board[cell] == example.solution[cell] ? 0 : 1;
      for (std::int64_t i = 0; i < board_size; ++i)
        squares += std::pow(static_cast<double>(row[i]) - static_cast<double>(true_row[i]), 2);
      row += board_size;
      true_row += board_size;
    }
  }
  const auto count = static_cast<double>(examples.size());
  return {wrong_boards / count, wrong_cells / (count * static_cast<double>(cells)),
          squares / (count * static_cast<double>(board_size))};
}

/// The training of all models, one after another.
class Training {
 public:
  Training(const Settings& settings, const std::string& checkpoint, const std::function<bool()>& stop,
           Results& results)
      : settings_(settings), checkpoint_(checkpoint), stop_(stop), results_(results) {
    for (const std::string& name : settings.models) {
      const auto model = make_model(name, settings.seed);
      results_.models.push_back({.name = name,
                                 .description = model->description(),
                                 .parameters = nn::count(nn::parameters(*model))});
      if (auto start = equalities(*model)) results_.initial = std::move(start);
    }
  }

  void run(bool resume) {
    const std::size_t first = resume ? take_results() : 0;
    std::size_t done = 0;
    for (const ModelResult& model : results_.models) done += model.steps.size();
    bar_.emplace(static_cast<std::int64_t>(settings_.models.size()) * settings_.steps,
                 static_cast<std::int64_t>(done));
    for (std::size_t i = first; i < settings_.models.size(); ++i) train_model(i);
  }

 private:
  struct State {
    std::unique_ptr<Model> model;
    nn::Adam adam;
    nn::Loader loader;
    std::int64_t step = 0;
  };

  void train_model(std::size_t index) {
    ModelResult& result = results_.models[index];
    std::unique_ptr<Model> fresh = make_model(result.name, settings_.seed);
    const nn::ParameterList parameters = nn::parameters(*fresh);
    State state{std::move(fresh), nn::Adam(parameters), make_loader(results_.data.train, settings_)};
    if (!result.steps.empty()) go_on(state);

    for (; state.step < settings_.steps; ++state.step) {
      if (state.step % settings_.probe_every == 0 && !looked_at(state.step, result)) {
        probe(*state.model, state.step, result);
        save(state, index);
      }
      if (stop_()) {
        save(state, index);
        throw Error(fmt::format("interrupted in step {} of {}; --resume goes on from {}", state.step + 1,
                                result.name, checkpoint_));
      }
      if (!train_step(state, result)) {
        bar_->say(fmt::format("{}: {}", result.name, result.failure));
        break;
      }
      bar_->update(static_cast<std::int64_t>(index) * settings_.steps + state.step + 1,
                   fmt::format("{} ({} of {})", result.name, index + 1, settings_.models.size()));
    }
    if (!looked_at(state.step, result)) probe(*state.model, state.step, result);
    if (auto end = equalities(*state.model)) results_.learned = std::move(end);
    save(state, index + 1);
  }

  /// False, and the failure noted, if the loss or its gradient is not finite.
  bool train_step(State& state, ModelResult& result) const {
    const auto start = Clock::now();
    const nn::Minibatch batch = state.loader.next();
    const Tape tape;
    const Prediction predicted = (*state.model)(Var(batch.x));
    const Var loss = mse(predicted.boards, Var(batch.labels));
    const Vars gradients = nn::grad(loss, nn::parameters(*state.model));
    const bool finite_gradient =
        std::all_of(gradients.begin(), gradients.end(), [](const Var& g) { return g.value().all_finite(); });
    if (!finite_gradient || !std::isfinite(loss.item())) {
      result.failure = fmt::format("training stopped: the {} of step {} is not finite",
                                   finite_gradient ? "loss" : "gradient", state.step + 1);
      return false;
    }
    state.adam.set_learning_rate(learning_rate(result.name, state.step));
    state.adam.step(gradients);

    result.steps.push_back({loss.item(), std::chrono::duration<double>(Clock::now() - start).count()});
    if (!predicted.report) return true;
    for (const QpSampleReport& sample : predicted.report->samples)
      ++result.solves[std::string(name(sample.status))];
    for (const GradientStatus& sample : predicted.adjoint.last().samples)
      ++result.gradients[std::string(name(sample.kind))];
    return true;
  }

  double learning_rate(const std::string& model, std::int64_t step) const {
    const double peak = model == "optnet" ? settings_.learning_rate : settings_.baseline_rate;
    return nn::CosineSchedule{.peak = peak, .steps = settings_.steps}(step);
  }

  static bool looked_at(std::int64_t step, const ModelResult& result) {
    return !result.probes.empty() && result.probes.back().step == step;
  }

  void probe(const Model& model, std::int64_t step, ModelResult& result) const {
    const Dataset& data = results_.data;
    const std::span<const Example> trained(data.train.data(),
                                           static_cast<std::size_t>(results_.train_probed));
    Probe at{.step = step, .seconds = result.seconds()};
    at.train = evaluate(model, trained, nullptr);
    at.test = evaluate(model, data.test, &result.predictions);
    result.probes.push_back(at);
  }

  void go_on(State& state) const {
    const nn::Progress at = nn::load_checkpoint(checkpoint_, *state.model, state.adam);
    state.loader.seek(at.position);
    state.step = at.step;
  }

  void save(State& state, std::size_t place) const {
    nn::Progress progress{
        .step = state.step, .position = state.loader.position(), .loader_seed = settings_.seed};
    run_notes.put(progress.notes, results_.settings, place);
    for (std::size_t i = 0; i < results_.models.size(); ++i) {
      const ModelResult& model = results_.models[i];
      progress.notes[part_name("model", i)] = to_text(model);
      if (!model.steps.empty()) progress.extra[part_name("steps", i)] = to_tensor(model.steps);
    }
    if (results_.learned) {
      progress.extra["sudoku.A"] = results_.learned->A;
      progress.extra["sudoku.z0"] = results_.learned->z0;
    }
    nn::save_checkpoint(checkpoint_, *state.model, state.adam, progress);
  }

  /// What save() wrote; returns the model in training.
  std::size_t take_results() {
    const auto [progress, place] = run_notes.resume(checkpoint_, results_.settings, results_.models.size());
    for (std::size_t i = 0; i < results_.models.size(); ++i) {
      const auto text = progress.notes.find(part_name("model", i));
      if (text == progress.notes.end())
        fail<FileError>("resume",
                        fmt::format("{} lacks the results of {}", checkpoint_, results_.models[i].name));
      results_.models[i] = from_text(text->second);
      const auto steps = progress.extra.find(part_name("steps", i));
      if (steps != progress.extra.end()) results_.models[i].steps = from_tensor(steps->second);
    }
    const auto A = progress.extra.find("sudoku.A"), z0 = progress.extra.find("sudoku.z0");
    if (A != progress.extra.end() && z0 != progress.extra.end())
      results_.learned = Equalities{A->second, z0->second};
    return place;
  }

  const Settings& settings_;
  const std::string checkpoint_;
  const std::function<bool()>& stop_;
  Results& results_;
  std::optional<cli::Progress> bar_;
};

}  // namespace

void train(const Settings& settings, const std::string& checkpoint, bool resume,
           const std::function<bool()>& stop, Results& results) {
  results.settings = describe(settings);
  if (resume) run_notes.resume(checkpoint, results.settings, settings.models.size());  // before any work
  results.steps_per_epoch = settings.train / settings.batch_size;
  results.train_probed = std::min(settings.train, settings.test);
  results.data = make_dataset(settings.train, settings.test, settings.split, settings.seed);
  results.by_rules = evaluate(*make_optnet(rule_equalities()), results.data.test, nullptr);
  Training(settings, checkpoint, stop, results).run(resume);
}

void check_replaceable(const std::string& checkpoint, const Settings& settings) {
  run_notes.check_replaceable(checkpoint, describe(settings), settings.models.size());
}

}  // namespace banach::sudoku
