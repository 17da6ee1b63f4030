#include <tests/nn/files.hpp>

#include <banach/nn/idx.hpp>

#include <catch2/catch.hpp>

#include <random>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using files::Folder;
using files::message;

namespace {

std::string parse_error(const Bytes& bytes) {
  return message<FileError>([&] { parse_idx(bytes, "x"); });
}

/// (2,3) bytes 1 ... 6.
const Bytes small{0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6};

}  // namespace

TEST_CASE("Every IDX type is read from its big-endian bytes") {
  struct Case {
    Bytes bytes;
    IdxType type;
    std::vector<double> values;
  };
  // The bytes were written down from the definitions of two's complement and IEEE 754.
  const std::vector<Case> cases{
      {{0, 0, 0x08, 1, 0, 0, 0, 2, 0, 255}, IdxType::u8, {0, 255}},
      {{0, 0, 0x09, 1, 0, 0, 0, 2, 0x7f, 0x80}, IdxType::i8, {127, -128}},
      {{0, 0, 0x0B, 1, 0, 0, 0, 2, 0x01, 0x02, 0xff, 0xfe}, IdxType::i16, {258, -2}},
      {{0, 0, 0x0C, 1, 0, 0, 0, 2, 0x01, 0x02, 0x03, 0x04, 0xff, 0xff, 0xff, 0xfd},
       IdxType::i32,
       {16909060, -3}},
      {{0, 0, 0x0D, 1, 0, 0, 0, 2, 0x3f, 0xc0, 0, 0, 0xc0, 0x20, 0, 0}, IdxType::f32, {1.5, -2.5}},
      {{0, 0, 0x0E, 1, 0, 0, 0, 1, 0xbf, 0xf4, 0, 0, 0, 0, 0, 0}, IdxType::f64, {-1.25}}};
  for (const Case& c : cases) {
    const IdxArray array = parse_idx(c.bytes, "x");
    INFO(static_cast<int>(c.type));
    CHECK(array.type == c.type);
    CHECK(array.bytes.size() == c.values.size() * size_of(c.type));
    const Tensor floats = to_floating(array, 2.0, DType::f64);
    const bool is_integer = c.type != IdxType::f32 && c.type != IdxType::f64;
    for (std::size_t i = 0; i < c.values.size(); ++i) {
      CHECK(floats.at(static_cast<std::int64_t>(i)) == 2.0 * c.values[i]);
      if (is_integer) CHECK(to_integers(array).at(static_cast<std::int64_t>(i)) == c.values[i]);
    }
    if (!is_integer) CHECK_THROWS_AS(to_integers(array), DTypeError);
    CHECK(to_floating(array).dtype() == DType::f32);
    CHECK_THROWS_AS(to_floating(array, 1.0, DType::i64), DTypeError);
  }
}

TEST_CASE("IDX shapes: matrices, scalars and empty arrays") {
  CHECK(parse_idx(small, "x").shape == Shape{2, 3});
  CHECK(parse_idx({{0, 0, 8, 0, 7}}, "x").shape == Shape{});
  CHECK(to_integers(parse_idx({{0, 0, 8, 0, 7}}, "x")).item() == 7);
  const IdxArray empty = parse_idx({{0, 0, 0x0D, 2, 0, 0, 0, 0, 0, 0, 0, 28}}, "x");
  CHECK(empty.shape == Shape{0, 28});
  CHECK(to_floating(empty).size() == 0);
}

TEST_CASE("An IDX file may be plain or gzip, and an error names it") {
  const Folder folder;
  CHECK(read_idx(folder.write("plain", small)).bytes == Bytes{1, 2, 3, 4, 5, 6});
  CHECK(read_idx(folder.write("packed", files::gzip(small))).bytes == Bytes{1, 2, 3, 4, 5, 6});
  const std::string missing = folder / "none";
  CHECK(message<FileError>([&] { read_idx(missing); }) ==
        "[file] cannot read " + missing + ": No such file or directory");

  const Bytes half(small.begin(), small.end() - 2);
  const std::string plain = folder.write("half", half), packed = folder.write("half.gz", files::gzip(half));
  CHECK(message<FileError>([&] { read_idx(plain); }) ==
        "[idx] " + plain + ": data is truncated at offset 16: expected 18 bytes");
  CHECK(message<FileError>([&] { read_idx(packed); }) ==
        "[idx] " + packed + ": data is truncated at offset 16: expected 18 bytes");
}

