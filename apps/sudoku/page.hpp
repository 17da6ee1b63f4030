#pragma once

#include <apps/report/page.hpp>
#include <apps/sudoku/results.hpp>

namespace banach::sudoku {

/// The report of a run.
report::Page make_page(const Results& results);

}  // namespace banach::sudoku
