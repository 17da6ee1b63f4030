#pragma once
// What `banach flow` does with a trained model.

#include <cstdint>
#include <string>

#include <apps/cli/output.hpp>

namespace banach::flow {

struct UseOptions {
  std::string checkpoint = "out/flow/checkpoint.safetensors";
  std::string model;  ///< empty: the first
  std::string out;
  std::int64_t count = 2000, grid = 200;
  double reach = 4.8;
  std::uint64_t seed = 0;
  int threads = 0;
};

/// Draws points, and finds what each was in z.
cli::Outcome sample(const UseOptions& options);
/// log p on a grid.
cli::Outcome density(const UseOptions& options);
/// There and back, block by block.
cli::Outcome reconstruct_points(const UseOptions& options);
/// Labels of held-out points, and their densities.
cli::Outcome classify(const UseOptions& options);

}  // namespace banach::flow
