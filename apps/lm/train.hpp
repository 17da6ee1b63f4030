#pragma once

#include <memory>
#include <string>

#include <apps/lm/model.hpp>
#include <apps/lm/results.hpp>
#include <apps/lm/settings.hpp>
#include <apps/training/training.hpp>

namespace banach::lm {

/// Trains a model for each depth and seed on the same windows, one after another, and measures its cost at
/// the end: see training::train. `command` is what the checkpoint calls it. Returns the text that was read.
nn::Corpus train(const std::string& command, const Settings& settings, const training::Place& place,
                 Results& results);

/// A model as its checkpoint has it, the last one that was trained there.
struct Trained {
  Settings settings;  ///< of text, architecture and solve
  std::string depth;
  std::string text;             ///< the identity of what it was trained on
  bool one_of_several = false;  ///< of `banach lm compare`
  std::unique_ptr<nn::Vocabulary> vocabulary;
  std::unique_ptr<LanguageModel> model;
};
/// Throws FileError if there is none, or if it is not one of `banach lm`.
Trained load_trained(const std::string& checkpoint);

}  // namespace banach::lm
