#include <apps/flow/model.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include <banach/ops/elementwise.hpp>

namespace banach::flow {
namespace {

std::int64_t product(const std::vector<std::int64_t>& extents) {
  return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, std::multiplies<>());
}

/// Of a block on samples of this shape.
nn::ResidualBlockOptions block_options(const LogDetEstimator& estimator,
                                       const std::vector<std::int64_t>& sample, double lipschitz) {
  return {.estimator = estimator, .evaluation = evaluation_estimator(product(sample), lipschitz)};
}

}  // namespace

DType dtype_of(const Architecture& architecture) {
  return architecture.dtype == "f64" ? DType::f64 : DType::f32;
}

LogDetEstimator evaluation_estimator(std::int64_t entries, double lipschitz) {
  if (entries <= most_exact) return Exact{};
  const double infinite_from = 1.0 - lipschitz * lipschitz;  // see Roulette
  return Roulette{.further = Geometric{.p = std::clamp(0.8 * infinite_from, 0.01, 0.15)}, .min_terms = 20};
}

FlowModel::FlowModel(const Architecture& a, const LogDetEstimator& estimator, std::uint64_t seed)
    : dtype_(dtype_of(a)), entries_(product(a.sample)), end_(a.sample) {
  Random random(seed);
  if (end_.size() == 1)
    add_dense(a, estimator, random);
  else
    add_convolutions(a, estimator, random);
  parts_.push_back({nn::ActNorm(end_[0], dtype_)});
  if (a.classes == 0) return;
  const nn::LinearOptions linear{.dtype = dtype_};
  if (end_.size() == 1) {  // two numbers need a layer more
    constexpr std::int64_t width = 64;
    head_.emplace_back(entries(), width, random, linear);
    head_.emplace_back(width, a.classes, random, linear);
  } else {
    head_.emplace_back(entries(), a.classes, random, linear);
  }
}

void FlowModel::add_dense(const Architecture& a, const LogDetEstimator& estimator, Random& random) {
  const nn::ResidualBlockOptions options = block_options(estimator, end_, a.lipschitz);
  std::vector<std::int64_t> widths{end_[0]};
  widths.insert(widths.end(), a.hidden.begin(), a.hidden.end());
  widths.push_back(end_[0]);
  for (std::int64_t i = 0; i < a.blocks; ++i) {
    parts_.push_back({nn::ActNorm(end_[0], dtype_)});
    parts_.push_back({DenseBlock(
        nn::contractive_mlp(widths, random, {.lipschitz = a.lipschitz, .dtype = dtype_}), random, options)});
  }
}

void FlowModel::add_convolutions(const Architecture& a, const LogDetEstimator& estimator, Random& random) {
  if (a.weigh) {
    parts_.push_back({nn::Dequantize(a.levels, random)});
    parts_.push_back({nn::LogitTransform()});
  }
  std::vector<std::int64_t> kernels(a.hidden.size() + 1, 1);  // 3, 1, ..., 1, 3
  kernels.front() = kernels.back() = 3;
  std::int64_t &c = end_[0], &h = end_[1], &w = end_[2];
  const auto even = [&] { return h % 2 == 0 && w % 2 == 0; };
  for (std::int64_t squeezed = 1; even() && (std::min(h, w) > 7 || (squeezed > 1 && squeezed <= a.scales));
       ++squeezed) {
    parts_.push_back({nn::Squeeze()});
    c *= 4, h /= 2, w /= 2;
    const nn::ResidualBlockOptions options = block_options(estimator, end_, a.lipschitz);
    std::vector<std::int64_t> channels{c};
    channels.insert(channels.end(), a.hidden.begin(), a.hidden.end());
    channels.push_back(c);
    for (std::int64_t i = 0; i < a.blocks; ++i) {
      parts_.push_back({nn::ActNorm(c, dtype_)});
      parts_.push_back({ConvBlock(
          nn::contractive_conv_net(channels, kernels, {h, w}, random,
                                   {.lipschitz = a.lipschitz, .activate_input = i > 0, .dtype = dtype_}),
          random, options)});
    }
    if (squeezed < a.scales && even()) {
      parts_.push_back({nn::ActNorm(c, dtype_)});
      parts_.push_back({nn::FactorOut()});
      c /= 2;
    }
  }
}

