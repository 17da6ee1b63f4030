#include <banach/nn/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace banach::nn {
namespace {

// Where `step` lies between `begin` and `end`, from 0 to 1.
double progress(double step, double begin, double end) {
  return end > begin ? std::clamp((step - begin) / (end - begin), 0.0, 1.0) : 1.0;
}

double half_cosine(double from, double to, double t) {
  return to + 0.5 * (from - to) * (1.0 + std::cos(std::numbers::pi * t));
}

}  // namespace

double ConstantSchedule::operator()(std::int64_t) const { return rate; }

double StepSchedule::operator()(std::int64_t step) const {
  return initial * std::pow(factor, static_cast<double>(step / std::max<std::int64_t>(1, every)));
}

double ExponentialSchedule::operator()(std::int64_t step) const {
  return initial * std::pow(decay, static_cast<double>(step));
}

double LinearSchedule::operator()(std::int64_t step) const {
  return std::lerp(initial, last, progress(static_cast<double>(step), 0.0, static_cast<double>(steps)));
}

double CosineSchedule::operator()(std::int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  return half_cosine(
      peak, last,
      progress(static_cast<double>(step), static_cast<double>(warmup), static_cast<double>(steps)));
}

double OneCycleSchedule::operator()(std::int64_t step) const {
  const auto at = static_cast<double>(step), end = static_cast<double>(steps), top = rise * end;
  if (at < top) return half_cosine(peak / start_divisor, peak, progress(at, 0.0, top));
  return half_cosine(peak, peak / last_divisor, progress(at, top, end));
}

}  // namespace banach::nn
