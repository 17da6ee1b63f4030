#include <banach/nn/safetensors.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace banach::nn {
namespace {

static_assert(std::endian::native == std::endian::little);

using nlohmann::json;

constexpr std::size_t length_bytes = 8, alignment = 8;
constexpr std::uint64_t header_limit = 100'000'000;  // as in the reference implementation
constexpr const char* metadata_key = "__metadata__";

/// A name as an error shows it: quoted, control characters escaped, not too long.
std::string shown(std::string_view name) {
  const std::string text = json(name).dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 100 ? text : text.substr(0, 96) + "...\"";
}

struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

struct Header {
  std::vector<Entry> entries;
  Metadata metadata;
};

/// Takes the header in as it is parsed, since only then are names that come twice seen, and a header that
/// nests deeper than it should is left at once.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  Header take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start:
        place_ = Place::root;
        return true;
      case Place::root:
        if (key_ == metadata_key) {
          place_ = Place::metadata;
        } else {
          place_ = Place::tensor;
          header_.entries.push_back({.name = key_, .dtype = {}, .shape = {}, .offsets = {}});
        }
        return true;
      default:
        reject("an object");
    }
  }

  bool end_object() override {
    switch (place_) {
      case Place::tensor:
        check_complete(header_.entries.back());
        [[fallthrough]];
      case Place::metadata:
        place_ = Place::root;
        return true;
      default:
        place_ = Place::end;
        return true;
    }
  }

  bool key(std::string& key) override {
    if (place_ == Place::root) {
      if (!names_.insert(key).second)
        fail_header(fmt::format("names must be distinct: {} comes twice", shown(key)));
      key_ = key;
    } else {
      field_ = key;
      if (place_ == Place::metadata && header_.metadata.contains(key))
        fail_header(fmt::format("keys of __metadata__ must be distinct: {} comes twice", shown(key)));
    }
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      header_.metadata.emplace(field_, value);
    } else if (place_ == Place::tensor && field_ == "dtype") {
      set_once(header_.entries.back().dtype, value);
    } else {
      reject("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::tensor) reject("an array");
    Entry& entry = header_.entries.back();
    if (field_ == "shape")
      set_once(entry.shape, {});
    else if (field_ == "data_offsets")
      set_once(entry.offsets, {});
    else
      reject("an array");
    place_ = Place::array;
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ != Place::array) reject("a number");
    Entry& entry = header_.entries.back();
    const bool is_shape = field_ == "shape";
    auto& values = is_shape ? *entry.shape : *entry.offsets;
    const std::size_t most = is_shape ? Shape::capacity : 2;
    if (values.size() == most)
      fail_header(fmt::format("{}: {} must have at most {} numbers", where(), field_, most));
    values.push_back(value);
    return true;
  }

  bool number_integer(std::int64_t value) override { reject(fmt::format("the number {}", value)); }
  bool number_float(double, const std::string& text) override { reject("the number " + text.substr(0, 40)); }
  bool null() override { reject("null"); }
  bool boolean(bool) override { reject("a truth value"); }
  bool binary(json::binary_t&) override { reject("binary data"); }

  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    fail_header(fmt::format("must be JSON in UTF-8: it is not at offset {}",
                            length_bytes + position - (position > 0)));
  }

 private:
  enum class Place { start, root, metadata, tensor, array, end };

  [[noreturn]] void fail_header(std::string_view text) const {
    fail<FileError>("safetensors", fmt::format("{}: header: {}", file_, text));
  }

  std::string where() const { return key_ == metadata_key ? "__metadata__" : "tensor " + shown(key_); }

  [[noreturn]] void reject(std::string_view found) const {
    switch (place_) {
      case Place::root:
        fail_header(fmt::format("{} must be an object: got {}", key_ == metadata_key ? metadata_key : where(),
                                found));
      case Place::metadata:
        fail_header(fmt::format("__metadata__: {} must be a string: got {}", shown(field_), found));
      case Place::tensor:
        fail_header(
            fmt::format("{}: fields must be dtype (a string), shape and data_offsets (arrays): got {} for {}",
                        where(), found, shown(field_)));
      case Place::array:
        fail_header(fmt::format("{}: {} must hold integers from 0 on: got {}", where(), field_, found));
      default:
        fail_header(fmt::format("must be an object: got {}", found));
    }
  }

  template <class T>
  void set_once(std::optional<T>& field, T value) const {
    if (field) fail_header(fmt::format("{}: {} must come once: it comes twice", where(), field_));
    field = std::move(value);
  }

  void check_complete(const Entry& entry) const {
    for (const auto& [present, name] :
         {std::pair(entry.dtype.has_value(), "dtype"), std::pair(entry.shape.has_value(), "shape"),
          std::pair(entry.offsets.has_value(), "data_offsets")})
      if (!present) fail_header(fmt::format("{}: must have the field {}", where(), name));
    if (entry.offsets->size() != 2)
      fail_header(
          fmt::format("{}: data_offsets must have 2 numbers: got {}", where(), entry.offsets->size()));
  }

  std::string_view file_;
  Header header_;
  std::set<std::string> names_;
  Place place_ = Place::start;
  std::string key_, field_;  // of the root, and of the object inside
};

