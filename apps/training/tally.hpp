#pragma once

#include <apps/training/results.hpp>

namespace banach::training {

std::int64_t total(const Tally& tally);
std::int64_t count_of(const Tally& tally, const std::string& status);
/// "1,200 solved, 3 max_steps"; `none` for an empty one.
std::string in_words(const Tally& tally, const std::string& none);

}  // namespace banach::training
