#pragma once

#include <apps/lm/settings.hpp>
#include <banach/nn/text.hpp>

namespace banach::lm {

/// Names for --data.
const std::vector<std::string>& data_names();

/// The text in three parts. Throws FileError saying which file is missing or wrong, and how to get it.
nn::Corpus load_corpus(const TextSettings& settings);
/// With a vocabulary that is known, as that of a checkpoint.
nn::Corpus load_corpus(const TextSettings& settings, nn::Vocabulary vocabulary);

}  // namespace banach::lm
