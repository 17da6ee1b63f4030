#include <banach/nn/schedule.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach::nn;

TEST_CASE("constant, step and exponential schedules", "[schedule]") {
  CHECK(ConstantSchedule{0.5}(12345) == 0.5);
  const StepSchedule step{.initial = 1.0, .every = 10, .factor = 0.5};
  CHECK(step(0) == 1.0);
  CHECK(step(9) == 1.0);
  CHECK(step(10) == 0.5);
  CHECK(step(29) == 0.25);
  const ExponentialSchedule exponential{.initial = 2.0, .decay = 0.9};
  CHECK(exponential(0) == 2.0);
  CHECK(exponential(3) == Approx(2.0 * 0.729));
}

TEST_CASE("linear schedule", "[schedule]") {
  const LinearSchedule linear{.initial = 1.0, .last = 0.2, .steps = 8};
  CHECK(linear(0) == 1.0);
  CHECK(linear(2) == Approx(0.8));
  CHECK(linear(8) == Approx(0.2));
  CHECK(linear(100) == Approx(0.2));
  CHECK(LinearSchedule{.initial = 1.0, .last = 0.2, .steps = 0}(0) == Approx(0.2));
}

TEST_CASE("cosine schedule with warmup", "[schedule]") {
  const CosineSchedule cosine{.peak = 2.0, .last = 1.0, .steps = 20, .warmup = 4};
  CHECK(cosine(0) == Approx(0.5));
  CHECK(cosine(2) == Approx(1.5));
  CHECK(cosine(3) == Approx(2.0));
  CHECK(cosine(4) == Approx(2.0));
  CHECK(cosine(8) == Approx(1.0 + 0.5 * (1.0 + std::sqrt(0.5))));
  CHECK(cosine(12) == Approx(1.5));
  CHECK(cosine(20) == Approx(1.0));
  CHECK(cosine(1000) == Approx(1.0));
  CHECK(CosineSchedule{.peak = 2.0, .steps = 10}(0) == 2.0);
  for (std::int64_t i = 4; i < 20; ++i) CHECK(cosine(i + 1) < cosine(i));
}

TEST_CASE("one cycle", "[schedule]") {
  const OneCycleSchedule cycle{
      .peak = 1.0, .steps = 100, .rise = 0.3, .start_divisor = 25.0, .last_divisor = 1000.0};
  CHECK(cycle(0) == Approx(0.04));
  CHECK(cycle(15) == Approx(0.52));
  CHECK(cycle(30) == Approx(1.0));
  CHECK(cycle(65) == Approx(0.5005));
  CHECK(cycle(100) == Approx(0.001));
  CHECK(cycle(101) == Approx(0.001));
}
