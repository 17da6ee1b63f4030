#include <apps/sudoku/constraints.hpp>
#include <apps/sudoku/drawing.hpp>
#include <apps/sudoku/options.hpp>
#include <apps/sudoku/page.hpp>
#include <apps/sudoku/train.hpp>
#include <tests/apps/command.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <catch2/catch.hpp>

namespace {

using namespace banach;
using namespace banach::sudoku;
using Catch::Matchers::Contains;

constexpr bool never() { return false; }

/// Fills empty cells by single steps of deduction as long as there are any.
Board solve_by_deduction(Board board) {
  for (bool filled = true; filled;) {
    filled = false;
    for (std::size_t cell = 0; cell < board.size(); ++cell) {
      const std::uint8_t digit = board[cell] == 0 ? deduced(board, cell) : std::uint8_t{0};
      if (digit == 0) continue;
      board[cell] = digit;
      filled = true;
    }
  }
  return board;
}

/// The solution grids that agree with the given cells, found without deduction.
std::int64_t completions(const Board& puzzle) {
  static const std::vector<Board> grids = solution_grids();
  return std::count_if(grids.begin(), grids.end(), [&](const Board& grid) {
    for (std::size_t cell = 0; cell < grid.size(); ++cell)
      if (puzzle[cell] != 0 && puzzle[cell] != grid[cell]) return false;
    return true;
  });
}

Settings small_settings() {
  Options options;
  options.train = 60;
  options.test = 20;
  options.batch_size = 20;
  options.epochs = 4;
  Settings settings = resolve(options);
  settings.probe_every = 5;  // each writes all parameters to the disk
  return settings;
}

Results train_small(const Settings& settings, const std::string& checkpoint, bool resume = false,
                    const std::function<bool()>& stop = never) {
  Results results;
  train(settings, {checkpoint, resume, stop}, results);
  return results;
}

/// metrics.csv without its times.
std::string without_times(const std::string& csv) {
  return std::regex_replace(csv, std::regex("((?:optnet|conv|mlp),(?:step|probe),[^,]*,[^,]*),[^,]*,"),
                            "$1,,");
}

std::string text_of(const std::string& path) {
  const nn::Bytes bytes = nn::read_file(path);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("there are 288 sudoku grids of 4x4 cells") {
  const std::vector<Board> grids = solution_grids();
  CHECK(grids.size() == 288);
  CHECK(std::set<Board>(grids.begin(), grids.end()).size() == 288);
  CHECK(std::all_of(grids.begin(), grids.end(), is_solution));

  // Any 4x4 board with the digits permuted in each row, so that only columns and blocks can be wrong.
  std::int64_t found = 0;
  std::array<std::array<std::uint8_t, 4>, 24> rows{};
  std::array<std::uint8_t, 4> row{1, 2, 3, 4};
  for (auto& next : rows) next = row, std::next_permutation(row.begin(), row.end());
  Board board{};
  for (const auto& a : rows)
    for (const auto& b : rows)
      for (const auto& c : rows)
        for (const auto& d : rows) {
          std::copy(a.begin(), a.end(), board.begin());
          std::copy(b.begin(), b.end(), board.begin() + 4);
          std::copy(c.begin(), c.end(), board.begin() + 8);
          std::copy(d.begin(), d.end(), board.begin() + 12);
          found += is_solution(board) ? 1 : 0;
        }
  CHECK(found == 288);
}

TEST_CASE("single steps of deduction on boards that are easy to see through") {
  Board board{1, 2, 3, 0};  // the rest is empty
  CHECK(deduced(board, 3) == 4);
  board = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
  // 1 stands in the first row and the fourth column: of the upper right block, only cell 6 can hold it.
  CHECK(deduced(board, 6) == 1);
  CHECK(deduced(board, 7) == 0);
  CHECK(deduced(Board{}, 0) == 0);
}

TEST_CASE("every puzzle has one solution, and single steps of deduction find it") {
  const Dataset data = make_dataset(400, 100, Split::puzzle, 3);
  for (const auto& examples : {data.train, data.test})
    for (const Example& example : examples) {
      CHECK(solve_by_deduction(example.puzzle) == example.solution);
      CHECK(completions(example.puzzle) == 1);
      for (std::size_t cell = 0; cell < example.puzzle.size(); ++cell) {
        if (example.puzzle[cell] == 0) continue;
        CHECK(example.puzzle[cell] == example.solution[cell]);
        Board fewer = example.puzzle;
        fewer[cell] = 0;
        CHECK(deduced(fewer, cell) == 0);  // no cell more could be taken out
      }
    }
}

TEST_CASE("the parts of a data set are disjoint, and the seed decides them") {
  for (const Split split : {Split::puzzle, Split::grid}) {
    const Dataset data = make_dataset(900, 100, split, 0);
    REQUIRE(data.train.size() == 900);
    REQUIRE(data.test.size() == 100);
    std::set<Board> puzzles, grids, test_grids;
    for (const Example& example : data.train) puzzles.insert(example.puzzle), grids.insert(example.solution);
    for (const Example& example : data.test)
      puzzles.insert(example.puzzle), test_grids.insert(example.solution);
    CHECK(puzzles.size() == 1000);
    const auto shared = std::count_if(test_grids.begin(), test_grids.end(),
                                      [&](const Board& grid) { return grids.contains(grid); });
    if (split == Split::grid) {
      CHECK(shared == 0);
      CHECK(test_grids.size() <= 29);  // a tenth of 288
    } else {
      CHECK(shared > 0);
    }
    const auto puzzle_of = [](const Dataset& d) { return d.train.front().puzzle; };
    CHECK(puzzle_of(make_dataset(900, 100, split, 0)) == puzzle_of(data));
    CHECK(puzzle_of(make_dataset(900, 100, split, 1)) != puzzle_of(data));
  }
}

TEST_CASE("boards become tensors and come back") {
  const Board puzzle{4, 0, 0, 1}, solution = solution_grids().front();
  const Tensor x = one_hot({puzzle, solution});
  CHECK(x.shape() == Shape{2, 64});
  CHECK(x.at(3) == 1.0);
  CHECK(x.at(12) == 1.0);
  double total = 0.0;
  for (std::int64_t i = 0; i < 64; ++i) total += x.at(i);
  CHECK(total == 2.0);
  CHECK(read_board(x.data<float>() + 64) == solution);
}

TEST_CASE("the rules have rank 40, all solutions obey them, and they are no angle from themselves") {
  const Tensor rules = rule_matrix();
  const Tensor solutions = one_hot(solution_grids()).to(DType::f64);
  const Tensor products = matmul(Var(solutions), Var(rules), {.transpose_b = true}).value();
  for (std::int64_t i = 0; i < products.size(); ++i) REQUIRE(products.at(i) == 1.0);

  // The same rules, in another basis of the row space, and the uniform board as a point that obeys them.
  Tensor mix = Tensor::empty({50, 64}, DType::f64);
  Random(1).fill_normal(mix.mutable_data<double>(), mix.size());
  const Tensor A = matmul(Var(mix), Var(rules)).value(), z0 = Tensor::full({64}, 0.25, DType::f64);
  const Comparison same = compare({A, z0});
  CHECK(same.rank == 40);
  CHECK(same.angles.size() == 40);
  CHECK(same.angles.back() < 1e-4);
  CHECK(same.distance < 1e-9);
  double trace = 0.0;
  for (std::int64_t i = 0; i < 64; ++i) trace += same.projection.at(65 * i);
  CHECK(trace == Approx(40.0));

  // One row that has nothing to do with them: digit 1 in the first two cells against digit 2 there.
  Tensor other = Tensor::zeros({1, 64}, DType::f64);
  const auto set = [&](std::int64_t entry, double value) { other.mutable_data<double>()[entry] = value; };
  set(0, 1.0), set(1, -1.0), set(4, -1.0), set(5, 1.0), set(16, -1.0), set(17, 1.0), set(20, 1.0),
      set(21, -1.0);
  const Comparison apart = compare({other, z0});
  CHECK(apart.rank == 1);
  CHECK(apart.angles.front() == Approx(90.0));
}

TEST_CASE("the quadratic program with the true rules solves the puzzles") {
  const Dataset data = make_dataset(10, 100, Split::puzzle, 0);
  const auto model = make_optnet(rule_equalities());
  for (const Example& example : data.test) {
    const Prediction predicted = (*model)(Var(one_hot({example.puzzle})));
    REQUIRE(predicted.report->solved());
    CHECK(read_board(predicted.boards.value().data<float>()) == example.solution);
  }
}

TEST_CASE("a training of a few steps lowers the loss of every model, the same at every run",
          "[unsanitized]") {
  const files::Folder folder;
  const Settings settings = small_settings();
  const Results results = train_small(settings, folder / "c");
  REQUIRE(results.models.size() == 3);
  for (const ModelResult& model : results.models) {
    INFO(model.name);
    CHECK(model.failure.empty());
    REQUIRE(model.steps.size() == 12);
    CHECK(model.steps.back().loss < model.steps.front().loss);
    CHECK(model.probes.front().step == 0);
    CHECK(model.probes.back().step == 12);
    CHECK(model.predictions.size() == 20);
    CHECK(model.test().boards >= 0.0);
    CHECK(model.test().boards <= 1.0);
  }
  CHECK(results.models[0].parameters == 40 * 64 + 64);
  CHECK(results.models[0].solves == Tally{{"solved", 240}});
  REQUIRE(results.learned);
  CHECK(compare(*results.learned).distance < compare(*results.initial).distance);
  CHECK(without_times(metrics_csv(train_small(settings, folder / "d"))) ==
        without_times(metrics_csv(results)));
}

TEST_CASE("an interrupted sudoku training goes on to the very same results") {
  const files::Folder folder;
  const Settings settings = small_settings();
  const Results whole = train_small(settings, folder / "whole");
  const std::string checkpoint = folder / "parts";
  bool resume = false;
  for (int steps : {3, 5, 9, 14}) {
    int left = steps;
    CHECK_THROWS_WITH(train_small(settings, checkpoint, resume, [&] { return left-- == 0; }),
                      Contains("--resume goes on"));
    resume = true;
  }
  const Results resumed = train_small(settings, checkpoint, true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  for (std::size_t i = 0; i < whole.models.size(); ++i) {
    CHECK(resumed.models[i].predictions == whole.models[i].predictions);
    CHECK(resumed.models[i].gradients == whole.models[i].gradients);
  }
  CHECK(findings(train_small(settings, checkpoint, true)) == findings(resumed));

  Results untouched;
  CHECK_THROWS_WITH(train(settings, {folder / "none", true}, untouched), Contains("no checkpoint"));
  CHECK(untouched.data.train.empty());  // refused before any work

  Settings other = settings;
  other.seed = 1;
  CHECK_THROWS_WITH(train_small(other, checkpoint, true), Contains("--seed 0, not 1"));
  CHECK_THROWS_WITH(train_small(other, checkpoint), Contains("--overwrite"));
}

TEST_CASE("the results of a sudoku run survive text, and damaged text is refused") {
  ModelResult model{.name = "conv", .description = "x", .parameters = 3};
  model.probes.push_back({4, 0.1, {0.1, 1.0 / 3.0, std::nan("")}, {0.005, 0.5, 2.0}});
  model.predictions.push_back(solution_grids().front());
  model.solves["solved"] = 7;
  const ModelResult read = from_text(to_text(model));
  CHECK(to_text(read) == to_text(model));
  CHECK(read.probes.front().train.cells == 1.0 / 3.0);
  CHECK(read.below(0.01)->step == 4);
  CHECK(read.below(0.001) == nullptr);
  CHECK_THROWS_AS(from_text("{}"), FileError);
  CHECK_THROWS_AS(from_text("no"), FileError);
}

TEST_CASE("a sudoku training that leaves the finite numbers stops, says so and resumes") {
  const files::Folder folder;
  Settings settings = small_settings();
  settings.models = {"mlp"};
  settings.baseline_rate = 1e30;
  settings.probe_every = 1;
  const Results results = train_small(settings, folder / "c");
  const ModelResult& model = results.models.front();
  CHECK_THAT(model.failure, Contains("is not finite"));
  for (const Step& step : model.steps) CHECK(std::isfinite(step.loss));
  for (std::size_t i = 1; i < model.probes.size(); ++i)
    CHECK(model.probes[i - 1].step < model.probes[i].step);
  CHECK(to_text(train_small(settings, folder / "c", true).models.front()) == to_text(model));
}

TEST_CASE("a picture marks the wrong cells of a board") {
  const Board solution = solution_grids().front();
  Board puzzle{}, wrong = solution;
  puzzle[0] = solution[0];
  wrong[5] = static_cast<std::uint8_t>(wrong[5] % 4 + 1);
  const report::Picture picture = draw_boards("board", {puzzle, solution}, {{"a", solution}, {"b", wrong}});
  CHECK_THAT(picture.alt, Contains("b 1"));
  const auto count = [&](const std::string& text) {
    std::size_t found = 0;
    for (auto at = picture.svg.find(text); at != std::string::npos; at = picture.svg.find(text, at + 1))
      ++found;
    return found;
  };
  CHECK(count("class=\"cross\"") == 1);
  CHECK(count("class=\"given\"") == 3);
}

TEST_CASE("the sudoku command trains, resumes and leaves its files") {
  const files::Folder folder;
  const std::string arguments =
      "sudoku --train 60 --test 20 --batch-size 20 --epochs 2 --split grid --out '" + (folder / "out") + "'";
  const command::Outcome first = command::run(arguments);
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK_THAT(first.out, Contains("optnet") && Contains("conv") && Contains("mlp") && Contains("report.html"));
  CHECK(command::run(arguments + " --resume").out == first.out);
  const std::string page = text_of(folder / "out/report.html");
  CHECK_THAT(page, Contains("Learning the rules of Sudoku") && Contains("data:image/svg+xml"));
  const std::regex not_a_number("[^a-zA-Z]-?(nan|NaN)[^a-zA-Z]");
  std::string body =
      std::regex_replace(page.substr(0, page.find("<script")), std::regex("base64,[^\"]*"), "");
  CHECK_FALSE(std::regex_search(body, not_a_number));
  for (const char* file : {"out/summary.json", "out/metrics.csv"})
    CHECK_FALSE(std::regex_search(text_of(folder / file), not_a_number));
}

TEST_CASE("mistakes on the sudoku command line are named in one line") {
  const auto fails = [](const std::string& arguments, int code, const std::string& text) {
    const command::Outcome outcome = command::run("sudoku " + arguments);
    INFO(arguments);
    CHECK(outcome.code == code);
    CHECK_THAT(outcome.err, Contains(text));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  };
  fails("--models optnet,lstm", 2, "--models: must be out of optnet, conv, mlp: got 'lstm'");
  fails("--models conv,conv", 2, "twice");
  fails("--models ,", 2, "a model is missing");
  fails("--split digit", 2, "--split");
  fails("--train 10", 2, "--batch-size 150: there are only 10 boards");
  fails("--test 0", 2, "--test");
  fails("--epochs x", 2, "--epochs");
  fails("--learning-rate 0", 2, "--learning-rate");
  fails("--resume --overwrite", 2, "exclude each other");
  const files::Folder folder;
  fails("--resume --out '" + folder.path() + "'", 1, "there is no checkpoint");
  fails("--train 1000000", 2, "--train: must be a whole number from 1 to 50000: got '1000000'");
}
