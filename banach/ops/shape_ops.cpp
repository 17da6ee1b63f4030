#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/walk.hpp>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();
constexpr std::int64_t piece = 1 << 15;  // elements worth a task of their own

// ----------------------------------------------------------------------------------------------------------

struct ReshapeAttrs {
  Ints shape;
};

Shape resolved(const Shape& from, const Ints& target) {
  const auto refuse = [&](std::string_view rule) {
    fail<ShapeError>("reshape", std::string(rule) + ": " + from.to_string() + " to " + target.to_string());
  };
  Ints known = target;
  int free_axis = -1;
  for (int i = 0; i < target.count(); ++i) {
    if (target[i] != -1) continue;
    if (free_axis >= 0) refuse("at most one extent may be -1");
    free_axis = i;
    known[i] = 1;
  }
  Shape shape(known);
  if (free_axis >= 0) {
    const std::int64_t rest = shape.size();
    if (rest == 0) refuse("-1 has no unique value where another extent is 0");
    shape[free_axis] = from.size() / rest;
  }
  if (shape.size() != from.size()) refuse("sizes must agree");
  return shape;
}

const Op reshape_op{{
    .name = "reshape",
    .doc = "The same elements under another shape; shares the buffer. One extent may be -1.",
    .shape =
        [](const ShapeContext& c) {
          return Spec{resolved(c.shape(), c.attrs.as<ReshapeAttrs>().shape), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          c.out() = c.in().reshape(resolved(c.in().shape(), c.attrs.as<ReshapeAttrs>().shape));
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{reshape(c.cotangent, c.in().shape())}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({2, 6})}, ReshapeAttrs{{3, 4}}},
                         {{g.normal({2, 3, 4})}, ReshapeAttrs{{-1, 4}}},
                         {{g.normal({1})}, ReshapeAttrs{{}}},
                         {{g.normal({})}, ReshapeAttrs{{1, -1}}},
                         {{g.normal({0, 3})}, ReshapeAttrs{{3, 0}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x}, ReshapeAttrs{{4}}, "[reshape] sizes must agree: (2,3) to (4)"},
                              {{x}, ReshapeAttrs{{-1, 4}}, "sizes must agree: (2,3) to (-1,4)"},
                              {{x}, ReshapeAttrs{{-1, -1}}, "at most one extent may be -1"}};
        },
    .view = true,
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0, inf, 1})},
                        ReshapeAttrs{{2, -1}},
                        {tensor({nan, -0.0, inf, 1.0}, {2, 2})},
                        {numbers({1, 1, 1, 1})}},
                       {{Tensor::zeros({0, 3}, DType::f64)}, ReshapeAttrs{{0}}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
}};

// ----------------------------------------------------------------------------------------------------------

struct BroadcastAttrs {
  Shape shape;
};

bool broadcasts(const Shape& from, const Shape& to) {
  if (from.rank() > to.rank()) return false;
  for (int i = 0; i < from.rank(); ++i)
    if (from[i] != 1 && from[i] != to[i + to.rank() - from.rank()]) return false;
  return true;
}

void check_broadcasts(std::string_view op, const Shape& from, const Shape& to) {
  if (!broadcasts(from, to))
    fail<ShapeError>(
        op, "shapes must broadcast (equal extents, or 1): " + from.to_string() + " to " + to.to_string());
}

