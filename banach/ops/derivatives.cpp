#include <banach/ops/derivatives.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach {
namespace {

std::int64_t entries(const Vars& values) {
  std::int64_t total = 0;
  for (const Var& value : values) total += value.size();
  return total;
}

Vars zeros_like_all(const Vars& values) {
  Vars zeros;
  for (const Var& value : values) zeros.push_back(zeros_like(value));
  return zeros;
}

// Calls body(k, direction) for each entry of value k, the direction being 1 there and 0 elsewhere.
template <class Body>
void for_directions(const Vars& values, std::size_t k, Body body) {
  Vars direction = zeros_like_all(values);
  for (std::int64_t at = 0; at < values[k].size(); ++at) {
    Tensor unit = Tensor::zeros(values[k].shape(), values[k].dtype());
    dispatch_floating(unit.dtype(), [&](auto zero) {
      using T = decltype(zero);
      unit.mutable_data<T>()[at] = T{1};
    });
    direction[k] = Var(unit);
    body(direction);
  }
}

// Derivative of `output` by `input`, its slices along one of the two given.
Var assembled(const Vars& slices, int axis, const Var& output, const Var& input) {
  Ints shape = output.shape();
  for (const std::int64_t extent : input.shape()) shape.push_back(extent);
  if (slices.empty()) return Var(Tensor::zeros(Shape(shape), output.dtype()));
  return reshape(stack(slices, axis), shape);
}

// Unless f has one output of one element, second derivatives have no place to go.
Vars gradient(std::string_view name, Function f, const Vars& inputs) {
  Differential at(name, f, inputs);
  const Vars outputs = at.outputs();
  if (outputs.size() != 1 || outputs[0].size() != 1)
    fail<ShapeError>(name, "f must give one tensor of one element: it gives " +
                               (outputs.size() == 1 ? outputs[0].shape().to_string()
                                                    : std::to_string(outputs.size()) + " tensors"));
  return at.pull({ones_like(outputs[0])});
}

}  // namespace

std::vector<Vars> jacobian(Function f, const Vars& inputs, const JacobianOptions& options) {
  Differential at("jacobian", f, inputs);
  const Vars outputs = at.outputs();
  const bool forward = options.mode == JacobianMode::automatic ? entries(outputs) > entries(inputs)
                                                               : options.mode == JacobianMode::forward;
  // slices[k][i]: pieces of the derivative of output k by input i
  std::vector<std::vector<Vars>> slices(outputs.size(), std::vector<Vars>(inputs.size()));
  if (forward) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      for_directions(inputs, i, [&](const Vars& tangents) {
        const Vars pushed = at.push(tangents);
        for (std::size_t k = 0; k < outputs.size(); ++k) slices[k][i].push_back(pushed[k]);
      });
  } else {
    for (std::size_t k = 0; k < outputs.size(); ++k)
      for_directions(outputs, k, [&](const Vars& cotangents) {
        const Vars pulled = at.pull(cotangents);
        for (std::size_t i = 0; i < inputs.size(); ++i) slices[k][i].push_back(pulled[i]);
      });
  }
  std::vector<Vars> result(outputs.size());
  for (std::size_t k = 0; k < outputs.size(); ++k)
    for (std::size_t i = 0; i < inputs.size(); ++i)
      result[k].push_back(assembled(slices[k][i], forward ? -1 : 0, outputs[k], inputs[i]));
  return result;
}

Var jacobian(FunctionRef<Var(const Var&)> f, const Var& x, const JacobianOptions& options) {
  return jacobian([&](const Vars& at) { return Vars{f(at[0])}; }, Vars{x}, options)[0][0];
}

std::vector<Vars> hessian(Function f, const Vars& inputs) {
  return jacobian([&](const Vars& at) { return gradient("hessian", f, at); }, inputs,
                  {.mode = JacobianMode::reverse});
}

Var hessian(FunctionRef<Var(const Var&)> f, const Var& x) {
  return hessian([&](const Vars& at) { return Vars{f(at[0])}; }, Vars{x})[0][0];
}

Vars hvp(Function f, const Vars& inputs, const Vars& v) {
  return Differential(
             "hvp", [&](const Vars& at) { return gradient("hvp", f, at); }, inputs)
      .pull(v);
}

Var hvp(FunctionRef<Var(const Var&)> f, const Var& x, const Var& v) {
  return hvp([&](const Vars& at) { return Vars{f(at[0])}; }, Vars{x}, Vars{v})[0];
}

}  // namespace banach
