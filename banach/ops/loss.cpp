#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/rows.hpp>
#include <banach/ops/softmax.hpp>

namespace banach {
namespace {

// ---- Cross entropy ----------------------------------------------------------------------------------------

// Of logits and labels at positions i and i + 1.
void check_labels(const ShapeContext& c, int i) {
  const Shape &logits = c.shape(i), &labels = c.shape(i + 1);
  if (c.dtype(i + 1) != DType::i64)
    fail<DTypeError>(c.op, "labels must be i64: got " + std::string(name(c.dtype(i + 1))));
  if (logits.rank() != 2 || labels.rank() != 1 || logits[0] != labels[0] || logits.size() == 0)
    fail<ShapeError>(c.op, "expects logits (b,c) and labels (b), not empty: " + logits.to_string() +
                               " with " + labels.to_string());
}

const std::int64_t* checked_labels(const Tensor& labels, std::int64_t classes, std::string_view op) {
  const std::int64_t* values = labels.data<std::int64_t>();
  for (std::int64_t i = 0; i < labels.size(); ++i)
    if (values[i] < 0 || values[i] >= classes)
      fail<ValueError>(op, "labels must lie in [0, " + std::to_string(classes) + "): got " +
                               std::to_string(values[i]) + " at " + std::to_string(i));
  return values;
}

Samples labelled_logits(SampleGen& g) {
  Samples samples;
  for (const auto& [b, c] : {std::pair<int, int>{3, 4}, {1, 5}, {6, 2}, {2, 1}, {1, 1}, {4, 10}})
    samples.push_back({{g.normal({b, c}, 0.0, 2.0), g.indices({b}, c)}});
  return samples;
}

const Op cross_entropy_vjp_op{{
    .name = "cross_entropy_vjp",
    .doc = "g (softmax(logits) - onehot(labels)) / b: the vjp of cross_entropy at the cotangent g, a scalar.",
    .shape =
        [](const ShapeContext& c) {
          common_floating({c.op, c.inputs.first(2), c.attrs});
          check_labels(c, 1);
          if (c.shape(0).rank() != 0)
            fail<ShapeError>(c.op, "the cotangent must be a scalar: got " + c.shape(0).to_string());
          return Spec{c.shape(1), c.dtype(1)};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const simd::Kernels<T>& kernels = simd::kernels<T>();
            const Rows rows = rows_of(c.in(1).shape(), "cross_entropy_vjp");
            const T* logits = c.in(1).data<T>();
            const std::int64_t* labels = checked_labels(c.in(2), rows.length, "cross_entropy_vjp");
            T* out = c.out().mutable_data<T>();
            const T weight = *c.in(0).data<T>() / static_cast<T>(rows.count);
            for_rows(rows, [&](std::int64_t row) {
              T* p = out + row * rows.length;
              kernels.softmax_row(logits + row * rows.length, p, rows.length);
              p[labels[row]] -= T{1};
              kernels.scale_add(p, weight, T{-0.0}, p, rows.length);
            });
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &u = c.cotangent, &g = c.in(0), &logits = c.in(1), &labels = c.in(2);
          const auto to_g = [&] {
            const Var one(scalar(1.0, g.dtype()));
            return sum(u * apply(cross_entropy_vjp_op, {one, logits, labels}));
          };
          const auto to_logits = [&] {
            const Var p = softmax(logits);
            return p * (u - sum(u * p, {-1}, true)) * (g * (1.0 / static_cast<double>(labels.size())));
          };
          return Vars{c.needs(0) ? to_g() : Var(), c.needs(1) ? to_logits() : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = labelled_logits(g);
          for (Sample& sample : samples) sample.inputs.insert(sample.inputs.begin(), g.normal({}));
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({}), Tensor::zeros({2, 3}), Tensor::arange(3)}, {}, "(2,3) with (3)"},
              {{Tensor::zeros({2}), Tensor::zeros({2, 3}), Tensor::arange(2)},
               {},
               "must be a scalar: got (2)"}};
        },
    .nan = NanRule::somewhere,
    .needs_elements = true,
}};

