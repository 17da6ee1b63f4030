#pragma once

#include <apps/lm/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lm {

/// The report of a run.
report::Page make_page(const Results& results);

}  // namespace banach::lm
