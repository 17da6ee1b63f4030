#pragma once
// A diagram as HTML: its words, legend and an inline SVG drawing in the page's own colours. Internal.

#include <string>

#include <apps/report/page.hpp>

namespace banach::report {

/// A <figure>. Throws ValueError if a range is empty or not finite.
std::string diagram_html(const Diagram& diagram, bool half_width);

}  // namespace banach::report
