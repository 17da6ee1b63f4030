#pragma once

#include <apps/flow/results.hpp>
#include <apps/report/page.hpp>

namespace banach::flow {

/// The report of a training.
report::Page make_page(const Results& results);

/// A chart over the part of the plane that the densities show.
report::Chart plane(const std::string& title, const std::string& look_for);

}  // namespace banach::flow
