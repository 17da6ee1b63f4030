#pragma once

#include <string>

#include <apps/report/page.hpp>
#include <banach/engine/tensor.hpp>

namespace banach::flow {

/// A square of side x side values from 0 to `most`, row by row from the top, dark to bright.
report::Picture draw_heat_map(const std::string& title, const std::string& caption, const Tensor& values,
                              std::int64_t side, double most);

/// The value that only a thousandth of them exceed: the brightest of a heat map, whatever a single peak is.
double bright(const Tensor& values);

/// The density of points (n, 2) over [-reach, reach]^2, by counting them in side x side cells.
Tensor histogram(const Tensor& points, std::int64_t side, double reach);

/// Images (n, 1, h, w) side by side, `columns` in a row, black 0 and white `most`; each pixel becomes a
/// square.
report::Picture draw_images(const std::string& title, const std::string& caption, const Tensor& images,
                            std::int64_t columns, double most);

/// (n, 2) points as a series of a chart.
report::Series series_of(const std::string& name, const Tensor& points, report::Series::Mark mark);

}  // namespace banach::flow
