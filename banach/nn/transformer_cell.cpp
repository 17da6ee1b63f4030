#include <banach/nn/init.hpp>
#include <banach/nn/transformer_cell.hpp>
#include <banach/ops/attention.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <cmath>

namespace banach::nn {
namespace {

constexpr std::string_view layer_name = "transformer_cell";

// x W^T + c.
Var map_add(const Var& x, const Var& weight, const Var& c) {
  return matmul_add(x, weight, c, {.transpose_b = true});
}

// A layer norm whose parameters have been looked up.
struct Norm {
  Var weight, bias;
  double eps;

  explicit Norm(const LayerNorm& norm) : weight(*norm.weight), bias(*norm.bias), eps(norm.eps) {}
  Var operator()(const Var& x) const { return layer_norm(x, weight, bias, eps); }
};

// Queries, keys and values without what z gives to them: the injection, and the memory in front.
struct Heads {
  Var query, key, value;  // weights
  Var injected_query, injected_key, injected_value;
  Var memory_key = {}, memory_value = {};  // undefined: there is no memory
  Var r = {}, content_bias, position_bias;
  std::int64_t count;

  Var operator()(const Var& z) const {
    const auto behind = [](const Var& front, const Var& now) {
      return front.defined() ? concat({front, now}, 1) : now;
    };
    return relative_attention(map_add(z, query, injected_query),
                              behind(memory_key, map_add(z, key, injected_key)),
                              behind(memory_value, map_add(z, value, injected_value)), r, content_bias,
                              position_bias, {.heads = count});
  }
};

struct Body {
  bool pre_norm;
  Heads heads;
  Norm attention_norm, feed_norm;
  Var output_weight, residual;            // residual: x and the bias of the output projection
  Var weight1, bias1, weight2, bias2;     // of the feed-forward part
  Var attention_dropout, hidden_dropout;  // masks; undefined: nothing is dropped

  Var masked(const Var& x, const Var& mask) const { return mask.defined() ? x * mask : x; }
  Var attention(const Var& z, const Var& plus) const {
    return map_add(masked(heads(z), attention_dropout), output_weight, plus);
  }
  Var feed_forward(const Var& a) const {
    return map_add(masked(relu(map_add(a, weight1, bias1)), hidden_dropout), weight2, bias2);
  }
  Var operator()(const Var& z) const {
    if (pre_norm) {
      const Var a = attention(attention_norm(z), residual);
      return a + feed_forward(feed_norm(a));
    }
    const Var a = attention_norm(attention(z, z + residual));
    return feed_norm(a + feed_forward(a));
  }
};

}  // namespace

Tensor sinusoidal_encoding(std::int64_t count, std::int64_t width, DType dtype) {
  Tensor encoding = Tensor::empty({count, width}, dtype);
  const std::int64_t sines = (width + 1) / 2;
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* out = encoding.mutable_data<T>();
    for (std::int64_t i = 0; i < sines; ++i) {
      const double frequency = std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(width));
      for (std::int64_t distance = 0; distance < count; ++distance) {
        const double angle = frequency * static_cast<double>(distance);
        out[distance * width + i] = static_cast<T>(std::sin(angle));
        if (sines + i < width) out[distance * width + sines + i] = static_cast<T>(std::cos(angle));
      }
    }
  });
  return encoding;
}

TransformerCell::TransformerCell(const TransformerCellOptions& options, Random& random)
    : options_(checked(options)),
      query_(map(options.d_model, options.d_model, false, random)),
      key_(map(options.d_model, options.d_model, false, random)),
      value_(map(options.d_model, options.d_model, false, random)),
      inject_(map(options.d_model, 3 * options.d_model, true, random)),
      position_(map(options.d_model, options.d_model, false, random)),
      content_bias_(init::normal({options.d_model}, 0.0, 0.02, random, options.dtype)),
      position_bias_(init::normal({options.d_model}, 0.0, 0.02, random, options.dtype)),
      output_projection_(map(options.d_model, options.d_model, true, random)),
      linear1_(map(options.d_model, options.hidden, true, random)),
      linear2_(map(options.hidden, options.d_model, true, random)),
      attention_norm_(options.d_model, {.dtype = options.dtype}),
      feed_norm_(options.d_model, {.dtype = options.dtype}),
      dropout_(options.dropout, random) {}

