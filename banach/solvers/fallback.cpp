#include <banach/solvers/check.hpp>
#include <banach/solvers/fallback.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

template <class T>
class FallbackStepper final : public Stepper {
 public:
  FallbackStepper(const Fallback& options, const FixedPointProblem& problem, std::int64_t batch,
                  std::int64_t n, DType dtype)
      : members_(options.members),
        problem_(&problem),
        batch_(batch),
        n_(n),
        dtype_(dtype),
        steppers_(members_.size()),
        samples_(static_cast<std::size_t>(batch)),
        first_z_(Tensor::zeros({batch, n}, dtype)),
        first_f_(first_z_),
        best_z_(first_z_),
        best_f_(first_z_) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    remember(z, fz, active);
    Tensor from_z = z, from_f = fz;  // the rows that the members go on from
    PoolVector<char> waiting(active.begin(), active.end());
    for (std::size_t m = 0; m < members_.size(); ++m) {
      PoolVector<char> mine(waiting.size(), 0);
      bool any = false;
      for (std::int64_t s = 0; s < batch_; ++s) {
        Sample& sample = samples_[static_cast<std::size_t>(s)];
        if (!waiting[static_cast<std::size_t>(s)] || sample.member != m) continue;
        if (must_leave(sample)) {
          enter(s, m + 1, from_z, from_f);
          continue;
        }
        mine[static_cast<std::size_t>(s)] = 1;
        any = true;
      }
      if (!any) continue;
      auto& stepper = steppers_[m];
      if (!stepper) stepper = members_[m].solver.start(*problem_, batch_, n_, dtype_);
      stepper->propose(from_z, from_f, mine, next);
      for (std::int64_t s = 0; s < batch_; ++s) {
        if (!mine[static_cast<std::size_t>(s)]) continue;
        Sample& sample = samples_[static_cast<std::size_t>(s)];
        sample.info = stepper->info(s);
        if (sample.info.end && has_next(m)) {
          enter(s, m + 1, from_z, from_f);
          continue;
        }
        sample.info.restarted = sample.info.restarted || (m > 0 && sample.steps == 0);
        ++sample.steps;
        waiting[static_cast<std::size_t>(s)] = 0;
      }
    }
  }

  StepInfo info(std::int64_t s) const override {
    const Sample& sample = samples_[static_cast<std::size_t>(s)];
    StepInfo info = sample.info;
    info.products += sample.products;
    info.evaluations += sample.evaluations;
    return info;
  }

  bool retry(std::int64_t s, Status status) override {
    Sample& sample = samples_[static_cast<std::size_t>(s)];
    if (sample.steps == 0) return false;  // the start itself is bad
    if (steppers_[sample.member]->retry(s, status)) return true;
    sample.failed = true;
    return has_next(sample.member);
  }

  std::int64_t history_bytes() const override {
    std::int64_t bytes = 4 * first_z_.size() * static_cast<std::int64_t>(sizeof(T));
    for (const auto& stepper : steppers_) bytes += stepper ? stepper->history_bytes() : 0;
    return bytes;
  }

 private:
  struct Sample {
    std::size_t member = 0;
    int steps = 0;  // with this member
    bool started = false;
    bool failed = false;                // this member's last point ended in failure
    double best = 0.0;                  // the smallest residual so far
    int products = 0, evaluations = 0;  // of the members before
    StepInfo info;
  };

  bool has_next(std::size_t member) const { return member + 1 < members_.size(); }
  bool must_leave(const Sample& sample) const {
    return has_next(sample.member) && (sample.failed || sample.steps >= members_[sample.member].steps);
  }

  void remember(const Tensor& z, const Tensor& fz, std::span<const char> active) {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T *first_z = first_z_.mutable_data<T>(), *first_f = first_f_.mutable_data<T>(),
      *best_z = best_z_.mutable_data<T>(), *best_f = best_f_.mutable_data<T>();
    vec::for_active(active, n_, [&](std::int64_t s) {
      Sample& sample = samples_[static_cast<std::size_t>(s)];
      const std::int64_t row = s * n_;
      if (!sample.started) {
        vec::copy(z_data + row, first_z + row, n_);
        vec::copy(f_data + row, first_f + row, n_);
      }
      const double residual = vec::all_finite(f_data + row, n_)
                                  ? vec::distance(f_data + row, z_data + row, n_)
                                  : std::numeric_limits<double>::infinity();
      if (!sample.started || residual < sample.best) {
        sample.best = residual;
        vec::copy(z_data + row, best_z + row, n_);
        vec::copy(f_data + row, best_f + row, n_);
      }
      sample.started = true;
    });
  }

  // From now on the sample is the next member's, which goes on from a point already known.
  void enter(std::int64_t s, std::size_t member, Tensor& from_z, Tensor& from_f) {
    Sample& sample = samples_[static_cast<std::size_t>(s)];
    sample.member = member;
    sample.steps = 0;
    sample.failed = false;
    sample.products += sample.info.products;
    sample.evaluations += sample.info.evaluations;
    sample.info = {};
    const bool best = members_[member].from_best;
    const T *z = (best ? best_z_ : first_z_).template data<T>(),
            *f = (best ? best_f_ : first_f_).template data<T>();
    vec::copy(z + s * n_, from_z.mutable_data<T>() + s * n_, n_);
    vec::copy(f + s * n_, from_f.mutable_data<T>() + s * n_, n_);
  }

  std::vector<FallbackMember> members_;
  const FixedPointProblem* problem_;
  std::int64_t batch_, n_;
  DType dtype_;
  std::vector<std::unique_ptr<Stepper>> steppers_;  // null until somebody needs them
  PoolVector<Sample> samples_;
  Tensor first_z_, first_f_, best_z_, best_f_;
};

}  // namespace

std::vector<FallbackMember> Fallback::standard() {
  return {{Newton{}, 100},
          {LevenbergMarquardt{}, 400},
          {Newton{.line_search = false}, 400},
          {LevenbergMarquardt{.radius = 1.0, .scaled = false}, 1000}};
}

std::unique_ptr<Stepper> Fallback::start(const FixedPointProblem& problem, std::int64_t batch, std::int64_t n,
                                         DType dtype) const {
  if (members.empty()) fail<ValueError>(name, "needs at least one member: got none");
  for (const FallbackMember& member : members)
    if (member.steps < 1)
      fail<ValueError>(name, fmt::format("a member needs at least one step: got {} for {}", member.steps,
                                         member.solver.name()));
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<FallbackStepper<decltype(zero)>>(*this, problem, batch, n, dtype);
  });
}

}  // namespace banach
