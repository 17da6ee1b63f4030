#pragma once
// Drawings of cells with signs in them, such as boards: what is right, and what is crossed out.

#include <string>
#include <utility>
#include <vector>

#include <apps/report/page.hpp>

namespace banach::report {

/// A picture of SVG elements, on light pages and dark ones: text stands around its place, .name is muted,
/// .cross strikes out. `style` adds CSS of its own.
Picture svg_picture(const std::string& title, const std::string& caption, const std::string& body, int width,
                    int height, const std::string& style);

/// A stroke through the square cell at (left, top).
std::string svg_cross(int left, int top, int size);

/// "wrong: trellis 0, lstm 2".
std::string wrong_in_words(const std::vector<std::pair<std::string, int>>& counts);

}  // namespace banach::report
