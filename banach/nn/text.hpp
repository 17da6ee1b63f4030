#pragma once
// Text as numbers for language models: characters or words by a vocabulary, cut into rows that are read on
// and on.

#include <banach/engine/tensor.hpp>
#include <banach/nn/loader.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace banach::nn {

/// A plain or gzip file as UTF-8 text, without byte order mark, lines ending in \n. Throws FileError naming
/// the file, and the line and byte where it is not UTF-8.
std::string read_text(const std::string& path);

/// The same from memory; `file` names the text in errors.
std::string parse_text(ByteView bytes, std::string_view file);

/// Herman Melville, "Moby-Dick; or, The Whale", 1851: 212,000 words, part of the library.
std::string load_moby_dick();

enum class TextUnit : std::uint8_t { character, word };

/// The units of a UTF-8 text in order, as views into it. Characters are code points. Words are runs of
/// letters, digits and all beyond ASCII that is no punctuation, with single apostrophes and hyphens between
/// such; every other visible character is a word by itself, and so is an empty line ("\n"); blanks vanish.
std::vector<std::string_view> split_text(std::string_view text, TextUnit unit);

/// Numbers of code points.
std::int64_t count_characters(std::string_view text);

/// Which unit has which number: 0 is the unknown one, then those seen, by falling frequency (ties in the
/// order of their bytes), as the clusters of an adaptive softmax want it.
class Vocabulary {
 public:
  /// Of the units of a text, at most `limit` of them with the unknown one; 0: all. Throws ValueError unless
  /// limit is 0 or at least 2.
  Vocabulary(std::string_view text, TextUnit unit, std::int64_t limit = 0);

  TextUnit unit() const { return unit_; }
  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  static constexpr std::int64_t unknown = 0;
  /// The unit itself; "<unk>" for the unknown one. Throws ValueError for an index outside [0, size).
  const std::string& entry(std::int64_t index) const;
  std::int64_t index(std::string_view unit) const;

  std::vector<std::int64_t> encode(std::string_view text) const;
  /// Words are joined by blanks, but not before punctuation that leans to the left.
  std::string decode(const std::vector<std::int64_t>& tokens) const;

  /// For a checkpoint: one entry a line, \n and \ escaped.
  std::string to_text() const;
  /// Throws FileError if it is not what to_text() wrote.
  static Vocabulary from_text(std::string_view text);

 private:
  Vocabulary() = default;
  void index_entries();

  TextUnit unit_ = TextUnit::character;
  std::vector<std::string> entries_;
  std::map<std::string, std::int64_t, std::less<>> indices_;
};

/// A part of a corpus.
struct TextPart {
  std::string name;
  std::shared_ptr<const std::vector<std::int64_t>> tokens;
  std::int64_t characters = 0;  ///< of the text, blanks included
  std::int64_t unknown = 0;     ///< tokens that are not in the vocabulary

  std::int64_t size() const { return static_cast<std::int64_t>(tokens->size()); }
  /// For nats a token; independent of the vocabulary as long as nothing is unknown.
  double bits_per_character(double nats) const;
};

/// A whole text. Throws ValueError naming it if it is empty.
TextPart make_part(std::string name, std::string_view text, const Vocabulary& vocabulary);

struct CorpusOptions {
  TextUnit unit = TextUnit::character;
  std::int64_t vocabulary = 0;       ///< most entries; 0: all that the training part has
  double valid = 0.05, test = 0.05;  ///< shares of the text, at its end
};

/// A text in three contiguous parts, cut between words (of characters: between any two where no blank is
/// near), with the vocabulary of the first one.
struct Corpus {
  Vocabulary vocabulary;
  TextPart train, valid, test;
};
/// Throws ValueError naming the text if a part would be empty, or for an option outside its domain.
Corpus make_corpus(std::string_view text, std::string_view name, const CorpusOptions& options = {});
/// The same with a vocabulary that is given; options.unit and options.vocabulary are not used.
Corpus make_corpus(std::string_view text, std::string_view name, Vocabulary vocabulary,
                   const CorpusOptions& options = {});

/// What is read at once: targets[b, t] follows inputs[b, t].
struct TextWindow {
  Tensor inputs, targets;  ///< i64 (batch, length)
  bool first = false;      ///< nothing was read before it: forget what is remembered
};

struct TextStreamOptions {
  std::int64_t batch = 16;
  std::int64_t length = 64;
  bool drop_last = true;  ///< leave out a last window that is shorter than the others
};

/// Cuts a part into `batch` contiguous rows and reads all of them from left to right, a window at a time: row
/// b of a window goes on where row b of the last one ended. After the last window it begins anew. What
/// does not fill the rows evenly is left over at the end: less than `batch` tokens.
class TextStream {
 public:
  /// Throws ValueError naming the part and the tokens needed if it is too short for one window.
  explicit TextStream(TextPart part, const TextStreamOptions& options = {});

  /// Windows an epoch.
  std::int64_t windows() const;
  /// Of the next window; see LoaderPosition.
  LoaderPosition position() const { return position_; }
  /// Goes to any position. Throws ValueError unless epoch >= 0 and batch lies in [0, windows()).
  void seek(LoaderPosition position);
  TextWindow next();

 private:
  TextPart part_;
  TextStreamOptions options_;
  std::int64_t row_;  // targets a row
  LoaderPosition position_;
};

}  // namespace banach::nn
