#pragma once

#include <apps/lab/linear.hpp>
#include <apps/report/page.hpp>

namespace banach::lab {

/// The report of a linear problem.
report::Page make_page(const LinearResults& results);

}  // namespace banach::lab
