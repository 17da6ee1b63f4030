#include <tests/nn/files.hpp>

#include <banach/nn/csv.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <random>

using namespace banach;
using namespace banach::nn;
using files::message;

namespace {

std::string parse_error(std::string_view text, const CsvOptions& options = {}) {
  return message<FileError>([&] { parse_csv(text, "t.csv", options); });
}

std::vector<double> values(const Csv& table) {
  const auto span = table.values.values<double>();
  return {span.begin(), span.end()};
}

}  // namespace

TEST_CASE("A table without a header") {
  const Csv table = parse_csv("1,2.5,-3e2\n4,+5,.5\n", "t.csv");
  CHECK(table.header.empty());
  CHECK(table.values.shape() == Shape{2, 3});
  CHECK(table.values.dtype() == DType::f64);
  CHECK(values(table) == std::vector<double>{1, 2.5, -300, 4, 5, 0.5});
}

TEST_CASE("A header is found, or demanded, or denied") {
  const std::string_view text = "x,y\n1,2\n";
  const Csv table = parse_csv(text, "t.csv");
  CHECK(table.header == std::vector<std::string>{"x", "y"});
  CHECK(values(table) == std::vector<double>{1, 2});
  CHECK(parse_error(text, {.header = CsvHeader::absent}) ==
        "[csv] t.csv: line 1, column 1 must hold a number: got \"x\"");
  const Csv years = parse_csv("2001,2002\n1,2\n", "t.csv", {.header = CsvHeader::present});
  CHECK(years.header == std::vector<std::string>{"2001", "2002"});
  CHECK(years.values.shape() == Shape{1, 2});
  const Csv bare = parse_csv("a,b,c\n", "t.csv");
  CHECK(bare.values.shape() == Shape{0, 3});
}

TEST_CASE("Line ends, blanks, blank lines, byte order mark, quotes and separators") {
  const std::vector<double> expected{1, 2, 3, 4};
  for (const char* text : {"1,2\r\n3,4\r\n", "1,2\n3,4", " 1 ,\t2 \n\n 3,4\n\n  \n",
                           "\xEF\xBB\xBF"
                           "1,2\n3,4\n",
                           "\"1\",\"2\"\n\"3\" , \"4\"\n"}) {
    INFO(text);
    CHECK(values(parse_csv(text, "t.csv")) == expected);
  }
  CHECK(values(parse_csv("1;2\n3;4\n", "t.csv", {.separator = ';'})) == expected);
  CHECK(values(parse_csv("1\t2\n3\t4\n", "t.csv", {.separator = '\t'})) == expected);
  CHECK(parse_error("1\t2\t\n", {.header = CsvHeader::absent, .separator = '\t'}) ==
        "[csv] t.csv: line 1, column 3 must hold a number: got \"\"");
  const Csv quoted = parse_csv("\"a, b\",\"say \"\"c\"\"\"\n1,2\n", "t.csv");
  CHECK(quoted.header == std::vector<std::string>{"a, b", "say \"c\""});
}

TEST_CASE("Errors name the line and the column") {
  CHECK(parse_error("1,2\n3,abc\n") == "[csv] t.csv: line 2, column 2 must hold a number: got \"abc\"");
  CHECK(parse_error("1,2\n\n3\n") == "[csv] t.csv: line 3 must have 2 fields: it has 1");
  CHECK(parse_error("x,y\n1,2,\n") == "[csv] t.csv: line 2 must have 2 fields: it has 3");
  CHECK(parse_error("1,2\n,4\n") == "[csv] t.csv: line 2, column 1 must hold a number: got \"\"");
  CHECK(parse_error("1,2\n3,4x\n") == "[csv] t.csv: line 2, column 2 must hold a number: got \"4x\"");
  CHECK(parse_error("1,2\n3,+-4\n") == "[csv] t.csv: line 2, column 2 must hold a number: got \"+-4\"");
  CHECK(parse_error("1,2\n3,1e999\n") == "[csv] t.csv: line 2, column 2 must hold a number: got \"1e999\"");
  CHECK(parse_error("1\n\"2\n") == "[csv] t.csv: line 2 must close its quotes: column 1 does not");
  CHECK(parse_error("1,1\n\"2\"3,1\n") ==
        "[csv] t.csv: line 2 must have a separator behind the quotes of column 1");
  CHECK(parse_error("") == "[csv] t.csv: must have at least one line: it is empty");
  CHECK(parse_error("\n \n") == "[csv] t.csv: must have at least one line: it is empty");
  CHECK(parse_error("1\n" + std::string(100, 'z') + "\n") ==
        "[csv] t.csv: line 2, column 1 must hold a number: got \"" + std::string(40, 'z') + "...\"");
  CHECK(parse_error(std::string("1\n2\x01") + "\n") ==
        "[csv] t.csv: line 2, column 1 must hold a number: got \"2?\"");
}

TEST_CASE("Numbers come through with every bit") {
  const Csv table = parse_csv("0.1,1e-308,1.7976931348623157e308,-0,inf,nan\n", "t.csv");
  CHECK(table.values.at(0) == 0.1);
  CHECK(table.values.at(1) == 1e-308);
  CHECK(table.values.at(2) == std::numeric_limits<double>::max());
  CHECK(std::signbit(table.values.at(3)));
  CHECK(std::isinf(table.values.at(4)));
  CHECK(std::isnan(table.values.at(5)));
}

TEST_CASE("A CSV file may be plain or gzip") {
  const files::Folder folder;
  const Bytes text = files::bytes_of("1,2\n3,4\n");
  CHECK(values(read_csv(folder.write("a.csv", text))) == std::vector<double>{1, 2, 3, 4});
  CHECK(values(read_csv(folder.write("a.csv.gz", files::gzip(text)))) == std::vector<double>{1, 2, 3, 4});
  CHECK_THROWS_AS(read_csv(folder / "none.csv"), FileError);
}

TEST_CASE("Any bytes are a table or an error") {
  std::mt19937 random(11);
  const std::string_view alphabet = "12,\"\n\r .-+ex\t;";
  int read = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string text(random() % 12, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    try {
      const Csv table = parse_csv(text, "t.csv");
      REQUIRE(
          (table.header.empty() || static_cast<std::int64_t>(table.header.size()) == table.values.size(1)));
      ++read;
    } catch (const FileError&) {
    }
  }
  CHECK(read > 1000);
}
