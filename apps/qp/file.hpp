#pragma once

#include <string>

#include <banach/solvers/qp.hpp>

namespace banach::qp_command {

/// The quadratic programs of a safetensors file: tensors Q, p, and G with h, A with b. One of Q and p may be
/// absent (zero), unless the file has tensors of other names, of which one may be it, misspelled. Throws
/// FileError naming the tensor that is missing and its shape; a note on stderr names those that are no part.
QpData read_problems(const std::string& path);

}  // namespace banach::qp_command
