#pragma once
// Internal: attention by other operations, of which derivatives of derivatives are taken.

#include <banach/engine/grad.hpp>
#include <banach/ops/attention_kernels.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>

namespace banach::attention {

inline Axes heads_swapped(int rank) {
  Axes axes;
  for (int i = 0; i < rank; ++i) axes.push_back(i);
  std::swap(axes[rank - 3], axes[rank - 2]);
  return axes;
}

/// (..., l, h d) -> (..., h, l, d), and back; nothing for one head.
inline Var split_heads(const Var& x, const Sizes& s) {
  if (s.heads == 1) return x;
  Ints shape = x.shape();
  shape[x.rank() - 1] = s.heads;
  shape.push_back(x.size(-1) / s.heads);
  return permute(reshape(x, shape), heads_swapped(x.rank() + 1));
}
inline Var joined_heads(const Var& y, const Sizes& s) {
  if (s.heads == 1) return y;
  const Var rows = permute(y, heads_swapped(y.rank()));
  Ints shape;
  for (int i = 0; i < rows.rank() - 2; ++i) shape.push_back(rows.size(i));
  shape.push_back(s.heads * y.size(-1));
  return reshape(rows, shape);
}

/// softmax(scores) v; causal if s says so, and queries that see no key get zeros.
inline Var composed_attention(Var scores, const Var& v, const Sizes& s) {
  constexpr double lowest = -std::numeric_limits<double>::infinity();
  if (s.causal) {
    Tensor hidden = Tensor::zeros({s.queries, s.keys}, DType::f64);
    for (std::int64_t i = 0; i < s.queries; ++i)
      for (std::int64_t j = s.seen(i + 1); j < s.keys; ++j)
        hidden.mutable_data<double>()[i * s.keys + j] = lowest;
    scores = scores + Var(hidden.to(scores.dtype()));
  }
  if (scores.size() == 0) return matmul(scores, v);
  const Var blind = equal(max(scores, {-1}, true), lowest);
  return matmul(where(blind, 0.0, softmax(where(blind, 0.0, scores))), v);
}

/// The vjp of a vjp whose inputs are those of f, and the cotangent.
inline Vars vjp_of_vjp(const VjpContext& c, FunctionRef<Vars(const Vars&)> f) {
  const auto pullback = [&](const Vars& at) {
    Vars result = vjp(f, Vars(at.begin(), at.end() - 1), {at.back()}).cotangents;
    result.resize(c.outputs.size());
    return result;
  };
  // A sweep that is not recorded may be of a trace, whose tape has closed.
  const auto own = [](const Var& x) { return recording() ? x : x.detach(); };
  Vars inputs, cotangents;
  for (const Var& input : c.inputs) inputs.push_back(own(input));
  for (std::size_t i = 0; i < c.outputs.size(); ++i)
    cotangents.push_back(c.cotangents[i].defined() ? own(c.cotangents[i]) : zeros_like(inputs[i]));
  return vjp(pullback, inputs, cotangents).cotangents;
}

}  // namespace banach::attention
