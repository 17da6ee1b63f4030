#pragma once
// The style sheet and the script of a report page. Internal.

#include <array>
#include <string_view>

namespace banach::report {

/// A colour for series, on white and on a dark page.
struct Hue {
  std::string_view light, dark;
};

/// Okabe and Ito's palette (2008), told apart by people with any common colour vision; its yellow, too pale
/// on white, is left out. Blue and black are lightened on a dark page.
inline constexpr std::array<Hue, 7> palette{{{"#0072B2", "#3D9BDC"},
                                             {"#D55E00", "#E8762B"},
                                             {"#009E73", "#1DB88B"},
                                             {"#CC79A7", "#D98BB8"},
                                             {"#E69F00", "#E9AC26"},
                                             {"#56B4E9", "#7CC8F2"},
                                             {"#3A4149", "#C9CFD6"}}};

/// Markers by the chart library's names; as many as colours, so that the two together tell 49 series apart.
inline constexpr std::array<std::string_view, 7> markers{"circle",   "rect", "triangle", "rectRot",
                                                         "crossRot", "star", "cross"};

extern const std::string_view page_css;
extern const std::string_view page_js;

}  // namespace banach::report
