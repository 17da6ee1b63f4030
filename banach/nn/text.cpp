#include <banach/engine/error.hpp>
#include <banach/nn/text.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <unordered_map>
#include <utility>

namespace banach::embedded {
extern const unsigned char moby_dick_gz[];
extern const std::size_t moby_dick_gz_size;
}  // namespace banach::embedded

namespace banach::nn {
namespace {

/// A code point and the bytes that it takes; 0 bytes: this is no UTF-8 (Unicode 15, table 3-7).
struct CodePoint {
  std::uint32_t value;
  std::size_t bytes;
};

CodePoint decode_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < length) return {0, 0};
  std::uint32_t value = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {0, 0};
    value = value << 6 | (byte(i) & 0x3F);
  }
  constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value < 0xE000;
  if (value < least[length] || value > 0x10FFFF || surrogate) return {0, 0};
  return {value, length};
}

bool is_space(std::uint32_t c) { return c == ' ' || (c >= 9 && c <= 13) || c == 0xA0 || c == 0x3000; }

/// What words are made of.
bool is_letter(std::uint32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  const bool latin_sign = c < 0xC0 && c != 0xAA && c != 0xB5 && c != 0xBA;
  const bool punctuation = (c >= 0x2000 && c <= 0x206F) || (c >= 0x3000 && c <= 0x303F);
  return !latin_sign && !punctuation && c != 0xD7 && c != 0xF7;
}

bool joins_letters(std::uint32_t c) { return c == '\'' || c == '-' || c == 0x2019; }

std::vector<std::string_view> split_characters(std::string_view text) {
  std::vector<std::string_view> units;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = std::max<std::size_t>(1, decode_at(text, at).bytes);
    units.push_back(text.substr(at, bytes));
    at += bytes;
  }
  return units;
}

std::vector<std::string_view> split_words(std::string_view text) {
  const std::vector<std::string_view> characters = split_characters(text);
  const auto code = [&](std::size_t i) {
    return i < characters.size() ? decode_at(characters[i], 0).value : std::uint32_t{' '};
  };
  std::vector<std::string_view> units;
  for (std::size_t i = 0; i < characters.size();) {
    const std::size_t begin = i;
    if (is_space(code(i))) {
      for (std::size_t lines = 0; i < characters.size() && is_space(code(i)); ++i)
        if (code(i) == '\n' && ++lines == 2) units.push_back(characters[i]);
      continue;
    }
    if (!is_letter(code(i))) {
      units.push_back(characters[i++]);
      continue;
    }
    while (is_letter(code(i)) || (joins_letters(code(i)) && is_letter(code(i + 1)))) ++i;
    const char* first = characters[begin].data();
    const char* last = characters[i - 1].data() + characters[i - 1].size();
    units.emplace_back(first, static_cast<std::size_t>(last - first));
  }
  return units;
}

constexpr std::string_view unknown_name = "<unk>";

std::string escape(std::string_view entry) {
  std::string out;
  for (const char c : entry) out += c == '\n' ? "\\n" : c == '\\' ? "\\\\" : std::string(1, c);
  return out;
}

std::string unescape(std::string_view line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const bool escaped = line[i] == '\\' && i + 1 < line.size();
    if (escaped) ++i;
    out += escaped && line[i] == 'n' ? '\n' : line[i];
  }
  return out;
}

/// The first place at or behind `at` where a word ends, at a blank of ASCII.
std::size_t word_end(std::string_view text, std::size_t at) {
  while (at < text.size() && text[at] != ' ' && text[at] != '\n' && text[at] != '\t') ++at;
  return at;
}

/// A place to cut at: behind `at` where a word ends. A text of characters may have no blanks, and is
/// cut between any two where no blank is near.
std::size_t cut_at(std::string_view text, std::size_t at, std::size_t near, TextUnit unit) {
  const std::size_t end = word_end(text, at);
  if (unit == TextUnit::word || end - at <= near) return end;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return at;
}

struct Parts {
  std::string_view train, valid, test;
};