const Op broadcast_to_op{{
    .name = "broadcast_to",
    .doc = "The input repeated along axes of extent 1 and new leading axes.",
    .shape =
        [](const ShapeContext& c) {
          const Shape& target = c.attrs.as<BroadcastAttrs>().shape;
          check_broadcasts(c.op, c.shape(), target);
          return Spec{target, c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const Shape& target = c.out().shape();
          copy_elements(c.out(), 0, c.in(), 0,
                        {target, row_major_strides(target), broadcast_strides(c.in().shape(), target)});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{sum_to(c.cotangent, c.in().shape())}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3})}, BroadcastAttrs{{2, 3}}},
                         {{g.normal({3})}, BroadcastAttrs{{3, 3}}},
                         {{g.normal({2, 1, 3})}, BroadcastAttrs{{4, 2, 5, 3}}},
                         {{g.normal({4, 1})}, BroadcastAttrs{{4, 6}}},
                         {{g.normal({})}, BroadcastAttrs{{2, 2}}},
                         {{g.normal({1})}, BroadcastAttrs{{0}}},
                         {{g.normal({1})}, BroadcastAttrs{{1}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x},
                               BroadcastAttrs{{4, 3}},
                               "[broadcast_to] shapes must broadcast (equal extents, or 1): (2,3) to (4,3)"},
                              {{x}, BroadcastAttrs{{3}}, "(2,3) to (3)"}};
        },
    .edges =
        [] {
          return Edges{{{tensor({nan, -0.0}, {2, 1})},
                        BroadcastAttrs{{2, 2}},
                        {tensor({nan, nan, -0.0, -0.0}, {2, 2})},
                        {tensor({2.0, 2.0}, {2, 1})}},
                       {{numbers({nan})}, BroadcastAttrs{{0}}, {numbers({})}, {numbers({0})}}};
        },
    .nan = NanRule::somewhere,
    .rows = broadcast_rows,
}};

// Adds rows to double accumulators, some rows and a strip of columns at a time; so sums of many rows keep
// their accuracy in f32.
constexpr std::int64_t strip = 256, few_rows = 16;

// The walk's input is contiguous, its output stride 0 along the axes that are summed away.
template <class T>
void sum_walk(T* out, const T* in, const Walk& walk) {
  const Walk w = merged(walk);
  Walk kept, summed;
  const int axes = w.extents.count();
  for (int i = 0; i < axes - 1; ++i) {
    Walk& group = w.out[i] == 0 ? summed : kept;
    group.extents.push_back(w.extents[i]);
    group.out.push_back(w.out[i]);
    group.in.push_back(w.in[i]);
  }
  const std::int64_t columns = axes ? w.extents[axes - 1] : 1;
  const bool sum_columns = axes && w.out[axes - 1] == 0;
  const std::int64_t strips = sum_columns ? 1 : (columns + strip - 1) / strip;
  const std::int64_t rows = Shape(summed.extents).size(), count = Shape(kept.extents).size() * strips;
  const std::int64_t work =
      std::max<std::int64_t>(1, rows * (sum_columns ? columns : std::min(columns, strip)));
  const int last = std::max(summed.extents.count() - 1, 0);  // the innermost of the axes that are summed away
  const std::int64_t inner = rows == 1 ? 1 : summed.extents[last], stride = rows == 1 ? 0 : summed.in[last];
  const simd::Kernels<T>& kernels = simd::kernels<T>();
  parallel_for(count, std::max<std::int64_t>(1, piece / work), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [to, from] = offsets(kept, kept.extents.count(), i / strips);
      const std::int64_t column = i % strips * strip,
                         width = sum_columns ? 1 : std::min(strip, columns - column);
      if (sum_columns && rows == 1) {
        out[to] = kernels.sum(in + from, columns);
        continue;
      }
      double total[strip] = {};
      T some[strip];  // the sum of up to few_rows rows
      for (std::int64_t r = 0; r < rows; ++r) {
        const T* row = in + from + column + (r % inner) * stride;
        if (rows > inner) row += offsets(summed, last, r / inner).second;
        if (sum_columns) {
          total[0] += static_cast<double>(kernels.sum(row, columns));
          continue;
        }
        if (r % few_rows == 0)
          std::copy_n(row, width, some);
        else
          kernels.add_to(row, some, width);
        if ((r + 1) % few_rows == 0 || r + 1 == rows)
          for (std::int64_t c = 0; c < width; ++c) total[c] += static_cast<double>(some[c]);
      }
      for (std::int64_t c = 0; c < width; ++c) out[to + column + c] = static_cast<T>(total[c]);
    }
  });
}

