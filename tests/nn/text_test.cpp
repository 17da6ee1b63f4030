#include <tests/nn/files.hpp>

#include <banach/engine/error.hpp>
#include <banach/nn/text.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <set>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using files::bytes_of;
using files::message;

namespace {

std::vector<std::string> units(std::string_view text, TextUnit unit) {
  const auto views = split_text(text, unit);
  return {views.begin(), views.end()};
}

using Strings = std::vector<std::string>;

TextPart numbers(std::int64_t n) {
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < n; ++i) tokens.push_back(i);
  return {.name = "numbers",
          .tokens = std::make_shared<const std::vector<std::int64_t>>(tokens),
          .characters = n};
}

std::vector<std::int64_t> row(const Tensor& t, std::int64_t r) {
  const auto values = t.rows(r, r + 1).values<std::int64_t>();
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("Characters are code points") {
  CHECK(units("aé\n—𝄞", TextUnit::character) == Strings{"a", "é", "\n", "—", "𝄞"});
  CHECK(count_characters("aé\n—𝄞") == 5);
  CHECK(units("", TextUnit::character).empty());
}

TEST_CASE("Words keep inner apostrophes and hyphens; other signs stand alone; empty lines count") {
  CHECK(units("Don't  stop-gap, naïve—yes!\nnext\n\n\nThe 'end' 3.5", TextUnit::word) ==
        Strings{"Don't", "stop-gap", ",", "naïve", "—", "yes", "!", "next", "\n", "The", "'", "end", "'", "3",
                ".", "5"});
  CHECK(units("it’s -x- a--b", TextUnit::word) == Strings{"it’s", "-", "x", "-", "a", "-", "-", "b"});
  CHECK(units(" \n ", TextUnit::word).empty());
}

TEST_CASE("A text that is not UTF-8 is refused where it is not") {
  CHECK(message<FileError>([] { parse_text(bytes_of("ab\nc\xFF"), "t.txt"); }) ==
        "[text] t.txt must be UTF-8: line 2 has the byte 0xff at offset 4");
  CHECK(message<FileError>([] {
          parse_text(bytes_of("\xEF\xBB\xBF"
                              "ab\xFF"),
                     "t.txt");
        }) == "[text] t.txt must be UTF-8: line 1 has the byte 0xff at offset 5");
  CHECK(message<FileError>([] {
          parse_text(bytes_of("\xFF\xFE"
                              "a"),
                     "t.txt");
        }) == "[text] t.txt must be UTF-8: line 1 has the byte 0xff at offset 0; it begins as UTF-16 does");
  // overlong, surrogate, cut short, beyond U+10FFFF, a lone continuation
  for (const char* bad :
       {"\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "a\xE2\x82", "\xF4\x90\x80\x80", "\x80"})
    CHECK_THROWS_AS(parse_text(bytes_of(bad), "t.txt"), FileError);
  CHECK(parse_text(bytes_of("\xEF\xBB\xBF"
                            "a\r\nb\r"),
                   "t.txt") == "a\nb\r");
}

TEST_CASE("A text file may be compressed; one that is missing is named") {
  const files::Folder folder;
  CHECK(read_text(folder.write("a.gz", files::gzip(bytes_of("héllo\n")))) == "héllo\n");
  CHECK(message<FileError>([&] { read_text(folder / "none.txt"); }).find("none.txt") != std::string::npos);
}

TEST_CASE("A vocabulary is sorted by frequency, cut from its end, and 0 is the unknown word") {
  const Vocabulary all("b a b c b a", TextUnit::word);
  CHECK(all.size() == 4);
  CHECK(all.entry(0) == "<unk>");
  CHECK(all.entry(1) == "b");
  CHECK(all.entry(2) == "a");
  CHECK(all.encode("c b d") == std::vector<std::int64_t>{3, 1, 0});
  const Vocabulary cut("b a b c b a", TextUnit::word, 3);
  CHECK(cut.size() == 3);
  CHECK(cut.encode("a b c") == std::vector<std::int64_t>{2, 1, 0});
  CHECK(Vocabulary("y x", TextUnit::word).entry(1) == "x");
  CHECK_THROWS_AS(Vocabulary("a", TextUnit::word, 1), ValueError);
  CHECK(message<ValueError>([&] { all.entry(4); }) == "[vocabulary] index must lie in [0, 4): got 4");
}

TEST_CASE("Decoding gives the characters back, and words as they are written") {
  const std::string text = "Ah, é!\n\\n";
  const Vocabulary characters(text, TextUnit::character);
  CHECK(characters.decode(characters.encode(text)) == text);
  const std::string prose = "Call me (please) Ishmael.\n\nSome years: ago!";
  const Vocabulary words(prose, TextUnit::word);
  CHECK(words.decode(words.encode(prose)) == prose);
  CHECK(words.decode(words.encode("Call Ahab")) == "Call <unk>");
}

TEST_CASE("A vocabulary survives a checkpoint") {
  const std::string text = "a \\ n\n\n\\n é \\n";
  for (const TextUnit unit : {TextUnit::character, TextUnit::word}) {
    const Vocabulary before(text, unit), after = Vocabulary::from_text(before.to_text());
    CHECK(after.unit() == unit);
    CHECK(after.size() == before.size());
    CHECK(after.encode(text) == before.encode(text));
    CHECK(after.to_text() == before.to_text());
  }
  CHECK_THROWS_AS(Vocabulary::from_text("nonsense\na"), FileError);
  CHECK_THROWS_AS(Vocabulary::from_text("word\na\na"), FileError);
  CHECK_THROWS_AS(Vocabulary::from_text("word\n"), FileError);
  CHECK_THROWS_AS(Vocabulary::from_text(""), FileError);
}

TEST_CASE("Messages count one byte as one") {
  CHECK_THROWS_WITH(make_corpus("a", "t.txt"), Contains("t.txt must have words") && Contains("got 1 byte,"));
  CHECK_THROWS_WITH(make_corpus("ab", "t.txt"), Contains("got 2 bytes,"));
}

TEST_CASE("A text of characters without blanks is cut between characters") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "\u8bed";
  const Corpus corpus = make_corpus(text, "t");
  CHECK(corpus.train.size() + corpus.valid.size() + corpus.test.size() == 1000);
  CHECK(corpus.train.size() == 900);
  CHECK(corpus.valid.size() == 50);
  CHECK(corpus.vocabulary.size() == 2);  // no character was cut in two
  CHECK(corpus.test.unknown == 0);
  CHECK_THROWS_AS(make_corpus(text, "t", {.unit = TextUnit::word}), ValueError);
}

TEST_CASE("A corpus is cut in three between words, with the vocabulary of the first part") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "wörd" + std::to_string(i) + " ";
  const Corpus corpus = make_corpus(text, "t", {.unit = TextUnit::word, .valid = 0.1, .test = 0.2});
  CHECK(corpus.train.size() + corpus.valid.size() + corpus.test.size() == 100);
  CHECK(corpus.train.characters + corpus.valid.characters + corpus.test.characters == count_characters(text));
  CHECK(std::abs(static_cast<double>(corpus.test.size()) - 20) < 2);
  CHECK(corpus.train.unknown == 0);
  CHECK(corpus.test.unknown == corpus.test.size());
  CHECK(corpus.valid.name == "t (valid)");
  CHECK(corpus.valid.bits_per_character(std::log(2.0)) ==
        Approx(static_cast<double>(corpus.valid.size()) / static_cast<double>(corpus.valid.characters)));

  const Corpus again = make_corpus(text, "t", corpus.vocabulary, {.valid = 0.1, .test = 0.2});
  CHECK(*again.test.tokens == *corpus.test.tokens);

  for (const char* tiny : {"", " \n\n ", "one", "one two"})
    CHECK(message<ValueError>([&] { make_corpus(tiny, "t.txt"); }).find("t.txt must have words") !=
          std::string::npos);
  CHECK_THROWS_AS(make_corpus(text, "t", {.valid = 0.5, .test = 0.5}), ValueError);
}

TEST_CASE("Rows of a stream go on where their last window ended") {
  TextStream stream(numbers(32), {.batch = 3, .length = 4});  // 3 rows of 10 tokens, 9 targets
  CHECK(stream.windows() == 2);
  const TextWindow a = stream.next(), b = stream.next();
  CHECK(a.first);
  CHECK_FALSE(b.first);
  CHECK(row(a.inputs, 1) == std::vector<std::int64_t>{10, 11, 12, 13});
  CHECK(row(a.targets, 1) == std::vector<std::int64_t>{11, 12, 13, 14});
  CHECK(row(b.inputs, 2) == std::vector<std::int64_t>{24, 25, 26, 27});
  CHECK(stream.position() == LoaderPosition{1, 0});
  const TextWindow c = stream.next();
  CHECK(c.first);
  CHECK(row(c.inputs, 0) == row(a.inputs, 0));

  stream.seek({4, 1});
  CHECK(row(stream.next().inputs, 0) == row(b.inputs, 0));
  CHECK_THROWS_AS(stream.seek({0, 2}), ValueError);
}

TEST_CASE("Reading to the end sees every target of every row once") {
  TextStream stream(numbers(32), {.batch = 3, .length = 4, .drop_last = false});
  CHECK(stream.windows() == 3);
  std::multiset<std::int64_t> seen;
  for (std::int64_t i = 0; i < stream.windows(); ++i) {
    const TextWindow window = stream.next();
    for (const std::int64_t t : window.targets.values<std::int64_t>()) seen.insert(t);
  }
  std::multiset<std::int64_t> wanted;
  for (std::int64_t t = 0; t < 30; ++t)
    if (t % 10 != 0) wanted.insert(t);
  CHECK(seen == wanted);
}

TEST_CASE("A part too short for a window says what it needs") {
  CHECK(message<ValueError>([] { TextStream(numbers(14), {.batch = 3, .length = 4}); }) ==
        "[text] numbers must have at least 15 tokens for 3 rows of 4: got 14; a longer text, fewer rows or "
        "shorter windows would do");
  CHECK_NOTHROW(TextStream(numbers(15), {.batch = 3, .length = 4}));
  CHECK_THROWS_AS(TextStream(numbers(14), {.batch = 0}), ValueError);
}

TEST_CASE("Moby-Dick is part of the library") {
  const std::string text = load_moby_dick();
  CHECK(text.find("Call me Ishmael.") != std::string::npos);
  CHECK(split_text(text, TextUnit::word).size() > 240'000);
}
