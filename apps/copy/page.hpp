#pragma once

#include <apps/copy/results.hpp>
#include <apps/report/page.hpp>

namespace banach::copy_task {

/// The report of a run.
report::Page make_page(const Results& results);

}  // namespace banach::copy_task
