#include <banach/engine/grad.hpp>
#include <banach/ops/attention_composed.hpp>
#include <banach/ops/attention_entries.hpp>

namespace banach {
namespace {

using namespace attention;

struct AttentionAttrs {
  AttentionOptions options;
  bool masked = false;
  bool mask_cotangent = false;  // of the vjp: whether it computes the mask's too
};

Sizes checked_sizes(std::string_view op, std::span<const Var> in, const AttentionAttrs& attrs) {
  const Sizes s = sizes(op, in, attrs.options);
  if (!attrs.masked) return s;
  const Shape& mask = in[3].shape();
  const int all = s.scores.rank();
  bool fits = mask.rank() >= 2 && mask.rank() <= all;
  for (int i = 1; fits && i <= mask.rank(); ++i)
    fits = mask[mask.rank() - i] == 1 || mask[mask.rank() - i] == s.scores[all - i];
  if (!fits)
    fail<ShapeError>(
        op, "the mask must broadcast to the scores: " + mask.to_string() + " to " + s.scores.to_string());
  return s;
}

// ---- Kernels ----------------------------------------------------------------------------------------------

template <class T>
Operands<T> operands(std::span<const Var> in, bool masked) {
  const auto data = [&](std::size_t i) { return in[i].value().template data<T>(); };
  return {.q = data(0), .k = data(1), .v = data(2), .mask = masked ? data(3) : nullptr};
}

MaskLayout mask_layout(std::span<const Var> in, const Sizes& s, bool masked) {
  return {masked ? in[3].shape() : s.scores, s.scores};
}

void attention_vjp(const KernelContext& c, const void* prepared) {
  const auto& attrs = c.attrs.as<AttentionAttrs>();
  const Sizes s = checked_sizes("scaled_dot_product_attention_vjp", c.inputs, attrs);
  const MaskLayout layout = mask_layout(c.inputs, s, attrs.masked);
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    Cotangents<T> out{c.out(0).mutable_data<T>(), c.out(1).mutable_data<T>(), c.out(2).mutable_data<T>()};
    std::int64_t matrices = 0;
    if (attrs.mask_cotangent) {
      out.mask = c.out(3).mutable_data<T>();
      std::fill_n(out.mask, c.out(3).size(), T{0});
      if (layout.size == 0)
        out.mask = nullptr;
      else
        matrices = c.out(3).size() / layout.size;
    }
    pull(s, operands<T>(c.inputs, attrs.masked), layout, matrices, c.inputs.back().value().data<T>(), out,
         static_cast<const Points<T>*>(prepared));
  });
}

// Where only the cotangent varies, weights and packed factors are made once, as long as they stay in cache.
Prepared prepare_vjp(std::span<const Var> inputs, std::uint64_t constant, const Attrs& attributes) {
  const auto& attrs = attributes.as<AttentionAttrs>();
  const std::uint64_t all = (std::uint64_t{1} << (inputs.size() - 1)) - 1;
  if ((constant & all) != all) return nullptr;
  const Sizes s = checked_sizes("scaled_dot_product_attention_vjp", inputs, attrs);
  return dispatch_floating(inputs[0].dtype(), [&](auto zero) -> Prepared {
    using T = decltype(zero);
    if (!Points<T>::fit(s)) return nullptr;
    return std::allocate_shared<const Points<T>>(memory::PoolAllocator<T>(), s,
                                                 operands<T>(inputs, attrs.masked),
                                                 mask_layout(inputs, s, attrs.masked), nullptr);
  });
}

// Derivatives of derivatives are taken of this.
Var composed(std::span<const Var> in, const AttentionAttrs& attrs) {
  const Sizes s = checked_sizes("scaled_dot_product_attention", in, attrs);
  Var scores = matmul(split_heads(in[0], s), split_heads(in[1], s), {.transpose_b = true}) * s.scale;
  if (attrs.masked) scores = scores + in[3];
  return joined_heads(composed_attention(scores, split_heads(in[2], s), s), s);
}

// ---- Rows -----------------------------------------------------------------------------------------------

// Bits of q, k and v, and of a mask that has the output's rows on its axis 0. Of one product the queries are
// the rows, if their places do not matter.
RowInputs attention_rows(const RowsContext& c) {
  const auto& attrs = c.attrs.as<AttentionAttrs>();
  const bool stacked = c.out().rank() > 2;
  if (!stacked && attrs.options.causal) return {};
  const std::uint64_t by_rows = stacked ? 7 : 1;
  if (!attrs.masked) return by_rows;
  const bool heads = attrs.options.heads > 1;
  if (!stacked && heads) return {};  // the mask has its rows elsewhere
  if (c.shape(3).rank() < c.out().rank() + heads || c.shape(3)[0] != c.out()[0]) return by_rows;
  return by_rows | 8;
}

