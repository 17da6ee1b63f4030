#pragma once
// How a checkpoint says which run it is of, and how far that run is: notes beside the model. Commands that
// train go on from their checkpoint, and refuse to mix or to overwrite what another run has made.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <banach/nn/checkpoint.hpp>

namespace banach::cli {

/// Names and values.
using Entries = std::vector<std::pair<std::string, std::string>>;

/// Of one command, such as "lab", in whose name the notes are. A run has several parts, trained one after
/// another; its place is the part in training, or their number once all are done.
class RunNotes {
 public:
  explicit RunNotes(std::string command) : command_(std::move(command)) {}

  /// Adds place and settings, all that decide what is computed.
  void put(nn::Metadata& notes, const Entries& settings, std::size_t place) const;

  struct Resumed {
    nn::Progress progress;
    std::size_t place;
  };
  /// Reads them back. Throws FileError if there is no checkpoint at `path`, if it is damaged or not one of
  /// this command, or naming the first setting that differs.
  Resumed resume(const std::string& path, const Entries& settings, std::size_t parts) const;

  /// Throws FileError if a new run would destroy something: if there is a file at `path`, and not the
  /// checkpoint of a finished run of the same settings.
  void check_replaceable(const std::string& path, const Entries& settings, std::size_t parts) const;

  std::string setting_key(const std::string& name) const { return command_ + ".setting." + name; }
  std::string place_key() const { return command_ + ".position"; }

 private:
  /// "--seed 1, not 0" for the first setting in which the checkpoint differs; empty if none does.
  std::string difference(const nn::Metadata& notes, const Entries& settings) const;

  std::string command_;
};

}  // namespace banach::cli
