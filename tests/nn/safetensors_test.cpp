#include <tests/nn/files.hpp>

#include <banach/nn/safetensors.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>
#include <random>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using files::Folder;
using files::message;

namespace {

/// A file made by hand: length, header, data.
Bytes container(std::string_view header, const Bytes& data = {}) {
  Bytes bytes(8 + header.size() + data.size());
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  std::copy(header.begin(), header.end(), bytes.begin() + 8);
  std::copy(data.begin(), data.end(), bytes.end() - static_cast<std::ptrdiff_t>(data.size()));
  return bytes;
}

std::string parse_error(const Bytes& bytes) {
  return message<FileError>([&] { parse_safetensors(bytes, "x"); });
}
std::string parse_error(std::string_view header, const Bytes& data = {}) {
  return parse_error(container(header, data));
}

NamedTensors sample() {
  return {{"weight", tensor({1.5f, -2.0f, 0.25f, 3.0f, 4.0f, 5.0f}, {2, 3})},
          {"a.scalar", scalar(0.1, DType::f64)},
          {"labels", tensor({std::int64_t{-1}, std::int64_t{1} << 62})},
          {"empty", Tensor::empty({0, 4}, DType::f32)},
          {"bias \"\xC3\xA9\" \n", tensor({7.0f})}};
}

bool equal(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  return dispatch_any(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    return a.size() == 0 ||
           std::memcmp(a.data<T>(), b.data<T>(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
  });
}

/// One tensor t of the given stored type, from its bytes.
Tensor stored(std::string_view dtype, std::size_t count, const Bytes& data) {
  const std::string header = "{\"t\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":[" +
                             std::to_string(count) + "],\"data_offsets\":[0," + std::to_string(data.size()) +
                             "]}}";
  return parse_safetensors(container(header, data), "x").at("t");
}

}  // namespace

TEST_CASE("Tensors and metadata come back bit by bit") {
  const Folder folder;
  const std::string path = folder / "model.safetensors";
  NamedTensors tensors = sample();
  tensors["odd"] = tensor({std::nan(""), -0.0, std::numeric_limits<double>::infinity(), 5e-324});
  const Metadata metadata{{"epoch", "12"}, {"text", "a \"quoted\"\nline \xE2\x82\xAC"}};
  save_safetensors(path, tensors, metadata);
  const Safetensors loaded = load_safetensors(path);
  CHECK(loaded.metadata == metadata);
  CHECK(loaded.file == path);
  REQUIRE(loaded.tensors.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    CHECK(equal(loaded.at(name), tensor));
  }
  CHECK(folder.names() == std::vector<std::string>{"model.safetensors"});
}

TEST_CASE("The bytes are those of the format") {
  const Folder folder;
  const std::string path = folder / "t";
  save_safetensors(path, {{"b", tensor({1.0f})}, {"a", tensor({2.0f})}, {"z", tensor({-2.0})}}, {{"k", "v"}});
  const std::string header = R"({"__metadata__":{"k":"v"},)"
                             R"("z":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
                             R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                             R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})";
  const std::size_t padding = (8 - header.size() % 8) % 8;
  const Bytes data{0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0x40, 0, 0, 0x80, 0x3f};
  CHECK(read_file(path) == container(header + std::string(padding, ' '), data));
}

TEST_CASE("The same content gives the same bytes, and data begins at a multiple of 8") {
  const Folder folder;
  const std::string a = folder / "a", b = folder / "b";
  for (std::size_t length = 0; length < 9; ++length) {
    const Metadata metadata{{"k", std::string(length, 'x')}};
    save_safetensors(a, sample(), metadata);
    save_safetensors(b, sample(), metadata);
    const Bytes bytes = read_file(a);
    CHECK(bytes == read_file(b));
    CHECK(bytes[0] % 8 == 0);
    CHECK(equal(load_safetensors(a).at("weight"), sample()["weight"]));
  }
}

TEST_CASE("No tensors, no metadata") {
  const Folder folder;
  save_safetensors(folder / "none", {});
  CHECK(read_file(folder / "none") == container("{}      "));
  CHECK(load_safetensors(folder / "none").tensors.empty());
  CHECK(parse_safetensors(container(R"({"__metadata__":{}})"), "x").metadata.empty());
}

