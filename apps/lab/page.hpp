#pragma once

#include <apps/lab/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lab {

/// The report of a training: what was found, beside the numbers and settings it rests on.
report::Page make_page(const Results& results);

}  // namespace banach::lab
