#include <apps/flow/model.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {

DType dtype_of(const Architecture& architecture) {
  return architecture.dtype == "f64" ? DType::f64 : DType::f32;
}

LogDetEstimator evaluation_estimator(std::int64_t entries, double lipschitz) {
  if (entries <= most_exact) return Exact{};
  const double infinite_from = 1.0 - lipschitz * lipschitz;  // see Roulette
  return Roulette{.further = Geometric{.p = std::clamp(0.8 * infinite_from, 0.01, 0.15)}, .min_terms = 20};
}

FlowModel::FlowModel(const Architecture& a, const LogDetEstimator& estimator, std::uint64_t seed)
    : dtype_(dtype_of(a)), z_shape_(a.sample) {
  Random random(seed);
  const nn::ResidualBlockOptions options{.estimator = estimator,
                                         .evaluation = evaluation_estimator(entries(), a.lipschitz)};
  if (z_shape_.size() == 1)
    add_dense(a, options, random);
  else
    add_convolutions(a, options, random);
  parts_.push_back({nn::ActNorm(z_shape_[0], dtype_)});
  if (a.classes == 0) return;
  const nn::LinearOptions linear{.dtype = dtype_};
  if (z_shape_.size() == 1) {  // two numbers need a layer more
    constexpr std::int64_t width = 64;
    head_.emplace_back(entries(), width, random, linear);
    head_.emplace_back(width, a.classes, random, linear);
  } else {
    head_.emplace_back(entries(), a.classes, random, linear);
  }
}

void FlowModel::add_dense(const Architecture& a, const nn::ResidualBlockOptions& options, Random& random) {
  std::vector<std::int64_t> widths{z_shape_[0]};
  widths.insert(widths.end(), a.hidden.begin(), a.hidden.end());
  widths.push_back(z_shape_[0]);
  for (std::int64_t i = 0; i < a.blocks; ++i) {
    parts_.push_back({nn::ActNorm(z_shape_[0], dtype_)});
    parts_.push_back({DenseBlock(
        nn::contractive_mlp(widths, random, {.lipschitz = a.lipschitz, .dtype = dtype_}), random, options)});
  }
}

void FlowModel::add_convolutions(const Architecture& a, const nn::ResidualBlockOptions& options,
                                 Random& random) {
  if (a.weigh) {
    parts_.push_back({nn::Dequantize(a.levels, random)});
    parts_.push_back({nn::LogitTransform()});
  }
  std::vector<std::int64_t> kernels(a.hidden.size() + 1, 1);  // 3, 1, ..., 1, 3
  kernels.front() = kernels.back() = 3;
  std::int64_t &c = z_shape_[0], &h = z_shape_[1], &w = z_shape_[2];
  while (h % 2 == 0 && w % 2 == 0 && std::min(h, w) > 7) {
    parts_.push_back({nn::Squeeze()});
    c *= 4, h /= 2, w /= 2;
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
  }
}

FlowModel::Transformed FlowModel::forward(const Var& x) const {
  Transformed at{{x, nn::constant_log_det("flow", x, 0.0)}, {}};
  for (const Part& part : parts_)
    std::visit(
        [&](const auto& map) {
          auto next = map.forward(at.y);
          at.y = next.y;
          at.log_det = at.log_det + next.log_det;
          if constexpr (requires { next.report; }) at.reports.push_back(std::move(next.report));
        },
        part.map);
  return at;
}

Var FlowModel::transform(const Var& x) const {
  Var y = x;
  for (const Part& part : parts_)
    std::visit(
        [&](const auto& map) {
          if constexpr (ResidualMap<std::decay_t<decltype(map)>>)
            y = y + map.g(y);
          else
            y = map.forward(y).y;
        },
        part.map);
  return y;
}

Var FlowModel::log_density(const nn::Transformed& at) const {
  return at.log_det - 0.5 * nn::sum_of_samples(square(at.y)) -
         0.5 * static_cast<double>(entries()) * std::log(2.0 * std::numbers::pi);
}

Var FlowModel::logits(const Var& z) const {
  const Var flat = reshape(z, {z.size(0), entries()});
  return head_.size() == 1 ? head_[0](flat) : head_[1](tanh(head_[0](flat)));
}

bool FlowModel::Inverted::converged() const {
  return std::all_of(reports.begin(), reports.end(), [](const SolveReport& r) { return r.converged(); });
}

FlowModel::Inverted FlowModel::inverse(const Var& z, std::size_t first) const {
  Inverted result{z, {}};
  for (std::size_t i = parts_.size(); i-- > first;)
    std::visit(
        [&](const auto& map) {
          if constexpr (ResidualMap<std::decay_t<decltype(map)>>) {
            ImplicitSolution found = map.solve(result.x);
            result.x = found.z;
            result.reports.push_back(std::move(found.report));
          } else {
            result.x = map.inverse(result.x);
          }
        },
        parts_[i].map);
  return result;
}

FlowModel::Inverted FlowModel::sample(std::int64_t count, std::uint64_t seed) const {
  Shape shape{count};
  for (const std::int64_t extent : z_shape_) shape.push_back(extent);
  Tensor z = Tensor::empty(shape, DType::f64);
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

std::int64_t FlowModel::entries() const {
  return std::accumulate(z_shape_.begin(), z_shape_.end(), std::int64_t{1}, std::multiplies<>());
}

void FlowModel::visit(nn::Visitor& visitor) { visitor("parts", parts_)("head", head_); }

}  // namespace banach::flow