/// IEEE 754 binary16 to binary32, exactly.
float from_half(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16, exponent = bits >> 10 & 0x1f,
                      mantissa = bits & 0x3ff;
  if (exponent == 0) {  // zero and subnormal numbers: mantissa times 2^-24
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

float from_bfloat(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// Reads elements of type In, not necessarily aligned, each through `convert`.
template <class In, class Out, class Convert>
void read_elements(const std::uint8_t* in, Tensor& tensor, Convert convert) {
  Out* out = tensor.mutable_data<Out>();
  for (std::int64_t i = 0; i < tensor.size(); ++i, in += sizeof(In)) {
    In value;
    std::memcpy(&value, in, sizeof(In));
    out[i] = convert(value);
  }
}

template <class In>
void read_integers(const std::uint8_t* in, Tensor& tensor) {
  read_elements<In, std::int64_t>(in, tensor, [](In value) { return static_cast<std::int64_t>(value); });
}

template <class T>
void copy_elements(const std::uint8_t* in, Tensor& tensor) {
  if (tensor.size() > 0)
    std::memcpy(tensor.mutable_data<T>(), in, static_cast<std::size_t>(tensor.size()) * sizeof(T));
}

/// An element type of the format, and how it becomes one of ours.
struct StoredType {
  std::string_view name;
  std::size_t bytes;
  DType dtype;
  void (*read)(const std::uint8_t* in, Tensor& tensor);
};

constexpr std::array<StoredType, 13> stored_types{{
    {"F64", 8, DType::f64, copy_elements<double>},
    {"F32", 4, DType::f32, copy_elements<float>},
    {"F16", 2, DType::f32, [](auto in, auto& t) { read_elements<std::uint16_t, float>(in, t, from_half); }},
    {"BF16", 2, DType::f32,
     [](auto in, auto& t) { read_elements<std::uint16_t, float>(in, t, from_bfloat); }},
    {"I64", 8, DType::i64, copy_elements<std::int64_t>},
    {"I32", 4, DType::i64, read_integers<std::int32_t>},
    {"I16", 2, DType::i64, read_integers<std::int16_t>},
    {"I8", 1, DType::i64, read_integers<std::int8_t>},
    {"U64", 8, DType::i64, read_integers<std::uint64_t>},
    {"U32", 4, DType::i64, read_integers<std::uint32_t>},
    {"U16", 2, DType::i64, read_integers<std::uint16_t>},
    {"U8", 1, DType::i64, read_integers<std::uint8_t>},
    {"BOOL", 1, DType::i64,
     [](auto in, auto& t) {
       read_elements<std::uint8_t, std::int64_t>(in, t, [](auto b) { return b != 0; });
     }},
}};

std::string_view stored_name(DType dtype) {
  return dtype == DType::f64 ? "F64" : dtype == DType::f32 ? "F32" : "I64";
}

/// Turns checked entries into tensors.
class DataReader {
 public:
  DataReader(ByteView data, std::size_t data_begin, std::string_view file)
      : data_(data), data_begin_(data_begin), file_(file) {}

  NamedTensors read(const std::vector<Entry>& entries) const {
    check_layout(entries);  // all of it before the first tensor takes memory
    NamedTensors tensors;
    for (const Entry& entry : entries) tensors.emplace(entry.name, read(entry));
    return tensors;
  }

 private:
  [[noreturn]] void fail_entry(const Entry& entry, std::string_view text) const {
    fail<FileError>("safetensors", fmt::format("{}: tensor {}: {}", file_, shown(entry.name), text));
  }

  const StoredType& stored_type(const Entry& entry) const {
    const auto* type =
        std::find_if(stored_types.begin(), stored_types.end(),
                     [&](const StoredType& candidate) { return candidate.name == *entry.dtype; });
    if (type == stored_types.end()) {
      std::string known;
      for (const StoredType& candidate : stored_types) known += fmt::format(" {}", candidate.name);
      fail_entry(entry, fmt::format("dtype must be one of{}: got {}", known, shown(*entry.dtype)));
    }
    return *type;
  }

  /// Bytes that dtype and shape ask for, without wrapping around.
  std::uint64_t expected_bytes(const Entry& entry) const {
    constexpr std::uint64_t limit = std::uint64_t{1} << 46;
    std::uint64_t count = stored_type(entry).bytes;
    bool empty = false;
    for (const std::uint64_t extent : *entry.shape) {
      empty = empty || extent == 0;
      if (extent != 0 && count > limit / extent)
        fail_entry(entry, fmt::format("shape is too large: ({})", fmt::join(*entry.shape, ",")));
      if (extent != 0) count *= extent;
    }
    return empty ? 0 : count;
  }

  void check_layout(const std::vector<Entry>& entries) const {
    std::vector<const Entry*> in_order;
    for (const Entry& entry : entries) {
      const std::uint64_t begin = (*entry.offsets)[0], end = (*entry.offsets)[1], there = data_.size();
      if (begin <= end && end > there && end - begin == expected_bytes(entry))
        fail_entry(entry, fmt::format("is truncated: {} were expected, for {} of shape ({}): the file "
                                      "has {} of them",
                                      count_of_bytes(end - begin), *entry.dtype, fmt::join(*entry.shape, ","),
                                      begin < there ? there - begin : 0));
      if (begin > end || end > there)
        fail_entry(entry, fmt::format("data_offsets must lie in order inside the {} of data: got [{}, {}]",
                                      count_of_bytes(there), begin, end));
      if (end - begin != expected_bytes(entry))
        fail_entry(entry, fmt::format("data_offsets [{}, {}] must span {}, for {} of shape ({})", begin, end,
                                      count_of_bytes(expected_bytes(entry)), *entry.dtype,
                                      fmt::join(*entry.shape, ",")));
      in_order.push_back(&entry);
    }
    std::sort(in_order.begin(), in_order.end(),
              [](const Entry* a, const Entry* b) { return *a->offsets < *b->offsets; });
    std::uint64_t reached = 0;
    for (const Entry* entry : in_order) {
      if ((*entry->offsets)[0] != reached)
        fail_entry(
            *entry,
            fmt::format("data must begin where the tensor before it ends, at {} (offset {} of the file): "
                        "data_offsets begin at {}",
                        reached, data_begin_ + reached, (*entry->offsets)[0]));
      reached = (*entry->offsets)[1];
    }
    if (reached != data_.size())
      fail<FileError>("safetensors",
                      fmt::format("{}: data must end where the last tensor does, at offset {}: the file "
                                  "has {} bytes",
                                  file_, data_begin_ + reached, data_begin_ + data_.size()));
  }

  Tensor read(const Entry& entry) const {
    const StoredType& type = stored_type(entry);
    Ints extents;
    for (const std::uint64_t extent : *entry.shape) extents.push_back(static_cast<std::int64_t>(extent));
    Tensor tensor = Tensor::empty(Shape(extents), type.dtype);
    type.read(data_.data() + (*entry.offsets)[0], tensor);
    if (type.name == "U64") {
      const auto values = tensor.values<std::int64_t>();
      const auto wrapped = std::find_if(values.begin(), values.end(), [](std::int64_t v) { return v < 0; });
      if (wrapped != values.end())
        fail_entry(entry, fmt::format("U64 elements must be below 2^63: element {} is not",
                                      wrapped - values.begin()));
    }
    return tensor;
  }

  ByteView data_;
  std::size_t data_begin_;
  std::string_view file_;
};

ByteView bytes_of(const Tensor& tensor) {
  return dispatch_any(tensor.dtype(), [&](auto zero) {
    const auto values = tensor.values<decltype(zero)>();
    return ByteView(reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes());
  });
}

void check_writable(const std::string& name, const Tensor& tensor) {
  if (name == metadata_key) fail<ValueError>("safetensors", "a tensor must not be called __metadata__");
  if (!tensor.defined() || (tensor.size() > 0 && !tensor.has_data()))
    fail<ValueError>("safetensors",
                     fmt::format("tensor {} must have elements to write: it has none", shown(name)));
}

/// Where the length of the header should stand there is text: a question for the user; else nothing.
std::string text_hint(ByteView bytes) {
  const ByteView start = bytes.first(std::min(bytes.size(), length_bytes));
  const bool text = std::all_of(start.begin(), start.end(), [](std::uint8_t byte) {
    return (byte >= ' ' && byte <= '~') || byte == '\t' || byte == '\n' || byte == '\r';
  });
  if (start.size() < 2 || !text) return "";
  const std::string words(start.begin(), start.end());
  return fmt::format("; it begins with the text {}: is this a safetensors file?", shown(words));
}

/// The header's text, padded with spaces so that the data begins at a multiple of 8.
std::string header_text(const std::vector<NamedTensors::const_pointer>& tensors, const Metadata& metadata) {
  std::string text;
  std::size_t offset = 0;
  const auto add = [&](std::string_view name, const std::string& value) {
    text += fmt::format("{}{}:{}", text.empty() ? '{' : ',', json(name).dump(), value);
  };
  try {
    if (!metadata.empty()) add(metadata_key, json(metadata).dump());
    for (const auto* entry : tensors) {
      const auto& [name, tensor] = *entry;
      const std::size_t end = offset + static_cast<std::size_t>(tensor.size()) * size_of(tensor.dtype());
      add(name, fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                            stored_name(tensor.dtype()), fmt::join(tensor.shape(), ","), offset, end));
      offset = end;
    }
  } catch (const json::type_error&) {
    fail<ValueError>("safetensors", "names and metadata must be UTF-8");
  }
  text += text.empty() ? "{}" : "}";
  text.resize((text.size() + alignment - 1) / alignment * alignment, ' ');
  if (text.size() > header_limit)
    fail<ValueError>("safetensors",
                     fmt::format("header must have at most {} bytes: got {}", header_limit, text.size()));
  return text;
}

}  // namespace

const Tensor& Safetensors::at(std::string_view name) const {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  std::string names;
  for (const auto& [each, tensor] : tensors) names += (names.empty() ? "" : ", ") + shown(each);
  fail<FileError>("safetensors", fmt::format("{}: must hold a tensor {}: it holds {}", file, shown(name),
                                             names.empty() ? "none" : names));
}

void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata) {
  std::vector<NamedTensors::const_pointer> in_order;
  for (const auto& entry : tensors) {
    check_writable(entry.first, entry.second);
    in_order.push_back(&entry);
  }
  // Wide elements first keep every tensor aligned to its elements.
  std::stable_sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });
  const std::string header = header_text(in_order, metadata);
  const auto length = std::bit_cast<std::array<std::uint8_t, length_bytes>>(std::uint64_t{header.size()});
  write_atomically(path, [&](FunctionRef<void(ByteView)> write) {
    write(length);
    write(ByteView(reinterpret_cast<const std::uint8_t*>(header.data()), header.size()));
    for (const auto* entry : in_order) write(bytes_of(entry->second));
  });
}

