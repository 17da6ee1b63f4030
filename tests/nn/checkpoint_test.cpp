// A training that is interrupted and resumed does bit for bit what the uninterrupted one does.
#include <banach/nn/checkpoint.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/nn/spectral.hpp>

#include "files.hpp"
#include "layers.hpp"

#include <catch2/catch.hpp>

#include <memory>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

struct Net {
  SpectralLinear body;
  BatchNorm norm;
  Linear head;
  explicit Net(std::uint64_t seed, std::int64_t width = 12) : Net(Random(seed), width) {}
  Var operator()(const Var& x) const { return head(tanh(norm(body(flatten(x))))); }
  void visit(Visitor& v) { v("body", body)("norm", norm)("head", head); }

 private:
  Net(Random random, std::int64_t width)
      : body(64, width, random, {.bound = 0.5}), norm(width), head(width, 10, random) {}
};

std::unique_ptr<Optimizer> make(std::string_view name, Net& net) {
  const ParameterList all = parameters(net);
  if (name == "sgd") return std::make_unique<Sgd>(all, SgdOptions{.learning_rate = 0.05, .momentum = 0.9});
  if (name == "adamw") return std::make_unique<AdamW>(all);
  return std::make_unique<Adam>(all);
}

// Everything that a run consists of, from a seed.
struct Run {
  Net net;
  std::unique_ptr<Optimizer> optimizer;
  LoaderOptions options{.batch_size = 100, .seed = 5, .drop_last = true};
  Loader loader{load_digits().train, options};
  Random random{77};
  std::int64_t step = 0;

  Run(std::string_view rule, std::uint64_t seed) : net(seed), optimizer(make(rule, net)) {}

  void train(int steps) {
    const CosineSchedule schedule{.peak = 0.01, .steps = 20, .warmup = 3};
    const ParameterList all = parameters(net);
    for (int i = 0; i < steps; ++i, ++step) {
      auto [x, labels] = loader.next();
      Tensor noise = Tensor::empty(x.shape(), x.dtype());
      random.fill_normal(noise.mutable_data<float>(), noise.size(), 0.0f, 0.1f);
      Tape tape;
      const Var loss = cross_entropy(net(Var(x) + Var(noise)), labels);
      Vars g = grad(loss, all);
      clip_by_global_norm(g, 1.0);
      optimizer->set_learning_rate(schedule(step));
      optimizer->step(g);
    }
  }

  Progress progress() const {
    return {
        .step = step, .position = loader.position(), .loader_seed = options.seed, .random = random.state()};
  }
  void resume(const Progress& from) {
    step = from.step;
    random = Random(from.random);
    loader.seek(from.position);
  }
};

}  // namespace

TEST_CASE("10 steps, save, load in fresh objects, 10 steps: bit for bit 20 steps", "[checkpoint]") {
  const files::Folder folder;
  const std::string path = folder / "checkpoint.safetensors";
  const std::string rule = GENERATE("sgd", "adam", "adamw");
  Run whole(rule, 1);
  whole.train(20);

  Run first(rule, 1);
  first.train(10);
  const bool evaluate = GENERATE(false, true);
  if (evaluate) {  // looking at the model in between changes nothing
    eval(first.net);
    first.net(Var(normal({3, 1, 8, 8}, 1).to(DType::f32)));
    train(first.net);
  }
  save_checkpoint(path, first.net, *first.optimizer, first.progress());

  Run second(rule, 2);  // other weights: all must come from the file
  const Progress progress = load_checkpoint(path, second.net, *second.optimizer);
  CHECK(progress.step == 10);
  CHECK(progress.loader_seed == 5);
  CHECK(progress.position == first.loader.position());
  second.resume(progress);
  second.train(10);

  const auto expected = state(whole.net), got = state(second.net);
  REQUIRE(expected.size() == got.size());
  for (const auto& [name, value] : expected) {
    INFO(name);
    CHECK(same_bits(value, got.at(name)));
  }
  const auto moments = whole.optimizer->state(), same = second.optimizer->state();
  for (const auto& [name, value] : moments) CHECK(same_bits(value, same.at(name)));
  CHECK(whole.random.state() == second.random.state());
  CHECK(folder.names() == std::vector<std::string>{"checkpoint.safetensors"});
}

