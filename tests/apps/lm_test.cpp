#include <apps/cli/run.hpp>
#include <apps/lm/cost.hpp>
#include <apps/lm/data.hpp>
#include <apps/lm/depth.hpp>
#include <apps/lm/evaluate.hpp>
#include <apps/lm/page.hpp>
#include <apps/lm/sample.hpp>
#include <apps/lm/train.hpp>
#include <tests/apps/command.hpp>

#include <cmath>
#include <filesystem>
#include <regex>
#include <set>

#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <catch2/catch.hpp>

namespace {

using namespace banach;
using namespace banach::lm;
using Catch::Matchers::Contains;

constexpr bool never() { return false; }

/// A text with a pattern in it, in a file of its own.
std::string write_text(const files::Folder& folder, int lines = 400) {
  std::string text;
  for (int i = 0; i < lines; ++i) text += i % 3 == 0 ? "the cat sat, " : "a dog ran.\n";
  return folder.write("text.txt", files::bytes_of(text));
}

Settings small_settings(const std::string& file, const std::vector<std::string>& depths) {
  Settings settings;
  settings.text.file = file;
  settings.architecture = {.cell = "trellis", .d = 8, .dilations = {1, 2}};
  settings.train = {.steps = 12, .batch = 2, .length = 8, .learning_rate = 0.01, .warmup = 3, .probes = 3};
  settings.depths = depths;
  return settings;
}

Results train_small(const Settings& settings, const std::string& checkpoint, bool resume = false,
                    const std::function<bool()>& stop = never) {
  Results results;
  train("lm-train", settings, {checkpoint, resume, stop}, results);
  return results;
}

/// The column of seconds left out.
std::string without_times(const std::string& csv) {
  return std::regex_replace(csv, std::regex("((?:step|probe),[0-9]+),[^,]*"), "$1");
}

/// The parameters in a checkpoint, as one row of numbers.
std::vector<float> weights(const std::string& checkpoint) {
  std::vector<float> values;
  Trained trained = load_trained(checkpoint);
  for (const auto& [name, parameter] : nn::parameters(*trained.model))
    for (const float v : parameter->value().values<float>()) values.push_back(v);
  return values;
}

/// What is cut off at the `at`-th look, and goes on, ends like `whole`, whose checkpoint is in the folder.
void check_resume(const Settings& settings, int at, const files::Folder& folder, const Results& whole) {
  INFO("cut off at look " << at);
  const std::string checkpoint = folder / ("cut" + std::to_string(at));
  int left = at;
  CHECK_THROWS_WITH(train_small(settings, checkpoint, false, [&] { return left-- == 0; }),
                    Contains("--resume goes on"));
  const Results resumed = train_small(settings, checkpoint, true);
  CHECK(without_times(metrics_csv(resumed)) == without_times(metrics_csv(whole)));
  CHECK(weights(checkpoint) == weights(folder / "whole"));
}

}  // namespace

TEST_CASE("lm: a depth is an equilibrium with its rule, or layers") {
  const auto layers = std::get<nn::WeightTied>(parse_depth("explicit:48:7", {}));
  CHECK(layers.layers == 48);
  CHECK(layers.checkpoint_every == 7);
  const auto rule =
      std::get<FixedPointOptions>(parse_depth("phantom-neumann:5:0.5", {.tolerance = 0.1, .max_steps = 9}));
  CHECK(rule.backward.name() == "phantom");
  CHECK(rule.tolerance == 0.1);
  CHECK(rule.max_steps == 9);
  CHECK(std::get<FixedPointOptions>(parse_depth("reversible:0.8:5", {})).max_steps == 5);
  CHECK_THROWS_AS(parse_depth("explicit", {}), cli::UsageError);
  CHECK_THROWS_AS(parse_depth("explicit:0", {}), cli::UsageError);
  CHECK_THROWS_WITH(parse_depth("explicit:3:4", {}), Contains("M must be at most L"));
  CHECK_THROWS_WITH(parse_depth("implicit,jfb", {}), Contains("lm compare"));
  CHECK_THROWS_WITH(parse_depth("all", {}), Contains("--depth all") && Contains("explicit:L[:M]") &&
                                                !Contains("truncated:K, reversible:B[:STEPS], all"));
  CHECK_THROWS_AS(parse_depth("nonsense", {}), cli::UsageError);
  CHECK(is_explicit("explicit:3"));
  for (const char* exact : {"implicit", "implicit:gmres", "implicit:dense"}) CHECK(is_exact(exact));
  for (const char* other : {"jfb", "explicit:3", "phantom:5:0.5", "implicit:gmres:4"})
    CHECK_FALSE(is_exact(other));
}

