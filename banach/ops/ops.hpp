#pragma once
// All operations on Vars, and the list of them. An operation's entry is in the source of its header's name,
// or
//   attention.hpp    relative_attention.cpp
//   conv.hpp         conv1d.cpp, conv_transpose.cpp
//   elementwise.hpp  activation.cpp
//   linalg.hpp       cholesky.cpp, eigh.cpp, lu.cpp, matrix_parts.cpp
//   norm.hpp         batch_norm.cpp
//   reduce.hpp       moments.cpp
//   shape_ops.hpp    repeat.cpp

#include <banach/ops/attention.hpp>
#include <banach/ops/cast.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/conv.hpp>
#include <banach/ops/dropout.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/isotonic.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/pool.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/scan.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>
#include <banach/ops/upsample.hpp>

#include <vector>

namespace banach {

/// Every operation, sorted by name; those that a program has added itself included.
std::vector<const Op*> ops();

}  // namespace banach
