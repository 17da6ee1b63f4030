#pragma once
// Internal: the cotangents of matrices that a linear system or a quadratic program was solved with.

#include <banach/engine/var.hpp>

namespace banach {

/// u_i v_i' + s_i t_i' for each row i: u, s (batch, m), v, t (batch, n) give (batch, m, n), in one pass.
/// Where s = v and t = u, it is symmetric to the last bit.
Var rank_two(const Var& u, const Var& v, const Var& s, const Var& t);

}  // namespace banach