const Op sum_to_op{{
    .name = "sum_to",
    .doc =
        "Sums over the axes along which the target shape would be broadcast: the transpose of broadcast_to.",
    .shape =
        [](const ShapeContext& c) {
          const Shape& target = c.attrs.as<BroadcastAttrs>().shape;
          check_broadcasts(c.op, target, c.shape());
          return Spec{target, common_floating(c)};
        },
    .kernel =
        [](const KernelContext& c) {
          const Shape& from = c.in().shape();
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            if (from.size() == 0)
              std::fill_n(out, c.out().size(), T{0});
            else
              sum_walk(out, c.in().data<T>(),
                       {from, broadcast_strides(c.out().shape(), from), row_major_strides(from)});
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{broadcast_to(c.cotangent, c.in().shape())}; },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({2, 3})}, BroadcastAttrs{{3}}},
                         {{g.normal({3, 3})}, BroadcastAttrs{{3}}},
                         {{g.normal({4, 2, 5, 3})}, BroadcastAttrs{{2, 1, 3}}},
                         {{g.normal({2, 3, 4})}, BroadcastAttrs{{2, 1, 1}}},
                         {{g.normal({3, 4})}, BroadcastAttrs{{}}},
                         {{g.normal({0, 3})}, BroadcastAttrs{{1, 3}}},
                         {{g.normal({1})}, BroadcastAttrs{{1}}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({4, 3})},
                               BroadcastAttrs{{2, 3}},
                               "[sum_to] shapes must broadcast (equal extents, or 1): (2,3) to (4,3)"}};
        },
    .edges =
        [] {
          return Edges{{{tensor({-inf, 1.0, inf, -inf, nan, -inf}, {2, 3})},
                        BroadcastAttrs{{3}},
                        {numbers({-inf, nan, nan})},
                        {Tensor::ones({2, 3}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
    .rows =
        [](const RowsContext& c) {
          return c.shape().rank() == c.out().rank() ? first_by_rows(c) : RowInputs{};
        },
}};

// ----------------------------------------------------------------------------------------------------------

struct PermuteAttrs {
  Axes axes;
};

Axes checked_permutation(const Axes& axes, int rank) {
  Axes result;
  for (const std::int64_t axis : axes) {
    const int normal = normalize_axis(axis, rank, "permute");
    if (result.contains(normal))
      fail<ShapeError>("permute", "axes must be distinct: got " + axes.to_string());
    result.push_back(normal);
  }
  if (result.count() != rank)
    fail<ShapeError>("permute", "axes must name each axis once: got " + axes.to_string() + " for rank " +
                                    std::to_string(rank));
  return result;
}

const Op permute_op{{
    .name = "permute",
    .doc = "Axis i of the result is axis axes[i] of the input.",
    .shape =
        [](const ShapeContext& c) {
          Ints extents;
          for (const std::int64_t axis :
               checked_permutation(c.attrs.as<PermuteAttrs>().axes, c.shape().rank()))
            extents.push_back(c.shape()[static_cast<int>(axis)]);
          return Spec{Shape(extents), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const Shape& target = c.out().shape();
          const Ints strides = row_major_strides(c.in().shape());
          Ints in;
          for (const std::int64_t axis : checked_permutation(c.attrs.as<PermuteAttrs>().axes, target.rank()))
            in.push_back(strides[static_cast<int>(axis)]);
          copy_elements(c.out(), 0, c.in(), 0, {target, row_major_strides(target), in});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const Axes axes = checked_permutation(c.attrs.as<PermuteAttrs>().axes, c.in().rank());
          Axes inverse = axes;
          for (int i = 0; i < axes.count(); ++i) inverse[static_cast<int>(axes[i])] = i;
          return Vars{permute(c.cotangent, inverse)};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3, 4})}, PermuteAttrs{{1, 0}}},
                         {{g.normal({3, 3})}, PermuteAttrs{{1, 0}}},
                         {{g.normal({3, 2, 4})}, PermuteAttrs{{-3, 2, 1}}},
                         {{g.normal({2, 3, 4, 2})}, PermuteAttrs{{0, 2, 1, 3}}},
                         {{g.normal({2, 3, 4})}, PermuteAttrs{{2, 0, -2}}},
                         {{g.normal({2, 3, 4})}, PermuteAttrs{{2, 1, 0}}},
                         {{g.normal({0, 3})}, PermuteAttrs{{1, 0}}},
                         {{g.normal({1})}, PermuteAttrs{{0}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{
              {{x}, PermuteAttrs{{0, 0}}, "[permute] axes must be distinct: got (0,0)"},
              {{x}, PermuteAttrs{{0}}, "[permute] axes must name each axis once: got (0) for rank 2"},
              {{x}, PermuteAttrs{{0, 2}}, "[permute] axis must lie in [-2, 2): got 2"}};
        },
    .edges =
        [] {
          return Edges{{{tensor({nan, -0.0, inf, 1.0}, {2, 2})},
                        PermuteAttrs{{1, 0}},
                        {tensor({nan, inf, -0.0, 1.0}, {2, 2})},
                        {Tensor::ones({2, 2}, DType::f64)}},
                       {{Tensor::zeros({0, 3}, DType::f64)},
                        PermuteAttrs{{1, 0}},
                        {Tensor::zeros({3, 0}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
    .rows =
        [](const RowsContext& c) {
          const std::int64_t first = c.attrs.as<PermuteAttrs>().axes[0];
          return first == 0 || first == -c.shape().rank() ? first_by_rows(c) : RowInputs{};
        },
}};

// ----------------------------------------------------------------------------------------------------------
// slice and pad are each other's transposes: pad may also leave gaps of `step` - 1 between entries, which
// undoes a slice with a step. The entries of such gaps and margins are all `value`.

struct SliceAttrs {
  Ints begin, end, step;
};
struct PadAttrs {
  Ints before, after, step;
  double value = 0.0;
};

Ints filled(int count, std::int64_t value) {
  Ints result;
  for (int i = 0; i < count; ++i) result.push_back(value);
  return result;
}

void check_counts(std::string_view op, const Shape& shape, std::initializer_list<const Ints*> lists) {
  for (const Ints* list : lists)
    if (list->count() != shape.rank())
      fail<ShapeError>(op,
                       "expects one entry for each axis: " + list->to_string() + " for " + shape.to_string());
}

Var pad_with_step(const Var& x, const PadAttrs& attrs);

std::int64_t dot(const Ints& a, const Ints& b) {
  std::int64_t sum = 0;
  for (int i = 0; i < a.count(); ++i) sum += a[i] * b[i];
  return sum;
}

Ints product(const Ints& a, const Ints& b) {
  Ints result = a;
  for (int i = 0; i < a.count(); ++i) result[i] *= b[i];
  return result;
}

const Op slice_op{{
    .name = "slice",
    .doc = "Entries begin, begin + step, ... before end along each axis.",
    .shape =
        [](const ShapeContext& c) {
          const auto& [begin, end, step] = c.attrs.as<SliceAttrs>();
          check_counts(c.op, c.shape(), {&begin, &end, &step});
          Ints extents;
          for (int i = 0; i < c.shape().rank(); ++i) {
            if (step[i] < 1)
              fail<ValueError>(c.op, "step must be at least 1: got " + std::to_string(step[i]));
            if (begin[i] < 0 || end[i] < begin[i] || end[i] > c.shape()[i])
              fail<ShapeError>(c.op, "range must lie inside axis " + std::to_string(i) + ": [" +
                                         std::to_string(begin[i]) + ", " + std::to_string(end[i]) + ") of " +
                                         c.shape().to_string());
            const std::int64_t span = end[i] - begin[i];
            extents.push_back(span / step[i] + (span % step[i] != 0));
          }
          return Spec{Shape(extents), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<SliceAttrs>();
          const Shape& target = c.out().shape();
          const Ints strides = row_major_strides(c.in().shape());
          copy_elements(c.out(), 0, c.in(), dot(attrs.begin, strides),
                        {target, row_major_strides(target), product(strides, attrs.step)});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<SliceAttrs>();
          Ints after;
          for (int i = 0; i < c.in().rank(); ++i) {
            const std::int64_t count = c.cotangent.shape()[i];
            after.push_back(c.in().shape()[i] - attrs.begin[i] -
                            (count ? (count - 1) * attrs.step[i] + 1 : 0));
          }
          return Vars{pad_with_step(c.cotangent, {attrs.begin, after, attrs.step})};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({5})}, SliceAttrs{{1}, {4}, {1}}},
                         {{g.normal({3, 7})}, SliceAttrs{{0, 1}, {3, 7}, {1, 3}}},
                         {{g.normal({4, 3, 5})}, SliceAttrs{{1, 0, 2}, {4, 2, 5}, {2, 1, 1}}},
                         {{g.normal({4, 3})}, SliceAttrs{{2, 0}, {2, 3}, {1, 1}}},
                         {{g.normal({0, 3})}, SliceAttrs{{0, 1}, {0, 2}, {1, 1}}},
                         {{g.normal({1})}, SliceAttrs{{0}, {1}, {4}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{
              {{x},
               SliceAttrs{{0, 1}, {2, 4}, {1, 1}},
               "[slice] range must lie inside axis 1: [1, 4) of (2,3)"},
              {{x}, SliceAttrs{{0, 2}, {2, 1}, {1, 1}}, "[2, 1) of (2,3)"},
              {{x}, SliceAttrs{{0, 0}, {2, 3}, {1, 0}}, "[slice] step must be at least 1: got 0"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0, inf, 1})},
                        SliceAttrs{{1}, {4}, {2}},
                        {numbers({-0.0, 1})},
                        {numbers({0, 1, 0, 1})}},
                       {{numbers({nan, 1})}, SliceAttrs{{1}, {1}, {1}}, {numbers({})}, {numbers({0, 0})}}};
        },
    .rows = first_by_rows,
}};

const Op pad_op{{
    .name = "pad",
    .doc = "The input with margins of `value` before and after each axis, and gaps of step - 1 between its "
           "entries.",
    .shape =
        [](const ShapeContext& c) {
          const auto& [before, after, step, value] = c.attrs.as<PadAttrs>();
          static_cast<void>(value);
          check_counts(c.op, c.shape(), {&before, &after, &step});
          Ints extents;
          for (int i = 0; i < c.shape().rank(); ++i) {
            constexpr std::int64_t limit = std::int64_t{1} << 46;
            const std::int64_t count = c.shape()[i];
            if (step[i] < 1)
              fail<ValueError>(c.op, "step must be at least 1: got " + std::to_string(step[i]));
            if (before[i] < 0 || after[i] < 0)
              fail<ShapeError>(c.op, "margins must not be negative: " + before.to_string() + " before, " +
                                         after.to_string() + " after");
            if (before[i] > limit || after[i] > limit || (count > 1 && step[i] > limit / count))
              fail<ShapeError>(c.op, "too many elements: " + before.to_string() + " before, " +
                                         after.to_string() + " after, step " + step.to_string() + " for " +
                                         c.shape().to_string());
            extents.push_back(before[i] + after[i] + (count ? (count - 1) * step[i] + 1 : 0));
          }
          return Spec{Shape(extents), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<PadAttrs>();
          dispatch_any(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            parallel_for(c.out().size(), piece, [&](std::int64_t begin, std::int64_t end) {
              std::fill(out + begin, out + end, static_cast<T>(attrs.value));
            });
          });
          const Ints strides = row_major_strides(c.out().shape());
          const Shape& from = c.in().shape();
          copy_elements(c.out(), dot(attrs.before, strides), c.in(), 0,
                        {from, product(strides, attrs.step), row_major_strides(from)});
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<PadAttrs>();
          Ints end = attrs.before;
          for (int i = 0; i < end.count(); ++i) {
            const std::int64_t count = c.in().shape()[i];
            end[i] += count ? (count - 1) * attrs.step[i] + 1 : 0;
          }
          return Vars{apply(slice_op, {c.cotangent}, SliceAttrs{attrs.before, end, attrs.step})};
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({3})}, PadAttrs{{1}, {2}, {1}}},
                         {{g.normal({3, 2})}, PadAttrs{{1, 0}, {0, 2}, {1, 3}, 0.5}},
                         {{g.normal({3, 2})}, PadAttrs{{0, 1}, {0, 2}, {1, 2}}},
                         {{g.normal({2, 3, 2})}, PadAttrs{{0, 1, 2}, {1, 1, 0}, {2, 1, 1}}},
                         {{g.normal({0, 2})}, PadAttrs{{1, 1}, {1, 0}, {1, 1}, 2.0}},
                         {{g.normal({1})}, PadAttrs{{0}, {0}, {1}}}};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{
              {{x},
               PadAttrs{{0, -1}, {0, 0}, {1, 1}},
               "[pad] margins must not be negative: (0,-1) before, (0,0) after"},
              {{x}, PadAttrs{{0}, {0}, {1}}, "[pad] expects one entry for each axis: (0) for (2,3)"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0})},
                        PadAttrs{{1}, {1}, {2}, -inf},
                        {numbers({-inf, nan, -inf, -0.0, -inf})},
                        {numbers({1, 1})}},
                       {{numbers({})}, PadAttrs{{1}, {0}, {1}, nan}, {numbers({nan})}, {numbers({})}}};
        },
    .nan = NanRule::somewhere,
    .rows = first_by_rows,
}};

