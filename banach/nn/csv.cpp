#include <banach/nn/csv.hpp>
#include <banach/nn/file.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

namespace banach::nn {
namespace {

std::string_view trimmed(std::string_view text, std::string_view blanks) {
  const std::size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

std::optional<double> number(std::string_view field) {
  if (!field.empty() && field.front() == '+') {
    field.remove_prefix(1);
    if (!field.empty() && field.front() == '-') return {};
  }
  double value = 0.0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size()) return {};
  return value;
}

/// A field as an error shows it: on one line, and not too long.
std::string shown(std::string_view field) {
  std::string text = "\"";
  for (const char c : field.substr(0, 40)) text += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return text + (field.size() > 40 ? "...\"" : "\"");
}

class Reader {
 public:
  Reader(std::string_view text, std::string_view file, const CsvOptions& options)
      : rest_(text), file_(file), options_(options), blanks_(options.separator == '\t' ? " " : " \t") {
    if (rest_.substr(0, 3) == "\xEF\xBB\xBF") rest_.remove_prefix(3);  // byte order mark
  }

  Csv read() {
    Csv table;
    std::vector<double> values;
    bool first = true;
    for (; next_line(); first = false) {
      if (first) columns_ = fields_.size();
      if (first && is_header()) {
        table.header = fields_;
        continue;
      }
      if (fields_.size() != columns_)
        fail_line(fmt::format("must have {} fields: it has {}", columns_, fields_.size()));
      for (std::size_t column = 0; column < columns_; ++column) values.push_back(number_at(column));
    }
    if (first) fail<FileError>("csv", fmt::format("{}: must have at least one line: it is empty", file_));
    const auto columns = static_cast<std::int64_t>(columns_);
    table.values = tensor(values, {static_cast<std::int64_t>(values.size()) / columns, columns});
    return table;
  }

 private:
  [[noreturn]] void fail_line(std::string_view text) const {
    fail<FileError>("csv", fmt::format("{}: line {} {}", file_, line_, text));
  }

  bool is_header() const {
    if (options_.header != CsvHeader::automatic) return options_.header == CsvHeader::present;
    for (const std::string& field : fields_)
      if (!number(field)) return true;
    return false;
  }

  double number_at(std::size_t column) const {
    const std::optional<double> value = number(fields_[column]);
    if (!value)
      fail<FileError>("csv", fmt::format("{}: line {}, column {} must hold a number: got {}", file_, line_,
                                         column + 1, shown(fields_[column])));
    return *value;
  }

  /// Splits the next line that is not blank into fields_; false at the end.
  bool next_line() {
    while (!rest_.empty()) {
      const std::size_t end = rest_.find('\n');
      std::string_view line = rest_.substr(0, end);
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      ++line_;
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (trimmed(line, " \t").empty()) continue;
      split(line);
      return true;
    }
    return false;
  }

  void split(std::string_view line) {
    fields_.clear();
    for (;;) {
      const std::size_t begin = line.find_first_not_of(blanks_);
      if (begin != std::string_view::npos && line[begin] == '"') {
        line.remove_prefix(begin + 1);
        fields_.push_back(unquote(line));
      } else {
        const std::size_t end = std::min(line.find(options_.separator), line.size());
        fields_.emplace_back(trimmed(line.substr(0, end), blanks_));
        line.remove_prefix(end);
      }
      if (line.empty()) return;
      line.remove_prefix(1);  // the separator
    }
  }

  /// Takes a quoted field and the blanks behind it off `line`, which begins behind the opening quote.
  std::string unquote(std::string_view& line) const {
    std::string field;
    for (;;) {
      const std::size_t quote = line.find('"');
      if (quote == std::string_view::npos)
        fail_line(fmt::format("must close its quotes: column {} does not", fields_.size() + 1));
      field += line.substr(0, quote);
      line.remove_prefix(quote + 1);
      if (line.empty() || line.front() != '"') break;
      field += '"';  // two quotes stand for one
      line.remove_prefix(1);
    }
    const std::size_t next = std::min(line.find_first_not_of(blanks_), line.size());
    if (next < line.size() && line[next] != options_.separator)
      fail_line(fmt::format("must have a separator behind the quotes of column {}", fields_.size() + 1));
    line.remove_prefix(next);
    return field;
  }

  std::string_view rest_, file_;
  CsvOptions options_;
  std::string_view blanks_;  // around fields, not part of them
  std::size_t line_ = 0, columns_ = 0;
  std::vector<std::string> fields_;
};

}  // namespace

Csv parse_csv(std::string_view text, std::string_view file, const CsvOptions& options) {
  return Reader(text, file, options).read();
}

Csv read_csv(const std::string& path, const CsvOptions& options) {
  const Bytes bytes = read_plain_or_gzip(path);
  return parse_csv({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path, options);
}

}  // namespace banach::nn
