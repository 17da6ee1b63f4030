#pragma once
// The copy-memory task: Hochreiter and Schmidhuber 1997, "Long short-term memory"; in the form of Arjovsky,
// Shah, Bengio 2016, "Unitary evolution recurrent neural networks", section 4.1.

#include <cstdint>

#include <banach/engine/tensor.hpp>

namespace banach::copy_task {

inline constexpr std::int64_t symbols = 8;      ///< 0 ... 7
inline constexpr std::int64_t remembered = 10;  ///< so many stand at the front
inline constexpr std::int64_t blank = 8, go = 9, classes = 10;

/// Sequences of `delay` + 20 positions: 10 random symbols, `delay` - 1 blanks, 10 signals to recall. The
/// targets are `delay` + 10 blanks, and then the 10 symbols in their order.
struct Sequences {
  Tensor inputs;   ///< i64 (batch, length)
  Tensor targets;  ///< i64 (batch, length)
};

inline std::int64_t length(std::int64_t delay) { return delay + 2 * remembered; }

/// Decided by seed and stream alone.
Sequences make_sequences(std::int64_t batch, std::int64_t delay, std::uint64_t seed, std::uint64_t stream);

/// Mean cross entropy, in nats, of the best that can be said without memory: 10 ln 8 / (delay + 20).
double memoryless_loss(std::int64_t delay);

}  // namespace banach::copy_task
