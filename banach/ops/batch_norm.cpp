#include <banach/engine/samples.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/norm.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

#include <cmath>
#include <limits>
#include <string>

namespace banach {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                 inf = std::numeric_limits<double>::infinity();

struct Epsilon {
  double eps = 1e-5;
};

// x (n, c, ...), and vectors of c that follow it.
void check(std::string_view op, std::span<const Var> inputs, const Attrs& attrs) {
  const Shape& x = inputs[0].shape();
  if (x.rank() < 2) fail<ShapeError>(op, "expects (n, channels, ...): got " + x.to_string());
  for (const Var& vector : inputs.subspan(1))
    if (!(vector.shape() == Shape{x[1]}))
      fail<ShapeError>(op, "statistics, scale and shift must have one entry a channel: " +
                               vector.shape().to_string() + " for " + x.to_string());
  common_floating({op, inputs, attrs});
  const double eps = attrs.as<Epsilon>().eps;
  if (!(eps >= 0)) fail<ValueError>(op, "eps must not be negative: got " + std::to_string(eps));
}

// One entry a channel, as it broadcasts to x.
Var spread(const Var& vector, const Var& x) {
  Ints shape{x.size(1)};
  for (int i = 2; i < x.rank(); ++i) shape.push_back(1);
  return reshape(vector, shape);
}

// By the batch's own statistics: y, mean, variance.
Vars normalized(std::span<const Var> in, const Attrs& attrs) {
  check("batch_norm", in, attrs);
  const Var& x = in[0];
  if (x.size() == 0)
    fail<ShapeError>("batch_norm", "statistics of a batch need values: got " + x.shape().to_string());
  Axes others{0};
  for (int i = 2; i < x.rank(); ++i) others.push_back(i);
  const Var average = mean(x, others);
  const Var centered = x - spread(average, x);
  const Var variance = mean(square(centered), others);
  const Var inverse = rsqrt(variance + attrs.as<Epsilon>().eps);
  if (in.size() == 1) return {centered * spread(inverse, x), average, variance};
  return {centered * spread(inverse * in[1], x) + spread(in[2], x), average, variance};
}

const Op batch_norm_op{{
    .name = "batch_norm",
    .doc = "(x - mean) / sqrt(variance + eps) gamma + beta of each channel with the batch's statistics, and "
           "these.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          return Samples{{{g.distinct({5, 3}, 0.3), g.normal({3}, 1.0), g.normal({3})}, Epsilon{1e-3}},
                         {{g.distinct({2, 3, 2, 2}, 0.2), g.normal({3}, 1.0), g.normal({3})}, Epsilon{1e-5}},
                         {{g.distinct({3, 2, 4}, 0.2)}, Epsilon{1e-3}},
                         {{g.normal({1, 1}), g.normal({1}), g.normal({1})}, Epsilon{1.0}}};
        },
    .errors =
        [] {
          const Tensor c = Tensor::ones({3});
          return ErrorSamples{
              {{Tensor::zeros({4, 3}), c, Tensor::zeros({2})},
               Epsilon{},
               "must have one entry a channel: (2) for (4,3)"},
              {{Tensor::zeros({3}), c, c}, Epsilon{}, "expects (n, channels, ...): got (3)"},
              {{Tensor::zeros({0, 3}), c, c}, Epsilon{}, "statistics of a batch need values: got (0,3)"},
              {{Tensor::zeros({4, 3}), c, c}, Epsilon{-1.0}, "eps must not be negative"},
              {{Tensor::zeros({4, 3}), Tensor::ones({3}, DType::f64), c}, Epsilon{}, "dtypes must agree"}};
        },
    .composite = normalized,
    .edges =
        [] {
          // Channels: usual, constant, with a NaN. One never harms another.
          return Edges{
              {{tensor({1.0, 3.0, nan, -1.0, 3.0, 1.0}, {2, 3}), numbers({2, 2, 2}), numbers({1, 5, 1})},
               Epsilon{0.0625},
               {tensor({1 + 2 / std::sqrt(1.0625), 5.0, nan, 1 - 2 / std::sqrt(1.0625), 5.0, nan}, {2, 3}),
                numbers({0, 3, nan}), numbers({1, 0, nan})}},
              {{tensor({3.0, inf, 3.0, 1.0}, {2, 2})},  // eps 0: 0 / 0 where a channel is constant
               Epsilon{0.0},
               {tensor({nan, nan, nan, nan}, {2, 2}), numbers({3, inf}), numbers({0, nan})}}};
        },
    .nan = NanRule::somewhere,
    .needs_elements = true,
}};

