#pragma once

#include <banach/engine/var.hpp>

namespace banach::nn {

/// 2-norm of all the tensors as one vector, without overflow on the way; NaN or infinite if an element is.
double global_norm(const Vars& values);

/// Scales gradients whose global norm is above `max_norm` down to it, and returns the norm before. If that is
/// not finite the gradients are left as they are: look at what is returned, or let the optimiser refuse them.
/// Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
/// Throws ValueError unless max_norm > 0.
double clip_by_global_norm(Vars& gradients, double max_norm);

/// Limits every element to [-limit, limit]; a NaN stays. Throws ValueError unless limit > 0.
void clip_by_value(Vars& gradients, double limit);

}  // namespace banach::nn
