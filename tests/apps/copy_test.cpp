#include <apps/copy/drawing.hpp>
#include <apps/copy/models.hpp>
#include <apps/copy/options.hpp>
#include <apps/copy/page.hpp>
#include <apps/copy/task.hpp>
#include <apps/copy/train.hpp>
#include <tests/apps/command.hpp>

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>

#include <banach/engine/error.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/ops.hpp>
#include <catch2/catch.hpp>

namespace {

using namespace banach;
using namespace banach::copy_task;
using Catch::Matchers::Contains;

constexpr bool never() { return false; }

Settings small_settings() {
  Options options;
  options.delay = 3;
  options.steps = 6;
  options.batch_size = 4;
  options.test = 7;
  options.hidden = 8;
  Settings settings = resolve(options);
  settings.probe_every = 2;
  return settings;
}

Results train_small(const Settings& settings, const std::string& checkpoint, bool resume = false,
                    const std::function<bool()>& stop = never) {
  Results results;
  train(settings, {checkpoint, resume, stop}, results);
  return results;
}

std::string without_times(const std::string& csv) {
  return std::regex_replace(csv, std::regex("(step|probe),([0-9]+),[^,]*,"), "$1,$2,,");
}

std::string text_of(const std::string& path) {
  const nn::Bytes bytes = nn::read_file(path);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("the copy task asks at its end for the symbols of its beginning") {
  for (const std::int64_t delay : {1, 5, 100}) {
    const Sequences made = make_sequences(9, delay, 3, 4);
    const std::int64_t positions = delay + 20;
    REQUIRE(made.inputs.shape() == Shape{9, positions});
    REQUIRE(made.targets.shape() == Shape{9, positions});
    std::set<std::int64_t> seen;
    for (std::int64_t b = 0; b < 9; ++b)
      for (std::int64_t t = 0; t < positions; ++t) {
        const auto in = made.inputs.data<std::int64_t>()[b * positions + t],
                   out = made.targets.data<std::int64_t>()[b * positions + t];
        if (t < 10) {
          seen.insert(in);
          CHECK(made.targets.data<std::int64_t>()[b * positions + t + delay + 10] == in);
        } else {
          CHECK(in == (t < delay + 10 ? blank : go));
        }
        if (t < delay + 10) CHECK(out == blank);
      }
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == 7);
    CHECK(std::equal(made.inputs.data<std::int64_t>(), made.inputs.data<std::int64_t>() + 9 * positions,
                     make_sequences(9, delay, 3, 4).inputs.data<std::int64_t>()));
    CHECK_FALSE(std::equal(made.inputs.data<std::int64_t>(), made.inputs.data<std::int64_t>() + 9 * positions,
                           make_sequences(9, delay, 3, 5).inputs.data<std::int64_t>()));
  }
}

TEST_CASE("the loss without memory is that of blanks said for sure, and symbols guessed") {
  const std::int64_t delay = 17, positions = delay + 20;
  const Sequences made = make_sequences(3, delay, 1, 2);
  Tensor logits = Tensor::full({3 * positions, classes}, -1e3, DType::f64);
  for (std::int64_t row = 0; row < 3 * positions; ++row) {
    double* out = logits.mutable_data<double>() + row * classes;
    if (row % positions < delay + 10)
      out[blank] = 0.0;
    else
      std::fill_n(out, symbols, 0.0);
  }
  const Var loss = cross_entropy(Var(logits), reshape(Var(made.targets), {3 * positions}));
  CHECK(loss.item() == Approx(memoryless_loss(delay)).epsilon(1e-12));
}

TEST_CASE("the models of the copy task are of one size") {
  const auto count_of = [](const char* name, const Settings& settings) {
    return static_cast<double>(nn::count(nn::parameters(*make_model(name, settings))));
  };
  const Settings defaults = resolve(Options{});
  CHECK(count_of("transformer", defaults) == Approx(count_of("trellis", defaults)).epsilon(0.05));
  for (const std::int64_t hidden : {8, 40}) {
    Settings settings = small_settings();
    settings.hidden = hidden;
    CHECK(count_of("lstm", settings) >= count_of("trellis", settings));
    CHECK(count_of("lstm", settings) < 1.08 * count_of("trellis", settings));
  }
}

TEST_CASE("the trellis remembers over a short delay after some steps", "[unsanitized]") {
  Options options;
  options.models = {"trellis"};
  options.delay = 1;
  options.steps = 200;
  options.batch_size = 8;
  options.test = 20;
  options.hidden = 16;
  options.dilations = {11};
  const files::Folder folder;
  const Results results = train_small(resolve(options), folder / "c");
  CHECK(results.models[0].probes.front().loss > 0.9 * results.memoryless);
  CHECK(results.models[0].last().loss < 0.1 * results.memoryless);
  CHECK(results.models[0].last().wrong < 0.05);
}

TEST_CASE("an interrupted copy training goes on to the very same results") {
  const files::Folder folder;
  const Settings settings = small_settings();
  const Results whole = train_small(settings, folder / "whole");
  REQUIRE(whole.models.size() == 3);
  const std::string checkpoint = folder / "parts";
  bool resume = false;
  for (int steps : {1, 3, 5, 2}) {
    int left = steps;
    CHECK_THROWS_WITH(train_small(settings, checkpoint, resume, [&] { return left-- == 0; }),
                      Contains("--resume goes on"));
    resume = true;
  }
  const Results resumed = train_small(settings, checkpoint, true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  for (std::size_t i = 0; i < whole.models.size(); ++i) {
    REQUIRE(resumed.models[i].recalls.size() == 6);
    for (std::size_t k = 0; k < 6; ++k)
      CHECK(resumed.models[i].recalls[k].probability == whole.models[i].recalls[k].probability);
    CHECK(resumed.models[i].solves == whole.models[i].solves);
  }
  CHECK(findings(train_small(settings, checkpoint, true)) == findings(resumed));
  CHECK_THROWS_WITH(train_small(settings, folder / "none", true), Contains("no checkpoint"));
  Settings other = settings;
  other.seed = 1;
  CHECK_THROWS_WITH(train_small(other, checkpoint, true), Contains("--seed 0, not 1"));
  CHECK_THROWS_WITH(train_small(other, checkpoint), Contains("--overwrite"));
}

TEST_CASE("the results of a copy run survive text, and damaged text is refused") {
  const files::Folder folder;
  const ModelResult model = train_small(small_settings(), folder / "c").models.front();
  CHECK(to_text(from_text(to_text(model))) == to_text(model));
  for (const char* text : {"", "{}", "[1]"}) CHECK_THROWS_AS(from_text(text), FileError);
}

TEST_CASE("a copy training that leaves the finite numbers stops and says so") {
  const files::Folder folder;
  Settings settings = small_settings();
  settings.models = {"lstm"};
  settings.lstm_rate = 1e38;
  settings.steps = 12;
  const Results results = train_small(settings, folder / "c");
  CHECK_THAT(results.models.front().failure, Contains("is not finite"));
  CHECK_THAT(findings(results).front(), Contains("lstm diverged") && Contains("is not finite"));
}

TEST_CASE("a picture marks the symbols recalled wrong") {
  const std::vector<std::int64_t> asked{0, 1, 2, 3, 4, 5, 6, 7, 0, 1};
  Recall right{asked, std::vector<double>(10, 1.0)}, wrong = right;
  wrong.symbols[3] = 0;
  wrong.symbols[9] = blank;
  const report::Picture picture = draw_recalls("sequence 1", asked, {{"trellis", right}, {"lstm", wrong}});
  CHECK(picture.caption == "wrong: trellis 0, lstm 2");
  std::size_t crosses = 0;
  for (std::size_t at = picture.svg.find("class=\"cross\""); at != std::string::npos;
       at = picture.svg.find("class=\"cross\"", at + 1))
    ++crosses;
  CHECK(crosses == 2);
}

TEST_CASE("the copy command trains, resumes and leaves its files") {
  const files::Folder folder;
  const std::string arguments =
      "copy --delay 2 --steps 4 --batch-size 3 --test 4 --hidden 4 --out '" + (folder / "out") + "'";
  const command::Outcome first = command::run(arguments);
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK_THAT(first.out, Contains("trellis") && Contains("lstm") && Contains("report.html"));
  CHECK(command::run(arguments + " --resume").out == first.out);
  const std::string page = text_of(folder / "out/report.html");
  CHECK_THAT(page, Contains("Remembering ten symbols") && Contains("data:image/svg+xml"));
  const std::regex not_a_number("[^a-zA-Z]-?(nan|NaN)[^a-zA-Z]");
  const std::string body =
      std::regex_replace(page.substr(0, page.find("<script")), std::regex("base64,[^\"]*"), "");
  CHECK_FALSE(std::regex_search(body, not_a_number));
  for (const char* file : {"out/summary.json", "out/metrics.csv"})
    CHECK_FALSE(std::regex_search(text_of(folder / file), not_a_number));
}

TEST_CASE("mistakes on the copy command line are named in one line") {
  const auto fails = [](const std::string& arguments, int code, const std::string& text) {
    const command::Outcome outcome = command::run("copy " + arguments);
    INFO(arguments);
    CHECK(outcome.code == code);
    CHECK_THAT(outcome.err, Contains(text));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  };
  fails("--models trellis,gru", 2, "--models: must be out of trellis, transformer, lstm: got 'gru'");
  fails("--hidden 7", 2, "--hidden 7: must be a multiple of the number of dilations, 2");
  fails("--dilations 1,0", 2,
        "--dilations 1,0: must be whole numbers from 1 to 1000000, separated by commas: got '0'");
  fails("--dilations '1, '", 2, "--dilations '1, ': a number is missing");
  fails("--models 'trellis , gru'", 2, "got 'gru'");
  fails("--delay 0", 2, "--delay");
  fails("--jacobian -1", 2, "--jacobian");
  fails("--resume --overwrite", 2, "exclude each other");
  const files::Folder folder;
  fails("--resume --out '" + folder.path() + "'", 1, "there is no checkpoint");
}