TEST_CASE("A view saves its own elements") {
  const Folder folder;
  const Tensor whole = tensor({1.0f, 2.0f, 3.0f, 4.0f}, {4});
  save_safetensors(folder / "v", {{"rows", whole.rows(1, 3)}});
  CHECK(equal(load_safetensors(folder / "v").at("rows"), tensor({2.0f, 3.0f})));
}

TEST_CASE("Other element types are converted") {
  // From the definitions of the formats; half: 1, -2, largest, smallest subnormal, -0, infinity.
  const Tensor half = stored("F16", 6, {0, 0x3c, 0, 0xc0, 0xff, 0x7b, 1, 0, 0, 0x80, 0, 0x7c});
  CHECK(half.dtype() == DType::f32);
  CHECK(half.at(0) == 1.0);
  CHECK(half.at(1) == -2.0);
  CHECK(half.at(2) == 65504.0);
  CHECK(half.at(3) == std::ldexp(1.0, -24));
  CHECK((half.at(4) == 0.0 && std::signbit(half.at(4))));
  CHECK(half.at(5) == std::numeric_limits<double>::infinity());
  CHECK(std::isnan(stored("F16", 1, {1, 0x7e}).item()));
  const Tensor brain = stored("BF16", 2, {0x80, 0x3f, 0x20, 0xc0});
  CHECK(brain.at(0) == 1.0);
  CHECK(brain.at(1) == -2.5);
  const auto integer = [](std::string_view dtype, const Bytes& data) {
    const Tensor t = stored(dtype, 1, data);
    CHECK(t.dtype() == DType::i64);
    return t.values<std::int64_t>()[0];
  };
  CHECK(integer("I8", {0xff}) == -1);
  CHECK(integer("U8", {0xff}) == 255);
  CHECK(integer("I16", {0xfe, 0xff}) == -2);
  CHECK(integer("U16", {0xfe, 0xff}) == 65534);
  CHECK(integer("I32", {0xfd, 0xff, 0xff, 0xff}) == -3);
  CHECK(integer("U32", {0xfd, 0xff, 0xff, 0xff}) == 4294967293);
  CHECK(integer("U64", {1, 2, 0, 0, 0, 0, 0, 0}) == 513);
  CHECK(integer("I64", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) == -1);
  CHECK(integer("BOOL", {1}) == 1);
  CHECK(integer("BOOL", {0}) == 0);
  CHECK(message<FileError>([] { stored("U64", 1, Bytes(8, 0xff)); }) ==
        "[safetensors] x: tensor \"t\": U64 elements must be below 2^63: element 0 is not");
  CHECK(message<FileError>([] { stored("F8_E4M3", 1, Bytes(1)); }) ==
        "[safetensors] x: tensor \"t\": dtype must be one of F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 "
        "BOOL: "
        "got \"F8_E4M3\"");
}

TEST_CASE("All halves agree with their definition") {
  Bytes data;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    data.push_back(static_cast<std::uint8_t>(bits));
    data.push_back(static_cast<std::uint8_t>(bits >> 8));
  }
  const Tensor t = stored("F16", 0x10000, data);
  for (int bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
    const double got = t.at(bits), sign = bits & 0x8000 ? -1.0 : 1.0;
    bool agrees;
    if (exponent == 31)
      agrees = mantissa ? std::isnan(got) : got == sign * std::numeric_limits<double>::infinity();
    else if (exponent == 0)
      agrees = got == sign * std::ldexp(mantissa, -24);
    else
      agrees = got == sign * std::ldexp(1024 + mantissa, exponent - 25);
    if (!agrees) FAIL_CHECK("half " << bits << " became " << got);
  }
}

TEST_CASE("What cannot be saved is refused before the file is touched") {
  const Folder folder;
  const std::string path = folder / "kept";
  write_atomically(path, "old");
  const auto error = [&](const NamedTensors& tensors, const Metadata& metadata = {}) {
    return message<ValueError>([&] { save_safetensors(path, tensors, metadata); });
  };
  const Tensor one = tensor({1.0f});
  CHECK(error({{"__metadata__", one}}) == "[safetensors] a tensor must not be called __metadata__");
  CHECK(error({{"t", Tensor()}}) == "[safetensors] tensor \"t\" must have elements to write: it has none");
  CHECK(error({{"t", Tensor::placeholder({2}, DType::f32)}}) ==
        "[safetensors] tensor \"t\" must have elements to write: it has none");
  CHECK(error({{"bad \xff", one}}) == "[safetensors] names and metadata must be UTF-8");
  CHECK(error({{"t", one}}, {{"k", "\xc3"}}) == "[safetensors] names and metadata must be UTF-8");
  CHECK(files::text_of(read_file(path)) == "old");
  CHECK(message<FileError>([&] {
          save_safetensors(path + "/x", {{"t", one}});
        }) == "[file] cannot write " + path + "/x: Not a directory");
  CHECK(folder.names() == std::vector<std::string>{"kept"});
}