TEST_CASE("lm: a text that is missing says how it is fetched") {
  const files::Folder folder;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());  // where there is no data/texts
  for (const char* name : {"austen", "brown", "union"})
    CHECK_THROWS_WITH(load_corpus({.data = name}), Contains("scripts/get-texts " + std::string(name)));
  std::filesystem::current_path(before);
  CHECK_THROWS_WITH(load_corpus({.file = folder / "none"}), Contains(folder / "none"));
  CHECK_THROWS_WITH(load_corpus({.file = folder.write("empty", {})}), Contains("must have words"));
  CHECK(load_corpus({.unit = "word"}).vocabulary.size() == 10'000);
}

TEST_CASE("lm: what is needed to make a model again survives the checkpoint") {
  Settings settings = small_settings("t.txt", {"jfb"});
  settings.architecture.cutoffs = {3, 7};
  settings.architecture.tied = false;
  settings.solve.tolerance = 0.125;
  CHECK(to_text(from_text(to_text(settings))) == to_text(settings));
  CHECK_THROWS_AS(from_text("{}"), FileError);

  ModelResult result{.name = "jfb, seed 2", .depth = "jfb", .seed = 2, .parameters = 5};
  result.probes.push_back({3, 0.5, {1.0, 2.0, 3.0}});
  result.cost.tape_bytes = 12;
  CHECK(to_text(from_text_result(to_text(result))) == to_text(result));  // NaN included
}

TEST_CASE("lm: every depth learns, and a training that is cut off goes on to the same bits") {
  const files::Folder folder;
  Settings settings = small_settings(write_text(folder), {"phantom-neumann:5:0.5", "explicit:3",
                                                          "explicit:4:2", "implicit", "reversible:0.8:6"});
  settings.architecture.dropout = 0.1;
  settings.train.pretrain = 2;
  settings.train.pretrain_layers = 2;
  const Results whole = train_small(settings, folder / "whole");
  REQUIRE(whole.models.size() == 5);
  for (const ModelResult& model : whole.models) {
    INFO(model.name);
    CHECK(model.failure.empty());
    CHECK(model.steps.size() == 12);
    CHECK(model.probes.back().valid.nats < model.probes.front().valid.nats);
    CHECK(std::isfinite(model.test.perplexity()));
    CHECK(model.cost.peak_bytes >= model.cost.tape_bytes);
  }

  for (const int at : {5, 31}) check_resume(settings, at, folder, whole);
  Settings other = settings;
  other.train.steps = 13;
  CHECK_THROWS_WITH(train_small(other, folder / "whole", true), Contains("--steps"));
}

TEST_CASE("lm: a transformer with memory and dropout goes on to the same bits") {
  const files::Folder folder;
  Settings settings = small_settings(write_text(folder), {"phantom-neumann:5:0.5", "implicit"});
  settings.architecture = {
      .cell = "transformer", .d = 8, .heads = 2, .hidden = 12, .memory = 6, .dropout = 0.2};
  const Results whole = train_small(settings, folder / "whole");
  for (const int at : {3, 8, 17}) check_resume(settings, at, folder, whole);

  // Both of them count.
  Settings other = settings;
  other.architecture.memory = 0;
  train_small(other, folder / "forgetful");
  CHECK(weights(folder / "forgetful") != weights(folder / "whole"));
  other = settings;
  other.architecture.dropout = 0.0;
  train_small(other, folder / "undropped");
  CHECK(weights(folder / "undropped") != weights(folder / "whole"));
}

TEST_CASE("lm: a rule that draws goes on with the same draws") {
  const files::Folder folder;
  const Settings settings = small_settings(write_text(folder), {"random-neumann:0.8"});
  train_small(settings, folder / "whole");
  int left = 6;  // between two looks
  CHECK_THROWS_AS(train_small(settings, folder / "cut", false, [&] { return left-- == 0; }), Error);
  train_small(settings, folder / "cut", true);
  CHECK(weights(folder / "cut") == weights(folder / "whole"));
}