Var pad_with_step(const Var& x, const PadAttrs& attrs) { return apply(pad_op, {x}, attrs); }

// ----------------------------------------------------------------------------------------------------------

struct ConcatAttrs {
  int axis;
};

const Op concat_op{{
    .name = "concat",
    .doc = "Joins tensors whose extents agree but for one axis.",
    .shape =
        [](const ShapeContext& c) {
          if (c.inputs.empty()) fail<ShapeError>(c.op, "expects at least one tensor: got none");
          Shape shape = c.shape();
          const int axis = normalize_axis(c.attrs.as<ConcatAttrs>().axis, shape.rank(), c.op);
          for (std::size_t k = 1; k < c.inputs.size(); ++k) {
            const Var& part = c.inputs[k];
            if (part.dtype() != c.dtype())
              fail<DTypeError>(c.op, "dtypes must agree: " + std::string(name(c.dtype())) + " with " +
                                         std::string(name(part.dtype())));
            bool fits = part.rank() == shape.rank();
            for (int i = 0; fits && i < shape.rank(); ++i) fits = i == axis || part.shape()[i] == shape[i];
            if (!fits)
              fail<ShapeError>(c.op, "extents must agree but for axis " + std::to_string(axis) + ": " +
                                         c.shape().to_string() + " with " + part.shape().to_string());
            if (part.shape()[axis] > (std::int64_t{1} << 62) - shape[axis])
              fail<ShapeError>(c.op, "too many elements along axis " + std::to_string(axis));
            shape[axis] += part.shape()[axis];
          }
          return Spec{Shape(static_cast<const Ints&>(shape)), c.dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const Ints strides = row_major_strides(c.out().shape());
          const int axis = normalize_axis(c.attrs.as<ConcatAttrs>().axis, c.out().rank(), "concat");
          std::int64_t offset = 0;
          for (const Var& part : c.inputs) {
            copy_elements(c.out(), offset, part.value(), 0,
                          {part.shape(), strides, row_major_strides(part.shape())});
            offset += part.shape()[axis] * strides[axis];
          }
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          const int axis = c.attrs.as<ConcatAttrs>().axis;
          Vars cotangents(c.inputs.size());
          std::int64_t begin = 0;
          for (std::size_t k = 0; k < c.inputs.size(); ++k) {
            const std::int64_t end = begin + c.inputs[k].size(axis);
            if (c.needs(static_cast<int>(k))) cotangents[k] = slice(c.cotangent, axis, begin, end);
            begin = end;
          }
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.normal({2, 3}), g.normal({4, 3})}, ConcatAttrs{0}},
                         {{g.normal({2, 3}), g.normal({2, 1}), g.normal({2, 4})}, ConcatAttrs{-1}},
                         {{g.normal({2, 2, 3}), g.normal({2, 1, 3})}, ConcatAttrs{1}},
                         {{g.normal({2, 0}), g.normal({2, 3})}, ConcatAttrs{1}},
                         {{g.normal({0})}, ConcatAttrs{0}},
                         {{g.normal({1})}, ConcatAttrs{0}}};
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 3}), Tensor::zeros({3, 4})},
                               ConcatAttrs{1},
                               "[concat] extents must agree but for axis 1: (2,3) with (3,4)"},
                              {{Tensor::zeros({2, 3}), Tensor::zeros({2, 3})},
                               ConcatAttrs{2},
                               "[concat] axis must lie in [-2, 2): got 2"},
                              {{}, ConcatAttrs{0}, "[concat] expects at least one tensor"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, -0.0}), numbers({}), numbers({inf})},
                        ConcatAttrs{0},
                        {numbers({nan, -0.0, inf})},
                        {numbers({1, 1}), numbers({}), numbers({1})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) { return all_by_rows_along(c, {c.attrs.as<ConcatAttrs>().axis}); },
}};

}  // namespace

