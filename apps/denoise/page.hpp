#pragma once

#include <apps/denoise/results.hpp>
#include <apps/report/page.hpp>

namespace banach::denoise {

/// The page of a run.
report::Page make_page(const Results& results);

}  // namespace banach::denoise
