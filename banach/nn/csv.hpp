#pragma once

#include <banach/engine/tensor.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace banach::nn {

enum class CsvHeader : std::uint8_t {
  automatic,  ///< the first line is a header if one of its fields is not a number
  present,
  absent
};

struct CsvOptions {
  CsvHeader header = CsvHeader::automatic;
  char separator = ',';
};

/// A table of numbers.
struct Csv {
  std::vector<std::string> header;  ///< names of the columns; empty if there is no header
  Tensor values;                    ///< f64 (rows, columns)
};

/// Reads a table from a plain or gzip file: one row a line, each of as many fields. Fields may be quoted;
/// blank lines are skipped. Throws FileError with line and column (both from 1) where a field is no number,
/// or too few or many.
Csv read_csv(const std::string& path, const CsvOptions& options = {});

/// The same from memory; `file` names the text in errors.
Csv parse_csv(std::string_view text, std::string_view file, const CsvOptions& options = {});

}  // namespace banach::nn