TEST_CASE("Missing files and tensors are named") {
  const Folder folder;
  const std::string path = folder / "none";
  CHECK(message<FileError>([&] { load_safetensors(path); }) ==
        "[file] cannot read " + path + ": No such file or directory");
  const Safetensors loaded = parse_safetensors(
      container(
          R"({"Q":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"p":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
          {1}),
      "x");
  CHECK(loaded.at("Q").item() == 1);
  CHECK(loaded.at("p").shape() == Shape{0});
  CHECK(message<FileError>([&] { loaded.at("G"); }) ==
        "[safetensors] x: must hold a tensor \"G\": it holds \"Q\", \"p\"");
}

TEST_CASE("A file truncated at any offset, or longer than it should be, is an error") {
  const Folder folder;
  save_safetensors(folder / "t", sample(), {{"k", "v"}});
  Bytes bytes = read_file(folder / "t");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const Bytes part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    const std::string text = parse_error(part);
    if (text.rfind("[safetensors] x: ", 0) != 0) FAIL_CHECK("at " << length << ": " << text);
  }
  CHECK(parse_error(Bytes{1, 2, 3}) ==
        "[safetensors] x: length of the header is truncated at offset 3: expected 8 bytes");
  CHECK_THAT(parse_error(Bytes(bytes.begin(), bytes.begin() + 20)),
             Contains("header is truncated at offset 20"));
  CHECK(
      parse_error(R"({"t":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", Bytes(23)) ==
      "[safetensors] x: tensor \"t\": is truncated: 24 bytes were expected, for F32 of shape (2,3): the file "
      "has 23 of them");
  bytes.push_back(0);
  CHECK_THAT(parse_error(bytes), Contains("data must end where the last tensor does, at offset " +
                                          std::to_string(bytes.size() - 1)));
}

