#pragma once
// Comparisons: 1 where they hold, 0 elsewhere, in the operands' dtype (f32 or f64). They broadcast as
// arithmetic does and are constants for every derivative. With a NaN on either side only not_equal holds.

#include <banach/engine/op.hpp>

namespace banach {

Var equal(const Var& a, const Var& b);
Var not_equal(const Var& a, const Var& b);
Var less(const Var& a, const Var& b);
Var less_equal(const Var& a, const Var& b);
Var greater(const Var& a, const Var& b);
Var greater_equal(const Var& a, const Var& b);

Var equal(const Var& a, double b);
Var not_equal(const Var& a, double b);
Var less(const Var& a, double b);
Var less_equal(const Var& a, double b);
Var greater(const Var& a, double b);
Var greater_equal(const Var& a, double b);

/// -1, 0 or 1; NaN stays NaN. A constant for every derivative.
Var sign(const Var& x);

}  // namespace banach
