#pragma once
// Solving z = f(z) for a batch of samples. Problem (a map of tensors), solver (a value) and stopping rule
// (options) are three separate things; the loop is written once, and a solver only proposes the next iterate.

#include <banach/engine/status.hpp>
#include <banach/engine/tensor.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <typeinfo>

namespace banach {

/// A map of the state, shape (batch, n) in and out, f32 or f64.
using StateMap = std::function<Tensor(const Tensor&)>;

/// The memory of one solve. `propose` writes the next iterate of every active sample into `next` (rows of
/// other samples must be left as they are): it sees the current iterate z, f(z), and which samples are still
/// active.
class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) = 0;
  virtual std::int64_t history_bytes() const { return 0; }

  // A solve inside a training loop takes all its memory from the pool.
  static void* operator new(std::size_t bytes) { return memory::allocate(bytes); }
  static void operator delete(void* stepper, std::size_t bytes) noexcept { memory::release(stepper, bytes); }
};

/// z <- z + damping (f(z) - z). With damping 1: z <- f(z).
struct Picard {
  double damping = 1.0;
  static constexpr std::string_view name = "picard";
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Anderson acceleration (Anderson 1965; Walker and Ni 2011, eq. 2.1 in its unconstrained form, type II), one
/// small least-squares problem a sample, with a ridge relative to the diagonal of its Gram matrix.
/// Safeguarded (safeguard.hpp): a sample whose residual grows to more than ten times the smallest, or does
/// not fall below it for ten evaluations, forgets its history and goes back to its best iterate; where that
/// does not help twice, it takes Picard steps for a while. So it converges where Picard does.
struct Anderson {
  int memory = 5;  ///< differences kept
  double damping = 1.0;
  double ridge = 1e-10;  ///< relative to the Gram matrix
  static constexpr std::string_view name = "anderson";
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Limited-memory "good" Broyden (Broyden 1965) on g(z) = f(z) - z, one low-rank inverse a sample, started
/// from -I, and safeguarded as Anderson is, but for the Picard steps: it also finds fixed points that repel
/// Picard. A full memory is emptied.
struct Broyden {
  int memory = 30;  ///< rank-one updates kept
  double damping = 1.0;
  static constexpr std::string_view name = "broyden";
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const;
};

/// Any of the above, or any struct with a `name` and a `start` like theirs.
class Solver {
 public:
  template <class S>
  requires(!std::is_same_v<std::decay_t<S>, Solver>)
      Solver(S solver)  // NOLINT: implicit, so that options read .solver = Anderson{.memory = 5}
      : name_(S::name),
        options_(std::allocate_shared<S>(memory::PoolAllocator<S>(), std::move(solver))),
        start_([](const void* options, std::int64_t batch, std::int64_t n, DType dtype) {
          return static_cast<const S*>(options)->start(batch, n, dtype);
        }),
        type_(&typeid(S)) {}
  std::string_view name() const { return name_; }
  std::unique_ptr<Stepper> start(std::int64_t batch, std::int64_t n, DType dtype) const {
    return start_(options_.get(), batch, n, dtype);
  }
  /// The solver as an S, or null if it is another one.
  template <class S>
  const S* get_if() const {
    return *type_ == typeid(S) ? static_cast<const S*>(options_.get()) : nullptr;
  }

 private:
  std::string_view name_;
  std::shared_ptr<const void> options_;
  std::unique_ptr<Stepper> (*start_)(const void*, std::int64_t, std::int64_t, DType);
  const std::type_info* type_;
};

/// When a sample stops; the statuses of status.hpp are defined with these.
struct StopOptions {
  int max_steps = 100;      ///< evaluations of f
  double tolerance = 1e-4;  ///< rtol: relative to ||f(z)||
  /// atol; unless given, 1e-6 tolerance min(1, r_1), r_1 being the first residual: enough for a solution of
  /// zero to converge, and too little to matter for any other, however small the units.
  std::optional<double> absolute_tolerance = {};
  double error_factor = 100.0;  ///< the estimated error may be this much larger than the residual's bound
  double divergence_factor = 1e6;
  int stagnation_window = 100;
  bool whole_trace = false;
};

struct FixedPointSolution {
  Tensor z;   ///< for each sample the iterate of its best_step, (batch, n)
  Tensor fz;  ///< f at it; where nothing finite was evaluated, the start
  SolveReport report;
};

/// Solves z = f(z) from z0 (batch, n). A sample freezes when it stops; the others go on as if alone. Throws
/// ShapeError when f changes the shape (both shapes are named), ValueError for options outside their domain
/// (max_steps < 0, a tolerance that is negative or NaN, ...). With max_steps 0, f is not evaluated and z is
/// z0. An empty batch is an empty solution.
FixedPointSolution solve_fixed_point(const Solver& solver, const StateMap& f, const Tensor& z0,
                                     const StopOptions& options);

}  // namespace banach
