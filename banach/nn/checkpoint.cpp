#include <banach/nn/checkpoint.hpp>

#include <fmt/format.h>
#include <zlib.h>

#include <bit>
#include <initializer_list>
#include <span>

namespace banach::nn::detail {
namespace {

constexpr const char *version_key = "banach.checkpoint", *version = "1";
constexpr std::string_view checksum_prefix = "banach.crc32.";
constexpr const char* notes_checksum_key = "banach.crc32";

// CRC-32 of the elements and of the metadata: damage that leaves the file well-formed would go on as a wrong
// training.
std::string checksum(const Tensor& tensor) {
  return dispatch_any(tensor.dtype(), [&](auto zero) {
    const auto bytes = std::as_bytes(tensor.values<decltype(zero)>());
    return fmt::format("{:08x}", crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  });
}

std::string checksum(const Metadata& metadata) {
  uLong sum = 0;
  const auto add = [&](const std::string& text) {  // with the zero at its end, which keeps texts apart
    sum = crc32_z(sum, reinterpret_cast<const Bytef*>(text.c_str()), text.size() + 1);
  };
  for (const auto& [key, value] : metadata) {
    if (key == notes_checksum_key) continue;
    add(key);
    add(value);
  }
  return fmt::format("{:08x}", sum);
}

Tensor integers(std::initializer_list<std::uint64_t> values) {
  Tensor result = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::i64);
  std::int64_t* out = result.mutable_data<std::int64_t>();
  for (const std::uint64_t value : values) *out++ = std::bit_cast<std::int64_t>(value);
  return result;
}

std::uint64_t bits_at(const Tensor& values, std::size_t i) {
  return std::bit_cast<std::uint64_t>(values.values<std::int64_t>()[i]);
}

std::string describe(const Shape& shape, DType dtype) {
  return fmt::format("{}{}", name(dtype), shape.to_string());
}

}  // namespace

void write_checkpoint(const std::string& path, const State& model, const State& optimizer,
                      const Progress& progress) {
  NamedTensors tensors;
  const auto add = [&](std::string_view prefix, const auto& part) {
    for (const auto& [name, value] : part)
      if (value.defined()) tensors[fmt::format("{}{}", prefix, name)] = value;
  };
  add("model.", model);
  add("optimizer.", optimizer);
  add("extra.", progress.extra);
  tensors["progress.step"] = integers({static_cast<std::uint64_t>(progress.step)});
  tensors["progress.loader"] =
      integers({static_cast<std::uint64_t>(progress.position.epoch),
                static_cast<std::uint64_t>(progress.position.batch), progress.loader_seed});
  tensors["progress.random"] =
      integers({progress.random.seed, progress.random.stream, progress.random.counter});
  Metadata metadata = progress.notes;
  if (!metadata.emplace(version_key, version).second)
    fail<ValueError>("checkpoint", fmt::format("a note must not be called {}", version_key));
  for (const auto& [name, tensor] : tensors)
    metadata[fmt::format("{}{}", checksum_prefix, name)] = checksum(tensor);
  metadata[notes_checksum_key] = checksum(metadata);
  save_safetensors(path, tensors, metadata);
}

CheckpointFile::CheckpointFile(const std::string& path) : file_(load_safetensors(path)) {
  const auto found = file_.metadata.find(version_key);
  if (found == file_.metadata.end())
    fail<FileError>("checkpoint",
                    fmt::format("{}: must be a checkpoint: its metadata has no {}", path, version_key));
  if (found->second != version)
    fail<FileError>("checkpoint",
                    fmt::format("{}: version must be {}: got '{}'", path, version, found->second));
  const auto compare = [&](std::string_view what, const std::string& kept, const std::string& computed) {
    if (kept != computed)
      fail<FileError>("checkpoint",
                      fmt::format("{}: {} must have the checksum {}: it has {}, so the file is damaged", path,
                                  what, kept, computed));
  };
  if (const auto kept = file_.metadata.find(notes_checksum_key); kept != file_.metadata.end())
    compare("its metadata", kept->second, checksum(file_.metadata));
  for (const auto& [key, kept] : file_.metadata) {
    if (!key.starts_with(checksum_prefix)) continue;
    const std::string name = key.substr(checksum_prefix.size());
    const auto tensor = file_.tensors.find(name);
    if (tensor == file_.tensors.end())
      fail<FileError>("checkpoint", fmt::format("{}: must hold '{}': it is missing", path, name));
    compare(fmt::format("'{}'", name), kept, checksum(tensor->second));
  }
}

const Tensor& CheckpointFile::entry(const std::string& name, const Shape& shape, DType dtype) const {
  const auto found = file_.tensors.find(name);
  if (found == file_.tensors.end())
    fail<FileError>("checkpoint", fmt::format("{}: must hold {} '{}': it is missing", file_.file,
                                              describe(shape, dtype), name));
  const Tensor& value = found->second;
  if (!(value.shape() == shape) || value.dtype() != dtype)
    fail<FileError>("checkpoint",
                    fmt::format("{}: '{}' must be {}: it is {}", file_.file, name, describe(shape, dtype),
                                describe(value.shape(), value.dtype())));
  return value;
}

State CheckpointFile::part(std::string_view prefix, const State& like) const {
  State values;
  for (const auto& [name, tensor] : like) {
    const std::string full = fmt::format("{}{}", prefix, name);
    // A buffer that is still undefined takes what there is, if anything.
    if (tensor.defined())
      values[name] = entry(full, tensor.shape(), tensor.dtype());
    else if (const auto found = file_.tensors.find(full); found != file_.tensors.end())
      values[name] = found->second;
    else
      values[name] = Tensor();
  }
  for (const auto& [name, tensor] : file_.tensors)
    if (name.starts_with(prefix) && !like.contains(name.substr(prefix.size())))
      fail<FileError>("checkpoint",
                      fmt::format("{}: holds '{}', for which there is no place (is it of another model?)",
                                  file_.file, name));
  return values;
}

Progress CheckpointFile::progress() const {
  const Tensor& step = entry("progress.step", {1}, DType::i64);
  const Tensor& loader = entry("progress.loader", {3}, DType::i64);
  const Tensor& random = entry("progress.random", {3}, DType::i64);
  Progress result;
  result.step = step.values<std::int64_t>()[0];
  result.position = {loader.values<std::int64_t>()[0], loader.values<std::int64_t>()[1]};
  result.loader_seed = bits_at(loader, 2);
  result.random = {bits_at(random, 0), bits_at(random, 1), bits_at(random, 2)};
  constexpr std::string_view prefix = "extra.";
  for (const auto& [name, tensor] : file_.tensors)
    if (name.starts_with(prefix)) result.extra[name.substr(prefix.size())] = tensor;
  result.notes = file_.metadata;
  result.notes.erase(version_key);
  result.notes.erase(notes_checksum_key);
  std::erase_if(result.notes, [](const auto& note) { return note.first.starts_with(checksum_prefix); });
  return result;
}

}  // namespace banach::nn::detail
