#include <apps/training/command.hpp>
#include <apps/training/tally.hpp>
#include <tests/nn/files.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <sstream>

#include <banach/engine/error.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>

namespace {

using namespace banach;
using Catch::Matchers::Contains;

struct Result {
  std::string name{};
  std::vector<training::Step> steps{};
  std::vector<std::int64_t> probes{};
  std::string failure{};
  std::map<std::string, Tensor> learned{};
};

std::string to_text(const Result& result) {
  std::string text = result.name + " " + std::to_string(result.failure.size()) + " " + result.failure;
  for (const std::int64_t step : result.probes) text += " " + std::to_string(step);
  return text;
}

Result from_text(const std::string& text) {
  std::istringstream in(text);
  Result result;
  std::size_t length = 0;
  in >> result.name >> length;
  result.failure.resize(length);
  in.ignore().read(result.failure.data(), static_cast<std::streamsize>(length));
  for (std::int64_t step; in >> step;) result.probes.push_back(step);
  return result;
}

/// Moves a number towards the numbers that its loader gives out, until one of them is not finite.
class Learner : public training::Trainee {
 public:
  Learner(Result& result, double last)
      : result_(result),
        weight_(Tensor::zeros({1}, DType::f64)),
        adam_(nn::parameters(*this)),
        loader_(7,
                [last](std::span<const std::int64_t> rows, nn::Minibatch& batch) {
                  const auto row = static_cast<double>(rows.front());
                  batch = {Tensor::full({1}, row == 6.0 ? last : row, DType::f64),
                           Tensor::zeros({1}, DType::f64)};
                },
                {.batch_size = 1, .seed = 3, .prefetch = 0}) {}

  void visit(nn::Visitor& visitor) override { visitor("weight", weight_); }
  nn::Optimizer& optimizer() override { return adam_; }
  void save(nn::Progress& progress) const override { progress.notes["steps"] = std::to_string(steps_); }
  void go_on(const nn::Progress& at) override {
    training::seek(loader_, at.step);
    steps_ = std::stoll(at.notes.at("steps"));
    CHECK(steps_ == at.step);
  }

  std::string step(std::int64_t step) override {
    CHECK(step == steps_);
    const nn::Minibatch batch = loader_.next();
    const Tape tape;
    const Var loss = sum(square(weight_ - Var(batch.x)));
    const Vars gradients = nn::grad(loss, nn::parameters(*this));
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    adam_.step(gradients);
    result_.steps.push_back({loss.item(), 0.5});
    ++steps_;
    return {};
  }
  void probe(std::int64_t step) override {
    CHECK(step == steps_);
    result_.probes.push_back(step);
    result_.learned["weight"] = weight_.value().clone();
  }

 private:
  Result& result_;
  nn::Parameter weight_;
  nn::Adam adam_;
  nn::Loader loader_;
  std::int64_t steps_ = 0;
};

using Results = std::vector<Result>;

/// Three models: one that fails, one without steps, one that does not fail. `patience`: steps until it is
/// asked to stop.
Results run(const std::string& checkpoint, bool resume = false,
            std::int64_t patience = std::numeric_limits<std::int64_t>::max()) {
  Results results{{.name = "bad"}, {.name = "still"}, {.name = "good"}};
  const training::Place place{checkpoint, resume, [&] { return patience-- == 0; }};
  training::train(
      {.notes = {"toy", {{"--seed", "1"}}, results.size()},
       .place = place,
       .models = {{"bad", 20}, {"still", 0}, {"good", 11}},
       .probe_every = 3,
       .make =
           [&](std::size_t i) { return std::make_unique<Learner>(results[i], i == 0 ? std::nan("") : 0.0); },
       .results = training::kept(results, from_text)});
  return results;
}

void check_same(const Results& a, const Results& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(to_text(a[i]) == to_text(b[i]));
    REQUIRE(a[i].steps.size() == b[i].steps.size());
    for (std::size_t k = 0; k < a[i].steps.size(); ++k) CHECK(a[i].steps[k].loss == b[i].steps[k].loss);
    CHECK(a[i].learned.at("weight").at(0) == b[i].learned.at("weight").at(0));
  }
}

}  // namespace

TEST_CASE("models are trained in turn, each probed at its start, along its way and at its end") {
  const files::Folder folder;
  const Results results = run(folder / "c");
  const Result &bad = results[0], &still = results[1], &good = results[2];
  CHECK(bad.steps.size() < 7);  // the epoch in which the NaN comes
  CHECK(bad.failure ==
        "training stopped: the gradient of step " + std::to_string(bad.steps.size() + 1) + " is not finite");
  CHECK(bad.probes.back() == static_cast<std::int64_t>(bad.steps.size()));
  CHECK(still.steps.empty());
  CHECK(still.probes == std::vector<std::int64_t>{0});
  CHECK(good.steps.size() == 11);
  CHECK(good.probes == std::vector<std::int64_t>{0, 3, 6, 9, 11});
  CHECK(training::total_seconds(good.steps) == 5.5);
}

TEST_CASE("a run stopped before any of its steps, again and again, goes on to the very same results") {
  const files::Folder folder;
  const Results whole = run(folder / "whole");
  for (const std::int64_t patience : {0, 1, 2, 3, 5}) {
    const std::string checkpoint = folder / ("parts" + std::to_string(patience));
    CHECK_THROWS_WITH(run(checkpoint, false, patience), Contains("--resume goes on"));
    const cli::RunNotes notes("toy", {{"--seed", "1"}}, 3);
    CHECK_THROWS_WITH(notes.check_replaceable(checkpoint), Contains("unfinished run"));
    Results parts;
    for (int resumed = 0; parts.empty() && resumed < 40; ++resumed) try {
        parts = run(checkpoint, true, std::max<std::int64_t>(1, patience));
      } catch (const Error& error) {
        CHECK_THAT(error.what(), Contains("interrupted in step"));
      }
    check_same(parts, whole);
    CHECK_NOTHROW(notes.check_replaceable(checkpoint));
    check_same(run(checkpoint, true), whole);  // nothing is left to do
  }
}

TEST_CASE("statuses are counted, and said in words") {
  const training::Tally tally{{"max_steps", 3}, {"solved", 1200}};
  CHECK(training::total(tally) == 1203);
  CHECK(training::count_of(tally, "solved") == 1200);
  CHECK(training::count_of(tally, "lost") == 0);
  CHECK(training::in_words(tally, "none") == "3 max_steps, 1,200 solved");
  CHECK(training::in_words({}, "none") == "none");
}

TEST_CASE("a run has failed where none of its models came to the end") {
  Results results{{.name = "a", .failure = "it stopped"}, {.name = "b"}};
  CHECK(training::none_finished(results).empty());
  results[1].failure = "it stopped, too";
  CHECK(training::none_finished(results) == "all that was trained diverged: it stopped");
}

TEST_CASE("steps of another form than a command's are refused") {
  CHECK_THROWS_WITH(training::from_tensor<training::Step>(Tensor::zeros({4, 3}, DType::f64)),
                    Contains("(steps, 2)") && Contains("(4,3)"));
  CHECK_THROWS_AS(training::from_tensor<training::Step>(Tensor::zeros({4, 2}, DType::f32)), FileError);
  nn::Progress empty;
  Results results(1);
  CHECK_THROWS_WITH(training::take(empty, results, from_text), Contains("lacks the results of its model 1"));
}
