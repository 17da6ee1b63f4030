#pragma once

#include <functional>
#include <string>

#include <apps/copy/options.hpp>
#include <apps/copy/results.hpp>

namespace banach::copy_task {

/// Trains each model on the same sequences, all of them new, and looks at held-out ones along the way. The
/// checkpoint is written at every look and at every end; with `resume`, the run goes on from it and finds bit
/// for bit what an uninterrupted one finds (times apart). `stop` is asked before each step: once it says so,
/// the checkpoint is written and Error thrown. Throws FileError if the checkpoint cannot be used.
void train(const Settings& settings, const std::string& checkpoint, bool resume,
           const std::function<bool()>& stop, Results& results);

/// Throws FileError if a new run would destroy a checkpoint that is not that of a finished run of these
/// settings.
void check_replaceable(const std::string& checkpoint, const Settings& settings);

}  // namespace banach::copy_task
