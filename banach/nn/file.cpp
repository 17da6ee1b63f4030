#include <banach/engine/error.hpp>
#include <banach/nn/file.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace banach::nn {
namespace {

[[noreturn]] void fail_file(std::string_view action, const std::string& path, int error) {
  fail<FileError>("file",
                  fmt::format("cannot {} {}: {}", action, path, std::generic_category().message(error)));
}

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  /// Closes and tells whether that went well: some file systems report a failed write only here.
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// What `path` leads to through symbolic links, which may be a file that is yet to be made.
std::string follow_links(std::string path) {
  constexpr int most_links = 40;  // as many as the kernel follows
  std::error_code error;
  for (int i = 0; i < most_links; ++i) {
    const std::string target = std::filesystem::read_symlink(path, error);
    if (error) break;  // not a link
    path = target.front() == '/' ? target : folder_of(path) + "/" + target;
  }
  return path;
}

/// A temporary file beside `path`, which becomes `path` on commit() and disappears otherwise.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path)
      : shown_(path), target_(follow_links(path)), mode_(mode_of_target()), file_(create()) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!committed_) ::unlink(temporary_.c_str());
  }

  void write(ByteView bytes) {
    if (buffer_.size() + bytes.size() > buffer_bytes) flush();
    if (bytes.size() >= buffer_bytes) return write_through(bytes);
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }

  void commit() {
    flush();
    if (mode_ != no_mode && ::fchmod(file_.get(), mode_) != 0) fail_write();
    if (::fsync(file_.get()) != 0 || !file_.close()) fail_write();
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_write();
    committed_ = true;
    sync_folder();
  }

 private:
  static constexpr std::size_t buffer_bytes = std::size_t{1} << 16;
  static constexpr mode_t no_mode = ~mode_t{0};

  [[noreturn]] void fail_write() const { fail_file("write", shown_, errno); }

  mode_t mode_of_target() const {
    struct stat status {};
    if (::stat(target_.c_str(), &status) != 0) {
      if (errno != ENOENT) fail_write();
      return no_mode;
    }
    if (S_ISDIR(status.st_mode)) fail_file("write", shown_, EISDIR);
    // Renaming would put a file in the place of a device such as /dev/null.
    if (!S_ISREG(status.st_mode)) fail<FileError>("file", "cannot write " + shown_ + ": not a regular file");
    return status.st_mode & 07777;
  }

  int create() {
    static std::atomic<unsigned> counter{0};
    const std::string folder = folder_of(target_);
    for (;;) {
      temporary_ = fmt::format("{}/.banach-{}-{}.tmp", folder, ::getpid(), counter.fetch_add(1));
      const int fd = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd >= 0) return fd;
      if (errno != EEXIST) fail_write();  // there may be the leavings of an earlier process with our number
    }
  }

  void flush() {
    write_through(buffer_);
    buffer_.clear();
  }

  void write_through(ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(file_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_write();
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  /// Makes the new name itself survive a power cut.
  void sync_folder() {
    const Descriptor folder(::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // A folder that may be written but not read (EACCES), or a file system without the notion (EINVAL), is no
    // failure.
    if (folder.get() < 0) return;
    if (::fsync(folder.get()) != 0 && errno != EINVAL) fail_write();
  }

  std::string shown_, target_;
  mode_t mode_;
  std::string temporary_;
  Descriptor file_;
  Bytes buffer_;
  bool committed_ = false;
};

/// The state of zlib's decompressor for gzip data.
class Inflater {
 public:
  explicit Inflater(std::string_view file) : file_(file) {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) fail("zlib could not be started");
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream_); }

  [[noreturn]] void fail(std::string_view why) const {
    banach::fail<FileError>("file", fmt::format("cannot decompress {}: {}", file_, why));
  }

  /// Decompresses from `in` into `out`, advancing `in`; returns how many bytes came out. Throws FileError.
  std::size_t step(ByteView& in, std::span<std::uint8_t> out) {
    const std::size_t piece = std::min(in.size(), std::size_t{1} << 30);  // zlib counts in 32 bits
    stream_.next_in = const_cast<Bytef*>(in.data());
    stream_.avail_in = static_cast<uInt>(piece);
    stream_.next_out = out.data();
    stream_.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&stream_, Z_NO_FLUSH);
    in = in.subspan(piece - stream_.avail_in);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      fail(stream_.msg ? stream_.msg : "damaged data");
    ended_ = status == Z_STREAM_END;
    return out.size() - stream_.avail_out;
  }

  bool ended() const { return ended_; }
  void start_member() {
    if (inflateReset(&stream_) != Z_OK) fail("zlib could not be restarted");
  }

 private:
  std::string_view file_;
  z_stream stream_{};
  bool ended_ = false;
};

}  // namespace

std::string count_of_bytes(std::uint64_t bytes) {
  return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
}

Bytes read_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) fail_file("read", path, errno);
  if (!S_ISREG(status.st_mode) && !S_ISFIFO(status.st_mode))
    fail<FileError>("file", fmt::format("cannot read {}: {}", path,
                                        S_ISDIR(status.st_mode) ? "it is a folder" : "not a regular file"));
  Bytes bytes(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  for (;;) {
    // The stated size may be out of date, or 0 for a pipe: the end is where nothing more comes.
    if (filled == bytes.size()) bytes.resize(filled + std::max<std::size_t>(filled / 2, 4096));
    const ssize_t got = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path, errno);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  bytes.resize(filled);
  return bytes;
}

Bytes read_plain_or_gzip(const std::string& path) {
  Bytes bytes = read_file(path);
  return is_gzip(bytes) ? gunzip(bytes, path) : bytes;
}

void write_atomically(const std::string& path, FunctionRef<void(FunctionRef<void(ByteView)> write)> writer) {
  TemporaryFile file(path);
  writer([&](ByteView bytes) { file.write(bytes); });
  file.commit();
}

void write_atomically(const std::string& path, ByteView bytes) {
  write_atomically(path, [&](FunctionRef<void(ByteView)> write) { write(bytes); });
}

void write_atomically(const std::string& path, std::string_view text) {
  write_atomically(path, ByteView(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

void check_writable(const std::string& path) { const TemporaryFile unused(path); }

bool is_gzip(ByteView bytes) { return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

Bytes gunzip(ByteView compressed, std::string_view file, const GunzipOptions& options) {
  Inflater inflater(file);
  if (!is_gzip(compressed)) inflater.fail("not gzip data");
  Bytes out;
  std::array<std::uint8_t, 1 << 15> piece;
  ByteView in = compressed;
  for (;;) {
    const std::size_t before = in.size();
    const std::size_t count = inflater.step(in, piece);
    const std::size_t kept = std::min(count, options.limit - out.size());
    out.insert(out.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(kept));
    if (kept < count && !options.prefix)
      inflater.fail(fmt::format("it expands to more than the {} bytes allowed", options.limit));
    if (options.prefix && out.size() == options.limit) return out;
    if (inflater.ended()) {
      // Members may follow each other; zeros pad the last one (tapes, block devices).
      if (std::all_of(in.begin(), in.end(), [](std::uint8_t byte) { return byte == 0; })) return out;
      if (!is_gzip(in))
        inflater.fail(fmt::format("no gzip data at offset {}", compressed.size() - in.size()));
      inflater.start_member();
    } else if (count == 0 && in.size() == before) {
      inflater.fail(fmt::format("it ends early, at offset {}", compressed.size() - in.size()));
    }
  }
}

}  // namespace banach::nn
