#pragma once
// Piecewise constant signals and what noise makes of them (Amos and Kolter 2017, section 4.3), in the paper's
// units.

#include <cstdint>
#include <vector>

#include <banach/engine/random.hpp>
#include <banach/engine/tensor.hpp>

namespace banach::denoise {

inline constexpr std::int64_t length = 100;
/// Constant pieces, as the authors' published generator draws them: what the paper calls its breakpoints
/// counts the start of the first one.
inline constexpr std::int64_t fewest_pieces = 1, most_pieces = 9;
inline constexpr double noise = 10.0;  ///< standard deviation
/// Levels are uniform on [0, highest_level): with 110 total variation at its best lambda comes near the
/// paper's error of 16.5 (with levels from 10 to 100, as that generator draws them, it has 15.7).
inline constexpr double highest_level = 110.0, middle_level = highest_level / 2;

struct Signals {
  Tensor noisy, clean;  ///< f64 (count, length)

  std::int64_t size() const { return clean.size(0); }
};

/// The number of pieces and the places of the breakpoints between them are uniform. Signal i is the same for
/// every count above i.
Signals make_signals(std::int64_t count, const Random& random);

/// Reversed in time, mirrored at the middle level, both or neither, by chance: what the signals could have
/// been just as well. Noisy and clean go together.
Signals turn_over(const Signals& signals, Random random);

/// Mean squared error of one signal's values.
double squared_error(const double* estimate, const double* clean);

/// What remains of the noise for those who know the breakpoints and take the mean of each piece: the mean
/// squared error over all signals. Nobody who must find them gets there.
double error_with_known_breakpoints(const Signals& signals);

}  // namespace banach::denoise
