#include <banach/engine/grad.hpp>
#include <banach/ops/attention_composed.hpp>
#include <banach/ops/attention_entries.hpp>

namespace banach {
namespace {

using namespace attention;

struct RelativeAttrs {
  RelativeAttentionOptions options;
  bool shared_cotangents = false;  // of the vjp: whether it computes those of r and the biases too
};

// Inputs: q, k, v, r, content bias, position bias.
constexpr std::size_t at_r = 3, at_content = 4, at_position = 5;
constexpr std::uint64_t all_inputs = 63;

Sizes checked_sizes(std::string_view op, std::span<const Var> in, const RelativeAttrs& attrs) {
  Sizes s = sizes(op, in, {.causal = true, .heads = attrs.options.heads, .scale = attrs.options.scale});
  const Shape &r = in[at_r].shape(), &u = in[at_content].shape(), &w = in[at_position].shape();
  if (s.keys < s.queries)
    fail<ShapeError>(op, "there must be a key for each query, and those in front: " +
                             in[0].shape().to_string() + ", " + in[1].shape().to_string());
  const std::int64_t d = s.heads * s.inner;
  if (!(r == Shape{s.keys, d}) || !(u == Shape{d}) || !(w == Shape{d}))
    fail<ShapeError>(op, "r (m,d) and both biases (d) must fit keys (m,d): " + r.to_string() + ", " +
                             u.to_string() + ", " + w.to_string() + " with " + in[1].shape().to_string());
  s.relative = true;
  s.before = s.keys - s.queries;
  return s;
}

// ---- Kernels ----------------------------------------------------------------------------------------------

template <class T>
const T* data(std::span<const Var> in, std::size_t i) {
  return in[i].value().template data<T>();
}

template <class T>
Operands<T> operands(std::span<const Var> in, const AllDistances<T>* distances) {
  return {.q = data<T>(in, 0),
          .k = data<T>(in, 1),
          .v = data<T>(in, 2),
          .content_bias = data<T>(in, at_content),
          .position_bias = data<T>(in, at_position),
          .distances = distances};
}

MaskLayout no_mask(const Sizes& s) { return {s.scores, s.scores}; }

void relative_kernel(const KernelContext& c, const void* prepared) {
  const Sizes s = checked_sizes("relative_attention", c.inputs, c.attrs.as<RelativeAttrs>());
  dispatch_floating(c.out().dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::optional<AllDistances<T>> own;
    const auto* distances = static_cast<const AllDistances<T>*>(prepared);
    if (!distances) distances = &own.emplace(s, data<T>(c.inputs, at_r));
    attend(s, operands<T>(c.inputs, distances), no_mask(s), c.out().mutable_data<T>());
  });
}

// Where r does not vary, it is packed once.
Prepared prepare_distances(std::span<const Var> inputs, std::uint64_t constant, const Attrs& attrs) {
  if ((constant >> at_r & 1) == 0) return nullptr;
  const Sizes s = checked_sizes("relative_attention", inputs, attrs.as<RelativeAttrs>());
  return dispatch_floating(inputs[0].dtype(), [&](auto zero) -> Prepared {
    using T = decltype(zero);
    return std::allocate_shared<const AllDistances<T>>(memory::PoolAllocator<T>(), s, data<T>(inputs, at_r));
  });
}

// All cotangents. Those of r and the biases are sums over the products of a head, which some tasks take part
// by part; the parts are added up in order.
template <class T>
void pull_all(const Sizes& s, const Operands<T>& x, const T* g, std::span<Tensor> outputs) {
  const auto out = [&](std::size_t i) { return outputs[i].mutable_data<T>(); };
  const std::int64_t samples = s.count / s.heads, parts = std::clamp<std::int64_t>(samples, 1, 4),
                     rows = s.distance_rows(), size = rows * s.inner + rows + s.inner;
  Tensor sums = Tensor::zeros({s.heads * parts, size}, dtype_of<T>());
  T* all = sums.mutable_data<T>();
  const auto of_task = [&](std::int64_t task) {
    T* r = all + task * size;
    return OfPositions<T>{r, r + rows * s.inner, r + rows * s.inner + rows};
  };
  parallel_for(s.heads * parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t task = first; task < last; ++task) {
      OfPositions<T> positions = of_task(task);
      const Cotangents<T> own{out(0), out(1), out(2), nullptr, &positions};
      const std::int64_t head = task / parts, part = task % parts;
      for (std::int64_t i = part * samples / parts; i < (part + 1) * samples / parts; ++i)
        pull_one<T>(s, x, no_mask(s), g, i * s.heads + head, own, nullptr);
    }
  });

  for (std::int64_t head = 0; head < s.heads; ++head) {
    const OfPositions<T> total = of_task(head * parts);
    for (std::int64_t part = 1; part < parts; ++part) {
      const T* more = of_task(head * parts + part).r;
      std::transform(total.r, total.r + size, more, total.r, std::plus<T>());
    }
    const Part<T> dr(out(at_r), s, s.keys, s.inner, head);
    for (std::int64_t t = 0; t < s.keys; ++t) std::copy_n(total.r + (rows - 1 - t) * s.inner, s.inner, dr[t]);
    std::copy_n(total.content_bias, s.inner, out(at_content) + head * s.inner);
    x.distances_of(s, head)->by_row().weigh(1, rows, total.columns, rows, 1, 0,
                                            out(at_position) + head * s.inner, s.inner, false);
  }
}