TEST_CASE("lm: a run goes on with its own text, by whatever path, and with no other") {
  const files::Folder folder;
  Settings settings = small_settings(write_text(folder), {"jfb"});
  train_small(settings, folder / "checkpoint");
  std::filesystem::rename(folder / "text.txt", folder / "moved.txt");
  settings.text.file = folder / "moved.txt";
  CHECK_NOTHROW(train_small(settings, folder / "checkpoint", true));
  settings.text.file = write_text(folder, 399);
  CHECK_THROWS_WITH(train_small(settings, folder / "checkpoint", true),
                    Contains("--text of") && Contains("checksum"));
}

TEST_CASE("lm: a comparison says where seeds differ as much, and what share of the text is unknown") {
  Results results;
  const auto add = [&](const std::string& depth, double nats) {
    ModelResult model{.name = depth, .depth = depth};
    model.test.nats = nats;
    model.cost.peak_bytes = 1024;
    model.cost.backward_seconds = 0.1;
    results.models.push_back(model);
  };
  const nn::Vocabulary vocabulary("the cat", nn::TextUnit::word);
  results.test = nn::make_part("my.txt (test)", "the cat the cat", vocabulary);
  for (const double nats : {1.0, 1.2}) add("jfb", nats);
  for (const double nats : {1.05, 1.3}) add("explicit:3", nats);
  const auto text = [&] {
    std::string all;
    for (const std::string& sentence : findings(results)) all += sentence;
    return all;
  };
  CHECK_THAT(text(), Contains("no difference beyond") && !Contains("unknown"));
  results.models[2].test.nats = results.models[3].test.nats = 2.0;
  results.test = nn::make_part("my.txt (test)", "the cat the dog", vocabulary);
  CHECK_THAT(text(), !Contains("no difference beyond") && Contains("25.0 % of the tokens of my.txt (test)"));

  // What did not converge is told, in training and on the test text.
  for (ModelResult& m : results.models) m.test.converged = 1.0, m.steps.resize(2, {.converged = 1.0});
  CHECK_THAT(text(), Contains("All equilibria met the tolerance"));
  results.models[1].test.converged = 0.5;
  results.models[0].steps[0].converged = 0.8;
  CHECK_THAT(text(), Contains("Not within the tolerance after all steps: jfb in 5.00 % of the samples in "
                              "training and 25.00 % on the test text."));

  // A seed that diverged is named, and the means are those of the others.
  results.models[0].failure = "it stopped";
  results.models[0].test = {};
  results.models[0].cost = {};
  CHECK_THAT(text(), Contains("jfb diverged: it stopped.") &&
                         Contains("jfb, has a perplexity of 3.320 (1 of 2 seeds: the rest diverged)") &&
                         Contains("one seed: what seeds differ by was not measured"));
  add("implicit:dense", 2.0);
  add("implicit:dense", unknown);
  results.models.back().failure = "it stopped, too";
  CHECK_THAT(text(), Contains("jfb: its backward pass is 1 times as fast as that of the exact rule"));
  for (ModelResult& model : results.models) model.failure = "it stopped";
  CHECK_THAT(text(), !Contains("perplexity of"));
  results.models.front().failure.clear();
  for (const char* bad : {"nan", "inf"}) CHECK_THAT(text(), !Contains(bad));
}

TEST_CASE("lm: a text of words unlike those before is no obstacle to the end of a training") {
  const files::Folder folder;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += i < 2900 ? (i % 3 ? "the cat sat. " : "a dog ran. ") : "весь иной текст ";
  const std::string file = folder.write("text.txt", files::bytes_of(text)), out = folder / "out";
  const command::Outcome trained = command::run(
      "lm train --unit word --text '" + file +
      "' --cell trellis --d 8 --steps 2 --batch-size 2 --length 8 --probes 1 --out '" + out + "'");
  INFO(trained.err);
  CHECK(trained.code == 0);
  const nn::Bytes bytes = nn::read_file(out + "/report.html");
  CHECK_THAT(std::string(bytes.begin(), bytes.end()),
             Contains("Given: the beginning of the test text") && Contains("&lt;unk&gt; &lt;unk&gt;"));
}

TEST_CASE("lm: a text's file may have any name") {
  const files::Folder folder;
  const std::string named = folder / "caf\xE9.txt", out = folder / "out";
  std::filesystem::rename(write_text(folder), named);
  const command::Outcome trained = command::run(
      "lm train --text '" + named +
      "' --cell trellis --d 8 --steps 2 --batch-size 2 --length 8 --probes 1 --out '" + out + "'");
  INFO(trained.err);
  CHECK(trained.code == 0);
  CHECK(command::run("lm sample --tokens 3 --checkpoint '" + out + "/checkpoint.safetensors'").code == 0);
}

