#pragma once
// Internal: the transforms of winograd.cpp, built once per instruction set. All work on `width` channels at a
// time, one a lane; "an entry" is such a vector. The points are 0, a, -a, b, -b and infinity, in both axes.

#include <cstdint>

namespace banach::simd {

struct WinogradTransforms {
  std::int64_t width;

  /// Rows of single channels, ld numbers apart, become entries: number j of row i is lane i of entry j. Lanes
  /// without a row are zeros. Writes up to width - 1 entries more than `columns`. What stands `ahead` numbers
  /// further on is called into the cache.
  void (*to_lanes)(std::int64_t rows, std::int64_t columns, const float* from, std::int64_t ld,
                   std::int64_t ahead, float* to);

  /// And back, plus bias[i] on row i unless bias is null. Reads up to width - 1 entries more than `columns`.
  void (*from_lanes)(std::int64_t rows, std::int64_t columns, const float* from, float* to, std::int64_t ld,
                     const float* bias);

  /// Filters at the points: of `sources` channels, in front of as many of the results as there are lanes.
  /// The 9 taps (backwards if `flipped`) of a lane and source stand at w + lane * lane_step + source *
  /// source_step; u gets one entry a source at each point, points lie point_step numbers apart. Whether all
  /// are finite.
  bool (*filters)(std::int64_t lanes, std::int64_t sources, const float* w, std::int64_t lane_step,
                  std::int64_t source_step, bool flipped, float* u, std::int64_t point_step);

  /// Tiles of 6 x 6 at the points. They lie side by side, four apart, in six rows of 4 * tiles + 2 entries;
  /// scratch holds as many. Distances in v are numbers.
  void (*sources)(std::int64_t tiles, const float* const* rows, float* scratch, float* v,
                  std::int64_t tile_step, std::int64_t point_step);

  /// From the points to tiles of 4 x 4 side by side, in four rows. Whether all are finite.
  bool (*results)(std::int64_t tiles, const float* m, std::int64_t tile_step, std::int64_t point_step,
                  float* const* rows);

  /// The transposes of the last and the first: cotangents of tiles to the points, and those of the filters
  /// of `sources` channels back, 9 entries each.
  void (*result_cotangents)(std::int64_t tiles, const float* const* rows, float* m, std::int64_t tile_step,
                            std::int64_t point_step);
  void (*filter_cotangents)(std::int64_t sources, const float* u, std::int64_t source_step,
                            std::int64_t point_step, float* taps);
};

/// Those of the active instruction set.
const WinogradTransforms& winograd_transforms();

// Constant data, safe to link on any processor.
namespace detail {
extern const WinogradTransforms sse2_winograd, avx2_winograd, avx512_winograd;
}  // namespace detail

}  // namespace banach::simd
