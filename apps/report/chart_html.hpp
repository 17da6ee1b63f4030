#pragma once
// One chart as HTML: its words, legend, the data its script draws, and the same numbers as a table. Internal.

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include <apps/report/page.hpp>

namespace banach::report {

/// How a series looks: indices into the palette and the markers.
struct SeriesStyle {
  std::size_t hue = 0, marker = 0;
  bool dotted = false;  // some chart shows another series of the same hue
};

/// Which style a name has, the same in every chart of a page. Names that meet in a chart differ in hue as
/// long as there are enough; names of the same hue differ in marker.
class SeriesStyles {
 public:
  explicit SeriesStyles(const Page& page);
  const SeriesStyle& of(const std::string& name) const { return styles_.at(name); }
  const SeriesStyle& of(const Series& series) const;

 private:
  void add(const std::string& name, const std::vector<std::vector<std::string>>& charts);

  std::map<std::string, SeriesStyle> styles_;
};

/// A <figure>. `id` is unique in the page. Throws ValueError as render does.
std::string chart_html(const Chart& chart, const SeriesStyles& styles, const std::string& id,
                       bool half_width);

}  // namespace banach::report
