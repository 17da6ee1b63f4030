#pragma once

#include <apps/lm/settings.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

/// Names for --data.
const std::vector<std::string>& data_names();

struct Text {
  std::string content, name;
  /// Length and checksum.
  std::string identity() const;
};
/// Throws FileError saying which file is missing or wrong, and how to get it.
Text load_text(const TextSettings& settings);

/// The text in three parts.
nn::Corpus make_corpus(const Text& text, const TextSettings& settings);
nn::Corpus load_corpus(const TextSettings& settings);
/// With a vocabulary that is known, as that of a checkpoint.
nn::Corpus load_corpus(const TextSettings& settings, nn::Vocabulary vocabulary);

}  // namespace banach::lm