TEST_CASE("lm: the threads do not change the bits") {
  const files::Folder folder;
  Settings settings = small_settings(write_text(folder, 2000), {"phantom-neumann:5:0.5"});
  settings.train.batch = 48;  // several tiles
  settings.train.steps = 4;
  for (const char* cell : {"trellis", "transformer"}) {
    INFO(cell);
    settings.architecture.cell = cell;
    const auto trained = [&](int threads) {
      set_threads(threads);
      const std::string checkpoint = folder / (cell + std::to_string(threads));
      train_small(settings, checkpoint);
      set_threads(0);
      return weights(checkpoint);
    };
    CHECK(trained(1) == trained(3));
  }
}

TEST_CASE("lm: penalties change what is learned") {
  const files::Folder folder;
  Settings settings = small_settings(write_text(folder), {"phantom-neumann:5:0.5"});
  train_small(settings, folder / "plain");
  settings.train.jacobian = 1.0;
  CHECK(train_small(settings, folder / "jacobian").models[0].failure.empty());
  CHECK(weights(folder / "jacobian") != weights(folder / "plain"));
  settings.train.jacobian = 0.0;
  settings.train.correction = 1.0;
  CHECK(train_small(settings, folder / "correction").models[0].failure.empty());
  CHECK(weights(folder / "correction") != weights(folder / "plain"));
}

TEST_CASE("lm: evaluation does not depend on how the text is cut into windows") {
  const files::Folder folder;
  const Settings settings = small_settings(write_text(folder), {"implicit"});
  train_small(settings, folder / "checkpoint");
  Trained trained = load_trained(folder / "checkpoint");
  const nn::Corpus corpus = load_corpus(settings.text, *trained.vocabulary);
  const nn::Depth depth =
      parse_depth("implicit", {.solver = "anderson:5", .tolerance = 1e-6, .max_steps = 100});
  // The trellis remembers all that it sees, so windows are exact.
  const double one = evaluate(*trained.model, corpus.test, 1, 5, depth).nats;
  CHECK(evaluate(*trained.model, corpus.test, 1, 64, depth).nats == Approx(one).epsilon(1e-4));
  CHECK(one == Approx(corpus.test.bits_per_character(one) * std::log(2.0)));  // characters
}

TEST_CASE("lm: sampling repeats itself, and a warm start finds the same text") {
  const files::Folder folder;
  const Settings settings = small_settings(write_text(folder), {"implicit"});
  train_small(settings, folder / "checkpoint");
  Trained trained = load_trained(folder / "checkpoint");
  const nn::Depth depth =
      parse_depth("implicit", {.solver = "anderson:5", .tolerance = 1e-6, .max_steps = 100});
  const auto write = [&](SampleSettings s, SampleCost& cost) {
    s.tokens = 30;
    const Tokens prompt = trained.vocabulary->encode("the ");
    return trained.vocabulary->decode(sample(*trained.model, depth, prompt, s, cost));
  };
  SampleCost warm, cold, again;
  const std::string text = write({.compare = true}, warm);
  CHECK(nn::count_characters(text) == 30);
  CHECK(write({}, again) == text);
  CHECK(write({.warm = false}, cold) == text);
  CHECK(warm.unconverged == 0);

  SampleCost hasty;
  sample(*trained.model, parse_depth("implicit", {.solver = "anderson:5", .tolerance = 1e-9, .max_steps = 1}),
         trained.vocabulary->encode("the "), {.tokens = 7}, hasty);
  CHECK(hasty.unconverged == 7);
  CHECK(warm.other_evaluations == Approx(cold.evaluations));
  CHECK(write({.seed = 1}, again) != text);
  CHECK(warm.tokens == 30);
  CHECK(sample(*trained.model, depth, {nn::Vocabulary::unknown}, {.tokens = 3}, again).size() == 3);
  CHECK_THROWS_AS(sample(*trained.model, depth, {}, {}, again), ValueError);
}

TEST_CASE("lm: what is added keeps its distance from the prompt, and begins anew without one") {
  const nn::Vocabulary words("a cat sat.\n\na dog", nn::TextUnit::word),
      letters("aab", nn::TextUnit::character);
  CHECK(text_behind(words, words.encode("a"), words.encode("cat.")) == " cat.");
  CHECK(text_behind(words, line_end(words), words.encode("cat sat")) == "cat sat");
  CHECK(words.entry(line_end(words).front()) == "\n");
  CHECK(letters.entry(line_end(letters).front()) == "a");
}

