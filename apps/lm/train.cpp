#include <apps/lm/train.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include <fmt/format.h>

#include <apps/lm/cost.hpp>
#include <apps/lm/data.hpp>
#include <apps/lm/depth.hpp>
#include <apps/lm/evaluate.hpp>
#include <apps/training/training.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/memory_meter.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/implicit/trajectory.hpp>

namespace banach::lm {
namespace {

using Clock = std::chrono::steady_clock;

const char* const settings_key = "lm.model.settings";
const char* const vocabulary_key = "lm.model.vocabulary";
const char* const depth_key = "lm.model.depth";
const char* const text_key = "lm.model.text";

constexpr std::uint64_t draws = 1;  // the stream of what a rule draws, apart from that of the parameters

class Learner : public training::Trainee {
 public:
  Learner(const Settings& settings, const std::string& text, const nn::Corpus& corpus, ModelResult& result)
      : settings_(settings),
        text_(text),
        corpus_(corpus),
        result_(result),
        depth_(parse_depth(result.depth, settings.solve)),
        model_(settings.architecture, corpus.vocabulary.size(), result.seed),
        parameters_(nn::parameters(model_)),
        adam_(parameters_),
        stream_(corpus.train, {.batch = settings.train.batch, .length = settings.train.length}),
        schedule_{.peak = settings.train.learning_rate,
                  .steps = settings.train.steps,
                  .warmup = settings.train.warmup} {}

  void visit(nn::Visitor& visitor) override { model_.visit(visitor); }
  nn::Optimizer& optimizer() override { return adam_; }

  std::string step(std::int64_t step) override {
    const auto start = Clock::now();
    const nn::TextWindow window = stream_.next();
    if (window.first) memory_ = {};
    const Tape tape;
    LanguageModel::Reading reading = model_.read(model_.embed(window.inputs), memory_, depth_at(step));
    const Var loss = model_.loss(reading.features, window.targets);
    Vars gradients = nn::grad(loss + penalties(reading, window, step), parameters_);
    const double norm = nn::clip_by_global_norm(gradients, settings_.train.clip);
    result_.failure = training::fault(step, gradients, loss.item());
    if (!result_.failure.empty()) return result_.failure;
    adam_.set_learning_rate(schedule_(step));
    adam_.step(gradients);
    memory_ = std::move(reading.memory);

    const ImplicitSolution& solved = reading.solution;
    const double samples = std::max<double>(1, static_cast<double>(solved.report.samples.size()));
    result_.steps.push_back({.loss = loss.item(),
                             .seconds = std::chrono::duration<double>(Clock::now() - start).count(),
                             .forward = mean_evaluations(solved.report),
                             .backward = solved.adjoint.run() ? solved.adjoint.last().evaluations
                                                              : static_cast<double>(solved.report.nstep),
                             .converged = solved.report.count(Status::converged) / samples,
                             .gradient_norm = norm});
    return {};
  }

  void probe(std::int64_t step) override {
    constexpr std::int64_t windows = 12;
    const auto score = [&](const nn::TextPart& part, std::int64_t most) {
      return evaluate(model_, part, settings_.train.batch, settings_.train.length, depth_, most);
    };
    result_.probes.push_back({step, result_.seconds(), score(corpus_.valid, windows)});
    if (step < settings_.train.steps) return;
    result_.valid = score(corpus_.valid, 0);
    result_.test = score(corpus_.test, 0);
    constexpr int repeats = 5;
    const nn::TextWindow window = first_window();
    result_.cost = measure(model_, window.inputs, memory_, depth_, repeats);
  }

  nn::TextWindow first_window() const {
    return nn::TextStream(corpus_.train, {.batch = settings_.train.batch, .length = settings_.train.length})
        .next();
  }
  LanguageModel& model() { return model_; }
  const nn::SegmentMemory& memory() const { return memory_; }

  void save(nn::Progress& progress) const override {
    if (memory_.z.defined()) progress.extra["lm.memory.z"] = memory_.z;
    if (memory_.x.defined()) progress.extra["lm.memory.x"] = memory_.x;
    progress.notes[settings_key] = to_text(settings_);
    progress.notes[vocabulary_key] = corpus_.vocabulary.to_text();
    progress.notes[depth_key] = result_.depth;
    progress.notes[text_key] = text_;
  }
  void go_on(const nn::Progress& at) override {
    stream_.seek({at.step / stream_.windows(), at.step % stream_.windows()});
    if (const auto z = at.extra.find("lm.memory.z"); z != at.extra.end()) memory_.z = z->second;
    if (const auto x = at.extra.find("lm.memory.x"); x != at.extra.end()) memory_.x = x->second;
  }

 private:
  nn::Depth depth_at(std::int64_t step) const {
    if (step < settings_.train.pretrain) return nn::WeightTied{.layers = settings_.train.pretrain_layers};
    // A rule that draws counts its sweeps; by a seed of its own, a step draws the same after a resume.
    return parse_depth(result_.depth, settings_.solve,
                       Random(result_.seed, draws).split(static_cast<std::uint64_t>(step)).bits());
  }

