#pragma once
// Identities that count their evaluations, and the sweeps that pass through them.

#include <banach/engine/op.hpp>

namespace banach::test {

inline int evaluations_counted = 0, sweeps_counted = 0;

inline const Op counted_op{{
    .name = "counted",
    .doc = "The identity; counts its evaluations.",
    .shape = same_shape,
    .kernel =
        [](const KernelContext& c) {
          ++evaluations_counted;
          c.out() = c.in();
        },
    .kind = OpKind::implicit,  // no subject of the registry's walk
    .vjp = [](const VjpContext& c) { return Vars{c.cotangent}; },
    .view = true,
}};

/// Counts its vjps as sweeps when they are called, and as evaluations when their result is computed.
inline const Op counting_op{{
    .name = "counting",
    .doc = "The identity; its vjps, and the products with its Jacobian, are counted.",
    .shape = same_shape,
    .kernel = [](const KernelContext& c) { c.out() = c.in(); },
    .kind = OpKind::implicit,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          ++sweeps_counted;
          return Vars{apply(counted_op, {c.cotangent})};
        },
    .view = true,
}};

}  // namespace banach::test
