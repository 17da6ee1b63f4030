#include <tests/nn/files.hpp>

#include <banach/engine/error.hpp>
#include <banach/nn/file.hpp>

#include <catch2/catch.hpp>
#include <sys/stat.h>

#include <thread>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using files::bytes_of;
using files::Folder;
using files::message;
using files::text_of;

TEST_CASE("A file is written, replaced and read back, and nothing else is left behind") {
  const Folder folder;
  const std::string path = folder / "x.json";
  write_atomically(path, "first");
  CHECK(text_of(read_file(path)) == "first");
  write_atomically(path, std::string());
  CHECK(read_file(path).empty());
  Bytes large(300'000);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  write_atomically(path, ByteView(large));
  CHECK(read_file(path) == large);
  CHECK(folder.names() == std::vector<std::string>{"x.json"});
}

TEST_CASE("Pieces of any size written by a callback arrive in order") {
  const Folder folder;
  const std::string path = folder / "pieces";
  Bytes expected;
  write_atomically(path, [&](FunctionRef<void(ByteView)> write) {
    for (const std::size_t size : {1u, 0u, 65535u, 1u, 65536u, 7u, 200'000u, 3u}) {
      const Bytes piece(size, static_cast<std::uint8_t>(size % 251));
      expected.insert(expected.end(), piece.begin(), piece.end());
      write(piece);
    }
  });
  CHECK(read_file(path) == expected);
}

TEST_CASE("A writer that throws leaves the old file and no temporary one") {
  const Folder folder;
  const std::string path = folder / "kept";
  write_atomically(path, "old");
  CHECK_THROWS_AS(write_atomically(path,
                                   [](FunctionRef<void(ByteView)> write) {
                                     write(Bytes(100'000));
                                     throw std::runtime_error("no more");
                                   }),
                  std::runtime_error);
  CHECK(text_of(read_file(path)) == "old");
  CHECK(folder.names() == std::vector<std::string>{"kept"});
}

TEST_CASE("Writing keeps the mode of a file and follows a symbolic link") {
  const Folder folder;
  const std::string path = folder / "real", link = folder / "link", dangling = folder / "dangling";
  write_atomically(path, "a");
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  std::filesystem::create_symlink("real", link);
  std::filesystem::create_symlink("yet-to-come", dangling);
  write_atomically(link, "b");
  write_atomically(dangling, "c");
  CHECK(std::filesystem::is_symlink(link));
  CHECK(text_of(read_file(path)) == "b");
  CHECK(text_of(read_file(folder / "yet-to-come")) == "c");
  std::filesystem::create_symlink("loop", folder / "loop");
  CHECK_THAT(message<FileError>([&] { write_atomically(folder / "loop", "d"); }),
             Contains("cannot write") && Contains("symbolic links"));
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
}

TEST_CASE("Whether a file can be written is told without writing") {
  const Folder folder;
  write_atomically(folder / "old", "x");
  check_writable(folder / "old");
  check_writable(folder / "new");
  CHECK(text_of(read_file(folder / "old")) == "x");
  CHECK(folder.names() == std::vector<std::string>{"old"});
  CHECK_THAT(message<FileError>([&] { check_writable(folder.path()); }), Contains("Is a directory"));
  CHECK_THAT(message<FileError>([&] { check_writable(folder / "no/such"); }), Contains("no/such"));
}

TEST_CASE("What cannot be written or read says why") {
  const Folder folder;
  const std::string file = folder / "file", pipe = folder / "pipe";
  write_atomically(file, "x");
  const auto write_error = [](const std::string& path) {
    return message<FileError>([&] { write_atomically(path, "y"); });
  };
  const auto read_error = [](const std::string& path) {
    return message<FileError>([&] { read_file(path); });
  };
  CHECK(write_error(file + "/x.json") == "[file] cannot write " + file + "/x.json: Not a directory");
  CHECK(write_error(folder / "none/x") ==
        "[file] cannot write " + (folder / "none/x") + ": No such file or directory");
  CHECK(write_error(folder.path()) == "[file] cannot write " + folder.path() + ": Is a directory");
  // A device or pipe must not be replaced by a file.
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(write_error(pipe) == "[file] cannot write " + pipe + ": not a regular file");
  CHECK(std::filesystem::is_fifo(pipe));
  CHECK(read_error(folder / "none") ==
        "[file] cannot read " + (folder / "none") + ": No such file or directory");
  CHECK(read_error(file + "/x") == "[file] cannot read " + file + "/x: Not a directory");
  CHECK(read_error(folder.path()) == "[file] cannot read " + folder.path() + ": it is a folder");
  CHECK(folder.names() == std::vector<std::string>{"file", "pipe"});
}

TEST_CASE("A pipe is read to its end") {
  const Folder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const Bytes sent(200'000, 42);
  std::thread writer([&] { folder.write("pipe", sent); });
  const Bytes got = read_file(pipe);
  writer.join();
  CHECK(got == sent);
}

TEST_CASE("Writers at the same time leave one whole content") {
  const Folder folder;
  const std::string path = folder / "raced";
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < 10; ++i) write_atomically(path, std::string(50'000, static_cast<char>('a' + w)));
    });
  for (auto& writer : writers) writer.join();
  const std::string text = text_of(read_file(path));
  CHECK(text.size() == 50'000);
  CHECK(text == std::string(50'000, text.front()));
  CHECK(folder.names() == std::vector<std::string>{"raced"});
}

TEST_CASE("gunzip gives back what was compressed, over several members") {
  Bytes plain(200'000);
  for (std::size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<std::uint8_t>(i * i / 97);
  Bytes compressed = files::gzip(plain);
  CHECK(gunzip(compressed, "x.gz") == plain);
  CHECK(gunzip(files::gzip({}), "x.gz").empty());

  const Bytes second = files::gzip(bytes_of("tail"));
  compressed.insert(compressed.end(), second.begin(), second.end());
  Bytes both = plain;
  for (const char c : std::string_view("tail")) both.push_back(static_cast<std::uint8_t>(c));
  CHECK(gunzip(compressed, "x.gz") == both);

  compressed.insert(compressed.end(), 512, 0);
  CHECK(gunzip(compressed, "x.gz") == both);
  compressed.push_back(1);
  CHECK_THAT(message<FileError>([&] { gunzip(compressed, "x.gz"); }),
             Contains("x.gz: no gzip data at offset"));

  const Folder folder;
  CHECK(read_plain_or_gzip(folder.write("a", second)) == bytes_of("tail"));
  CHECK(read_plain_or_gzip(folder.write("b", both)) == both);
}

TEST_CASE("gzip data that ends early is an error at every length") {
  const Bytes compressed = files::gzip(bytes_of("some text that compresses, some text that compresses"));
  for (std::size_t length = 0; length < compressed.size(); ++length) {
    INFO(length);
    CHECK_THAT(message<FileError>([&] { gunzip(ByteView(compressed).first(length), "x.gz"); }),
               Contains("[file] cannot decompress x.gz: "));
  }
  const std::string text = message<FileError>([&] { gunzip(ByteView(compressed).first(20), "x.gz"); });
  CHECK(text == "[file] cannot decompress x.gz: it ends early, at offset 20");
}

TEST_CASE("A damaged checksum is noticed") {
  Bytes compressed = files::gzip(bytes_of("checked"));
  compressed[compressed.size() - 6] ^= 1;
  CHECK(message<FileError>([&] { gunzip(compressed, "x.gz"); }) ==
        "[file] cannot decompress x.gz: incorrect data check");
}

TEST_CASE("A gzip bomb stops at the limit") {
  const Bytes bomb = files::gzip(Bytes(std::size_t{1} << 24));
  REQUIRE(bomb.size() < 100'000);
  CHECK(message<FileError>([&] { gunzip(bomb, "bomb.gz", {.limit = 1000}); }) ==
        "[file] cannot decompress bomb.gz: it expands to more than the 1000 bytes allowed");
  CHECK(gunzip(bomb, "bomb.gz", {.limit = 1000, .prefix = true}) == Bytes(1000));
  CHECK(gunzip(bomb, "bomb.gz", {.limit = std::size_t{1} << 24}).size() == std::size_t{1} << 24);
}
