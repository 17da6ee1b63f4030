#pragma once
// How a checkpoint says which run it is of, and how far that run is: notes beside the model. Commands that
// train go on from their checkpoint, and refuse to mix or to overwrite what another run has made.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <banach/nn/checkpoint.hpp>

namespace banach::cli {

/// What is in a checkpoint beside its model. Throws FileError; where there is none, it says to first run
/// `maker`, a command such as "banach lm train" that leaves it in its folder.
nn::Progress read_checkpoint(const std::string& path, const std::string& maker);

/// Names and values.
using Entries = std::vector<std::pair<std::string, std::string>>;

/// The notes of one run: of a command, such as "lab", with settings that decide all that is computed. A run
/// trains several models one after another; its place is the model in training, or their number once all are
/// done.
class RunNotes {
 public:
  RunNotes(std::string command, Entries settings, std::size_t models)
      : command_(std::move(command)), settings_(std::move(settings)), models_(models) {}

  /// Adds settings, place, and which model it is whose parameters stand beside them.
  void put(nn::Metadata& notes, std::size_t place, const std::string& model) const;

  struct Resumed {
    nn::Progress progress;
    std::size_t place;
  };
  /// Reads them back. Throws FileError if there is no checkpoint at `path`, if it is damaged or not one of
  /// this command, or naming the first setting that differs.
  Resumed resume(const std::string& path) const;

  /// Throws FileError if a new run would destroy something: if there is a file at `path`, and not the
  /// checkpoint of a finished run of the same settings.
  void check_replaceable(const std::string& path) const;

  std::string setting_key(const std::string& name) const { return command_ + ".setting." + name; }
  std::string place_key() const { return command_ + ".position"; }
  std::string model_key() const { return command_ + ".model"; }

 private:
  /// "--seed 1, not 0" for the first setting in which the checkpoint differs; empty if none does.
  std::string difference(const nn::Metadata& notes) const;

  std::string command_;
  Entries settings_;
  std::size_t models_;
};

}  // namespace banach::cli