TEST_CASE("lm: draws follow the distribution, and never the unknown one") {
  const std::vector<float> log_p{0.0f, std::log(0.1f), std::log(0.6f), std::log(0.3f)};
  Random random(1);
  CHECK(draw(log_p, 0.0, random) == 2);
  std::vector<int> counts(4);
  for (int i = 0; i < 4000; ++i) ++counts[static_cast<std::size_t>(draw(log_p, 1.0, random))];
  CHECK(counts[0] == 0);
  CHECK(std::abs(counts[1] - 400) < 100);
  CHECK(std::abs(counts[2] - 2400) < 150);
}

TEST_CASE("lm: an equilibrium's memory does not grow with its steps, that of layers does") {
  Settings settings;
  settings.architecture = {.cell = "trellis", .d = 16, .dilations = {1}};
  LanguageModel model(settings.architecture, 20, 0);
  const Tensor tokens = Tensor::zeros({4, 16}, DType::i64);
  const std::vector<CostCurve> curves = measure_curves(model, tokens, {}, {}, {"jfb", "explicit:3"});
  REQUIRE(curves.size() == 3);
  const auto& explicit_layers = curves[0].costs;
  const auto& equilibrium = curves[2].costs;
  CHECK(curves[2].name == "jfb");
  CHECK(explicit_layers[4].peak_bytes > 3 * explicit_layers[2].peak_bytes);
  CHECK(equilibrium[4].tape_bytes == Approx(equilibrium[2].tape_bytes).epsilon(0.01));
  CHECK(equilibrium[4].peak_bytes < 1.1 * equilibrium[2].peak_bytes);
  CHECK(equilibrium[2].forward == 12);
  CHECK(equilibrium[4].forward >= 24);
}

