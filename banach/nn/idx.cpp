#include <banach/nn/idx.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace banach::nn {
namespace {

static_assert(std::endian::native == std::endian::little);

[[noreturn]] void fail_idx(std::string_view file, std::string_view text) {
  fail<FileError>("idx", fmt::format("{}: {}", file, text));
}

struct Header {
  IdxType type;
  Shape shape;
  std::size_t bytes;       ///< of the header itself
  std::size_t data_bytes;  ///< that must follow
};

bool is_known(std::uint8_t type) { return type == 0x08 || type == 0x09 || (type >= 0x0B && type <= 0x0E); }

Header parse_header(ByteView bytes, std::string_view file) {
  if (bytes.size() < 4)
    fail_idx(file, fmt::format("header is truncated at offset {}: expected at least 4 bytes", bytes.size()));
  if (bytes[0] != 0 || bytes[1] != 0)
    fail_idx(file, fmt::format("magic must be 00 00 at offset 0: got {:02x} {:02x}", bytes[0], bytes[1]));
  if (!is_known(bytes[2]))
    fail_idx(file, fmt::format("type at offset 2 must be one of 08 09 0b 0c 0d 0e: got {:02x}", bytes[2]));
  const std::size_t axes = bytes[3];
  if (axes > Shape::capacity)
    fail_idx(file,
             fmt::format("number of axes at offset 3 must be at most {}: got {}", Shape::capacity, axes));
  Header header{static_cast<IdxType>(bytes[2]), {}, 4 + 4 * axes, 0};
  if (bytes.size() < header.bytes)
    fail_idx(file, fmt::format("extents are truncated at offset {}: expected {} bytes", bytes.size(),
                               header.bytes));

  constexpr std::uint64_t limit = std::uint64_t{1} << 46;
  std::uint64_t count = size_of(header.type);
  Ints extents;
  for (std::size_t axis = 0; axis < axes; ++axis) {
    std::uint32_t extent = 0;
    for (std::size_t i = 0; i < 4; ++i) extent = extent << 8 | bytes[4 + 4 * axis + i];
    extents.push_back(extent);
    // At most 2^46 times 2^32: cannot wrap. Zeros are left out, so that later extents are checked all the
    // same.
    if (extent != 0) count *= extent;
    if (count > limit)
      fail_idx(file, fmt::format("extent at offset {} makes the array too large: {}", 4 + 4 * axis,
                                 extents.to_string()));
  }
  header.shape = Shape(extents);
  header.data_bytes = extents.contains(0) ? 0 : static_cast<std::size_t>(count);
  return header;
}

template <class T>
T load(const IdxArray& array, std::int64_t index) {
  T value;
  std::memcpy(&value, array.bytes.data() + static_cast<std::size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

/// Calls `f` with a zero of the stored type.
template <class F>
void dispatch(IdxType type, F&& f) {
  switch (type) {
    case IdxType::u8:
      return f(std::uint8_t{});
    case IdxType::i8:
      return f(std::int8_t{});
    case IdxType::i16:
      return f(std::int16_t{});
    case IdxType::i32:
      return f(std::int32_t{});
    case IdxType::f32:
      return f(float{});
    case IdxType::f64:
      return f(double{});
  }
}

}  // namespace

std::size_t size_of(IdxType type) {
  switch (type) {
    case IdxType::u8:
    case IdxType::i8:
      return 1;
    case IdxType::i16:
      return 2;
    case IdxType::i32:
    case IdxType::f32:
      return 4;
    case IdxType::f64:
      return 8;
  }
  fail<ValueError>("idx", fmt::format("unknown element type {:02x}", static_cast<unsigned>(type)));
}

IdxArray parse_idx(ByteView bytes, std::string_view file) {
  const Header header = parse_header(bytes, file);
  const std::size_t present = bytes.size() - header.bytes;
  const std::size_t expected = header.bytes + header.data_bytes;
  if (present < header.data_bytes)
    fail_idx(file, fmt::format("data is truncated at offset {}: expected {} bytes", bytes.size(), expected));
  if (present > header.data_bytes)
    fail_idx(file, fmt::format("data must end at offset {} for extents {}: there is more", expected,
                               header.shape.to_string()));
  const ByteView data = bytes.subspan(header.bytes);
  IdxArray array{header.shape, header.type, Bytes(data.begin(), data.end())};
  const auto width = static_cast<std::ptrdiff_t>(size_of(array.type));
  if (width > 1)
    for (auto it = array.bytes.begin(); it != array.bytes.end(); it += width) std::reverse(it, it + width);
  return array;
}

IdxArray read_idx(const std::string& path) {
  const Bytes bytes = read_file(path);
  if (!is_gzip(bytes)) return parse_idx(bytes, path);
  // The header says how much may come out; one byte more is enough to see that there is too much.
  constexpr std::size_t longest_header = 4 + 4 * std::size_t{std::numeric_limits<std::uint8_t>::max()};
  const Header header = parse_header(gunzip(bytes, path, {.limit = longest_header, .prefix = true}), path);
  const std::size_t expected = header.bytes + header.data_bytes;
  if (expected > GunzipOptions{}.limit)
    fail_idx(path, fmt::format("extents at offset 4 need more than 4 GiB: {}", header.shape.to_string()));
  return parse_idx(gunzip(bytes, path, {.limit = expected + 1, .prefix = true}), path);
}

Tensor to_floating(const IdxArray& array, double scale, DType dtype) {
  return dispatch_floating(dtype, [&](auto zero) {
    using Out = decltype(zero);
    Tensor result = Tensor::empty(array.shape, dtype);
    Out* out = result.mutable_data<Out>();
    dispatch(array.type, [&](auto stored) {
      for (std::int64_t i = 0; i < result.size(); ++i)
        out[i] = static_cast<Out>(static_cast<double>(load<decltype(stored)>(array, i)) * scale);
    });
    return result;
  });
}

Tensor to_integers(const IdxArray& array) {
  if (array.type == IdxType::f32 || array.type == IdxType::f64)
    fail<DTypeError>("idx", "integers must be stored as integers: the array holds floating-point numbers");
  Tensor result = Tensor::empty(array.shape, DType::i64);
  std::int64_t* out = result.mutable_data<std::int64_t>();
  dispatch(array.type, [&](auto stored) {
    for (std::int64_t i = 0; i < result.size(); ++i)
      out[i] = static_cast<std::int64_t>(load<decltype(stored)>(array, i));
  });
  return result;
}

}  // namespace banach::nn