const TransformerCellOptions& TransformerCell::checked(const TransformerCellOptions& o) {
  if (o.d_model < 1 || o.hidden < 1 || o.heads < 1)
    fail<ValueError>(layer_name,
                     fmt::format("d_model, heads and hidden must be at least 1: got {}, {} and {}", o.d_model,
                                 o.heads, o.hidden));
  if (o.d_model % o.heads != 0)
    fail<ValueError>(layer_name, fmt::format("heads must divide d_model: {} for {}", o.heads, o.d_model));
  if (o.memory < 0)
    fail<ValueError>(layer_name, fmt::format("memory must not be negative: got {}", o.memory));
  return o;
}

WeightNormLinear TransformerCell::map(std::int64_t in, std::int64_t out, bool bias, Random& random) const {
  return {in, out, random, {.bias = bias, .dtype = options_.dtype}, options_.weight_norm};
}

void TransformerCell::check(const Var& x, const SegmentMemory& memory) const {
  const std::int64_t d = options_.d_model;
  check_dtype(layer_name, query_.direction, x, memory);
  check_sequence(layer_name, x, d);
  if (!memory.z.defined() && !memory.x.defined()) return;
  if (!memory.z.defined() || !memory.x.defined())
    fail<ValueError>(layer_name, "a memory must have both z and x");
  const Shape &z = memory.z.shape(), &before = memory.x.shape();
  if (z.rank() != 3 || z[0] != x.size(0) || z[2] != d || !(z == before))
    fail<ShapeError>(layer_name, fmt::format("a memory must have z and x of ({},m,{}): got {} and {}",
                                             x.size(0), d, z.to_string(), before.to_string()));
}

SequenceBody TransformerCell::bind(const Var& x, const SegmentMemory& memory) const {
  check(x, memory);
  const std::int64_t d = options_.d_model;
  const Norm attention_norm(attention_norm_);
  const DropoutMask drop = dropout_.mask(), drop_hidden = dropout_.mask();
  const auto mask = [&](const DropoutMask& dropped, std::int64_t width) {  // the same at all positions
    return dropped.p > 0.0 ? dropped(Var(Tensor::ones({x.size(0), 1, width}, x.dtype()))) : Var();
  };
  const auto of = [&](const Var& injected, std::int64_t part) {
    return slice(injected, 2, part * d, (part + 1) * d);
  };

  const Var injected = inject_(x);
  Heads heads{.query = query_.weight(),
              .key = key_.weight(),
              .value = value_.weight(),
              .injected_query = of(injected, 0),
              .injected_key = of(injected, 1),
              .injected_value = of(injected, 2),
              .content_bias = content_bias_,
              .position_bias = position_bias_,
              .count = options_.heads};
  std::int64_t keys = x.size(1);
  if (memory.z.defined()) {
    const Var before = options_.pre_norm ? attention_norm(Var(memory.z)) : Var(memory.z);
    const Var injected_before = inject_(Var(memory.x));
    heads.memory_key = map_add(before, heads.key, of(injected_before, 1));
    heads.memory_value = map_add(before, heads.value, of(injected_before, 2));
    keys += before.size(1);
  }
  heads.r = position_(Var(sinusoidal_encoding(keys, d, x.dtype())));
  return Body{.pre_norm = options_.pre_norm,
              .heads = std::move(heads),
              .attention_norm = attention_norm,
              .feed_norm = Norm(feed_norm_),
              .output_weight = output_projection_.weight(),
              .residual = x + *output_projection_.bias,
              .weight1 = linear1_.weight(),
              .bias1 = *linear1_.bias,
              .weight2 = linear2_.weight(),
              .bias2 = *linear2_.bias,
              .attention_dropout = mask(drop, d),
              .hidden_dropout = mask(drop_hidden, options_.hidden)};
}

Var TransformerCell::start(const Var& x) const { return Var(Tensor::zeros(x.shape(), x.dtype())); }

SegmentMemory TransformerCell::remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const {
  return nn::remember(old, z, x, options_.memory);
}

// Checkpoints know the parameters by these names.
void TransformerCell::visit(Visitor& visitor) {
  visitor("query", query_)("key", key_)("value", value_)("inject", inject_);
  visitor("position", position_)("content_bias", content_bias_)("position_bias", position_bias_);
  visitor("project", output_projection_)("widen", linear1_)("narrow", linear2_);
  visitor("attention_norm", attention_norm_)("feed_norm", feed_norm_)("dropout", dropout_);
}

}  // namespace banach::nn
