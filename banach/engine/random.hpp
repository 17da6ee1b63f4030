#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace banach {

/// Philox4x32-10: a bijection of 128-bit counters for each 64-bit key, statistically indistinguishable from
/// random. Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
/// section 3.3.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// All there is to a generator; store it in a checkpoint and go on from it.
struct RandomState {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  std::uint64_t counter = 0;
  friend bool operator==(const RandomState&, const RandomState&) = default;
};

/// A counter-based random generator: draw number i of stream s of a seed is a pure function of (seed, s, i),
/// so that arrays are filled in parallel with the same values for any number of threads, and copies replay
/// the same draws. Every draw of bits, below, uniform and normal takes whole counter blocks of 128 bits;
/// below may take several.
class Random {
 public:
  explicit Random(std::uint64_t seed, std::uint64_t stream = 0) : state_{seed, stream, 0} {}
  explicit Random(const RandomState& state) : state_(state) {}

  const RandomState& state() const { return state_; }

  /// A generator on a stream of its own, decided by this one's seed and stream and by key, not by what was
  /// drawn.
  Random split(std::uint64_t key) const;

  /// 64 random bits.
  std::uint64_t bits();
  /// Uniform on [0, 1), 53 random bits.
  double uniform();
  /// Standard normal.
  double normal();
  /// Uniform on {0, ..., n - 1}, without bias (Lemire 2019). Throws ValueError unless n >= 1.
  std::int64_t below(std::int64_t n);
  /// A uniform permutation of 0 ... n - 1 (Fisher and Yates). Throws ValueError if n < 0.
  std::vector<std::int64_t> permutation(std::int64_t n);

  /// Uniform on [low, high): 24 random bits per float, 53 per double. Throws ValueError if n < 0.
  void fill_uniform(float* out, std::int64_t n, float low = 0.0f, float high = 1.0f);
  void fill_uniform(double* out, std::int64_t n, double low = 0.0, double high = 1.0);
  /// Normal (Box and Muller 1958). Throws ValueError if n < 0.
  void fill_normal(float* out, std::int64_t n, float mean = 0.0f, float deviation = 1.0f);
  void fill_normal(double* out, std::int64_t n, double mean = 0.0, double deviation = 1.0);

 private:
  std::array<std::uint32_t, 4> next_block();

  RandomState state_;
};

}  // namespace banach