TEST_CASE("lm: the commands train, measure, write and compare") {
  const files::Folder folder;
  const std::string text = write_text(folder), out = folder / "out";
  const std::string what =
      " --text '" + text + "' --cell trellis --d 8 --steps 6 --batch-size 2 --length 8 --probes 2 ";
  const command::Outcome trained = command::run("lm train" + what + "--out '" + out + "'");
  INFO(trained.err);
  REQUIRE(trained.code == 0);
  CHECK_THAT(trained.out, Contains("bits/char") && Contains("report.html"));
  for (const char* file : {"metrics.csv", "summary.json", "report.html", "checkpoint.safetensors"})
    CHECK(!nn::read_file(out + "/" + file).empty());

  const std::string summary = files::text_of(nn::read_file(out + "/summary.json"));
  CHECK_THAT(summary, Contains("\"--vocabulary\": \"all\""));
  const std::string checkpoint = " --checkpoint '" + out + "/checkpoint.safetensors' ";
  const command::Outcome scores = command::run("lm eval --tolerance 0.1,0.001" + checkpoint);
  CHECK(scores.code == 0);
  CHECK_THAT(scores.out, Contains("0.1") && Contains("0.001") && Contains("perplexity"));
  const command::Outcome sampled =
      command::run("lm sample --prompt the --tokens 5 --compare-starts" + checkpoint);
  CHECK(sampled.code == 0);
  CHECK_THAT(sampled.out, Catch::Matchers::StartsWith("the"));
  CHECK_THAT(sampled.err, Contains("from a cold start"));
  const command::Outcome free = command::run("lm sample --tokens 5" + checkpoint);
  CHECK(free.code == 0);
  CHECK(free.out.size() == 6);
  CHECK_THAT(command::run("lm sample --prompt '§'" + checkpoint).err, Contains("the prompt must"));

  write_text(folder, 410);
  CHECK_THAT(command::run("lm eval --windows 1" + checkpoint).err, Contains("is not what"));
  write_text(folder);

  const command::Outcome compared = command::run(
      "lm compare --depths 'implicit, explicit:3' --seeds ' 0, 1 '" + what + "--out '" + out + "2'");
  INFO(compared.err);
  CHECK(compared.code == 0);
  CHECK_THAT(compared.out, Contains("implicit, seed 1") && Contains("best equilibrium"));

  const auto fails = [&](const std::string& arguments, int code, const std::string& why) {
    const command::Outcome outcome = command::run("lm " + arguments);
    CHECK(outcome.code == code);
    CHECK_THAT(outcome.err, Contains(why));
  };
  for (const char* use : {"eval", "sample"})
    fails(use + (" --checkpoint '" + out) + "2/checkpoint.safetensors'", 1, "'banach lm compare'");
  CHECK_THAT(scores.out, Contains("converged") && Contains("%"));
  const command::Outcome own = command::run("lm eval --text '" + text + "'" + checkpoint);
  CHECK(own.code == 0);
  CHECK_THAT(own.out, Contains("text (bits/char)"));
  CHECK_THAT(command::run("lm sample --tokens 2 --prompt 'the §§'" + checkpoint).err, Contains("2 of its 6"));
  CHECK(command::run("lm sample --tokens 2 --prompt \"$(printf 'a\\377')\"" + checkpoint).code == 1);
  std::filesystem::rename(text, folder / "moved.txt");
  fails("eval" + checkpoint, 1, "was trained on it: --text FILE");
  std::filesystem::rename(folder / "moved.txt", text);

  const command::Outcome lost =
      command::run("lm train --learning-rate 1e9 --warmup 0" + what + "--out '" + out + "4'");
  CHECK(lost.code == 1);
  CHECK_THAT(lost.out, Contains("diverged") && !Contains("nan"));
  CHECK_THAT(lost.err, Contains("all that was trained diverged"));
  CHECK(!nn::read_file(out + "4/report.html").empty());

  REQUIRE(command::run("lm train --depth explicit:2" + what + "--out '" + out + "5'").code == 0);
  const std::string layers = " --checkpoint '" + out + "5/checkpoint.safetensors'";
  fails("sample --compare-starts" + layers, 2, "--compare-starts");
  fails("eval --tolerance 0.1" + layers, 2, "--tolerance");
  fails("train --seed 1 --resume" + what + "--out '" + out + "'", 1, "--seed 0, not 1");

  fails("train --data austen --text '" + text + "'", 2, "exclude each other");
  fails("train --steps 5 --pretrain 5", 2, "--pretrain 5: must be less");
  fails("compare --seed 1 --seeds 1,2", 2, "exclude each other");
  fails("train --dilations 1,2", 2, "--dilations goes with --cell trellis");
  fails("train --cell trellis --heads 2", 2, "--heads goes with --cell transformer");
  fails("train --depth none --out '" + out + "3'", 2, "there is no rule 'none'");
  const std::string nowhere = " --text '" + out + "none'";
  fails("train --cutoffs 3,2" + nowhere, 2, "--cutoffs 3,2: must ascend from 1 on");
  fails("train --cutoffs 0,5" + nowhere, 2, "must ascend from 1 on");
  fails("train --unit word --cutoffs 100,10000" + nowhere, 2, "below the 10000 entries");
  fails("train --cutoffs 5000 --text '" + text + "' --out '" + out + "3'", 2, "entries of the vocabulary");
  fails("train --cell trellis --dilations 1,0" + nowhere, 2, "--dilations 1,0: must be at least 1 each");
  fails("train --cell trellis --d 8 --dilations 1,2,4" + nowhere, 2, "number of dilations, 3");
  CHECK_THAT(command::run("lm compare --help").out, Contains("default: implicit,jfb"));
  const std::string broken = folder.write("broken.txt", files::bytes_of("abc\n\xFF"));
  fails("train --text '" + broken + "' --out '" + out + "3'", 1, "broken.txt must be UTF-8: line 2");
  CHECK_THAT(command::run("lm eval --text '" + broken + "'" + checkpoint).err, Contains("at offset 4"));

  fails("train --d 10 --heads 4 --out '" + out + "3'", 2, "must divide");
  fails("train --text '" + out + "none' --out '" + out + "3'", 1, "none");
  fails("train --length 100000 " + std::string("--text '") + text + "' --out '" + out + "3'", 1, "tokens");
  fails("train" + what + "--seed 1 --out '" + out + "'", 1, "--overwrite");
  fails("sample --checkpoint '" + text + "'", 1, "text.txt");
  fails("compare --depths jfb,jfb", 2, "stands there twice");
  for (const char* use : {"eval", "sample"}) {
    fails(use + (" --checkpoint '" + out) + "9/checkpoint.safetensors'", 1,
          "first run 'banach lm train --out " + out + "9'");
    fails(use + (" --checkpoint '" + folder.path()) + "'", 1,
          "is a folder: without checkpoint.safetensors: first run");
    fails(use + (" --checkpoint '" + out) + "'", 1, "give " + out + "/checkpoint.safetensors");
  }
}
