#include <apps/sudoku/train.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>

#include <apps/sudoku/constraints.hpp>
#include <apps/training/training.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/loss.hpp>

namespace banach::sudoku {
namespace {

using Clock = std::chrono::steady_clock;
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

class Learner : public training::Trainee {
 public:
  Learner(const Settings& settings, Results& results, ModelResult& result)
      : settings_(settings),
        results_(results),
        result_(result),
        model_(make_model(result.name, settings.seed)),
        parameters_(nn::parameters(*model_)),
        adam_(parameters_),
        loader_(make_loader(results.data.train, settings)),
        schedule_{.peak = result.name == "optnet" ? settings.learning_rate : settings.baseline_rate,
                  .steps = settings.steps} {}

  void visit(nn::Visitor& visitor) override { model_->visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }
  void go_on(const nn::Progress& at) override { training::seek(loader_, at.step); }

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const nn::Minibatch batch = loader_.next();
    const Tape tape;
    const Prediction predicted = (*model_)(Var(batch.x));
    const Var loss = mse(predicted.boards, Var(batch.labels));
    const Vars gradients = nn::grad(loss, parameters_);
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    adam_.set_learning_rate(schedule_(step));
    adam_.step(gradients);

    result_.steps.push_back({loss.item(), std::chrono::duration<double>(Clock::now() - start).count()});
    if (!predicted.report) return {};
    training::count(result_.solves, predicted.report->samples, &QpSampleReport::status);
    training::count(result_.gradients, predicted.adjoint.last().samples, &GradientStatus::kind);
    return {};
  }

  void probe(std::int64_t step) override {
    const Dataset& data = results_.data;
    const std::span<const Example> trained(data.train.data(),
                                           static_cast<std::size_t>(results_.train_probed));
    Probe at{.step = step, .seconds = result_.seconds()};
    at.train = evaluate(*model_, trained, nullptr);
    at.test = evaluate(*model_, data.test, &result_.predictions);
    result_.probes.push_back(at);
    if (const auto now = equalities(*model_)) result_.learned = {{"A", now->A}, {"z0", now->z0}};
  }

 private:
  const Settings& settings_;
  Results& results_;
  ModelResult& result_;
  std::unique_ptr<Model> model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  nn::Loader loader_;
  nn::CosineSchedule schedule_;
};

cli::RunNotes notes_of(const Settings& settings) {
  return {"sudoku", describe(settings), settings.models.size()};
}

}  // namespace

void train(const Settings& settings, const training::Place& place, Results& results) {
  const cli::RunNotes notes = notes_of(settings);
  training::check(notes, place);  // before any work
  results.settings = describe(settings);
  results.steps_per_epoch = settings.train / settings.batch_size;
  results.train_probed = std::min(settings.train, settings.test);
  results.data = make_dataset(settings.train, settings.test, settings.split, settings.seed);
  results.by_rules = evaluate(*make_optnet(rule_equalities()), results.data.test, nullptr);
  std::vector<training::Run::Model> models;
  for (const std::string& name : settings.models) {
    const auto model = make_model(name, settings.seed);
    results.models.push_back(
        {.name = name, .description = model->description(), .parameters = nn::count(nn::parameters(*model))});
    if (auto start = equalities(*model)) results.initial = std::move(start);
    models.push_back({name, settings.steps});
  }
  training::train(
      {.notes = notes,
       .place = place,
       .models = models,
       .probe_every = settings.probe_every,
       .make = [&](std::size_t i) { return std::make_unique<Learner>(settings, results, results.models[i]); },
       .results = training::kept(results.models, from_text)});
  for (const ModelResult& model : results.models)
    if (!model.learned.empty()) results.learned = {model.learned.at("A"), model.learned.at("z0")};
}

}  // namespace banach::sudoku
