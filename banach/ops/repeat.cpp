// Rearranging whole tensors: stack, flip, repeat.
#include <banach/engine/samples.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/walk.hpp>

#include <limits>
#include <string>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

// ---- stack ------------------------------------------------------------------------------------------------

struct StackAttrs {
  int axis;
};

Ints with_axis(const Shape& shape, int axis, std::int64_t extent) {
  Ints result;
  for (int i = 0; i < axis; ++i) result.push_back(shape[i]);
  result.push_back(extent);
  for (int i = axis; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

Vars stacked(std::span<const Var> parts, const Attrs& attrs) {
  if (parts.empty()) fail<ShapeError>("stack", "expects at least one tensor: got none");
  const Shape& shape = parts[0].shape();
  const int axis = normalize_axis(attrs.as<StackAttrs>().axis, shape.rank() + 1, "stack");
  Vars rows;
  for (const Var& part : parts) {
    if (!(part.shape() == shape))
      fail<ShapeError>("stack",
                       "shapes must be equal: " + shape.to_string() + " with " + part.shape().to_string());
    if (part.dtype() != parts[0].dtype())
      fail<DTypeError>("stack", "dtypes must agree: " + std::string(name(parts[0].dtype())) + " with " +
                                    std::string(name(part.dtype())));
    rows.push_back(reshape(part, with_axis(shape, axis, 1)));
  }
  return {concat(rows, axis)};
}

const Op stack_op{{
    .name = "stack",
    .doc = "Joins tensors of one shape along a new axis.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({2, 3}), g.normal({2, 3})}, StackAttrs{0}},
                         {{g.normal({2, 3}), g.normal({2, 3}), g.normal({2, 3})}, StackAttrs{-1}},
                         {{g.normal({2, 1, 4}), g.normal({2, 1, 4})}, StackAttrs{1}},
                         {{g.normal({}), g.normal({})}, StackAttrs{0}},
                         {{g.normal({0, 2}), g.normal({0, 2})}, StackAttrs{1}},
                         {{g.normal({1})}, StackAttrs{-2}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{
              {{x, Tensor::zeros({3, 2})}, StackAttrs{0}, "[stack] shapes must be equal: (2,3) with (3,2)"},
              {{x, Tensor::zeros({2, 3}, DType::f64)}, StackAttrs{0}, "dtypes must agree: f32 with f64"},
              {{x, x}, StackAttrs{3}, "[stack] axis must lie in [-3, 3): got 3"},
              {{}, StackAttrs{0}, "[stack] expects at least one tensor"}};
        },
    .composite = stacked,
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0}), numbers({inf, 0.0})},
                        StackAttrs{1},
                        {tensor({nan, inf, -0.0, 0.0}, {2, 2})},
                        {numbers({1, 1}), numbers({1, 1})}},
                       {{numbers({}), numbers({})}, StackAttrs{0}, {Tensor::zeros({2, 0}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
}};

// ---- flip -------------------------------------------------------------------------------------------------

struct FlipAttrs {
  Axes axes;
};

const Op flip_op{{
    .name = "flip",
    .doc = "The entries in reverse order along some axes (none named: all).",
    .shape =
        [](const ShapeContext& c) {
          normalize_axes(c.attrs.as<FlipAttrs>().axes, c.shape().rank(), c.op);
          return Spec{c.shape(), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const Shape& shape = c.out().shape();
          if (shape.size() == 0) return;
          Walk walk{shape, row_major_strides(shape), row_major_strides(shape)};
          std::int64_t start = 0;
          for (const std::int64_t axis : normalize_axes(c.attrs.as<FlipAttrs>().axes, shape.rank(), "flip")) {
            std::int64_t& stride = walk.in[static_cast<int>(axis)];
            start += (shape[static_cast<int>(axis)] - 1) * stride;
            stride = -stride;
          }
          copy_elements(c.out(), 0, c.in(), start, walk);
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{flip(c.cotangent, c.attrs.as<FlipAttrs>().axes)}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({5})}, FlipAttrs{}},
                         {{g.normal({3, 4})}, FlipAttrs{{0}}},
                         {{g.normal({2, 3, 4})}, FlipAttrs{{1, -1}}},
                         {{g.normal({2, 3, 2})}, FlipAttrs{{0, 2}}},
                         {{g.normal({})}, FlipAttrs{}},
                         {{g.normal({0, 3})}, FlipAttrs{{0}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x}, FlipAttrs{{2}}, "[flip] axis must lie in [-2, 2): got 2"},
                              {{x}, FlipAttrs{{1, -1}}, "[flip] axes must be distinct"}};
        },
    .edges =
        [] {
          return Edges{
              {{numbers({-0.0, inf, nan})}, FlipAttrs{}, {numbers({nan, inf, -0.0})}, {numbers({1, 1, 1})}},
              {{numbers({})}, FlipAttrs{}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, c.attrs.as<FlipAttrs>().axes); },
}};