TEST_CASE("notes, extra tensors and large numbers come back", "[checkpoint]") {
  const files::Folder folder;
  Run run("adam", 1);
  Progress progress = run.progress();
  progress.step = 1234567890123;
  progress.random = {~std::uint64_t{0}, 3, std::uint64_t{1} << 63};
  progress.loader_seed = ~std::uint64_t{0};
  progress.extra["history.loss"] = tensor({1.5, 0.5});
  progress.notes["command"] = "banach lab --model \"mlp\"";
  save_checkpoint(folder / "c", run.net, *run.optimizer, progress);
  const Progress back = load_checkpoint(folder / "c", run.net);
  CHECK(back.step == progress.step);
  CHECK(back.random == progress.random);
  CHECK(back.loader_seed == progress.loader_seed);
  REQUIRE(back.extra.size() == 1);
  CHECK(same_bits(back.extra.at("history.loss"), tensor({1.5, 0.5})));
  CHECK(back.notes == progress.notes);
}

TEST_CASE("a checkpoint that does not fit is refused, and nothing changes", "[checkpoint]") {
  const files::Folder folder;
  const std::string path = folder / "c.safetensors";
  Run run("adam", 1);
  save_checkpoint(path, run.net, *run.optimizer, run.progress());
  const auto message = [&](auto&& call) { return files::message<FileError>(call); };

  SECTION("another model") {
    Net wider(1, 13);
    Adam optimizer(parameters(wider));
    const Tensor before = wider.head.weight.value().clone();
    CHECK_THAT(message([&] { load_checkpoint(path, wider, optimizer); }),
               Contains("[checkpoint]") && Contains("c.safetensors") && Contains("'model.") &&
                   Contains("13") && Contains("12"));
    CHECK(same_bits(wider.head.weight.value(), before));
  }
  SECTION("another optimiser") {
    Sgd sgd(parameters(run.net), {.momentum = 0.9});
    run.net.head.bias->set(Tensor::ones({10}));
    CHECK_THAT(message([&] { load_checkpoint(path, run.net, sgd); }),
               Contains("'optimizer.") && Contains("velocity"));
    CHECK(run.net.head.bias->value().at(0) == 1.0);  // the model was not touched either
  }
  SECTION("an entry too many") {
    Safetensors file = load_safetensors(path);
    file.tensors["model.tail"] = tensor({1.0f});
    save_safetensors(path, file.tensors, file.metadata);
    CHECK_THAT(message([&] { load_checkpoint(path, run.net); }),
               Contains("'model.tail'") && Contains("no place"));
  }
  SECTION("an entry too few") {
    Safetensors file = load_safetensors(path);
    file.tensors.erase("progress.random");
    save_safetensors(path, file.tensors, file.metadata);
    CHECK_THAT(message([&] { load_checkpoint(path, run.net); }),
               Contains("'progress.random'") && Contains("missing"));
  }
  SECTION("a file of another kind") {
    save_safetensors(path, {{"x", tensor({1.0f})}});
    CHECK_THAT(message([&] { load_checkpoint(path, run.net); }), Contains("must be a checkpoint"));
  }
  SECTION("a damaged file") {
    Bytes bytes = read_file(path);
    bytes[bytes.size() - 10] ^= 1;
    folder.write("c.safetensors", bytes);
    CHECK_THAT(message([&] { load_checkpoint(path, run.net); }), Contains("checksum") && Contains("damaged"));
  }
  SECTION("damaged notes") {
    Safetensors file = load_safetensors(path);
    file.metadata["accuracy"] = "0.97";
    save_safetensors(path, file.tensors, file.metadata);
    CHECK_THAT(message([&] { load_progress(path); }), Contains("its metadata") && Contains("damaged"));
  }
  SECTION("a truncated file") {
    Bytes bytes = read_file(path);
    bytes.resize(bytes.size() - 10);
    folder.write("c.safetensors", bytes);
    CHECK_THAT(message([&] { load_checkpoint(path, run.net); }), Contains("c.safetensors"));
  }
  SECTION("no file") {
    CHECK_THAT(message([&] { load_checkpoint(folder / "none", run.net); }), Contains("none"));
  }
  SECTION("no place to write") {
    CHECK_THAT(message([&] { save_checkpoint(folder / "no/such/place", run.net, *run.optimizer, {}); }),
               Contains("no/such/place"));
  }
}
