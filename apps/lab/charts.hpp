#pragma once
// The charts of a training, from its plain results.

#include <apps/lab/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lab {

std::vector<report::Block> frontier_charts(const Results& results);
std::vector<report::Block> accuracy_charts(const Results& results);
std::vector<report::Block> same_point_charts(const Results& results);
std::vector<report::Block> noise_charts(const Results& results);
std::vector<report::Block> own_training_charts(const Results& results);
std::vector<report::Block> cost_charts(const Results& results);
std::vector<report::Block> equilibrium_charts(const Results& results);
/// Of what only some rules can tell; empty if none of the rules can.
std::vector<report::Block> figure_charts(const Results& results);

}  // namespace banach::lab
