// `banach denoise`: its signals, its methods beside what is known of them, and what a user sees.
#include <apps/denoise/models.hpp>
#include <apps/denoise/page.hpp>
#include <apps/denoise/results.hpp>
#include <apps/denoise/signals.hpp>
#include <apps/denoise/train.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/grad.hpp>
#include <banach/ops/loss.hpp>
#include <tests/apps/command.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <functional>
#include <regex>
#include <vector>

using namespace banach;
using namespace banach::denoise;

namespace {

/// Total variation without optimisation: the string drawn taut through the tube of radius lambda around the
/// sums of y, pinned at both ends (Davies and Kovac 2001, section 2.2); its slopes are the solution. Here the
/// tautest string is found corner by corner: from each corner the tube is followed until no straight line
/// stays in it.
std::vector<double> taut_string(const std::vector<double>& y, double lambda) {
  const std::size_t n = y.size();
  std::vector<double> lower(n + 1), upper(n + 1), z(n);
  double sum = 0.0;
  for (std::size_t i = 0; i <= n; ++i) {
    const double radius = i == 0 || i == n ? 0.0 : lambda;
    lower[i] = sum - radius;
    upper[i] = sum + radius;
    if (i < n) sum += y[i];
  }
  std::size_t corner = 0;
  double height = 0.0;
  while (corner < n) {
    double steepest = -INFINITY, flattest = INFINITY;  // of the lines that clear lower, and upper, so far
    std::size_t steep_at = corner, flat_at = corner, end = 0;
    double end_height = 0.0;
    for (std::size_t i = corner + 1; i <= n && end == 0; ++i) {
      const auto run = static_cast<double>(i - corner);
      const double to_lower = (lower[i] - height) / run, to_upper = (upper[i] - height) / run;
      if (to_lower > flattest) {
        end = flat_at, end_height = upper[flat_at];
      } else if (to_upper < steepest) {
        end = steep_at, end_height = lower[steep_at];
      } else {
        if (to_lower >= steepest) steepest = to_lower, steep_at = i;
        if (to_upper <= flattest) flattest = to_upper, flat_at = i;
      }
    }
    if (end == 0) end = n, end_height = upper[n];
    const double slope = (end_height - height) / static_cast<double>(end - corner);
    for (std::size_t i = corner; i < end; ++i) z[i] = slope;
    corner = end;
    height = end_height;
  }
  return z;
}

bool never() { return false; }

Results small_run(const Settings& settings, const std::string& checkpoint, bool resume = false,
                  const std::function<bool()>& stop = never) {
  Results results;
  train(settings, {checkpoint, resume, stop}, results);
  return results;
}

std::string without_times(const std::string& csv) {
  return std::regex_replace(csv, std::regex(",[^,\n]*\n"), "\n");
}

bool contains(const std::string& text, const std::string& word) { return text.find(word) != text.npos; }

}  // namespace

TEST_CASE("signals to denoise are piecewise constant under noise of deviation 10", "[denoise]") {
  const Signals signals = make_signals(2000, Random(3));
  std::vector<int> pieces(most_pieces + 1);
  double noise_square = 0.0, lowest = INFINITY, highest = -INFINITY;
  for (std::int64_t i = 0; i < signals.size(); ++i) {
    std::size_t count = 1;
    for (std::int64_t t = 0; t < length; ++t) {
      const double level = signals.clean.at(i * length + t);
      if (t > 0 && level != signals.clean.at(i * length + t - 1)) ++count;
      lowest = std::min(lowest, level);
      highest = std::max(highest, level);
      noise_square += std::pow(signals.noisy.at(i * length + t) - level, 2);
    }
    REQUIRE(count < pieces.size());
    ++pieces[count];
  }
  // 2000 signals: each number of pieces 222 times, with a deviation of 14.
  for (std::size_t k = fewest_pieces; k < pieces.size(); ++k) CHECK(std::abs(pieces[k] - 222) < 70);
  CHECK(lowest >= 0.0);
  CHECK(lowest < 1.0);
  CHECK(highest < highest_level);
  CHECK(highest > highest_level - 1.0);
  CHECK(std::sqrt(noise_square / static_cast<double>(signals.noisy.size())) == Approx(noise).epsilon(0.01));

  const Signals fewer = make_signals(7, Random(3));
  CHECK(fewer.noisy.at(7 * length - 1) == signals.noisy.at(7 * length - 1));
  CHECK(make_signals(1, Random(4)).noisy.at(0) != signals.noisy.at(0));
  // Means of pieces leave noise^2 * pieces / length.
  CHECK(error_with_known_breakpoints(signals) == Approx(5.0).epsilon(0.05));
}

