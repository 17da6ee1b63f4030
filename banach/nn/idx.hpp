#pragma once
// IDX, the format of MNIST: two zero bytes, an element type, the number of axes, the extents, then the
// elements in row-major order; numbers are big-endian. Y. LeCun, C. Cortes and C. Burges, "The MNIST database
// of handwritten digits".

#include <banach/engine/tensor.hpp>
#include <banach/nn/file.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace banach::nn {

enum class IdxType : std::uint8_t { u8 = 0x08, i8 = 0x09, i16 = 0x0B, i32 = 0x0C, f32 = 0x0D, f64 = 0x0E };

/// Bytes an element takes.
std::size_t size_of(IdxType type);

/// An array as it was stored, but in this machine's byte order.
struct IdxArray {
  Shape shape;
  IdxType type = IdxType::u8;
  Bytes bytes;
};

/// Reads a plain or gzip file. Throws FileError naming the file, the field and the offset (in the plain
/// data).
IdxArray read_idx(const std::string& path);

/// The same from memory; `file` names the data in errors.
IdxArray parse_idx(ByteView bytes, std::string_view file);

/// The elements times `scale`, as f32 or f64. Throws DTypeError for i64.
Tensor to_floating(const IdxArray& array, double scale = 1.0, DType dtype = DType::f32);

/// The elements as i64. Throws DTypeError unless they are stored as integers.
Tensor to_integers(const IdxArray& array);

}  // namespace banach::nn
