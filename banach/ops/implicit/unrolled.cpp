#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace banach {
namespace {

// What was recorded so far: the iterates, and f at the newest.
struct Record {
  double damping;
  Shape rows;
  Vars path;
  Var value;
};

class RecordingStepper final : public Stepper {
 public:
  explicit RecordingStepper(Record& record) : record_(record) {}

  void propose(const Tensor&, const Tensor&, std::span<const char> active, Tensor& next) override {
    const Var& last = record_.path.back();
    Var step = choose_rows(
        record_.rows, [&](std::size_t i) { return active[i] != 0; },
        picard_step(last, record_.value, record_.damping), last);
    dispatch_floating(step.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const std::int64_t n = record_.rows[1];
      for (std::size_t i = 0; i < active.size(); ++i) {
        const std::int64_t row = static_cast<std::int64_t>(i) * n;
        if (active[i]) std::copy_n(step.value().template data<T>() + row, n, next.mutable_data<T>() + row);
      }
    });
    record_.path.push_back(std::move(step));
  }

 private:
  Record& record_;
};

// Picard, but for the tape.
struct RecordedPicard {
  Record* record;
  static constexpr std::string_view name = Picard::name;
  std::unique_ptr<Stepper> start(std::int64_t, std::int64_t, DType) const {
    return std::make_unique<RecordingStepper>(*record);
  }
};

// Picard, remembering where each sample was up to `length` steps ago.
class RememberingStepper final : public Stepper {
 public:
  RememberingStepper(const Picard& picard, Tensor& ring, std::int64_t batch, std::int64_t n)
      : picard_(picard.start(batch, n, ring.dtype())), ring_(ring), n_(n) {}

  // At evaluation k, of the samples that go on from there.
  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    ++evaluation_;
    const std::int64_t batch = static_cast<std::int64_t>(active.size()), length = ring_.shape()[0];
    dispatch_floating(z.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* slot = ring_.mutable_data<T>() + evaluation_ % length * batch * n_;
      for (std::int64_t i = 0; i < batch; ++i)
        if (active[static_cast<std::size_t>(i)]) std::copy_n(z.data<T>() + i * n_, n_, slot + i * n_);
    });
    picard_->propose(z, fz, active, next);
  }
  std::int64_t history_bytes() const override {
    return ring_.size() * static_cast<std::int64_t>(size_of(ring_.dtype()));
  }

 private:
  std::unique_ptr<Stepper> picard_;
  Tensor& ring_;
  std::int64_t n_, evaluation_ = 0;
};

struct RememberingPicard {
  Picard picard;
  Tensor* ring;
  static constexpr std::string_view name = Picard::name;
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType) const {
    return std::make_unique<RememberingStepper>(picard, *ring, batch, n);
  }
};

}  // namespace

void Unrolled::check(const FixedPointOptions& options) const {
  picard_damping(options, "Unrolled");
  if (checkpoint_every < 0)
    fail<ValueError>(name, fmt::format("checkpoint_every must not be negative: got {}", checkpoint_every));
}

ImplicitSolution Unrolled::iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                                   const FixedPointOptions& options) const {
  if (checkpoint_every > 0) return checkpointed(f, z0, checkpoint_every, options);
  Record record{picard_damping(options, "Unrolled"), state_rows(z0.shape(), options.batch), {z0}, {}};
  const auto map = [&](const Tensor&) {
    record.value = f(record.path.back());
    check_body("fixed_point", z0, record.value);
    return record.value.value().reshape(record.rows);
  };
  FixedPoint result;
  const Tensor start = z0.value().reshape(record.rows);
  result.report =
      solve_fixed_point(RecordedPicard{&record}, std::ref(map), start, stop_options(options)).report;

  // Usually the newest iterate is the best. Where it is not (a sample went astray, or broke), the steps up to
  // each sample's best iterate are recorded afresh, so that none behind it, with its NaNs, is on the way of
  // the gradient.
  const PoolVector<int> answer = answers(result.report);
  const int last = largest(answer);
  Var z = record.path.back();
  if (!straight(result.report)) {
    z = z0;
    for (int k = 1; k < last; ++k)
      z = choose_rows(
          record.rows, [&](std::size_t i) { return k < answer[i]; }, picard_step(z, f(z), record.damping), z);
  }
  result.z = reported(z, name, result, std::max(0, last - 1), options);
  return result;
}

void TruncatedUnroll::check(const FixedPointOptions& options) const {
  picard_damping(options, "TruncatedUnroll");
  if (steps < 1) fail<ValueError>(name, fmt::format("steps must be at least 1: got {}", steps));
}

ImplicitSolution TruncatedUnroll::iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                                          const FixedPointOptions& options) const {
  const double damping = picard_damping(options, "TruncatedUnroll");
  const Shape rows = state_rows(z0.shape(), options.batch);
  const std::int64_t length = std::min(steps, std::max(1, options.max_steps));
  FixedPoint result;
  Tensor from = z0.value();  // where each sample's recorded steps begin
  PoolVector<int> recorded;  // how many they are
  {
    const NoGrad off;
    const auto map = [&](const Tensor& z) { return at_rows("fixed_point", f, z0.shape(), z); };
    Tensor ring = Tensor::empty({length, rows[0], rows[1]}, z0.dtype());
    result.report = solve_fixed_point(RememberingPicard{{damping}, &ring}, std::ref(map),
                                      z0.value().reshape(rows), stop_options(options))
                        .report;
    const PoolVector<int> answer = answers(result.report);
    for (const int k : answer) recorded.push_back(std::min(steps, k - 1));
    if (steps >= largest(answer) - 1) {
      // Every step is among the last.
    } else if (straight(result.report)) {
      from = Tensor::empty(z0.shape(), z0.dtype());
      dispatch_floating(z0.dtype(), [&](auto zero) {
        using T = decltype(zero);
        for (std::int64_t i = 0; i < rows[0]; ++i) {
          const int k = answer[static_cast<std::size_t>(i)] - recorded[static_cast<std::size_t>(i)];
          const T* row = k == 1 ? z0.value().data<T>() : ring.data<T>() + k % length * rows[0] * rows[1];
          std::copy_n(row + i * rows[1], rows[1], from.mutable_data<T>() + i * rows[1]);
        }
      });
    } else {  // a sample went on after its answer, and forgot the way there
      Var z = z0.detach();
      for (int k = 1; k < largest(answer); ++k)
        z = choose_rows(
            rows, [&](std::size_t i) { return k < answer[i] - recorded[i]; }, picard_step(z, f(z), damping),
            z);
      from = z.value();
    }
  }
  // A sample with no more steps than that has its gradient in z0, like Unrolled.
  Var z = choose_rows(
      rows, [&](std::size_t i) { return result.report.samples[i].best_step - 1 <= steps; }, z0, Var(from));
  for (int k = 0; k < largest(recorded); ++k)
    z = choose_rows(
        rows, [&](std::size_t i) { return k < recorded[i]; }, picard_step(z, f(z), damping), z);
  result.z = reported(z, name, result, largest(recorded), options);
  return result;
}

}  // namespace banach