// ---- The operations ---------------------------------------------------------------------------------------

// Inputs for both: leading axes and sizes that reach every path.
Samples uses(SampleGen& g) {
  Samples samples;
  const auto add = [&](const Ints& lead, Ints lmde, const AttentionOptions& options,
                       const Tensor& mask = {}) {
    const auto shape = [&](std::int64_t rows, std::int64_t columns) { return stacked(lead, rows, columns); };
    const std::int64_t d = options.heads * lmde[2], e = options.heads * lmde[3];
    Sample sample{{g.normal(shape(lmde[0], d)), g.normal(shape(lmde[1], d)), g.normal(shape(lmde[1], e))},
                  AttentionAttrs{options, mask.defined()}};
    if (mask.defined()) sample.inputs.push_back(mask);
    samples.push_back(sample);
  };
  Tensor hiding = g.normal({3, 4});  // one query sees no key
  for (const int i : {1, 4, 5, 6, 7}) hiding.mutable_data<double>()[i] = -inf;
  add({2}, {3, 4, 3, 2}, {});
  add({}, {4, 4, 2, 3}, {.causal = true});
  add({2, 1}, {3, 5, 2, 2}, {.causal = true, .scale = 0.7});
  add({1}, {5, 2, 2, 1}, {.causal = true});
  add({2}, {3, 4, 2, 2}, {}, g.normal({3, 4}));
  add({2, 2}, {2, 3, 2, 2}, {}, g.normal({2, 1, 1, 3}));
  add({2}, {3, 4, 2, 2}, {.scale = 1.5}, hiding);
  add({3, 2}, {2, 2, 1, 2}, {.causal = true}, g.normal({2, 2, 1}));
  add({}, {3, 3, 2, 2}, {});
  add({}, {3, 4, 2, 2}, {}, g.normal({3, 4}));
  add({}, {3, 4, 2, 2}, {}, g.normal({1, 4}));
  add({2}, {3, 4, 2, 1}, {.causal = true, .heads = 3});
  add({}, {3, 3, 2, 2}, {.heads = 2});
  add({2}, {3, 4, 1, 2}, {.heads = 2}, g.normal({2, 2, 3, 4}));
  add({2}, {3, 4, 2, 2}, {.heads = 2}, g.normal({2, 1, 3, 1}));
  add({}, {3, 4, 2, 2}, {.heads = 2}, g.normal({2, 3, 4}));
  add({2}, {3, 0, 2, 2}, {});
  add({0}, {3, 2, 2, 2}, {});
  add({}, {1, 1, 1, 1}, {});
  return samples;
}

const Op attention_vjp_op{{
    .name = "scaled_dot_product_attention_vjp",
    .doc = "The cotangents of q, k, v, and of the mask if asked, for that of the attention.",
    .kernel = [](const KernelContext& c) { attention_vjp(c, nullptr); },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          return vjp_of_vjp(c, [&](const Vars& x) { return Vars{composed(x, attrs)}; });
        },
    .samples =
        [](SampleGen& g) {
          return vjp_samples<AttentionAttrs>(
              g, uses(g), [](AttentionAttrs& attrs, std::size_t) { attrs.mask_cotangent = attrs.masked; });
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 3});
          return ErrorSamples{{{x, x, x, Tensor::zeros({3, 2})},
                               AttentionAttrs{},
                               "the cotangent must have the result's shape: (3,2) for (2,3)"}};
        },
    .shapes =
        [](const ShapeContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          common_floating(c);
          checked_sizes(c.op, c.inputs, attrs);
          return vjp_specs(c, attrs.mask_cotangent ? 4 : 3);
        },
    .rows =
        [](const RowsContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          if (c.out().rank() == 2) return RowInputs{};  // keys hear from all queries
          RowInputs by_rows = attention_rows(c);
          if (attrs.mask_cotangent && (*by_rows & 8) == 0) return RowInputs{};  // so does a shared mask
          *by_rows |= std::uint64_t{1} << (c.inputs.size() - 1);
          return by_rows;
        },
    .prepare = prepare_vjp,
    .prepared_kernel = attention_vjp,
    .prepare_rows = true,
}};