void relative_vjp(const KernelContext& c, const void* prepared) {
  const auto& attrs = c.attrs.as<RelativeAttrs>();
  const Sizes s = checked_sizes("relative_attention_vjp", c.inputs, attrs);
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* g = c.inputs.back().value().data<T>();
    const Cotangents<T> out{c.out(0).mutable_data<T>(), c.out(1).mutable_data<T>(),
                            c.out(2).mutable_data<T>()};
    if (const auto* points = static_cast<const Points<T>*>(prepared))
      return pull(s, operands<T>(c.inputs, nullptr), no_mask(s), 0, g, out, points);
    const AllDistances<T> distances(s, data<T>(c.inputs, at_r));
    const Operands<T> x = operands<T>(c.inputs, &distances);
    if (attrs.shared_cotangents) return pull_all(s, x, g, c.outputs);
    pull<T>(s, x, no_mask(s), 0, g, out, nullptr);
  });
}

// As those of scaled_dot_product_attention.
Prepared prepare_vjp(std::span<const Var> inputs, std::uint64_t constant, const Attrs& attributes) {
  const auto& attrs = attributes.as<RelativeAttrs>();
  if ((constant & all_inputs) != all_inputs || attrs.shared_cotangents) return nullptr;
  const Sizes s = checked_sizes("relative_attention_vjp", inputs, attrs);
  return dispatch_floating(inputs[0].dtype(), [&](auto zero) -> Prepared {
    using T = decltype(zero);
    if (!Points<T>::fit(s)) return nullptr;
    return std::allocate_shared<const Points<T>>(memory::PoolAllocator<T>(), s, operands<T>(inputs, nullptr),
                                                 no_mask(s), data<T>(inputs, at_r));
  });
}

// Derivatives of derivatives are taken of this. Shifting is reading with rows one entry shorter than they
// are.
Var composed(const Vars& in, const RelativeAttrs& attrs) {
  const Sizes s = checked_sizes("relative_attention", in, attrs);
  const Var k = split_heads(in[1], s), v = split_heads(in[2], s);
  Var scores = matmul(split_heads(in[0] + in[at_content], s), k, {.transpose_b = true});
  if (scores.size() > 0) {
    const Var r = split_heads(flip(in[at_r], {0}), s);
    const Var position = matmul(split_heads(in[0] + in[at_position], s), r, {.transpose_b = true});
    Ints lead;
    for (int i = 0; i < scores.rank() - 2; ++i) lead.push_back(scores.size(i));
    Ints none, one, flat = lead;
    for (int i = 0; i < scores.rank(); ++i) none.push_back(0), one.push_back(i == scores.rank() - 1);
    flat.push_back(s.queries * (s.keys + 1));
    const Var shifted =
        slice(reshape(pad(position, none, one), flat), -1, s.queries - 1, s.queries - 1 + s.queries * s.keys);
    scores = (scores + reshape(shifted, scores.shape())) * s.scale;
  }
  return joined_heads(composed_attention(scores, v, s), s);
}

