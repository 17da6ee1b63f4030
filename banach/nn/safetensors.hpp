#pragma once
// Safetensors, the format of Hugging Face for named tensors: the length of the header (u64, little-endian),
// the header (JSON: name -> dtype, shape and data_offsets, and texts under "__metadata__"), then the
// elements. https://github.com/huggingface/safetensors, "Format".

#include <banach/engine/tensor.hpp>
#include <banach/nn/file.hpp>

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace banach::nn {

using NamedTensors = std::map<std::string, Tensor, std::less<>>;
using Metadata = std::map<std::string, std::string, std::less<>>;

struct Safetensors {
  NamedTensors tensors;
  Metadata metadata;
  std::string file = {};  ///< where it was read from

  /// The tensor of that name. Throws FileError listing the names that there are.
  const Tensor& at(std::string_view name) const;
};

/// Writes a file, atomically; the same content gives the same bytes. Throws ValueError for a tensor without
/// elements to write or a name that cannot be written (not UTF-8, or "__metadata__"), FileError if the file
/// cannot be written.
void save_safetensors(const std::string& path, const NamedTensors& tensors, const Metadata& metadata = {});

/// Reads a file. F32, F64 and I64 come as they are; F16 and BF16 as f32; BOOL and the other integers as i64.
/// Throws FileError naming the file, and the tensor, field and offset where known, unless everything in it
/// fits together: the elements of all tensors must fill the data exactly, without gap or overlap.
Safetensors load_safetensors(const std::string& path);

/// The same from memory; `file` names the data in errors.
Safetensors parse_safetensors(ByteView bytes, std::string_view file);

}  // namespace banach::nn
