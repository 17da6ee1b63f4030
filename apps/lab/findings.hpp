#pragma once

#include <string>
#include <vector>

#include <apps/lab/results.hpp>

namespace banach::lab {

/// What the numbers of a training say, in sentences made of them.
std::vector<std::string> findings(const Results& results);

/// What must not be missed: rules that stopped early, gradients that pointed uphill, solves that did not
/// converge.
std::vector<std::string> warnings(const Results& results);

}  // namespace banach::lab