// ---- The operations ---------------------------------------------------------------------------------------

// q, k and v; one product mixes its rows, which are queries.
RowInputs relative_rows(const RowsContext& c) { return c.out().rank() > 2 ? RowInputs{7} : RowInputs{}; }

// Inputs for both.
Samples uses(SampleGen& g) {
  Samples samples;
  // Queries, keys, and the widths of a head.
  const auto add = [&](const Ints& lead, const Ints& lmde, const RelativeAttentionOptions& options) {
    const auto shape = [&](std::int64_t rows, std::int64_t columns) { return stacked(lead, rows, columns); };
    const std::int64_t d = options.heads * lmde[2], e = options.heads * lmde[3];
    samples.push_back({{g.normal(shape(lmde[0], d)), g.normal(shape(lmde[1], d)), g.normal(shape(lmde[1], e)),
                        g.normal({lmde[1], d}), g.normal({d}), g.normal({d})},
                       RelativeAttrs{options}});
  };
  add({2}, {3, 3, 3, 2}, {});
  add({2}, {3, 5, 2, 1}, {.heads = 2});
  add({}, {4, 4, 2, 3}, {});
  add({}, {1, 4, 2, 2}, {.heads = 2});
  add({2, 2}, {2, 3, 2, 2}, {.scale = 0.7});
  add({5}, {2, 3, 1, 2}, {.heads = 3});
  add({1}, {18, 19, 1, 1}, {});
  add({2}, {16, 16, 1, 1}, {});
  add({0}, {3, 4, 2, 2}, {});
  add({2}, {0, 3, 2, 2}, {});
  add({}, {1, 1, 1, 1}, {});
  return samples;
}

const Op relative_attention_vjp_op{{
    .name = "relative_attention_vjp",
    .doc = "The cotangents of q, k and v, and of what products share if asked, for that of the attention.",
    .kernel = [](const KernelContext& c) { relative_vjp(c, nullptr); },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<RelativeAttrs>();
          return vjp_of_vjp(c, [&](const Vars& x) { return Vars{composed(x, attrs)}; });
        },
    .samples =
        [](SampleGen& g) {
          return vjp_samples<RelativeAttrs>(
              g, uses(g), [](RelativeAttrs& attrs, std::size_t i) { attrs.shared_cotangents = i % 3 != 0; });
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3}), bias = Tensor::zeros({3});
          return ErrorSamples{{{x, x, x, x, bias, bias, Tensor::zeros({3, 2})},
                               RelativeAttrs{},
                               "the cotangent must have the result's shape: (3,2) for (2,3)"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const auto& attrs = c.attrs.as<RelativeAttrs>();
          common_floating(c);
          checked_sizes(c.op, c.inputs, attrs);
          return vjp_specs(c, attrs.shared_cotangents ? 6 : 3);
        },
    .rows =
        [](const RowsContext& c) {
          RowInputs by_rows = relative_rows(c);
          if (!by_rows || c.attrs.as<RelativeAttrs>().shared_cotangents) return RowInputs{};
          return RowInputs{*by_rows | std::uint64_t{1} << (c.inputs.size() - 1)};
        },
    .prepare = prepare_vjp,
    .prepared_kernel = relative_vjp,
    .prepare_rows = true,
}};