FlowModel::Transformed FlowModel::forward(const Var& x) const {
  Transformed at{{{}, nn::constant_log_det("flow", x, 0.0)}, {}};
  at.y = lead(x, [&](std::size_t, const auto& map, const Var& from) {
    auto next = map.forward(from);
    at.log_det = at.log_det + next.log_det;
    if constexpr (requires { next.report; }) at.reports.push_back(std::move(next.report));
    return std::move(next.y);
  });
  return at;
}

Var FlowModel::transform(const Var& x) const {
  return lead(x, [](std::size_t, const auto& map, const Var& from) -> Var {
    if constexpr (ResidualMap<std::decay_t<decltype(map)>>)
      return from + map.g(from);
    else
      return map.forward(from).y;
  });
}

Var FlowModel::log_density(const nn::Transformed& at) const {
  return at.log_det - 0.5 * nn::sum_of_samples(square(at.y)) -
         0.5 * static_cast<double>(entries()) * std::log(2.0 * std::numbers::pi);
}

Var FlowModel::logits(const Var& z) const {
  return head_.size() == 1 ? head_[0](z) : head_[1](tanh(head_[0](z)));
}

std::int64_t FlowModel::Inverted::failed() const {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < x.size(0); ++i)
    count += std::any_of(reports.begin(), reports.end(), [&](const SolveReport& report) {
      return report.samples[static_cast<std::size_t>(i)].status != Status::converged;
    });
  return count;
}

FlowModel::Inverted FlowModel::inverse(const Var& z, std::size_t first) const {
  const std::int64_t n = z.size(0);
  std::int64_t left = entries_;
  const auto take_last = [&](const Shape& shape) {  // of what is left of z
    const std::int64_t end = left;
    left -= shape.size(1, shape.rank());
    return reshape(slice(z, 1, left, end), shape);
  };
  Shape shape{n};
  for (const std::int64_t extent : end_) shape.push_back(extent);
  Inverted result{take_last(shape), {}};
  for (std::size_t i = parts_.size(); i-- > first;)
    std::visit(
        [&](const auto& map) {
          using Map = std::decay_t<decltype(map)>;
          if constexpr (ResidualMap<Map>) {
            ImplicitSolution found = map.solve(result.x);
            result.x = found.z;
            result.reports.push_back(std::move(found.report));
          } else if constexpr (std::same_as<Map, nn::FactorOut>) {
            result.x = map.inverse({take_last(result.x.shape()), result.x});
          } else {
            result.x = map.inverse(result.x);
          }
        },
        parts_[i].map);
  return result;
}

FlowModel::Inverted FlowModel::sample(std::int64_t count, std::uint64_t seed) const {
  Tensor z = Tensor::empty({count, entries_}, DType::f64);
  Random(seed).fill_normal(z.mutable_data<double>(), z.size());
  return inverse(Var(z.to(dtype_)));
}

std::size_t FlowModel::first_exact() const {
  return std::holds_alternative<nn::Dequantize>(parts_.front().map) ? 1 : 0;
}

std::int64_t FlowModel::blocks() const {
  return std::count_if(parts_.begin(), parts_.end(), [](const Part& part) {
    return std::holds_alternative<DenseBlock>(part.map) || std::holds_alternative<ConvBlock>(part.map);
  });
}

std::int64_t FlowModel::scales() const {
  return 1 + std::count_if(parts_.begin(), parts_.end(),
                           [](const Part& part) { return std::holds_alternative<nn::FactorOut>(part.map); });
}

void FlowModel::visit(nn::Visitor& visitor) { visitor("parts", parts_)("head", head_); }

}  // namespace banach::flow
