#pragma once

#include <apps/lm/results.hpp>
#include <apps/report/page.hpp>

namespace banach::lm {

/// The page of `command`: "lm train" or "lm compare".
report::Page make_page(const Results& results, const std::string& command);

}  // namespace banach::lm
