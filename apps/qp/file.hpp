#pragma once

#include <string>

#include <banach/solvers/qp.hpp>

namespace banach::qp_command {

/// The quadratic programs of a safetensors file: tensors Q, p, and G with h, A with b. Throws FileError
/// naming the tensor that is missing; a note on stderr names those that are no part of it.
QpData read_problems(const std::string& path);

}  // namespace banach::qp_command