Parts cut(std::string_view text, std::string_view name, TextUnit unit, const CorpusOptions& o) {
  if (!(o.valid > 0 && o.test > 0 && o.valid + o.test < 1))
    fail<ValueError>("text", fmt::format("shares of valid and test must be positive and sum to less than 1: "
                                         "got {} and {}",
                                         o.valid, o.test));
  const auto size = static_cast<double>(text.size());
  const auto near = static_cast<std::size_t>(size * std::min(o.valid, o.test) / 2);
  const std::size_t first = cut_at(text, static_cast<std::size_t>(size * (1 - o.valid - o.test)), near, unit);
  const std::size_t second =
      cut_at(text, std::max(first, static_cast<std::size_t>(size * (1 - o.test))), near, unit);
  const Parts parts{text.substr(0, first), text.substr(first, second - first), text.substr(second)};
  if (split_text(parts.train, TextUnit::word).empty() || split_text(parts.valid, TextUnit::word).empty() ||
      split_text(parts.test, TextUnit::word).empty())
    fail<ValueError>("text", fmt::format("{} must have words for train, valid and test: got {}, too few, or "
                                         "with too few blanks, to be cut in three",
                                         name, count_of_bytes(text.size())));
  return parts;
}

}  // namespace

std::string parse_text(ByteView bytes, std::string_view file) {
  std::string text(bytes.begin(), bytes.end());
  const std::size_t mark = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  const bool wide = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");
  std::int64_t line = 1;
  for (std::size_t at = mark; at < text.size();) {
    const CodePoint c = decode_at(text, at);
    if (c.bytes == 0)
      fail<FileError>("text", fmt::format("{} must be UTF-8: line {} has the byte 0x{:02x} at offset {}{}",
                                          file, line, static_cast<unsigned char>(text[at]), at,
                                          wide ? "; it begins as UTF-16 does" : ""));
    line += c.value == '\n';
    at += c.bytes;
  }
  std::string::size_type out = 0;
  for (std::string::size_type i = mark; i < text.size(); ++i)
    if (!(text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n')) text[out++] = text[i];
  text.resize(out);
  return text;
}

std::string read_text(const std::string& path) { return parse_text(read_plain_or_gzip(path), path); }

std::string load_moby_dick() {
  return parse_text(gunzip({embedded::moby_dick_gz, embedded::moby_dick_gz_size}, "moby-dick"), "moby-dick");
}

std::vector<std::string_view> split_text(std::string_view text, TextUnit unit) {
  return unit == TextUnit::character ? split_characters(text) : split_words(text);
}

std::int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Vocabulary::Vocabulary(std::string_view text, TextUnit unit, std::int64_t limit) : unit_(unit) {
  if (limit != 0 && limit < 2)
    fail<ValueError>("vocabulary", fmt::format("size must be 0 (all) or at least 2: got {}", limit));
  std::unordered_map<std::string_view, std::int64_t> counts;
  for (const std::string_view u : split_text(text, unit)) ++counts[u];
  std::vector<std::pair<std::string_view, std::int64_t>> order(counts.begin(), counts.end());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  if (limit != 0 && static_cast<std::int64_t>(order.size()) > limit - 1)
    order.resize(static_cast<std::size_t>(limit - 1));
  entries_.emplace_back(unknown_name);
  for (const auto& [entry, count] : order) entries_.emplace_back(entry);
  index_entries();
}

void Vocabulary::index_entries() {
  for (std::size_t i = 1; i < entries_.size(); ++i) indices_[entries_[i]] = static_cast<std::int64_t>(i);
}

const std::string& Vocabulary::entry(std::int64_t index) const {
  if (index < 0 || index >= size())
    fail<ValueError>("vocabulary", fmt::format("index must lie in [0, {}): got {}", size(), index));
  return entries_[static_cast<std::size_t>(index)];
}

std::int64_t Vocabulary::index(std::string_view unit) const {
  const auto found = indices_.find(unit);
  return found == indices_.end() ? unknown : found->second;
}

std::vector<std::int64_t> Vocabulary::encode(std::string_view text) const {
  std::vector<std::int64_t> tokens;
  for (const std::string_view u : split_text(text, unit_)) tokens.push_back(index(u));
  return tokens;
}

std::string Vocabulary::decode(const std::vector<std::int64_t>& tokens) const {
  constexpr std::string_view leans_left = ".,;:!?)]}%", leans_right = "([{$";
  std::string text;
  bool open = true;  // no blank is wanted before the next word
  for (const std::int64_t token : tokens) {
    const std::string& next = entry(token);
    if (unit_ == TextUnit::character) {
      text += next;
      continue;
    }
    const bool line = next == "\n", left = next.size() == 1 && leans_left.find(next) != std::string::npos;
    if (!open && !line && !left) text += ' ';
    text += line ? "\n\n" : next;
    open = line || (next.size() == 1 && leans_right.find(next) != std::string::npos);
  }
  return text;
}

std::string Vocabulary::to_text() const {
  std::string text = unit_ == TextUnit::character ? "character" : "word";
  for (std::size_t i = 1; i < entries_.size(); ++i) text += "\n" + escape(entries_[i]);
  return text;
}

Vocabulary Vocabulary::from_text(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (lines.front() != "character" && lines.front() != "word")
    fail<FileError>("vocabulary", fmt::format("must begin with the line 'character' or 'word': got '{}'",
                                              lines.front().substr(0, 40)));
  Vocabulary vocabulary;
  vocabulary.unit_ = lines.front() == "word" ? TextUnit::word : TextUnit::character;
  vocabulary.entries_.emplace_back(unknown_name);
  for (std::size_t i = 1; i < lines.size(); ++i) vocabulary.entries_.push_back(unescape(lines[i]));
  vocabulary.index_entries();
  if (vocabulary.indices_.size() + 1 != vocabulary.entries_.size() || vocabulary.indices_.contains(""))
    fail<FileError>("vocabulary", "entries must differ and not be empty");
  return vocabulary;
}

double TextPart::bits_per_character(double nats) const {
  return nats / std::numbers::ln2 * static_cast<double>(size()) / static_cast<double>(characters);
}

TextPart make_part(std::string name, std::string_view text, const Vocabulary& vocabulary) {
  auto tokens = vocabulary.encode(text);
  if (tokens.empty())
    fail<ValueError>("text", fmt::format("{} must have at least one character or word: got {}", name,
                                         count_of_bytes(text.size())));
  const auto unknown = std::count(tokens.begin(), tokens.end(), Vocabulary::unknown);
  return {.name = std::move(name),
          .tokens = std::make_shared<const std::vector<std::int64_t>>(std::move(tokens)),
          .characters = count_characters(text),
          .unknown = unknown};
}

Corpus make_corpus(std::string_view text, std::string_view name, Vocabulary vocabulary,
                   const CorpusOptions& options) {
  const Parts parts = cut(text, name, vocabulary.unit(), options);
  const auto part = [&](const char* what, std::string_view t) {
    return make_part(fmt::format("{} ({})", name, what), t, vocabulary);
  };
  TextPart train = part("train", parts.train), valid = part("valid", parts.valid),
           test = part("test", parts.test);
  return {std::move(vocabulary), std::move(train), std::move(valid), std::move(test)};
}

Corpus make_corpus(std::string_view text, std::string_view name, const CorpusOptions& options) {
  return make_corpus(
      text, name, Vocabulary(cut(text, name, options.unit, options).train, options.unit, options.vocabulary),
      options);
}

TextStream::TextStream(TextPart part, const TextStreamOptions& options)
    : part_(std::move(part)), options_(options) {
  if (options.batch < 1 || options.length < 1)
    fail<ValueError>("text", fmt::format("batch and length must be at least 1: got {} and {}", options.batch,
                                         options.length));
  row_ = part_.size() / options.batch - 1;
  const std::int64_t least = options.drop_last ? options.length : 1;
  if (row_ < least)
    fail<ValueError>(
        "text", fmt::format("{} must have at least {} tokens for {} rows of {}: got {}; a longer "
                            "text, fewer rows or shorter windows would do",
                            part_.name, options.batch * (least + 1), options.batch, least, part_.size()));
}

std::int64_t TextStream::windows() const {
  return (row_ + (options_.drop_last ? 0 : options_.length - 1)) / options_.length;
}

void TextStream::seek(LoaderPosition position) {
  if (position.epoch < 0 || position.batch < 0 || position.batch >= windows())
    fail<ValueError>("text",
                     fmt::format("position must be an epoch >= 0 and a window in [0, {}): got {} and {}",
                                 windows(), position.epoch, position.batch));
  position_ = position;
}

TextWindow TextStream::next() {
  const std::int64_t begin = position_.batch * options_.length;
  const std::int64_t length = std::min(options_.length, row_ - begin);
  const Shape shape{options_.batch, length};
  TextWindow window{Tensor::empty(shape, DType::i64), Tensor::empty(shape, DType::i64), position_.batch == 0};
  std::int64_t *input = window.inputs.mutable_data<std::int64_t>(),
               *target = window.targets.mutable_data<std::int64_t>();
  for (std::int64_t b = 0; b < options_.batch; ++b) {
    const std::int64_t* row = part_.tokens->data() + b * (part_.size() / options_.batch) + begin;
    input = std::copy(row, row + length, input);
    target = std::copy(row + 1, row + 1 + length, target);
  }
  position_.batch += 1;
  if (position_.batch == windows()) position_ = {position_.epoch + 1, 0};
  return window;
}

}  // namespace banach::nn
