#include <apps/flow/model.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <banach/ops/elementwise.hpp>

namespace banach::flow {

DType dtype_of(const Architecture& architecture) {
  return architecture.dtype == "f64" ? DType::f64 : DType::f32;
}

PointFlow::PointFlow(const Architecture& a, const LogDetEstimator& estimator, std::uint64_t seed)
    : dtype_(dtype_of(a)) {
  Random random(seed);
  std::vector<std::int64_t> widths{2};
  widths.insert(widths.end(), a.hidden.begin(), a.hidden.end());
  widths.push_back(2);
  for (std::int64_t i = 0; i < a.blocks; ++i) {
    norms_.emplace_back(2, dtype_);
    blocks_.emplace_back(nn::contractive_mlp(widths, random, {.lipschitz = a.lipschitz, .dtype = dtype_}),
                         random, nn::ResidualBlockOptions{.estimator = estimator, .evaluation = Exact{}});
  }
  norms_.emplace_back(2, dtype_);
  if (a.classes > 0) {
    constexpr std::int64_t width = 64;
    head_.emplace_back(2, width, random, nn::LinearOptions{.dtype = dtype_});
    head_.emplace_back(width, a.classes, random, nn::LinearOptions{.dtype = dtype_});
  }
}

nn::Transformed PointFlow::forward(const Var& x) const {
  nn::Transformed at = norms_.front().forward(x);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const nn::Transformed moved = blocks_[i].forward(at.y), scaled = norms_[i + 1].forward(moved.y);
    at = {scaled.y, at.log_det + moved.log_det + scaled.log_det};
  }
  return at;
}

Var PointFlow::log_density(const nn::Transformed& at) const {
  return at.log_det - 0.5 * nn::sum_of_samples(square(at.y)) - std::log(2.0 * std::numbers::pi);
}

Var PointFlow::logits(const Var& z) const { return head_[1](tanh(head_[0](z))); }

bool PointFlow::Inverted::converged() const {
  return std::all_of(reports.begin(), reports.end(), [](const SolveReport& r) { return r.converged(); });
}

PointFlow::Inverted PointFlow::inverse(const Var& z) const {
  Inverted result{norms_.back().inverse(z), {}};
  for (std::size_t i = blocks_.size(); i-- > 0;) {
    ImplicitSolution found = blocks_[i].solve(result.x);
    result.x = norms_[i].inverse(found.z);
    result.reports.push_back(std::move(found.report));
  }
  return result;
}

PointFlow::Inverted PointFlow::sample(std::int64_t count, std::uint64_t seed) const {
  Tensor z = Tensor::empty({count, 2}, DType::f64);
  Random(seed).fill_normal(z.mutable_data<double>(), z.size());
  return inverse(Var(z.to(dtype_)));
}

void PointFlow::visit(nn::Visitor& visitor) { visitor("norms", norms_)("blocks", blocks_)("head", head_); }

}  // namespace banach::flow