TEST_CASE("signals are turned over together with their clean ones", "[denoise]") {
  const Signals signals = make_signals(200, Random(1));
  const Signals turned = turn_over(signals, Random(2));
  int kinds[2][2] = {};
  for (std::int64_t i = 0; i < signals.size(); ++i) {
    int matches = 0;
    for (const bool reverse : {false, true})
      for (const bool mirror : {false, true}) {
        bool same = true;
        for (std::int64_t t = 0; t < length; ++t)
          for (const auto& [from, to] :
               {std::pair(signals.noisy, turned.noisy), std::pair(signals.clean, turned.clean)}) {
            const double value = from.at(i * length + (reverse ? length - 1 - t : t));
            same = same && to.at(i * length + t) == (mirror ? highest_level - value : value);
          }
        matches += same;
        kinds[reverse][mirror] += same;
      }
    CHECK(matches == 1);
  }
  for (const auto& row : kinds)
    for (const int count : row) CHECK(count > 20);
}

TEST_CASE("total variation agrees with the taut string", "[denoise]") {
  const Signals signals = make_signals(40, Random(5));
  for (const double lambda : {0.5, 8.0, 20.0, 90.0, 2000.0}) {
    const Estimate estimate = (*make_denoiser("tv", 0, lambda))(Var(signals.noisy));
    REQUIRE(estimate.report);
    CHECK(estimate.report->solved());
    double largest = 0.0;
    for (std::int64_t i = 0; i < signals.size(); ++i) {
      const double* row = signals.noisy.data<double>() + i * length;
      const std::vector<double> expected = taut_string({row, row + length}, lambda);
      for (std::int64_t t = 0; t < length; ++t)
        largest = std::max(
            largest, std::abs(estimate.z.value().at(i * length + t) - expected[static_cast<std::size_t>(t)]));
    }
    INFO(lambda);
    CHECK(largest < 1e-8);
  }
}

TEST_CASE("the tuned program starts as total variation and its gradient is the true one", "[denoise]") {
  const Signals signals = make_signals(6, Random(8));
  const auto tuned = make_denoiser("tuned", 0, 20.0), tv = make_denoiser("tv", 0, 20.0);
  const Tensor start = (*tuned)(Var(signals.noisy)).z.value(), same = (*tv)(Var(signals.noisy)).z.value();
  for (std::int64_t i = 0; i < start.size(); ++i) CHECK(start.at(i) == Approx(same.at(i)).margin(1e-9));

  // Along a random direction of all parameters at once, beside a central difference.
  nn::ParameterList parameters;
  for (const nn::ParameterGroup& group : tuned->groups())
    parameters.insert(parameters.end(), group.parameters.begin(), group.parameters.end());
  const auto loss = [&] { return mse((*tuned)(Var(signals.noisy)).z, Var(signals.clean)); };
  Random random(1);
  std::vector<Tensor> directions, values;
  for (const nn::NamedParameter& p : parameters) {
    Tensor direction = Tensor::empty(p.parameter->shape(), DType::f64);
    random.fill_normal(direction.mutable_data<double>(), direction.size(), 0.0, 1.0);
    directions.push_back(direction);
    values.push_back(p.parameter->value().clone());
  }
  double slope = 0.0;
  {
    const Tape tape;
    const Vars gradients = nn::grad(loss(), parameters);
    for (std::size_t i = 0; i < parameters.size(); ++i)
      for (std::int64_t k = 0; k < directions[i].size(); ++k)
        slope += directions[i].at(k) * gradients[i].value().at(k);
  }
  const auto at = [&](double step) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      Tensor moved = values[i].clone();
      double* v = moved.mutable_data<double>();
      for (std::int64_t k = 0; k < moved.size(); ++k) v[k] += step * directions[i].at(k);
      parameters[i].parameter->set(moved);
    }
    return loss().item();
  };
  const double h = 1e-7;
  CHECK((at(h) - at(-h)) / (2.0 * h) == Approx(slope).epsilon(1e-4));
}

