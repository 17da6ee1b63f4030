#include <banach/engine/random.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include <banach/engine/error.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>

namespace banach {
namespace {

using Block = std::array<std::uint32_t, 4>;
__extension__ typedef unsigned __int128 Wide;

std::uint64_t join(std::uint32_t low, std::uint32_t high) {
  return static_cast<std::uint64_t>(high) << 32 | low;
}

/// Block `counter` of a stream: the counter in the low half, the stream in the high half, the seed as key.
Block block_at(const RandomState& state, std::uint64_t counter) {
  return philox4x32(
      {static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
       static_cast<std::uint32_t>(state.stream), static_cast<std::uint32_t>(state.stream >> 32)},
      {static_cast<std::uint32_t>(state.seed), static_cast<std::uint32_t>(state.seed >> 32)});
}

constexpr double two_to_minus_53 = 0x1p-53;

/// Uniform on [0, 1).
float unit(std::uint32_t bits, float) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
double unit(std::uint64_t bits, double) { return static_cast<double>(bits >> 11) * two_to_minus_53; }

/// Uniform on (0, 1]: never 0, whose logarithm is infinite. The float keeps all 32 bits for small values, so
/// that the normal's tail reaches 6.6 deviations.
float positive_unit(std::uint32_t bits, float) { return (static_cast<float>(bits) + 0.5f) * 0x1p-32f; }
double positive_unit(std::uint64_t bits, double) {
  return (static_cast<double>(bits >> 11) + 0.5) * two_to_minus_53;
}

/// The draws of one block: four for float, two for double.
template <class T>
struct Draws;
template <>
struct Draws<float> {
  static constexpr std::int64_t per_block = 4;
  static std::uint32_t get(const Block& block, int i) { return block[static_cast<std::size_t>(i)]; }
};
template <>
struct Draws<double> {
  static constexpr std::int64_t per_block = 2;
  static std::uint64_t get(const Block& block, int i) {
    return join(block[static_cast<std::size_t>(2 * i)], block[static_cast<std::size_t>(2 * i + 1)]);
  }
};

/// Calls fill(first, count, first_block) for pieces of [0, n) that start at whole blocks, in parallel, and
/// moves the counter past the blocks used.
template <class T, class Fill>
void fill_pieces(RandomState& state, std::int64_t n, const char* name, const Fill& fill) {
  if (n < 0) fail<ValueError>(name, "the count must be at least 0: " + std::to_string(n));
  constexpr std::int64_t per_block = Draws<T>::per_block, piece = 16384;
  static_assert(piece % per_block == 0);
  const std::uint64_t start = state.counter;
  parallel_for(n, piece, [&](std::int64_t begin, std::int64_t end) {
    fill(begin, end - begin, start + static_cast<std::uint64_t>(begin / per_block));
  });
  state.counter += static_cast<std::uint64_t>((n + per_block - 1) / per_block);
}

template <class T>
void uniform(RandomState& state, T* out, std::int64_t n, T low, T high) {
  const T width = high - low;
  // Rounding of low + u * width may reach high, which the interval excludes.
  const T last = std::nextafter(high, low);
  const bool empty = !(low < high);
  fill_pieces<T>(state, n, "fill_uniform",
                 [&](std::int64_t begin, std::int64_t count, std::uint64_t counter) {
                   constexpr int per_block = Draws<T>::per_block;
                   for (std::int64_t i = 0; i < count; i += per_block, ++counter) {
                     const Block block = block_at(state, counter);
                     for (int j = 0; j < per_block && i + j < count; ++j) {
                       const T value = low + unit(Draws<T>::get(block, j), T()) * width;
                       out[begin + i + j] = empty || value < high ? value : last;
                     }
                   }
                 });
}

template <class T>
void normal(RandomState& state, T* out, std::int64_t n, T mean, T deviation) {
  fill_pieces<T>(state, n, "fill_normal", [&](std::int64_t begin, std::int64_t count, std::uint64_t counter) {
    constexpr int per_block = Draws<T>::per_block, pairs = per_block / 2;
    constexpr std::int64_t batch = 256;  // pairs computed together by the vector kernels
    const auto& k = simd::kernels<T>();
    T radius[batch], angle[batch], cosine[batch], sine[batch];
    for (std::int64_t first = 0; first < count; first += 2 * batch) {
      const std::int64_t here = std::min(2 * batch, count - first), used = (here + 1) / 2;
      for (std::int64_t p = 0; p < used; p += pairs, ++counter) {
        const Block block = block_at(state, counter);
        for (int j = 0; j < pairs && p + j < used; ++j) {
          radius[p + j] = positive_unit(Draws<T>::get(block, 2 * j), T());
          angle[p + j] = unit(Draws<T>::get(block, 2 * j + 1), T()) * (2 * std::numbers::pi_v<T>);
        }
      }
      // Box and Muller: sqrt(-2 log u) (cos, sin)(2 pi v).
      k.log(radius, radius, used);
      k.scale_add(radius, T(-2), T(0), radius, used);
      k.sqrt(radius, radius, used);
      k.cos(angle, cosine, used);
      k.sin(angle, sine, used);
      for (std::int64_t i = 0; i < here; ++i)
        out[begin + first + i] = mean + deviation * (radius[i / 2] * (i % 2 == 0 ? cosine : sine)[i / 2]);
    }
  });
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  // Multipliers and Weyl increments of the key: table 2 and section 3.3 of the paper.
  constexpr std::uint64_t multiplier_0 = 0xD2511F53u, multiplier_1 = 0xCD9E8D57u;
  constexpr std::uint32_t weyl_0 = 0x9E3779B9u, weyl_1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product_0 = multiplier_0 * counter[0], product_1 = multiplier_1 * counter[2];
    counter = {static_cast<std::uint32_t>(product_1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product_1),
               static_cast<std::uint32_t>(product_0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product_0)};
    key[0] += weyl_0;
    key[1] += weyl_1;
  }
  return counter;
}

std::array<std::uint32_t, 4> Random::next_block() { return block_at(state_, state_.counter++); }

Random Random::split(std::uint64_t key) const {
  // Another key than any draw of this seed uses, so that no stream number equals a value that was drawn.
  const RandomState source{~state_.seed, state_.stream, 0};
  const Block block = block_at(source, key);
  return Random(state_.seed, join(block[0], block[1]));
}

std::uint64_t Random::bits() {
  const Block block = next_block();
  return join(block[0], block[1]);
}

double Random::uniform() { return unit(bits(), double()); }

double Random::normal() {
  const Block block = next_block();
  return std::sqrt(-2 * std::log(positive_unit(join(block[0], block[1]), double()))) *
         std::cos(unit(join(block[2], block[3]), double()) * (2 * std::numbers::pi));
}

std::int64_t Random::below(std::int64_t n) {
  if (n < 1) fail<ValueError>("below", "the bound must be at least 1: " + std::to_string(n));
  // Lemire, "Fast random integer generation in an interval", ACM TOMACS 29, 2019, algorithm 5.
  const auto bound = static_cast<std::uint64_t>(n);
  Wide product = static_cast<Wide>(bits()) * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    const std::uint64_t threshold = (0 - bound) % bound;
    while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(bits()) * bound;
  }
  return static_cast<std::int64_t>(product >> 64);
}

std::vector<std::int64_t> Random::permutation(std::int64_t n) {
  if (n < 0) fail<ValueError>("permutation", "the length must be at least 0: " + std::to_string(n));
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    // Inside-out Fisher-Yates: element i goes to a random place among the first i + 1.
    const std::int64_t j = below(i + 1);
    order[static_cast<std::size_t>(i)] = order[static_cast<std::size_t>(j)];
    order[static_cast<std::size_t>(j)] = i;
  }
  return order;
}

void Random::fill_uniform(float* out, std::int64_t n, float low, float high) {
  banach::uniform(state_, out, n, low, high);
}
void Random::fill_uniform(double* out, std::int64_t n, double low, double high) {
  banach::uniform(state_, out, n, low, high);
}
void Random::fill_normal(float* out, std::int64_t n, float mean, float deviation) {
  banach::normal(state_, out, n, mean, deviation);
}
void Random::fill_normal(double* out, std::int64_t n, double mean, double deviation) {
  banach::normal(state_, out, n, mean, deviation);
}

}  // namespace banach
