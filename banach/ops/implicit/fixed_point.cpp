#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

const Op fixed_point_op{
    implicit_op("fixed_point", "z = f(z, theta): inputs theta, the captures of the body f; output z.")};

}  // namespace

ImplicitNode fixed_point_node(const FixedPointOptions& options) {
  const Solver solver = options.backward.solver().value_or(options.solver);
  return {.op = &fixed_point_op,
          .solve = PlainSolve{solver, stop_options(options)},
          .backward = options.backward,
          .batch = options.batch,
          .policy = options.policy,
          .body = options.max_steps > 1 ? options.body : Body::eager,
          .needs_derivatives = solver.needs_derivatives(),
          .tolerance = options.tolerance,
          .absolute_tolerance = options.absolute_tolerance};
}

StopOptions stop_options(const FixedPointOptions& options) {
  return {.max_steps = options.max_steps,
          .tolerance = options.tolerance,
          .absolute_tolerance = options.absolute_tolerance,
          .error_factor = options.error_factor,
          .whole_trace = options.whole_trace,
          .keep_inverse = options.backward.needs_inverse()};
}

FixedPoint fixed_point(FunctionRef<Var(const Var&)> f, const Var& z0, const FixedPointOptions& options) {
  check_start("fixed_point", z0);
  options.backward.validate();
  options.backward.check(options);
  if (options.spectrum_products < 0)
    fail<ValueError>("fixed_point", fmt::format("spectrum_products must not be negative: got {}",
                                                options.spectrum_products));
  FixedPoint solved = recording() && options.backward.iterates()
                          ? options.backward.iterate(f, z0, options)
                          : implicit_node(f, z0, fixed_point_node(options));
  if (options.spectrum_products > 0) {
    const auto spectrum = spectral_radius(f, solved.z.detach(),
                                          {.batch = options.batch, .products = options.spectrum_products});
    for (std::size_t i = 0; i < spectrum.size(); ++i)
      solved.report.samples[i].spectral_radius = spectrum[i].radius();
  }
  return solved;
}

FixedPoints fixed_point(FunctionRef<Vars(const Vars&)> f, const Vars& z0, const FixedPointOptions& options) {
  if (z0.empty()) fail<ValueError>("fixed_point", "expects at least one state");
  for (const Var& z : z0) {
    check_start("fixed_point", z);
    if (z.dtype() != z0.front().dtype())
      fail<DTypeError>("fixed_point", fmt::format("states must share their dtype: got {} with {}; cast them",
                                                  name(z0.front().dtype()), name(z.dtype())));
  }
  const auto columns = [&](const Var& z) {
    return z.rank() == 0                  ? std::int64_t{1}
           : options.batch == Batch::none ? z.size()
                                          : z.shape().size(1, z.rank());
  };
  for (const Var& z : z0)
    if (options.batch == Batch::axis0 && (z.rank() == 0 || z.shape()[0] != z0.front().shape()[0]))
      fail<ShapeError>("fixed_point",
                       "states must share the extent of axis 0, the batch (or use Batch::none): " +
                           z0.front().shape().to_string() + " with " + z.shape().to_string());
  const std::int64_t batch = options.batch == Batch::none ? 1 : z0.front().shape()[0];

  const auto pack = [&](const Vars& states) {
    if (states.size() != z0.size())
      fail<ShapeError>("fixed_point",
                       fmt::format("f must return its {} states: got {}", z0.size(), states.size()));
    Vars parts;
    for (std::size_t i = 0; i < states.size(); ++i) {
      if (!states[i].defined() || states[i].dtype() != z0[i].dtype())
        fail<DTypeError>(
            "fixed_point",
            fmt::format("f must keep the dtype of state {}: {} became {}", i, name(z0[i].dtype()),
                        states[i].defined() ? name(states[i].dtype()) : std::string_view("an empty Var")));
      if (!(states[i].shape() == z0[i].shape()))
        fail<ShapeError>("fixed_point",
                         fmt::format("f must keep the shape of state {}: {} became {}", i,
                                     z0[i].shape().to_string(), states[i].shape().to_string()));
      parts.push_back(reshape(states[i], {batch, columns(z0[i])}));
    }
    return parts.size() == 1 ? parts.front() : concat(parts, 1);
  };
  const auto unpack = [&](const Var& packed) {
    Vars states;
    std::int64_t from = 0;
    for (const Var& z : z0) {
      states.push_back(reshape(slice(packed, 1, from, from + columns(z)), z.shape()));
      from += columns(z);
    }
    return states;
  };
  FixedPoint solved = fixed_point([&](const Var& z) { return pack(f(unpack(z))); }, pack(z0), options);
  return {unpack(solved.z), std::move(solved.report), solved.adjoint};
}

}  // namespace banach
