#pragma once
// The lab's part of a checkpoint: its settings, how far it is, and what it found so far.

#include <cstddef>
#include <string>

#include <apps/lab/results.hpp>
#include <banach/nn/checkpoint.hpp>

namespace banach::lab {

/// Adds settings, results and the rule in training (by its place; their number once all are done).
void put_results(nn::Progress& progress, const Results& results, std::size_t rule);

/// Reads them back into `results`, whose settings and rules must be in place; returns the rule in training.
/// Throws FileError if there is no checkpoint, if it is not one of the lab, or naming the first setting that
/// differs.
std::size_t take_results(const std::string& path, Results& results);

}  // namespace banach::lab
