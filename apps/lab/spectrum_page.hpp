#pragma once

#include <apps/lab/spectrum.hpp>
#include <apps/report/page.hpp>

namespace banach::lab {

/// The spectra before and after on the unit disc, beside their numbers.
report::Page make_page(const SpectrumResults& results);

}  // namespace banach::lab
