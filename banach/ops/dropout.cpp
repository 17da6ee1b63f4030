#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/dropout.hpp>

#include <limits>
#include <string>

namespace banach {
namespace {

struct DropoutAttrs {
  double p;
  RandomState state;
};

const Op dropout_op{{
    .name = "dropout",
    .doc = "x / (1 - p) where the generator's draw for the place is at least p, 0 elsewhere.",
    .shape =
        [](const ShapeContext& c) {
          const double p = c.attrs.as<DropoutAttrs>().p;
          if (!(p >= 0.0 && p < 1.0))
            fail<ValueError>(c.op, "p must lie in [0, 1): got " + std::to_string(p));
          return same_shape(c);
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<DropoutAttrs>();
          const std::int64_t n = c.out().size();
          Tensor draws = Tensor::empty({n}, DType::f32);
          Random(attrs.state).fill_uniform(draws.mutable_data<float>(), n);
          const float* draw = draws.data<float>();
          const auto p = static_cast<float>(attrs.p);
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T* x = c.in().data<T>();
            T* y = c.out().mutable_data<T>();
            const auto scale = static_cast<T>(1.0 / (1.0 - attrs.p));
            parallel_for(n, 1 << 15, [&](std::int64_t begin, std::int64_t end) {
              for (std::int64_t i = begin; i < end; ++i) {
                const T kept = x[i] * scale;
                y[i] = draw[i] >= p ? kept : T{0};
              }
            });
          });
        },
    .saves = Saves::nothing,
    .vjp = [](const VjpContext& c) { return Vars{apply(dropout_op, {c.cotangent}, c.attrs)}; },
    .samples =
        [](SampleGen& g) {
          const auto sample = [&](const Shape& shape, double p) {
            return Sample{{g.normal(shape)},
                          DropoutAttrs{p, {static_cast<std::uint64_t>(g.integer(0, 1000))}}};
          };
          return Samples{sample({4, 5}, 0.5), sample({2, 3, 4}, 0.1), sample({7}, 0.0),
                         sample({20}, 0.9),   sample({1}, 0.25),      sample({0, 3}, 0.5)};
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2});
          return ErrorSamples{
              {{x}, DropoutAttrs{1.0, {}}, "[dropout] p must lie in [0, 1): got 1"},
              {{x}, DropoutAttrs{-0.1, {}}, "p must lie in [0, 1)"},
              {{x}, DropoutAttrs{std::numeric_limits<double>::quiet_NaN(), {}}, "p must lie in [0, 1)"},
              {{Tensor::arange(2)}, DropoutAttrs{0.5, {}}, "expects f32 or f64"}};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          return Edges{{{numbers({nan, inf, -0.0, 2})},
                        DropoutAttrs{0.0, {}},
                        {numbers({nan, inf, -0.0, 2})},
                        {numbers({1, 1, 1, 1})}},
                       // p is 1 to f32: all are dropped, none is NaN.
                       {{numbers({nan, inf, -inf})},
                        DropoutAttrs{0x1.fffffffffffffp-1, {}},
                        {numbers({0, 0, 0})},
                        {numbers({0, 0, 0})}},
                       {{numbers({})}, DropoutAttrs{0.5, {}}, {numbers({})}}};
        },
    .nan = NanRule::same_place_or_none,
}};

}  // namespace

Var dropout(const Var& x, double p, const RandomState& state) {
  return apply(dropout_op, {x}, DropoutAttrs{p, state});
}

}  // namespace banach
