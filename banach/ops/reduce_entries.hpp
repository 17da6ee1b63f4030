#pragma once
// Internal: what the entries of reductions share: attributes, shape rules, samples and refusals.

#include <banach/ops/entries.hpp>

namespace banach::entries {

struct Reduction {
  Axes axes;
  bool keep_dims = false;

  Axes over(const Shape& shape, std::string_view op) const { return normalize_axes(axes, shape.rank(), op); }
};

inline Spec reduced_shape_over(const ShapeContext& c, const Reduction& reduction) {
  const DType dtype = common_floating(c);
  return {reduced(c.shape(), reduction.over(c.shape(), c.op), reduction.keep_dims), dtype};
}

inline Spec reduced_shape(const ShapeContext& c) { return reduced_shape_over(c, c.attrs.as<Reduction>()); }

inline Spec reduced_nonempty_shape(const ShapeContext& c) {
  const Spec spec = reduced_shape(c);
  if (c.shape().size() == 0 && spec.shape.size() > 0)
    fail<ShapeError>(c.op, "must have elements to work on: " + c.shape().to_string() + " reduced to " +
                               spec.shape.to_string());
  return spec;
}

inline RowInputs reduced_rows(const RowsContext& c) {
  return all_by_rows_along(c, c.attrs.as<Reduction>().axes);
}

/// How many elements become one.
inline std::int64_t elements_each(const Shape& shape, const Reduction& reduction) {
  std::int64_t count = 1;
  for (const std::int64_t axis : reduction.over(shape, "reduce")) count *= shape[static_cast<int>(axis)];
  return count;
}

/// A value of the reduced shape, with its reduced axes back as extent 1: it then broadcasts against the
/// input.
inline Var with_kept_axes(const VjpContext& c, const Reduction& reduction, const Var& value) {
  const Shape& shape = c.in().shape();
  return reshape(value, reduced(shape, reduction.over(shape, "reduce"), true));
}

/// make(shape) for many shapes and axes.
template <class Make>
Samples reductions(SampleGen& g, Make make) {
  Samples samples = {{{make(Shape{3, 4})}, Reduction{}},
                     {{make(Shape{3, 4})}, Reduction{{0}}},
                     {{make(Shape{3, 3})}, Reduction{{-2}}},
                     {{make(Shape{3, 4})}, Reduction{{-1}, true}},
                     {{make(Shape{2, 3, 4})}, Reduction{{0, 2}}},
                     {{make(Shape{2, 3, 4})}, Reduction{{1}, true}},
                     {{make(Shape{2, 2, 3, 2})}, Reduction{{3, 1}}},
                     {{make(Shape{2, 1, 2, 1, 2, 1, 2, 2})}, Reduction{{0, 3, 4, 7}}},
                     {{make(Shape{3, 1})}, Reduction{{1}}},
                     {{make(Shape{})}, Reduction{}},
                     {{make(Shape{1})}, Reduction{{0}, true}},
                     {{make(Shape{67})}, Reduction{}},
                     {{make(Shape{0, 3})}, Reduction{{1}}}};
  const Shape shape = g.shape();
  Reduction some{{}, g.integer(0, 1) == 1};
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (g.integer(0, 1)) some.axes.push_back(axis);
  samples.push_back({{make(shape)}, some});
  return samples;
}

inline ErrorSamples refuses_bad_axes() {
  return {{{Tensor::zeros({2, 3})}, Reduction{{2}}, "axis must lie in [-2, 2): got 2"},
          {{Tensor::zeros({2, 3})}, Reduction{{1, -1}}, "axes must be distinct"},
          {{Tensor::arange(3)}, Reduction{}, "expects f32 or f64"}};
}

inline ErrorSamples refuses_bad_axes_and_nothing() {
  ErrorSamples errors = refuses_bad_axes();
  errors.push_back(
      {{Tensor::zeros({0, 3})}, Reduction{{0}}, "must have elements to work on: (0,3) reduced to (3)"});
  return errors;
}

}  // namespace banach::entries