const Op cross_entropy_op{{
    .name = "cross_entropy",
    .doc = "Mean of -log softmax(logits)[label] over the batch.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating({c.op, c.inputs.first(1), c.attrs});
          check_labels(c, 0);
          return Spec{{}, dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const auto log_sum_exp = simd::kernels<T>().log_sum_exp;
            const Rows rows = rows_of(c.in().shape(), "cross_entropy");
            const T* logits = c.in(0).data<T>();
            const std::int64_t* labels = checked_labels(c.in(1), rows.length, "cross_entropy");
            PoolVector<T> losses(static_cast<std::size_t>(rows.count));
            for_rows(rows, [&](std::int64_t row) {
              const T* x = logits + row * rows.length;
              losses[static_cast<std::size_t>(row)] = log_sum_exp(x, rows.length) - x[labels[row]];
            });
            *c.out().mutable_data<T>() =
                simd::kernels<T>().sum(losses.data(), rows.count) / static_cast<T>(rows.count);
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          return Vars{apply(cross_entropy_vjp_op, {c.cotangent, c.in(0), c.in(1)})};
        },
    .samples = labelled_logits,
    .errors =
        [] {
          Tensor far = Tensor::arange(2);
          far.mutable_data<std::int64_t>()[1] = 3;
          return ErrorSamples{
              {{Tensor::zeros({2, 3}), Tensor::arange(3)},
               {},
               "expects logits (b,c) and labels (b), not empty: (2,3) with (3)"},
              {{Tensor::zeros({0, 3}), Tensor::arange(0)}, {}, "not empty"},
              {{Tensor::zeros({2, 3}), Tensor::zeros({2})}, {}, "labels must be i64: got f32"},
              {{Tensor::zeros({2, 3}), far}, {}, "labels must lie in [0, 3): got 3 at 1"}};
        },
    .nan = NanRule::somewhere,
    .needs_elements = true,
}};

// ---- Mean squared error -----------------------------------------------------------------------------------

const Op mse_op{{
    .name = "mse",
    .doc = "Mean of (prediction - target)^2 over all elements.",
    .shape =
        [](const ShapeContext& c) {
          const DType dtype = common_floating(c);
          if (!(c.shape(0) == c.shape(1)) || c.shape().size() == 0)
            fail<ShapeError>(c.op, "prediction and target must have one shape, not empty: " +
                                       c.shape(0).to_string() + " with " + c.shape(1).to_string());
          return Spec{{}, dtype};
        },
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            constexpr std::int64_t piece = 1 << 16;
            const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
            const std::int64_t n = c.in().size();
            PoolVector<T> parts(static_cast<std::size_t>((n + piece - 1) / piece));
            parallel_for(n, piece, [&](std::int64_t begin, std::int64_t end) {
              parts[static_cast<std::size_t>(begin / piece)] =
                  simd::kernels<T>().squared_distance(a + begin, b + begin, end - begin);
            });
            *c.out().mutable_data<T>() =
                simd::kernels<T>().sum(parts.data(), static_cast<std::int64_t>(parts.size())) /
                static_cast<T>(n);
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const double weight = 2.0 / static_cast<double>(c.in().size());
          const Var to_prediction = (c.in(0) - c.in(1)) * (c.cotangent * weight);
          return Vars{to_prediction, c.needs(1) ? -to_prediction : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const Shape& shape : {Shape{3, 4}, Shape{}, Shape{1}, Shape{2, 3, 2}, Shape{9}})
            samples.push_back({{g.normal(shape), g.normal(shape)}});
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{{{Tensor::zeros({2, 1}), Tensor::zeros({2})},
                               {},
                               "must have one shape, not empty: (2,1) with (2)"},
                              {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)}, {}, "dtypes must agree"},
                              {{Tensor::zeros({0}), Tensor::zeros({0})}, {}, "not empty"}};
        },
    .needs_elements = true,
}};

}  // namespace

Var cross_entropy(const Var& logits, const Var& labels) { return apply(cross_entropy_op, {logits, labels}); }

Var mse(const Var& prediction, const Var& target) { return apply(mse_op, {prediction, target}); }

}  // namespace banach
