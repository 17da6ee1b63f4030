#pragma once
// Internal: what the entries of scaled_dot_product_attention and relative_attention have in common.

#include <banach/ops/attention_kernels.hpp>
#include <banach/ops/entries.hpp>

namespace banach::attention {

using entries::inf, entries::nan;

/// (lead..., rows, columns)
inline Shape stacked(Ints lead, std::int64_t rows, std::int64_t columns) {
  lead.push_back(rows);
  lead.push_back(columns);
  return Shape(lead);
}

/// The vjp of an attention: another operation, of its inputs and the cotangent.
inline Vars apply_vjp(const Op& op, const VjpContext& c, const Attrs& attrs) {
  Vars inputs(c.inputs.begin(), c.inputs.end());
  inputs.push_back(c.cotangent);
  return apply_all(op, inputs, attrs);
}

/// Specs of such an operation, which gives the cotangents of its first `count` inputs. Throws unless the last
/// input is a cotangent.
inline Specs vjp_specs(const ShapeContext& c, int count) {
  check_cotangent(c);
  Specs specs;
  for (int i = 0; i < count; ++i) specs.push_back({c.shape(i), c.dtype()});
  return specs;
}

/// Samples of such an operation from those of the attention: change(attrs, i) asks the i-th for cotangents.
template <class Own, class Change>
Samples vjp_samples(SampleGen& g, Samples samples, Change change) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    Sample& sample = samples[i];
    Own attrs = sample.attrs.as<Own>();
    change(attrs, i);
    sample.attrs = attrs;
    Ints shape = sample.inputs[0].shape();
    shape[shape.count() - 1] = sample.inputs[2].size(-1);
    sample.inputs.push_back(g.normal(Shape(shape)));
  }
  return samples;
}

}  // namespace banach::attention
