#pragma once
// The loop of the commands that train: several models one after another, each probed along the way, with a
// checkpoint from which a run goes on bit for bit. A new command
//
//   - has one result a model: an aggregate with `steps` (rows of doubles such as Step), and with to_text and
//     from_text for the rest of it (see cli/json.hpp);
//   - derives a Trainee that holds a model, its optimiser and its data, refers to the model's result, and
//     adds to it in step() and probe();
//   - calls check(), so that a checkpoint that cannot be used is refused before any work, and train():
//
//       const cli::RunNotes notes("sudoku", describe(settings), settings.models.size());
//       training::check(notes, place);
//       training::train({.notes = notes,
//                        .place = place,
//                        .models = {{"optnet", steps}, {"mlp", steps}},
//                        .probe_every = settings.probe_every,
//                        .make = [&](std::size_t i) { return make_learner(i, results); },
//                        .results = training::kept(results.models, from_text)});
//
// The command itself is carried out by training::carry_out (command.hpp).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <apps/cli/common.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
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

/// A checkpoint, and what is wanted of it.
struct Place {
  std::string checkpoint;
  bool resume = false;                                ///< go on from it
  std::function<bool()> stop = [] { return false; };  ///< whether to stop; asked before each step
  bool overwrite = false;                             ///< start anew, whatever run's it is
};

/// report.html, summary.json, metrics.csv and checkpoint.safetensors in the folder that was asked for.
cli::OutputFolder folder_of(const cli::CommonOptions& options, const std::string& default_out);
/// The checkpoint there; to stop when interrupted.
Place place_of(const cli::OutputFolder& folder, const cli::CommonOptions& options,
               const cli::Interrupt& interrupt);

/// Throws FileError if the run cannot go on from the checkpoint, or if a new one would destroy it.
void check(const cli::RunNotes& notes, const Place& place);

struct Run {
  struct Model {
    std::string name;  ///< no two alike
    std::int64_t steps = 0;
  };

  cli::RunNotes notes;  ///< which run it is
  Place place;
  std::vector<Model> models;
  std::int64_t probe_every = 1;
  std::function<std::unique_ptr<Trainee>(std::size_t model)> make;  ///< afresh, when its turn comes
  Kept results;                                                     ///< of all models
};

/// Trains the models, with a progress bar. The checkpoint is written at every probe and at every end; with
/// `resume`, the run goes on from it and finds bit for bit what an uninterrupted one finds (times apart,
/// and peaks of memory of the whole process).
/// Throws Error, the checkpoint written, once it is to stop; FileError if the checkpoint cannot be used.
void train(const Run& run);

}  // namespace banach::training
