#pragma once
// Text made safe to stand in HTML, and the few encodings a page needs. Internal to the report.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace banach::report {

/// Escapes text for element content and for quoted attributes; control characters that HTML forbids are
/// dropped.
std::string escape_html(std::string_view text);

/// A JSON text made safe inside <script>: no <, > or & remains. Line separators (U+2028) never arise if it is
/// ASCII.
std::string escape_json_for_script(std::string_view json);

/// The value if it is #rgb, #rrggbb, #rrggbbaa or a plain word, else empty: nothing else may enter a style
/// attribute.
std::string safe_color(std::string_view color);

/// A lower-case ASCII anchor made of the text's letters and digits: "Time & memory" is "time-memory".
std::string slug(std::string_view text);

std::string data_uri(std::string_view media_type, std::span<const std::uint8_t> bytes);

}  // namespace banach::report