  /// Of the Jacobian at the equilibrium, and of iterates on the way to it.
  Var penalties(const LanguageModel::Reading& reading, const nn::TextWindow& window,
                std::int64_t step) const {
    Var sum(scalar(0.0));
    const auto* options = std::get_if<FixedPointOptions>(&depth_);
    if (!options || step < settings_.train.pretrain) return sum;
    if (settings_.train.jacobian > 0)
      sum = sum +
            settings_.train.jacobian * jacobian_regularization(reading.body, reading.solution.z.detach(),
                                                               {.seed = static_cast<std::uint64_t>(step)});
    if (settings_.train.correction > 0) {
      FixedPointOptions again = *options;
      again.backward = JacobianFree{};
      const std::array<int, 2> looked_at{std::max(1, options->max_steps / 4),
                                         std::max(1, options->max_steps / 2)};
      const FixedPointTrajectory way =
          fixed_point_trajectory(reading.body, zeros_like(reading.solution.z), looked_at, again);
      sum = sum + settings_.train.correction * trajectory_loss(way, [&](const Var& z) {
                    return model_.loss(model_.features(z), window.targets);
                  });
    }
    return sum;
  }

  const Settings& settings_;
  const std::string& text_;  // its identity
  const nn::Corpus& corpus_;
  ModelResult& result_;
  nn::Depth depth_;
  LanguageModel model_;
  nn::ParameterList parameters_;
  nn::Adam adam_;
  nn::TextStream stream_;
  nn::CosineSchedule schedule_;
  nn::SegmentMemory memory_;
};

std::vector<std::uint64_t> seeds_of(const Settings& settings) {
  return settings.seeds.empty() ? std::vector<std::uint64_t>{settings.common.seed} : settings.seeds;
}

/// The text counts as what it is, by whatever name it is read.
cli::RunNotes notes_of(const std::string& command, const Settings& settings, const std::string& text) {
  cli::Entries entries = describe(settings);
  std::erase_if(entries,
                [](const auto& entry) { return entry.first == "--text" || entry.first == "--data"; });
  entries.emplace_back(settings.text.file.empty() ? "--data" : "--text", text);
  return {command, std::move(entries), settings.depths.size() * seeds_of(settings).size()};
}

}  // namespace

nn::Corpus train(const std::string& command, const Settings& settings, const training::Place& place,
                 Results& results) {
  const Text text = load_text(settings.text);
  const std::string identity = text.identity();
  const cli::RunNotes notes = notes_of(command, settings, identity);
  training::check(notes, place);  // before any work
  nn::Corpus corpus = make_corpus(text, settings.text);
  check_cutoffs(settings.architecture, corpus.vocabulary.size());
  results.settings = describe(settings);
  note_text(results, corpus);

  std::vector<training::Run::Model> models;
  for (const std::uint64_t seed : seeds_of(settings))
    for (const std::string& depth : settings.depths) {
      LanguageModel model(settings.architecture, corpus.vocabulary.size(), seed);
      const std::string name =
          seeds_of(settings).size() == 1 ? depth : fmt::format("{}, seed {}", depth, seed);
      results.models.push_back(
          {.name = name, .depth = depth, .seed = seed, .parameters = nn::count(nn::parameters(model))});
      models.push_back({name, settings.train.steps});
    }
  training::train({.notes = notes,
                   .place = place,
                   .models = models,
                   .probe_every = std::max<std::int64_t>(1, settings.train.steps / settings.train.probes),
                   .make =
                       [&](std::size_t i) {
                         return std::make_unique<Learner>(settings, identity, corpus, results.models[i]);
                       },
                   .results = training::kept(results.models, from_text_result)});
  for (ModelResult& model : results.models)
    if (model.failure.empty() && !std::isfinite(model.test.perplexity()))
      model.failure = "the perplexity on the test text is not finite";
  results.resident_bytes = static_cast<double>(memory::peak_resident_bytes());
  return corpus;
}

Trained load_trained(const std::string& checkpoint) {
  const nn::Progress progress = cli::read_checkpoint(checkpoint, "banach lm train");
  const auto note = [&](const char* key) -> const std::string& {
    const auto found = progress.notes.find(key);
    if (found == progress.notes.end())
      fail<FileError>(
          "lm", fmt::format("{} is not a checkpoint of 'banach lm train': it lacks {}", checkpoint, key));
    return found->second;
  };
  Trained trained{
      .settings = from_text(note(settings_key)),
      .depth = note(depth_key),
      .text = note(text_key),
      .one_of_several = progress.notes.contains("lm-compare.position"),
      .vocabulary = std::make_unique<nn::Vocabulary>(nn::Vocabulary::from_text(note(vocabulary_key))),
      .model = nullptr};
  trained.model =
      std::make_unique<LanguageModel>(trained.settings.architecture, trained.vocabulary->size(), 0);
  nn::load_checkpoint(checkpoint, *trained.model);
  return trained;
}

}  // namespace banach::lm
