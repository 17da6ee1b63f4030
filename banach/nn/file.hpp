#pragma once

#include <banach/engine/parallel.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace banach::nn {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

/// "1 byte", "2 bytes": for messages.
std::string count_of_bytes(std::uint64_t bytes);

/// The whole content of a file or pipe. Throws FileError.
Bytes read_file(const std::string& path);

/// As read_file; what turns out to be gzip is decompressed, up to 4 GiB. Throws FileError.
Bytes read_plain_or_gzip(const std::string& path);

/// Replaces the file at `path` at once: readers, and a crash at any time, find the old content or the new
/// one, never a part. The bytes go to a temporary file in the same folder, which is synced and then renamed;
/// it is removed if anything fails or `writer` throws. A symbolic link is followed; an existing file's mode
/// is kept. Throws FileError, and whatever `writer` throws.
void write_atomically(const std::string& path, FunctionRef<void(FunctionRef<void(ByteView)> write)> writer);
void write_atomically(const std::string& path, ByteView bytes);
void write_atomically(const std::string& path, std::string_view text);

/// Throws the FileError that write_atomically would end with, as far as that can be told without writing.
void check_writable(const std::string& path);

/// True if the bytes begin as gzip does (RFC 1952, section 2.3.1).
bool is_gzip(ByteView bytes);

struct GunzipOptions {
  std::size_t limit =
      std::size_t{1} << 32;  ///< most bytes to give out: small files can expand a thousandfold
  bool prefix = false;       ///< at the limit, stop and return what there is, instead of throwing
};

/// Decompresses gzip data, all its members. `file` names it in errors. Throws FileError if the data is
/// damaged, ends early, or expands beyond the limit.
Bytes gunzip(ByteView compressed, std::string_view file, const GunzipOptions& options = {});

}  // namespace banach::nn
