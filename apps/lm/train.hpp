#pragma once

#include <functional>
#include <memory>
#include <string>

#include <apps/lm/model.hpp>
#include <apps/lm/results.hpp>
#include <apps/lm/settings.hpp>

namespace banach::lm {

/// Trains a model for each depth and seed on the same windows, one after another, and measures its cost at
/// the end. The checkpoint is written at every look and at every end; with `resume`, the run goes on from it
/// and finds bit for bit what an uninterrupted one finds (times apart). `stop` is asked before each step:
/// once it says so, the checkpoint is written and Error thrown. Throws FileError if the checkpoint cannot be
/// used.
void train(const std::string& command, const Settings& settings, const std::string& checkpoint, bool resume,
           const std::function<bool()>& stop, Results& results);

/// Throws FileError if a new run would destroy a checkpoint that is not that of a finished run of these
/// settings.
void check_replaceable(const std::string& command, const Settings& settings, const std::string& checkpoint);

/// A model as its checkpoint has it, the last one that was trained there.
struct Trained {
  Settings settings;  ///< of text, architecture and solve
  std::string depth;
  std::unique_ptr<nn::Vocabulary> vocabulary;
  std::unique_ptr<LanguageModel> model;
};
/// Throws FileError if there is none, or if it is not one of `banach lm`.
Trained load_trained(const std::string& checkpoint);

}  // namespace banach::lm