// ----------------------------------------------------------------------------------------------------------

Var reshape(const Var& x, const Ints& shape) {
  if (shape == x.shape()) return x;
  return apply(reshape_op, {x}, ReshapeAttrs{shape});
}

Var flatten(const Var& x, int from) {
  const int first = x.rank() == from ? from : normalize_axis(from, x.rank(), "flatten");
  Ints shape;
  for (int i = 0; i < first; ++i) shape.push_back(x.shape()[i]);
  shape.push_back(x.shape().size(first, x.rank()));
  return reshape(x, shape);
}

Var broadcast_to(const Var& x, const Shape& shape) {
  if (x.size() == shape.size() && broadcasts(x.shape(), shape)) return reshape(x, shape);
  return apply(broadcast_to_op, {x}, BroadcastAttrs{shape});
}

Var sum_to(const Var& x, const Shape& shape) {
  if (x.size() == shape.size() && broadcasts(shape, x.shape())) return reshape(x, shape);
  return apply(sum_to_op, {x}, BroadcastAttrs{shape});
}

Var permute(const Var& x, const Axes& axes) {
  bool identity = axes.count() == x.rank();
  for (int i = 0; i < axes.count(); ++i) identity = identity && axes[i] == i;
  return identity ? x : apply(permute_op, {x}, PermuteAttrs{axes});
}