TEST_CASE("The length of the header is checked before it is used") {
  Bytes bytes(16, 0xff);
  CHECK(parse_error(bytes) ==
        "[safetensors] x: length of the header at offset 0 must be at most 100000000: got "
        "18446744073709551615");
  const auto parse_text = [](std::string_view text) { return parse_error(Bytes(text.begin(), text.end())); };
  CHECK_THAT(parse_text("x1 + x2 <= 3"),
             Contains("; it begins with the text \"x1 + x2 \": is this a safetensors file?"));
  CHECK_THAT(parse_text("1,\n"), Contains("expected 8 bytes; it begins with the text \"1,\\n\": is this"));
  bytes = {255, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
  CHECK(parse_error(bytes) == "[safetensors] x: header is truncated at offset 10: expected 263 bytes");
  CHECK(parse_error("") == "[safetensors] x: header at offset 8 must begin with {");
  CHECK(parse_error(" {}") == "[safetensors] x: header at offset 8 must begin with {");
  CHECK(parse_error("[]") == "[safetensors] x: header at offset 8 must begin with {");
}

TEST_CASE("Hostile headers are refused, each with what is wrong") {
  const auto entry = [](std::string_view fields) { return "{\"t\":{" + std::string(fields) + "}}"; };
  const auto offsets = [&](std::string_view shape, std::string_view span) {
    return parse_error(
        entry("\"dtype\":\"F32\",\"shape\":" + std::string(shape) + ",\"data_offsets\":" + std::string(span)),
        Bytes(8));
  };
  const std::string x = "[safetensors] x: ";

  SECTION("not JSON, or not UTF-8") {
    CHECK(parse_error("{\"t\":") == x + "header: must be JSON in UTF-8: it is not at offset 13");
    CHECK(parse_error("{} x") == x + "header: must be JSON in UTF-8: it is not at offset 11");
    CHECK(parse_error("{\"\xff\":1}") == x + "header: must be JSON in UTF-8: it is not at offset 10");
    CHECK(parse_error(std::string("{}\0{", 4)) ==
          x + "header must not contain a zero byte: it does at offset 10");
    CHECK_THAT(parse_error("{\"__metadata__\":{\"k\":\"\xed\xa0\x80\"}}"), Contains("must be JSON"));
  }
  SECTION("wrong kinds of values") {
    CHECK(parse_error("{\"t\":1}") == x + "header: tensor \"t\" must be an object: got a number");
    CHECK(parse_error("{\"t\":[]}") == x + "header: tensor \"t\" must be an object: got an array");
    CHECK(parse_error("{\"__metadata__\":null}") == x + "header: __metadata__ must be an object: got null");
    CHECK(parse_error("{\"__metadata__\":{\"k\":1}}") ==
          x + "header: __metadata__: \"k\" must be a string: got a number");
    CHECK_THAT(parse_error(entry("\"dtype\":4")), Contains("got a number for \"dtype\""));
    CHECK_THAT(parse_error(entry("\"shape\":\"2\"")), Contains("got a string for \"shape\""));
    CHECK_THAT(parse_error(entry("\"more\":true")), Contains("got a truth value for \"more\""));
    CHECK_THAT(parse_error(entry("\"shape\":{}")), Contains("got an object for \"shape\""));
  }
  SECTION("deep nesting is left at once") {
    CHECK_THAT(parse_error("{\"t\":" + std::string(1'000'000, '[')),
               Contains("must be an object: got an array"));
    CHECK_THAT(parse_error(entry("\"shape\":" + std::string(1'000'000, '['))),
               Contains("must hold integers from 0 on: got an array"));
  }
  SECTION("names and fields that come twice, or not at all") {
    const std::string t = R"("t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
    CHECK(parse_error("{" + t + "," + t + "}") == x + "header: names must be distinct: \"t\" comes twice");
    CHECK_THAT(parse_error("{\"__metadata__\":{},\"__metadata__\":{}}"),
               Contains("\"__metadata__\" comes twice"));
    CHECK_THAT(parse_error("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}"),
               Contains("keys of __metadata__ must be distinct: \"k\" comes twice"));
    CHECK(parse_error(entry(R"("dtype":"U8","dtype":"U8")")) ==
          x + "header: tensor \"t\": dtype must come once: it comes twice");
    CHECK(parse_error(entry(R"("dtype":"U8","shape":[0])")) ==
          x + "header: tensor \"t\": must have the field data_offsets");
    CHECK(parse_error(entry(R"("shape":[0],"data_offsets":[0,0])")) ==
          x + "header: tensor \"t\": must have the field dtype");
    CHECK(parse_error("{\"t\":{}}") == x + "header: tensor \"t\": must have the field dtype");
  }
  SECTION("shapes and offsets that are no numbers, or too many") {
    CHECK(offsets("[-1]", "[0,8]") ==
          x + "header: tensor \"t\": shape must hold integers from 0 on: got the number -1");
    CHECK_THAT(offsets("[1.5]", "[0,8]"), Contains("got the number 1.5"));
    CHECK_THAT(offsets("[99999999999999999999]", "[0,8]"), Contains("got the number 99999999999999999999"));
    CHECK(offsets("[1,1,1,1,1,1,1,1,2]", "[0,8]") ==
          x + "header: tensor \"t\": shape must have at most 8 numbers");
    CHECK(offsets("[2]", "[0,4,8]") == x + "header: tensor \"t\": data_offsets must have at most 2 numbers");
    CHECK(offsets("[2]", "[8]") == x + "header: tensor \"t\": data_offsets must have 2 numbers: got 1");
  }
  SECTION("offsets that do not fit") {
    CHECK(offsets("[2]", "[0,9]") ==
          x + "tensor \"t\": data_offsets must lie in order inside the 8 bytes of data: got [0, 9]");
    CHECK_THAT(offsets("[2]", "[8,0]"), Contains("must lie in order"));
    CHECK_THAT(offsets("[2]", "[0,18446744073709551615]"), Contains("must lie in order"));
    CHECK_THAT(offsets("[2]", "[18446744073709551608,8]"), Contains("must lie in order"));
    CHECK(offsets("[3]", "[0,8]") ==
          x + "tensor \"t\": data_offsets [0, 8] must span 12 bytes, for F32 of shape (3)");
    CHECK(offsets("[1]", "[0,4]") ==
          x + "data must end where the last tensor does, at offset 66: the file has 70 bytes");
    CHECK_THAT(offsets("[1]", "[4,8]"), Contains("data must begin where the tensor before it ends, at 0"));
  }
  SECTION("products that would wrap around") {
    // 2^62 floats: 2^64 bytes.
    CHECK_THAT(offsets("[4611686018427387904]", "[0,0]"), Contains("shape is too large"));
    CHECK_THAT(offsets("[4294967296,4294967296]", "[0,0]"), Contains("shape is too large"));
    CHECK_THAT(offsets("[0,18446744073709551615]", "[0,0]"), Contains("shape is too large"));
    CHECK_THAT(offsets("[18446744073709551615,0]", "[0,0]"), Contains("shape is too large"));
  }
  SECTION("overlap and holes") {
    const auto two = [&](std::string_view a, std::string_view b) {
      return parse_error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(a) +
                             R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + std::string(b) + "}}",
                         Bytes(9));
    };
    CHECK_THAT(two("[0,4]", "[3,7]"),
               Contains("tensor \"b\": data must begin where the tensor before it ends, at 4"));
    CHECK_THAT(two("[0,4]", "[5,9]"),
               Contains("tensor \"b\": data must begin where the tensor before it ends, at 4"));
    CHECK_THAT(two("[0,4]", "[0,4]"), Contains("at 4"));
    CHECK_THAT(two("[4,8]", "[0,4]"), Contains("data must end where the last tensor does"));
  }
  SECTION("names in errors stay on one line and of bounded length") {
    CHECK_THAT(parse_error("{\"a\\nb\":1}"), Contains("tensor \"a\\nb\" must be"));
    CHECK(parse_error("{\"" + std::string(5000, 'n') + "\":1}").size() < 250);
  }
}

