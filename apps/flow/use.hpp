#pragma once
// What `banach flow` does with a trained model.

#include <cstdint>
#include <optional>
#include <string>

#include <apps/cli/output.hpp>

namespace banach::flow {

struct UseOptions {
  std::string checkpoint = "out/flow/checkpoint.safetensors";
  std::string model;  ///< empty: the first
  std::string out;
  std::int64_t count = 1000;
  std::optional<std::int64_t> grid = {};  ///< of points alone, as is reach
  std::optional<double> reach = {};
  std::uint64_t seed = 0;
  int threads = 0;
};

/// What a command found, and why its exit code is to be 1 all the same; empty: it is not.
struct Used {
  cli::Outcome outcome;
  std::string failure{};
};

// Of a trained model: each throws FileError if the checkpoint has none, Error if it diverged.

/// Draws samples. Fails if a block's inversion did not converge for one of them.
Used sample(const UseOptions& options);
/// log p, of points on a grid, of images one by one.
Used density(const UseOptions& options);
/// There and back, block by block.
Used reconstruct_samples(const UseOptions& options);
/// Labels of held-out samples.
Used classify(const UseOptions& options);

}  // namespace banach::flow
