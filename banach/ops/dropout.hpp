#pragma once

#include <banach/engine/op.hpp>
#include <banach/engine/random.hpp>

namespace banach {

/// Each element x / (1 - p) with probability 1 - p, and 0 otherwise (a dropped NaN too). Which ones is
/// decided by the generator's state and the place alone: the same state drops the same elements, of f32 and
/// f64, for any number of threads, and a derivative drops what the value dropped, without storing a mask. p
/// in [0, 1). Srivastava et al., "Dropout", 2014, in the scaled form of its section 10. Throws ValueError for
/// another p.
///
/// Inside a fixed point hand every step the same state: with another mask at each there is nothing to
/// converge to.
Var dropout(const Var& x, double p, const RandomState& state);

}  // namespace banach