Safetensors parse_safetensors(ByteView bytes, std::string_view file) {
  const auto fail_length = [&](std::string_view text) {
    fail<FileError>("safetensors", fmt::format("{}: {}", file, text));
  };
  if (bytes.size() < length_bytes)
    fail_length(fmt::format("length of the header is truncated at offset {}: expected 8 bytes{}",
                            bytes.size(), text_hint(bytes)));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), length_bytes);
  if (length > header_limit)
    fail_length(fmt::format("length of the header at offset 0 must be at most {}: got {}{}", header_limit,
                            length, text_hint(bytes)));
  if (length > bytes.size() - length_bytes)
    fail_length(fmt::format("header is truncated at offset {}: expected {} bytes", bytes.size(),
                            length_bytes + length));
  const ByteView text = bytes.subspan(length_bytes, length);
  if (text.empty() || text.front() != '{') fail_length("header at offset 8 must begin with {");

  // The parser takes a zero byte for the end of its input, and would leave unseen what follows.
  if (const auto zero = std::find(text.begin(), text.end(), std::uint8_t{0}); zero != text.end())
    fail_length(fmt::format("header must not contain a zero byte: it does at offset {}",
                            length_bytes + static_cast<std::size_t>(zero - text.begin())));

  HeaderReader reader(file);
  json::sax_parse(text.begin(), text.end(), &reader);
  Header header = reader.take();
  const std::size_t data_begin = length_bytes + static_cast<std::size_t>(length);
  return {DataReader(bytes.subspan(data_begin), data_begin, file).read(header.entries),
          std::move(header.metadata), std::string(file)};
}

Safetensors load_safetensors(const std::string& path) { return parse_safetensors(read_file(path), path); }

}  // namespace banach::nn
