#pragma once
// All of Banach.

#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/engine/grad.hpp>
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/memory.hpp>
#include <banach/engine/op.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/random.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/engine/status.hpp>
#include <banach/engine/tape.hpp>
#include <banach/engine/tensor.hpp>
#include <banach/engine/trace.hpp>

#include <banach/solvers/fallback.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/minimize.hpp>
#include <banach/solvers/newton.hpp>
#include <banach/solvers/splitting.hpp>

#include <banach/ops/derivatives.hpp>
#include <banach/ops/implicit/backward.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/linearized.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/implicit/trajectory.hpp>
#include <banach/ops/ops.hpp>

#include <banach/nn/checkpoint.hpp>
#include <banach/nn/clip.hpp>
#include <banach/nn/conv.hpp>
#include <banach/nn/csv.hpp>
#include <banach/nn/dataset.hpp>
#include <banach/nn/dropout.hpp>
#include <banach/nn/file.hpp>
#include <banach/nn/idx.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/module.hpp>
#include <banach/nn/mondeq.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/parameter.hpp>
#include <banach/nn/power_iteration.hpp>
#include <banach/nn/safetensors.hpp>
#include <banach/nn/schedule.hpp>
#include <banach/nn/sequential.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/nn/weight_norm.hpp>
