#pragma once
// The loop of the commands that train: several models one after another, each probed along the way, with a
// checkpoint from which a run goes on bit for bit. A new command
//
//   - has one result a model: an aggregate with `steps` (rows of doubles such as Step), with to_text and
//     from_text for the rest of it (cli/json.hpp);
//   - derives a Trainee that holds a model, its optimiser and its data, refers to the model's result, and
//   adds
//     to it in step() and probe();
//   - calls train() with a Run, whose RunNotes are its name, its settings and the number of its models:
//
//       training::train({.notes = notes_of(settings), .checkpoint = checkpoint, .resume = resume, .stop =
//       stop,
//                        .models = {{"optnet", steps}, {"mlp", steps}}, .probe_every = settings.probe_every,
//                        .make = [&](std::size_t i) { return std::make_unique<Learner>(results.models[i]); },
//                        .save = [&](nn::Progress& p) { training::put(p, results.models); },
//                        .load = [&](const nn::Progress& p) { training::take(p, results.models, from_text);
//                        }});
//
// Before that, and before any work, it calls RunNotes::resume or RunNotes::check_replaceable, so that a
// checkpoint that cannot be used or must not be replaced is refused at once.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <apps/cli/run_notes.hpp>
#include <apps/training/results.hpp>
#include <banach/nn/checkpoint.hpp>

namespace banach::training {

/// One model in training.
class Trainee {
 public:
  virtual ~Trainee() = default;
  /// Model and optimiser: what a checkpoint holds.
  virtual void visit(nn::Visitor& visitor) = 0;
  virtual nn::Optimizer& optimizer() = 0;

  /// One step of training, the first one being 0. Returns why training cannot go on, the model left as it
  /// was; an empty text if it can.
  virtual std::string step(std::int64_t step) = 0;
  /// Looks at the model after so many steps: before the first, every Run::probe_every and at the end, which
  /// comes early if training cannot go on.
  virtual void probe(std::int64_t step) = 0;

  /// Adds what a checkpoint needs besides.
  virtual void save(nn::Progress&) const {}
  /// Called when model and optimiser are those of a checkpoint: reads what save() added, and has the data
  /// ready for step at.step.
  virtual void go_on(const nn::Progress& at) = 0;
};

/// Has the loader ready for a step, if each takes one batch.
void seek(nn::Loader& loader, std::int64_t step);

/// "training stopped: ...", if the gradient or the loss of this step is not finite; an empty text if they
/// are.
std::string fault(std::int64_t step, const Vars& gradients, double loss = 0.0);

struct Run {
  struct Model {
    std::string name;  ///< no two alike
    std::int64_t steps = 0;
  };

  cli::RunNotes notes;  ///< which run it is
  std::string checkpoint;
  bool resume = false;
  std::function<bool()> stop;  ///< whether to stop; asked before each step
  std::vector<Model> models;
  std::int64_t probe_every = 1;
  std::function<std::unique_ptr<Trainee>(std::size_t model)> make;  ///< afresh, when its turn comes
  /// To the checkpoint and from it: what was found so far of all models.
  std::function<void(nn::Progress&)> save;
  std::function<void(const nn::Progress&)> load;
};

/// Trains the models, with a progress bar. The checkpoint is written at every probe and at every end; with
/// `resume`, the run goes on from it. Throws Error, the checkpoint written, once it is to stop; FileError if
/// the checkpoint cannot be used.
void train(const Run& run);

}  // namespace banach::training