const Op relative_attention_op{{
    .name = "relative_attention",
    .doc = "Causal softmax(scale ((q + u) k^T + (q + w) r^T by distance)) v, with memory in front.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          checked_sizes(c.op, c.inputs, c.attrs.as<RelativeAttrs>());
          return Spec{result_shape(c), dtype};
        },
    .kernel = [](const KernelContext& c) { relative_kernel(c, nullptr); },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          RelativeAttrs attrs = c.attrs.as<RelativeAttrs>();
          attrs.shared_cotangents = c.needs(at_r) || c.needs(at_content) || c.needs(at_position);
          return apply_vjp(relative_attention_vjp_op, c, attrs);
        },
    .samples = uses,
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          const Tensor q = zeros({2, 3, 4}), k = zeros({2, 5, 4}), r = zeros({5, 4}), bias = zeros({4});
          return ErrorSamples{
              {{q, k, k, r, bias, bias},
               RelativeAttrs{{.heads = 3}},
               "heads must divide the last axes: 3 for (2,3,4), (2,5,4), (2,5,4)"},
              {{k, q, q, r, bias, bias},
               RelativeAttrs{},
               "there must be a key for each query, and those in front: (2,5,4), (2,3,4)"},
              {{q, k, k, zeros({3, 4}), bias, bias},
               RelativeAttrs{},
               "r (m,d) and both biases (d) must fit keys (m,d): (3,4), (4), (4) with (2,5,4)"},
              {{q, k, k, r, zeros({1}), bias}, RelativeAttrs{}, "(5,4), (1), (4) with (2,5,4)"},
              {{q, k, k, r, bias, zeros({2, 2})}, RelativeAttrs{}, "(5,4), (4), (2,2) with (2,5,4)"},
              {{q, k, k, r, bias, bias}, RelativeAttrs{{.scale = inf}}, "scale must be finite: got inf"},
              {{q, k, k, r, bias, Tensor::zeros({4}, DType::f64)}, RelativeAttrs{}, "dtypes must agree"}};
        },
    .edges =
        [] {
          const auto filled = [](double x, const Shape& shape) {
            Tensor t = Tensor::zeros(shape, DType::f64);
            std::fill_n(t.mutable_data<double>(), t.size(), x);
            return t;
          };
          const Tensor ones = filled(1, {2, 1}), one = filled(1, {1}), none = filled(0, {1});
          return Edges{
              // The second key is hidden from the first query, whatever it holds.
              {{ones, tensor({1.0, nan}, {2, 1}), tensor({3.0, inf}, {2, 1}), ones, one, one},
               RelativeAttrs{},
               {tensor({3.0, nan}, {2, 1})},
               {tensor({0.0, nan}, {2, 1}), filled(nan, {2, 1}), filled(nan, {2, 1}), filled(nan, {2, 1}),
                filled(nan, {1}), filled(nan, {1})}},
              // Distance 1 is the second query's alone.
              {{ones, ones, tensor({3.0, 1.0}, {2, 1}), tensor({1.0, nan}, {2, 1}), one, one},
               RelativeAttrs{},
               {tensor({3.0, nan}, {2, 1})}},
              // By its distance the first key is as good as hidden from the second query.
              {{ones, ones, tensor({3.0, 1.0}, {2, 1}), tensor({0.0, -inf}, {2, 1}), none, none},
               RelativeAttrs{},
               {tensor({3.0, 1.0}, {2, 1})},
               {filled(0, {2, 1}), filled(0, {2, 1}), ones, filled(0, {2, 1}), none, none}},
              // No queries; no scores to speak of.
              {{filled(0, {0, 1}), ones, ones, ones, one, one},
               RelativeAttrs{},
               {filled(0, {0, 1})},
               {filled(0, {0, 1}), filled(0, {2, 1}), filled(0, {2, 1}), filled(0, {2, 1}), none, none}},
              {{filled(0, {1, 0}), filled(0, {2, 0}), tensor({1.0, 3.0}, {2, 1}), filled(0, {2, 0}),
                filled(0, {0}), filled(0, {0})},
               RelativeAttrs{},
               {tensor({2.0}, {1, 1})},
               {filled(0, {1, 0}), filled(0, {2, 0}), filled(0.5, {2, 1}), filled(0, {2, 0}), filled(0, {0}),
                filled(0, {0})}}};
        },
    .rows = relative_rows,
    .prepare = prepare_distances,
    .prepared_kernel = relative_kernel,
}};

}  // namespace

Var relative_attention(const Var& q, const Var& k, const Var& v, const Var& r, const Var& content_bias,
                       const Var& position_bias, const RelativeAttentionOptions& options) {
  return apply(relative_attention_op, {q, k, v, r, content_bias, position_bias}, RelativeAttrs{options});
}

}  // namespace banach