const Op attention_op{{
    .name = "scaled_dot_product_attention",
    .doc = "softmax(scale q k^T + mask) v, without all scores in memory; causal if asked.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          checked_sizes(c.op, c.inputs, c.attrs.as<AttentionAttrs>());
          return Spec{result_shape(c), dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<AttentionAttrs>();
          const Sizes s = checked_sizes("scaled_dot_product_attention", c.inputs, attrs);
          const MaskLayout layout = mask_layout(c.inputs, s, attrs.masked);
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            attend(s, operands<T>(c.inputs, attrs.masked), layout, c.out().mutable_data<T>());
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          AttentionAttrs attrs = c.attrs.as<AttentionAttrs>();
          attrs.mask_cotangent = attrs.masked && c.needs(3);
          return apply_vjp(attention_vjp_op, c, attrs);
        },
    .samples = uses,
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          const Tensor q = zeros({2, 3, 4}), k = zeros({2, 5, 4});
          return ErrorSamples{
              {{q, k, k}, AttentionAttrs{{.heads = 0}}, "heads must be at least 1: got 0"},
              {{q, k, k},
               AttentionAttrs{{.heads = 3}},
               "heads must divide the last axes: 3 for (2,3,4), (2,5,4), (2,5,4)"},
              {{q, k, zeros({2, 3, 4})},
               AttentionAttrs{},
               "[scaled_dot_product_attention] q (l,d), k (m,d) and v (m,e) must agree: (2,3,4), (2,5,4), "
               "(2,3,4)"},
              {{q, zeros({1, 5, 4}), k},
               AttentionAttrs{},
               "leading axes must be equal: (2,3,4), (1,5,4), (2,5,4)"},
              {{zeros({3}), zeros({3}), zeros({3})}, AttentionAttrs{}, "must have one rank, 2 or more"},
              {{q, k, k}, AttentionAttrs{{.scale = nan}}, "scale must be finite: got nan"},
              {{q, k, k, zeros({3, 4})},
               AttentionAttrs{{}, true},
               "the mask must broadcast to the scores: (3,4) to (2,3,5)"},
              {{q, k, Tensor::zeros({2, 5, 4}, DType::f64)}, AttentionAttrs{}, "dtypes must agree"}};
        },
    .edges =
        [] {
          const Tensor ones = Tensor::ones({2, 1}, DType::f64), zeros = Tensor::zeros({2, 1}, DType::f64);
          return Edges{
              // The second key is hidden from the first query, whatever it holds.
              {{ones, tensor({1.0, nan}, {2, 1}), tensor({3.0, inf}, {2, 1})},
               AttentionAttrs{{.causal = true}},
               {tensor({3.0, nan}, {2, 1})},
               {tensor({0.0, nan}, {2, 1}), tensor({nan, nan}, {2, 1}), tensor({nan, nan}, {2, 1})}},
              // By the mask, from both.
              {{ones, tensor({1.0, nan}, {2, 1}), tensor({3.0, inf}, {2, 1}), tensor({0.0, -inf}, {1, 2})},
               AttentionAttrs{{}, true},
               {tensor({3.0, 3.0}, {2, 1})},
               {zeros, zeros, tensor({2.0, 0.0}, {2, 1}), Tensor::zeros({1, 2}, DType::f64)}},
              // The first query sees no key.
              {{ones, ones, tensor({1.0, 3.0}, {2, 1}), tensor({-inf, -inf, 0.0, 0.0}, {2, 2})},
               AttentionAttrs{{}, true},
               {tensor({0.0, 2.0}, {2, 1})},
               {zeros, tensor({-0.5, 0.5}, {2, 1}), tensor({0.5, 0.5}, {2, 1}),
                tensor({0.0, 0.0, -0.5, 0.5}, {2, 2})}},
              // A NaN that is seen makes NaN of its query's result only.
              {{tensor({nan, 1.0}, {2, 1}), ones, ones}, AttentionAttrs{}, {tensor({nan, 1.0}, {2, 1})}},
              // No keys; no scores to speak of.
              {{ones, Tensor::zeros({0, 1}, DType::f64), Tensor::zeros({0, 1}, DType::f64)},
               AttentionAttrs{},
               {zeros},
               {zeros, Tensor::zeros({0, 1}, DType::f64), Tensor::zeros({0, 1}, DType::f64)}},
              {{Tensor::zeros({1, 0}, DType::f64), Tensor::zeros({2, 0}, DType::f64),
                tensor({1.0, 3.0}, {2, 1})},
               AttentionAttrs{},
               {tensor({2.0}, {1, 1})},
               {Tensor::zeros({1, 0}, DType::f64), Tensor::zeros({2, 0}, DType::f64),
                tensor({0.5, 0.5}, {2, 1})}}};
        },
    .rows = attention_rows,
}};

}  // namespace

Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const AttentionOptions& options) {
  return apply(attention_op, {q, k, v}, AttentionAttrs{options});
}

Var scaled_dot_product_attention(const Var& q, const Var& k, const Var& v, const Var& mask,
                                 const AttentionOptions& options) {
  return apply(attention_op, {q, k, v, mask}, AttentionAttrs{options, true});
}

}  // namespace banach