TEST_CASE("training takes the tuned program below total variation", "[denoise][unsanitized]") {
  const files::Folder folder;
  const Settings settings{.methods = {"tv", "tuned"}, .signals = 1000, .epochs = 2, .batch_size = 50};
  const Results results = small_run(settings, folder / "c.safetensors");
  const MethodResult &tv = *results.find("tv"), &tuned = *results.find("tuned");
  REQUIRE(tuned.epochs.size() == 3);
  CHECK(tuned.epochs.front().test_error == Approx(tv.error()).epsilon(1e-9));
  CHECK(tuned.epochs.back().train_error < tuned.epochs[1].train_error);
  CHECK(tuned.solve_statuses == Tally{{"solved", 2000}});
  // The chosen lambda is the best of those tried, and not at their end.
  for (const Candidate& c : results.candidates)
    if (c.lambda == results.lambda)
      for (const Candidate& other : results.candidates) CHECK(c.error <= other.error);
  CHECK(results.lambda > results.candidates.front().lambda);
  CHECK(results.lambda < results.candidates.back().lambda);
  CHECK(tv.error() == Approx(16.5).margin(1.5));
}

TEST_CASE("a stopped denoising goes on to the very same results", "[denoise]") {
  const files::Folder folder;
  const Settings settings{
      .methods = {"tuned", "fc", "tv"}, .signals = 60, .epochs = 3, .batch_size = 20, .seed = 4};
  const Results whole = small_run(settings, folder / "whole.safetensors");
  const std::string checkpoint = folder / "parts.safetensors";
  bool resume = false;
  for (const int steps : {4, 6, 3}) {
    int left = steps;
    CHECK_THROWS_AS(small_run(settings, checkpoint, resume, [&] { return left-- == 0; }), Error);
    resume = true;
  }
  const Results resumed = small_run(settings, checkpoint, true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  REQUIRE(resumed.methods.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(resumed.methods[i].shown == whole.methods[i].shown);
    CHECK(resumed.methods[i].gradient_kinds == whole.methods[i].gradient_kinds);
    CHECK(resumed.methods[i].learned.size() == (i == 0 ? 3 : 0));
  }
  const Tensor &a = resumed.methods[0].learned.at("D"), &b = whole.methods[0].learned.at("D");
  CHECK(std::equal(a.values<double>().begin(), a.values<double>().end(), b.values<double>().begin()));
  CHECK(metrics_csv(small_run(settings, checkpoint, true)) == metrics_csv(resumed));

  Results untouched;
  CHECK_THROWS_AS(train(settings, {folder / "none", true}, untouched), FileError);
  CHECK(untouched.candidates.empty());  // refused before any work
}

TEST_CASE("the results of a denoising survive text, numbers that are not finite too", "[denoise]") {
  MethodResult method{.name = "tuned", .parameters = 3};
  method.epochs.push_back({1, 1.0 / 3.0, std::nan(""), 0.1});
  method.shown = {{1.0, std::nan("")}};
  method.solve_statuses["solved"] = 7;
  const MethodResult read = from_text(to_text(method));
  CHECK(to_text(read) == to_text(method));
  CHECK(read.epochs.front().train_error == 1.0 / 3.0);
  CHECK(std::isnan(read.epochs.front().test_error));
  CHECK(std::isnan(read.shown.front().back()));
  CHECK_THROWS_AS(from_text("{}"), FileError);
  CHECK_THROWS_AS(from_text("no"), FileError);
}

TEST_CASE("findings compare with the paper only methods that it has", "[denoise]") {
  const auto told = [](const std::vector<std::pair<std::string, double>>& errors) {
    Results results;
    for (const auto& [name, error] : errors) {
      results.methods.push_back({.name = name});
      results.methods.back().epochs.push_back({.test_error = error});
    }
    std::string text;
    for (const std::string& finding : findings(results)) text += finding + "\n";
    return text;
  };
  CHECK(contains(told({{"tv", 16.0}, {"tuned", 14.0}}), "table has them in that order too."));
  CHECK(contains(told({{"tv", 14.0}, {"tuned", 16.0}}), "table has them in another order."));
  CHECK(contains(told({{"tv", 16.0}, {"tuned", 14.0}, {"tuned-d", 15.0}}),
                 "tuned (14.00), tuned-d (15.00), tv (16.00). The paper's table has those of them that it "
                 "knows in that order too."));
  CHECK(contains(told({{"tv", 16.0}, {"tuned-d", 15.0}}), "tuned-d (15.00), tv (16.00).\n"));
}

TEST_CASE("banach denoise chooses a lambda for tuned-d alone", "[denoise]") {
  const files::Folder folder;
  const command::Outcome outcome = command::run(
      "denoise --methods tuned-d --signals 40 --epochs 1 --batch-size 20 --out '" + (folder / "out") + "'");
  INFO(outcome.err);
  CHECK(outcome.code == 0);
  CHECK(contains(outcome.out, "tuned-d"));
}

TEST_CASE("banach denoise trains, leaves its files and refuses what it cannot do", "[denoise]") {
  const files::Folder folder;
  const std::string out = folder / "out",
                    arguments = "denoise --signals 40 --epochs 1 --batch-size 20 --out '" + out + "'";
  const command::Outcome first = command::run(arguments);
  INFO(first.err);
  REQUIRE(first.code == 0);
  for (const char* name : {"metrics.csv", "summary.json", "report.html", "checkpoint.safetensors"})
    CHECK(std::filesystem::file_size(out + "/" + name) > 0);
  const nn::Bytes bytes = nn::read_file(out + "/summary.json");
  const auto summary = nlohmann::json::parse(bytes.begin(), bytes.end());
  REQUIRE(summary["methods"].size() == 4);
  CHECK(summary["methods"][2]["method"] == "tv");
  CHECK(summary["methods"][2]["better_than_tv"] == 0.0);
  CHECK(summary["methods"][3]["epochs"].size() == 2);
  CHECK(summary["lambda"].get<double>() > 0.0);

  CHECK(command::run(arguments + " --resume").out == first.out);
  const command::Outcome other = command::run(arguments + " --seed 1");
  CHECK(other.code == 1);
  CHECK(contains(other.err, "is of another run (--seed 0, not 1)"));
  CHECK(contains(command::run(arguments + " --resume --seed 1").err, "was made with --seed 0, not 1"));
  CHECK(contains(command::run("denoise --resume --out '" + (folder / "none") + "'").err,
                 "there is no checkpoint"));
  for (const auto& [bad, words] :
       {std::pair("--methods tv,wiener", "must be out of fc, optnet, tv, tuned, tuned-d: got 'wiener'"),
        std::pair("--methods tv,tv", "tv stands there twice"), std::pair("--signals 3", "--signals"),
        std::pair("--epochs 0", "--epochs"),
        std::pair("--signals 30 --batch-size 31", "there are only 30 signals"),
        std::pair("--resume --overwrite", "exclude each other")}) {
    const command::Outcome refused = command::run(std::string("denoise ") + bad);
    INFO(refused.err);
    CHECK(refused.code == 2);
    CHECK(contains(refused.err, words));
    CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
  }
}