// ---- repeat -----------------------------------------------------------------------------------------------

struct RepeatAttrs {
  Ints counts;
};

Shape repeated_shape(const Ints& extents, const Ints& counts, const Shape& from) {
  constexpr std::int64_t limit = std::int64_t{1} << 62;
  const int skipped = extents.count() - counts.count();
  Ints result = extents;
  for (int i = 0; i < counts.count(); ++i) {
    const std::int64_t extent = extents[i + skipped];
    if (counts[i] < 0) fail<ValueError>("repeat", "counts must not be negative: got " + counts.to_string());
    if (extent > 0 && counts[i] > limit / extent)
      fail<ShapeError>("repeat",
                       "too many elements: " + from.to_string() + " repeated " + counts.to_string());
    result[i + skipped] = extent * counts[i];
  }
  return Shape(result);
}

// The last axis first, so that the long copies come last.
Vars repeated(std::span<const Var> inputs, const Attrs& attrs) {
  const Ints& counts = attrs.as<RepeatAttrs>().counts;
  Ints extents;
  for (int i = inputs[0].rank(); i < counts.count(); ++i) extents.push_back(1);
  for (const std::int64_t extent : inputs[0].shape()) extents.push_back(extent);
  const Shape result = repeated_shape(extents, counts, inputs[0].shape());
  const int skipped = extents.count() - counts.count();
  Var y = inputs[0];
  for (int i = counts.count() - 1; i >= 0; --i) {
    const Shape shape(extents);
    const std::int64_t outer = shape.size(0, i + skipped), inner = shape.size(i + skipped, shape.rank());
    if (counts[i] != 1) y = broadcast_to(reshape(y, {outer, 1, inner}), {outer, counts[i], inner});
    extents[i + skipped] *= counts[i];
  }
  return {reshape(y, result)};
}

const Op repeat_op{{
    .name = "repeat",
    .doc = "The whole tensor so many times side by side along each axis.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{
              {{g.normal({3})}, RepeatAttrs{{2}}},          {{g.normal({2, 3})}, RepeatAttrs{{3, 2}}},
              {{g.normal({2, 3})}, RepeatAttrs{{2, 1, 2}}}, {{g.normal({2, 1, 3})}, RepeatAttrs{{2, 2}}},
              {{g.normal({2})}, RepeatAttrs{{0}}},          {{g.normal({0, 2})}, RepeatAttrs{{2, 2}}},
              {{g.normal({})}, RepeatAttrs{{3}}},           {{g.normal({1})}, RepeatAttrs{{1}}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2})},
                               RepeatAttrs{{2, -1}},
                               "[repeat] counts must not be negative: got (2,-1)"},
                              {{Tensor::zeros({2})},
                               RepeatAttrs{{1, 1LL << 62}},
                               "[repeat] too many elements: (2) repeated (1,4611686018427387904)"}};
        },
    .composite = repeated,
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0})},
                        RepeatAttrs{{3}},
                        {numbers({nan, -0.0, nan, -0.0, nan, -0.0})},
                        {numbers({3, 3})}},
                       {{numbers({nan, 1})}, RepeatAttrs{{0}}, {numbers({})}, {numbers({0, 0})}},
                       {{numbers({})}, RepeatAttrs{{3}}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

Var stack(std::span<const Var> parts, int axis) { return apply(stack_op, parts, StackAttrs{axis}); }

Var flip(const Var& x, const Axes& axes) { return apply(flip_op, {x}, FlipAttrs{axes}); }

Var repeat(const Var& x, const Ints& counts) { return apply(repeat_op, {x}, RepeatAttrs{counts}); }

}  // namespace banach