// By given statistics.
Vars rescaled(std::span<const Var> in, const Attrs& attrs) {
  check("batch_norm_by", in, attrs);
  const Var &x = in[0], &average = in[1];
  const Var inverse = rsqrt(in[2] + attrs.as<Epsilon>().eps);
  if (in.size() == 3) return {(x - spread(average, x)) * spread(inverse, x)};
  return {(x - spread(average, x)) * spread(inverse * in[3], x) + spread(in[4], x)};
}

const Op batch_norm_by_op{{
    .name = "batch_norm_by",
    .doc = "(x - mean) / sqrt(variance + eps) gamma + beta of each channel, with statistics that are given.",
    .kind = OpKind::composite,
    .samples =
        [](SampleGen& g) {
          const auto sample = [&](const Shape& x, std::int64_t c) {
            return Sample{
                {g.normal(x), g.normal({c}), g.uniform({c}, 0.5, 2.0), g.normal({c}, 1.0), g.normal({c})},
                Epsilon{1e-3}};
          };
          return Samples{sample({5, 3}, 3),
                         sample({2, 3, 2, 2}, 3),
                         sample({0, 2}, 2),
                         sample({1, 1}, 1),
                         {{g.normal({3, 2, 4}), g.normal({2}), g.uniform({2}, 0.5, 2.0)}, Epsilon{1e-3}}};
        },
    .errors =
        [] {
          const Tensor c = Tensor::ones({3});
          return ErrorSamples{{{Tensor::zeros({4, 3}), c, Tensor::zeros({2}), c, c},
                               Epsilon{},
                               "must have one entry a channel: (2) for (4,3)"},
                              {{Tensor::zeros({}), c, c}, Epsilon{}, "expects (n, channels, ...): got ()"},
                              {{Tensor::zeros({4, 3}), c, c}, Epsilon{nan}, "eps must not be negative"}};
        },
    .composite = rescaled,
    .edges =
        [] {
          return Edges{{{tensor({nan, inf, 1.0, 1.0}, {2, 2}), numbers({1, 1}), numbers({3, 0})},
                        Epsilon{1.0},
                        {tensor({nan, inf, 0.0, 0.0}, {2, 2})},
                        {tensor({0.5, 1.0, 0.5, 1.0}, {2, 2}), numbers({-1, -2}), numbers({nan, -inf})}},
                       {{tensor({1.0, 2.0}, {1, 2}), numbers({1, 1}), numbers({-1, 0})},  // no square root
                        Epsilon{0.0},
                        {tensor({nan, inf}, {1, 2})}}};
        },
    .nan = NanRule::somewhere,
}};

}  // namespace

BatchNormResult batch_norm(const Var& x, const Var& gamma, const Var& beta, double eps) {
  const Var inputs[] = {x, gamma, beta};
  const Vars all = apply_all(batch_norm_op, std::span(inputs, gamma.defined() ? 3 : 1), Epsilon{eps});
  return {all[0], all[1], all[2]};
}

Var batch_norm_by(const Var& x, const Var& average, const Var& variance, const Var& gamma, const Var& beta,
                  double eps) {
  const Var inputs[] = {x, average, variance, gamma, beta};
  return apply(batch_norm_by_op, std::span<const Var>(inputs, gamma.defined() ? 5 : 3), Epsilon{eps});
}

}  // namespace banach
