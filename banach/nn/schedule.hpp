#pragma once
// Learning rates as functions of the step, counted from 0: `adam.set_learning_rate(schedule(step))`. Small
// values without state, so that a resumed run needs nothing but its step. Beyond their last step they stay
// where they are.

#include <cstdint>

namespace banach::nn {

struct ConstantSchedule {
  double rate = 1e-3;
  double operator()(std::int64_t step) const;
};

/// initial * factor^(step / every), rounded down.
struct StepSchedule {
  double initial = 1e-3;
  std::int64_t every = 1000;
  double factor = 0.1;
  double operator()(std::int64_t step) const;
};

/// initial * decay^step.
struct ExponentialSchedule {
  double initial = 1e-3;
  double decay = 0.999;
  double operator()(std::int64_t step) const;
};

/// From `initial` to `last` along a straight line over `steps`.
struct LinearSchedule {
  double initial = 1e-3, last = 0.0;
  std::int64_t steps = 1000;
  double operator()(std::int64_t step) const;
};

/// A straight rise from peak / warmup at step 0 to peak at step warmup - 1, then half a cosine from `peak`,
/// at step `warmup`, down to `last`, at step `steps`. Loshchilov and Hutter 2017, "SGDR", eq. 5, one cycle.
struct CosineSchedule {
  double peak = 1e-3, last = 0.0;
  std::int64_t steps = 1000, warmup = 0;
  double operator()(std::int64_t step) const;
};

/// From peak / start_divisor up to peak over the first `rise` part of the steps, then down to peak /
/// last_divisor, both along half a cosine. Smith and Topin 2019, "Super-convergence", section 4.
struct OneCycleSchedule {
  double peak = 1e-2;
  std::int64_t steps = 1000;
  double rise = 0.3, start_divisor = 25.0, last_divisor = 2.5e5;
  double operator()(std::int64_t step) const;
};

}  // namespace banach::nn