TEST_CASE("IDX data truncated at any offset is an error, plain and gzip") {
  const Folder folder;
  const Bytes packed = files::gzip(small);
  for (std::size_t length = 0; length < small.size(); ++length) {
    INFO(length);
    const Bytes part(small.begin(), small.begin() + static_cast<std::ptrdiff_t>(length));
    CHECK_THAT(parse_error(part), Contains("truncated at offset " + std::to_string(length)));
  }
  for (std::size_t length = 0; length < packed.size(); ++length) {
    INFO(length);
    const std::string path = folder.write("cut.gz", ByteView(packed).first(length));
    CHECK_THAT(message<FileError>([&] { read_idx(path); }), Contains(path));
  }
}

TEST_CASE("IDX headers that lie are refused, with the field and the offset") {
  CHECK(parse_error({1, 0, 8, 0}) == "[idx] x: magic must be 00 00 at offset 0: got 01 00");
  CHECK(parse_error({0, 0, 10, 0}) == "[idx] x: type at offset 2 must be one of 08 09 0b 0c 0d 0e: got 0a");
  CHECK(parse_error({0, 0, 8, 9}) == "[idx] x: number of axes at offset 3 must be at most 8: got 9");
  CHECK(parse_error({0, 0, 8, 1, 0, 0}) == "[idx] x: extents are truncated at offset 6: expected 8 bytes");
  Bytes more = small;
  more.push_back(7);
  CHECK(parse_error(more) == "[idx] x: data must end at offset 18 for extents (2,3): there is more");
  // 2^32 - 1 in each of eight extents: the product would wrap around.
  Bytes huge{0, 0, 0x0E, 8};
  huge.insert(huge.end(), 32, 0xff);
  CHECK_THAT(parse_error(huge), Contains("extent at offset 8 makes the array too large"));
  // Eight extents of 2^8 elements of 8 bytes: the product is 0 modulo 2^64.
  Bytes wrapping{0, 0, 0x0E, 8};
  for (int axis = 0; axis < 8; ++axis) wrapping.insert(wrapping.end(), {0, 0, 1, 0});
  CHECK_THAT(parse_error(wrapping), Contains("too large"));
  // A zero does not excuse the other extents, and one that is merely absent from the file is no reason to
  // allocate.
  CHECK_THAT(parse_error({0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0}),
             Contains("too large"));
  CHECK_THAT(parse_error({0, 0, 8, 1, 255, 255, 255, 255}), Contains("data is truncated at offset 8"));
}

TEST_CASE("A gzip IDX file that holds more than its header says stops there") {
  const Folder folder;
  Bytes bomb{0, 0, 8, 1, 0, 0, 0, 4};
  bomb.resize(std::size_t{1} << 25);
  const std::string path = folder.write("bomb.gz", files::gzip(bomb));
  CHECK(message<FileError>([&] { read_idx(path); }) ==
        "[idx] " + path + ": data must end at offset 12 for extents (4): there is more");
}

TEST_CASE("Mutated IDX files are read or refused") {
  const Folder folder;
  std::mt19937 random(7);
  const Bytes packed = files::gzip(small);
  int read = 0, refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    Bytes bytes = trial % 2 ? packed : small;
    for (unsigned m = 0; m < 1 + random() % 3; ++m)
      bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
    try {
      const IdxArray array =
          trial % 2 ? parse_idx(gunzip(bytes, "x", {.limit = 1 << 20}), "x") : parse_idx(bytes, "x");
      REQUIRE(array.bytes.size() == static_cast<std::size_t>(array.shape.size()) * size_of(array.type));
      to_floating(array);
      ++read;
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(read > 0);
  CHECK(refused > 0);
}