Var transpose(const Var& x) {
  if (x.rank() < 2) fail<ShapeError>("transpose", "expects rank 2 or more: got " + x.shape().to_string());
  Axes axes;
  for (int i = 0; i < x.rank(); ++i) axes.push_back(i);
  std::swap(axes[x.rank() - 2], axes[x.rank() - 1]);
  return permute(x, axes);
}

Var slice(const Var& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
  const int i = normalize_axis(axis, x.rank(), "slice");
  const std::int64_t extent = x.shape()[i];
  if (begin < 0) begin += extent;
  if (end < 0) end += extent;
  if (begin == 0 && end == extent && step == 1) return x;
  step = std::min(step, std::max<std::int64_t>(extent, 1));  // the same entries, without overflow
  SliceAttrs attrs{filled(x.rank(), 0), x.shape(), filled(x.rank(), 1)};
  attrs.begin[i] = begin;
  attrs.end[i] = end;
  attrs.step[i] = step;
  return apply(slice_op, {x}, attrs);
}

Var concat(std::span<const Var> parts, int axis) {
  if (parts.size() == 1) {
    normalize_axis(axis, parts[0].rank(), "concat");
    return parts[0];
  }
  return apply(concat_op, parts, ConcatAttrs{axis});
}

Var pad(const Var& x, const Ints& before, const Ints& after, double value) {
  if (before == filled(x.rank(), 0) && after == before) return x;
  return apply(pad_op, {x}, PadAttrs{before, after, filled(x.rank(), 1), value});
}

}  // namespace banach