TEST_CASE("Mutated files are read or refused, nothing else") {
  const Folder folder;
  save_safetensors(folder / "t", sample(), {{"k", "v"}});
  const Bytes original = read_file(folder / "t");
  std::mt19937 random(2024);
  const std::string_view likely = "{}[]\",:0123456789-eE.FBIU\\ ";
  int read = 0, refused = 0;
  for (int trial = 0; trial < 6000; ++trial) {
    Bytes bytes = original;
    for (unsigned m = 0; m < 1 + random() % 4; ++m) {
      const auto at = static_cast<std::ptrdiff_t>(random() % bytes.size());
      const auto value =
          static_cast<std::uint8_t>(random() % 2 ? random() : likely[random() % likely.size()]);
      switch (random() % 6) {
        case 0:
          bytes.insert(bytes.begin() + at, value);
          break;
        case 1:
          bytes.erase(bytes.begin() + at);
          break;
        case 2:
          bytes[static_cast<std::size_t>(at)] ^= static_cast<std::uint8_t>(1u << random() % 8);
          break;
        default:
          bytes[static_cast<std::size_t>(at)] = value;
      }
    }
    try {
      const Safetensors loaded = parse_safetensors(bytes, "x");
      for (const auto& [name, tensor] : loaded.tensors) tensor.all_finite();
      ++read;
    } catch (const FileError& error) {
      REQUIRE(std::string(error.what()).rfind("[safetensors] x: ", 0) == 0);
      ++refused;
    }
  }
  CHECK(read > 100);
  CHECK(refused > 1000);
}

TEST_CASE("Files of other writers are read") {
  const std::filesystem::path folder =
      std::filesystem::path(BANACH_SOURCE_DIR) / "../shared/data/maros_meszaros";
  if (!std::filesystem::exists(folder)) {
    std::cout << "SKIPPED: the collection of test problems is not there\n";
    return;
  }
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const Safetensors problem = load_safetensors(entry.path());
    const Tensor &q = problem.at("Q"), &p = problem.at("p");
    CHECK(q.dtype() == DType::f64);
    CHECK(q.shape() == Shape{p.size(), p.size()});
    CHECK(problem.metadata.at("name") == entry.path().stem().string());
    ++count;
  }
  CHECK(count > 0);
}
