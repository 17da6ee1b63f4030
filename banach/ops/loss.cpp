#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/entries.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/rows.hpp>
#include <banach/ops/softmax.hpp>

#include <cmath>

namespace banach {
namespace {

using namespace entries;

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
    .edges =
        [] {
          const auto one = [](double a, double b, std::int64_t label, double loss, double da, double db) {
            return Edge{{tensor({a, b}, {1, 2}), tensor<std::int64_t>({label})},
                        {},
                        {scalar(loss, DType::f64)},
                        {tensor({da, db}, {1, 2})}};
          };
          return Edges{one(-inf, 0, 1, 0, 0, 0),
                       one(-inf, 0, 0, inf, -1, 1),
                       one(1000, 0, 0, 0, 0, 0),
                       one(1000, 0, 1, 1000, 1, -1),
                       one(inf, 0, 0, nan, nan, nan),
                       one(inf, 0, 1, inf, nan, nan),
                       one(-inf, -inf, 0, nan, nan, nan),
                       one(nan, 0, 1, nan, nan, nan),
                       one(3, 3, 0, std::log(2.0), -0.5, 0.5),
                       // A sample with NaN leaves the others' derivatives alone.
                       {{tensor({nan, 0.0, 3.0, 3.0}, {2, 2}), Tensor::arange(2)},
                        {},
                        {scalar(nan, DType::f64)},
                        {tensor({nan, nan, 0.25, -0.25}, {2, 2})}}};
        },
    .nan = NanRule::somewhere,
    .needs_elements = true,
}};

// ---- Losses of two tensors of one shape -------------------------------------------------------------------

Spec pair_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  if (!(c.shape(0) == c.shape(1)) || c.shape().size() == 0)
    fail<ShapeError>(c.op, "prediction and target must have one shape, not empty: " + c.shape(0).to_string() +
                               " with " + c.shape(1).to_string());
  return {{}, dtype};
}

// out = (the sum of what f(a, b, losses, n, kernels) writes to `losses`) / divisor, a block of elements at a
// time.
template <class F>
void average_losses(const KernelContext& c, std::int64_t divisor, F f) {
  dispatch_floating(c.in().dtype(), [&](auto zero) {
    using T = decltype(zero);
    constexpr std::int64_t block = 1024;
    const simd::Kernels<T>& kernels = simd::kernels<T>();
    const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
    T* out = c.out().mutable_data<T>();
    sum_pieces_of_rows({1, c.in().size()}, out, [&](std::int64_t begin, std::int64_t end) {
      T losses[block];
      double total = 0;
      for (std::int64_t i = begin; i < end; i += block) {
        const std::int64_t n = std::min(block, end - i);
        f(a + i, b + i, losses, n, kernels);
        total += static_cast<double>(kernels.sum(losses, n));
      }
      return static_cast<T>(total);
    });
    *out /= static_cast<T>(divisor);
  });
}

template <class A, class B>
Samples pair_samples(SampleGen& g, A prediction, B target) {
  Samples samples;
  for (const Shape& shape :
       {Shape{3, 4}, Shape{}, Shape{1}, Shape{2, 3, 2}, Shape{9}, Shape{67}, g.shape(), g.shape()})
    samples.push_back({{prediction(shape), target(shape)}});
  return samples;
}

ErrorSamples refuses_unlike_pairs() {
  return {{{Tensor::zeros({2, 1}), Tensor::zeros({2})}, {}, "must have one shape, not empty: (2,1) with (2)"},
          {{Tensor::zeros({2}), Tensor::zeros({2}, DType::f64)}, {}, "dtypes must agree"},
          {{Tensor::zeros({0}), Tensor::zeros({0})}, {}, "not empty"}};
}

// One pair of elements: the loss and its derivatives.
Edge loss_edge(EdgePair p, const Attrs& attrs = {}) {
  return {
      {numbers({p.a}), numbers({p.b})}, attrs, {scalar(p.y, DType::f64)}, {numbers({p.da}), numbers({p.db})}};
}

Edges loss_edges(std::initializer_list<EdgePair> pairs, const Attrs& attrs = {}) {
  Edges edges;
  for (const EdgePair& pair : pairs) edges.push_back(loss_edge(pair, attrs));
  return edges;
}

