#pragma once

#include <functional>
#include <string>

#include <apps/denoise/options.hpp>
#include <apps/denoise/results.hpp>

namespace banach::denoise {

/// Trains and tests the methods, one after another. The checkpoint is written after every epoch and at every
/// end; with `resume`, the run goes on from it and finds bit for bit what an uninterrupted one finds (times
/// apart). `stop` is asked before each step: once it says so, the checkpoint is written and Error thrown.
/// Throws FileError if the checkpoint cannot be used, such as one made with other settings.
void train(const Settings& settings, const std::string& checkpoint, bool resume,
           const std::function<bool()>& stop, Results& results);

/// Throws FileError if a new run would destroy the checkpoint of an unfinished or of another run.
void check_replaceable(const std::string& checkpoint, const Settings& settings);

}  // namespace banach::denoise
