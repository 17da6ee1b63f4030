#include <banach/engine/parallel.hpp>
#include <banach/ops/cast.hpp>
#include <banach/ops/entries.hpp>

namespace banach {
namespace {

using namespace entries;

struct CastAttrs {
  DType dtype;
};

const Op cast_op{{
    .name = "cast",
    .doc = "The input with another floating dtype.",
    .shape =
        [](const ShapeContext& c) {
          const DType target = c.attrs.as<CastAttrs>().dtype;
          if (!is_floating(target))
            fail<DTypeError>(c.op, "target must be f32 or f64: got i64 (Tensor::to rounds)");
          return Spec{c.shape(), target};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_any(c.in().dtype(), [&](auto from) {
            dispatch_floating(c.out().dtype(), [&](auto into) {
              using Into = decltype(into);
              const auto* in = c.in().data<decltype(from)>();
              Into* out = c.out().mutable_data<Into>();
              parallel_for(c.out().size(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t i = begin; i < end; ++i) out[i] = static_cast<Into>(in[i]);
              });
            });
          });
        },
    .kind = OpKind::movement,
    .saves = Saves::nothing,
    .vjp =
        [](const VjpContext& c) {
          return Vars{is_floating(c.in().dtype()) ? cast(c.cotangent, c.in().dtype()) : Var()};
        },
    .samples =
        [](SampleGen& g) {
          // To f64 only: differences of a value rounded to f32 would measure the rounding.
          return Samples{{{g.normal({2, 3})}, CastAttrs{DType::f64}},
                         {{g.normal({0})}, CastAttrs{DType::f64}},
                         {{g.normal({1})}, CastAttrs{DType::f64}},
                         {{g.indices({4}, 10)}, CastAttrs{DType::f64}}};
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2})}, CastAttrs{DType::i64}, "[cast] target must be f32 or f64: got i64"}};
        },
    .edges =
        [] {
          return Edges{{{numbers({nan, inf, -inf, -0.0, 0.0, 1e300, 0.5})},
                        CastAttrs{DType::f32},
                        {numbers({nan, inf, -inf, -0.0, 0.0, inf, 0.5})},
                        {Tensor::ones({7}, DType::f64)}},
                       {{numbers({nan, inf, -inf, -0.0, 0.0, 0.5})},
                        CastAttrs{DType::f64},
                        {numbers({nan, inf, -inf, -0.0, 0.0, 0.5})},
                        {Tensor::ones({6}, DType::f64)}},
                       {{tensor<std::int64_t>({(std::int64_t{1} << 53) + 1, -3})},
                        CastAttrs{DType::f64},
                        {numbers({0x1p53, -3.0})}},
                       {{numbers({})}, CastAttrs{DType::f32}, {numbers({})}, {numbers({})}}};
        },
    .rows = first_by_rows,
}};

}  // namespace

Var cast(const Var& x, DType dtype) { return x.dtype() == dtype ? x : apply(cast_op, {x}, CastAttrs{dtype}); }

}  // namespace banach