const Op mse_op{{
    .name = "mse",
    .doc = "Mean of (prediction - target)^2 over all elements.",
    .shape = pair_shape,
    .kernel =
        [](const KernelContext& c) {
          dispatch_floating(c.in().dtype(), [&](auto zero) {
            using T = decltype(zero);
            const T *a = c.in(0).data<T>(), *b = c.in(1).data<T>();
            T* out = c.out().mutable_data<T>();
            sum_pieces_of_rows({1, c.in().size()}, out, [&](std::int64_t begin, std::int64_t end) {
              return simd::kernels<T>().squared_distance(a + begin, b + begin, end - begin);
            });
            *out /= static_cast<T>(c.in().size());
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
          const auto normal = [&](const Shape& shape) { return g.normal(shape); };
          return pair_samples(g, normal, normal);
        },
    .errors = refuses_unlike_pairs,
    .edges =
        [] {
          return loss_edges({{2, 2, 0, 0, 0},
                             {-0.0, 0.0, 0, 0, 0},
                             {inf, 1, inf, inf, -inf},
                             {1, inf, inf, -inf, inf},
                             {inf, inf, nan, nan, nan},
                             {nan, 1, nan, nan, nan}});
        },
    .needs_elements = true,
}};

struct Delta {
  double delta = 1.0;
};

const Op huber_op{{
    .name = "huber",
    .doc =
        "Mean of d^2 / 2 where |d| <= delta and delta (|d| - delta / 2) elsewhere, d = prediction - target.",
    .shape =
        [](const ShapeContext& c) {
          const double delta = c.attrs.as<Delta>().delta;
          if (!(delta > 0)) fail<ValueError>(c.op, "delta must be positive: got " + std::to_string(delta));
          return pair_shape(c);
        },
    .kernel =
        [](const KernelContext& c) {
          const double wide_delta = c.attrs.as<Delta>().delta;
          average_losses(c, c.in().size(),
                         [wide_delta](auto* a, auto* b, auto* losses, std::int64_t n, const auto&) {
                           using T = std::remove_pointer_t<decltype(losses)>;
                           const T delta = static_cast<T>(wide_delta), half = T(0.5);
                           for (std::int64_t i = 0; i < n; ++i) {
                             const T d = a[i] - b[i], size = d < 0 ? -d : d;
                             losses[i] = size <= delta ? half * (d * d) : delta * (size - half * delta);
                           }
                         });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const double delta = c.attrs.as<Delta>().delta, weight = 1.0 / static_cast<double>(c.in().size());
          const Var to_prediction = clamp(c.in(0) - c.in(1), -delta, delta) * (c.cotangent * weight);
          return Vars{to_prediction, c.needs(1) ? -to_prediction : Var()};
        },
    .samples =
        [](SampleGen& g) {
          Samples samples = pair_samples(
              g, [&](const Shape& shape) { return g.away_from_zero(shape, 0.1, 0.7); },
              [&](const Shape& shape) { return g.normal(shape); });
          for (std::size_t i = 0; i < samples.size(); ++i) {
            // Differences below 0.8 or above 1.6, so never near delta = 1 or 1.2.
            Tensor& a = samples[i].inputs[0];
            for (std::int64_t j = 0; j < a.size(); ++j) {
              double& d = a.mutable_data<double>()[j];
              if (g.integer(0, 1)) d += d < 0 ? -1.5 : 1.5;
              d += samples[i].inputs[1].at(j);
            }
            samples[i].attrs = Delta{i % 2 ? 1.0 : 1.2};
          }
          return samples;
        },
    .errors =
        [] {
          return ErrorSamples{
              {{Tensor::zeros({2}), Tensor::zeros({2})}, Delta{0.0}, "delta must be positive: got 0"},
              {{Tensor::zeros({2}), Tensor::zeros({2})}, Delta{nan}, "delta must be positive"},
              {{Tensor::zeros({2, 1}), Tensor::zeros({2})},
               Delta{},
               "must have one shape, not empty: (2,1) with (2)"}};
        },
    .edges =
        [] {
          return loss_edges({{2, 2, 0, 0, 0},
                             {3, 1, 2, 2, -2},  // |d| = delta
                             {1, 3, 2, -2, 2},
                             {4, 1, 4, 2, -2},
                             {inf, 1, inf, 2, -2},
                             {1, inf, inf, -2, 2},
                             {inf, inf, nan, nan, nan},
                             {nan, 1, nan, nan, nan}},
                            Delta{2.0}) +
                 loss_edges({{4, 1, 4.5, 3, -3}, {inf, 1, inf, inf, -inf}}, Delta{inf});
        },
    .needs_elements = true,
}};

const Op bce_with_logits_op{{
    .name = "bce_with_logits",
    .doc = "Mean of log(1 + e^x) - t x over all elements: binary cross entropy of logits x and targets t.",
    .shape = pair_shape,
    .kernel =
        [](const KernelContext& c) {
          // log(1 + e^x) - t x = log(1 + e^-|x|) + (1 - t) x for x > 0, ... - t x for others: never inf -
          // inf.
          average_losses(c, c.in().size(), [](auto* x, auto* t, auto* losses, std::int64_t n, const auto& k) {
            using T = std::remove_pointer_t<decltype(losses)>;
            k.abs(x, losses, n);
            k.neg(losses, losses, n);
            k.softplus(losses, losses, n);
            for (std::int64_t i = 0; i < n; ++i) {
              const T factor = x[i] > 0 ? 1 - t[i] : -t[i];
              losses[i] += factor == 0 ? T{0} : factor * x[i];
            }
          });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var weight = c.cotangent * (1.0 / static_cast<double>(c.in().size()));
          return Vars{c.needs(0) ? (sigmoid(c.in(0)) - c.in(1)) * weight : Var(),
                      c.needs(1) ? c.in(0) * -weight : Var()};
        },
    .samples =
        [](SampleGen& g) {
          return pair_samples(
              g, [&](const Shape& shape) { return g.normal(shape, 0.0, 2.0); },
              [&](const Shape& shape) { return g.uniform(shape, 0.0, 1.0); });
        },
    .errors = refuses_unlike_pairs,
    .edges =
        [] {
          return loss_edges({{inf, 1, 0, 0, -inf},
                             {-inf, 0, 0, 0, inf},
                             {inf, 0, inf, 1, -inf},
                             {-inf, 1, inf, -1, inf},
                             {1000, 1, 0, 0, -1000},
                             {-1000, 1, 1000, -1, 1000},
                             {0, 0, std::log(2.0), 0.5, 0},
                             {-0.0, 1, std::log(2.0), -0.5, 0},
                             {nan, 0, nan, nan, nan},
                             {0, nan, nan, nan, 0}});
        },
    .needs_elements = true,
}};

struct KlAttrs {
  bool log_target = false;
};

std::int64_t batch_of(const Shape& shape) { return shape.rank() > 0 ? shape[0] : 1; }

const Op kl_div_op{{
    .name = "kl_div",
    .doc = "Sum of p (log p - input) over all elements, divided by the extent of axis 0; 0 where p = 0.",
    .shape = pair_shape,
    .kernel =
        [](const KernelContext& c) {
          const bool log_target = c.attrs.as<KlAttrs>().log_target;
          average_losses(c, batch_of(c.in().shape()),
                         [log_target](auto* x, auto* t, auto* losses, std::int64_t n, const auto& k) {
                           using T = std::remove_pointer_t<decltype(losses)>;
                           log_target ? k.exp(t, losses, n) : k.log(t, losses, n);
                           for (std::int64_t i = 0; i < n; ++i) {
                             const T p = log_target ? losses[i] : t[i], log_p = log_target ? t[i] : losses[i];
                             losses[i] = p != 0 ? p * (log_p - x[i]) : x[i] == x[i] ? T{0} : x[i];
                           }
                         });
        },
    .kind = OpKind::reduction,
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const Var &x = c.in(0), &t = c.in(1);
          const Var weight = c.cotangent * (1.0 / static_cast<double>(batch_of(x.shape())));
          if (!c.attrs.as<KlAttrs>().log_target)
            return Vars{t * -weight, c.needs(1) ? (log(t) - x + 1.0) * weight : Var()};
          const Var p = exp(t);
          return Vars{p * -weight, c.needs(1) ? p * (where(p, t - x, 0.0) + 1.0) * weight : Var()};
        },
    .samples =
        [](SampleGen& g) {
          const auto logarithms = [&](const Shape& shape) { return g.uniform(shape, -3.0, 0.0); };
          const auto probabilities = [&](const Shape& shape) { return g.uniform(shape, 0.2, 0.9); };
          Samples samples = pair_samples(g, logarithms, probabilities);
          for (Sample& sample : samples) sample.attrs = KlAttrs{};
          for (Sample& sample : pair_samples(g, logarithms, logarithms))
            samples.push_back({sample.inputs, KlAttrs{true}});
          return samples;
        },
    .errors =
        [] {
          ErrorSamples errors = refuses_unlike_pairs();
          for (ErrorSample& error : errors) error.attrs = KlAttrs{};
          return errors;
        },
    .edges =
        [] {
          const double log_2 = std::log(2.0);
          return loss_edges({{-1, 0, 0, 0, -inf},
                             {-inf, 0, 0, 0, nan},
                             {-inf, 1, inf, -1, inf},
                             {0, 1, 0, -1, 1},
                             {-1, -1, nan, 1, nan},
                             {nan, 0, nan, 0, nan},
                             {-1, nan, nan, nan, nan}},
                            KlAttrs{}) +
                 loss_edges({{-1, -inf, 0, 0, 0},
                             {-inf, -inf, 0, 0, 0},
                             {-inf, 0, inf, -1, inf},
                             {0, -log_2, -0.5 * log_2, -0.5, 0.5 - 0.5 * log_2},
                             {nan, -inf, nan, 0, 0},
                             {-1, nan, nan, nan, nan}},
                            KlAttrs{true}) +
                 Edges{{{tensor({0.0, 0.0}, {2, 1}), tensor({1.0, 0.5}, {2, 1})},
                        KlAttrs{},
                        {scalar(-0.25 * log_2, DType::f64)},
                        {tensor({-0.5, -0.25}, {2, 1}), tensor({0.5, 0.5 - 0.5 * log_2}, {2, 1})}}};
        },
    .needs_elements = true,
}};

}  // namespace

Var cross_entropy(const Var& logits, const Var& labels) { return apply(cross_entropy_op, {logits, labels}); }

Var mse(const Var& prediction, const Var& target) { return apply(mse_op, {prediction, target}); }

Var huber(const Var& prediction, const Var& target, double delta) {
  return apply(huber_op, {prediction, target}, Delta{delta});
}

Var bce_with_logits(const Var& logits, const Var& target) {
  return apply(bce_with_logits_op, {logits, target});
}

Var kl_div(const Var& input, const Var& target, bool log_target) {
  return apply(kl_div_op, {input, target}, KlAttrs{log_target});
}

}  // namespace banach
