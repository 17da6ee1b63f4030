#pragma once
// Backward rules: how the gradient passes through a fixed point. At z = f(z, theta), with g the cotangent of
// z, the implicit function theorem gives the cotangent of theta as lambda^T df/dtheta, where lambda solves
// the adjoint equation
//     lambda = J^T lambda + g,   J = df/dz.
// A rule is a small value that turns (linearised f, g) into lambda.

#include <banach/ops/implicit/linearized.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>

namespace banach {

/// A solution as an implicit node gives it: `const auto [z, report, adjoint] = fixed_point(f, z0, options);`
struct ImplicitSolution {
  Var z;  ///< of z0's shape: each sample's converged iterate, else the one with the smallest residual
  SolveReport report;  ///< how the solve went, for each sample
  AdjointLog adjoint;  ///< how each backward sweep through it went; empty until one ran
};

struct FixedPointOptions;

/// What a rule returns.
struct Adjoint {
  Var lambda;  ///< of the state's shape
  /// Status of each problem, if the rule solves to a tolerance. Left empty, the residual decides.
  PoolVector<Status> status = {};
  /// The newest term of a truncated series: the series diverges where the residual is larger than it.
  Var last_term = {};
  /// Variance of lambda for each problem, if it is random.
  PoolVector<double> variance = {};
  /// Not zero for each problem that a guard of the rule has given a simpler lambda.
  PoolVector<char> fell_back = {};
  /// Cotangents of theta, for a rule that does not get them from lambda alone.
  Vars theta = {};
};

/// The exact gradient: lambda by a linear solve. Bai, Kolter, Koltun 2019, "Deep equilibrium models",
/// theorem 1. Differentiable to any order, each derivative being again one linear solve.
struct Implicit {
  LinearSolver solver = Gmres{};
  static constexpr std::string_view name = "implicit";
  static constexpr GradientKind kind = GradientKind::exact;
  void validate() const;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// lambda = g. Fung, Heaton, Li, McKenzie, Osher, Yin 2021, "JFB: Jacobian-free backpropagation", eq. 12. A
/// descent direction where f is a contraction and df/dtheta well conditioned (theorem 3.1 there), not in
/// general. Its second derivatives are those of the estimate.
/// With a preconditioner, lambda = P^T g, P being what is known about (I - J)^-1: the paper's view of the
/// rule is that of a preconditioned gradient, with P the identity. The function is given the linearised f and
/// g, and returns P^T g of g's shape, computed by operations; one call a sweep.
struct JacobianFree {
  std::function<Var(const Linearized& f, const Var& g)> preconditioner = {};
  static constexpr std::string_view name = "jacobian_free";
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// lambda = sum_{i < terms} (J^T)^i g: the Neumann series of (I - J^T)^-1, cut. Its second derivatives are
/// those of the estimate.
struct Neumann {
  int terms = 5;
  static constexpr std::string_view name = "neumann";
  void validate() const;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// The whole Neumann series, without bias, from a random number of terms (Russian roulette):
///     lambda = sum_{i <= N} (J^T)^i g / P(N >= i),
/// as Chen, Behrmann, Duvenaud, Jacobsen 2019, "Residual flows for invertible generative modeling", eq. 6 to
/// 8, for the series of the log determinant and its gradient. The first `min_terms` terms are always taken;
/// each further one with probability `survival`. Every problem draws for itself; `draws` estimates that share
/// their terms are averaged, which costs the terms of the longest.
/// - The variance is finite where rho(J)^2 < survival. The rate is estimated from the last ratios of the
///   norms of the terms; where it says otherwise, the adjoint's status is diverged.
/// - A draw is cut at `max_terms`. Where it was, the estimate has a bias, and the status is max_steps.
/// - Else the status is converged, whatever the residual: the kind of the gradient is then `unbiased`, and
///   GradientStatus::variance tells how far from the mean a single one is.
/// The numbers drawn are a function of seed, sweep and problem. The counter of sweeps is shared by all copies
/// of a rule, so that each sweep draws anew and a program draws the same ones each time it runs (sweeps on
/// several threads count in the order in which they come). Second derivatives are unbiased as well: the
/// estimate is differentiated, and where z itself moves, sweeps through its node draw for themselves.
struct RandomNeumann {
  double survival = 0.9;  ///< probability of one more term, in (0, 1)
  int min_terms = 4;
  int max_terms = 1000;
  int draws = 1;
  std::uint64_t seed = 0;
  std::shared_ptr<std::atomic<std::uint64_t>> sweeps = std::make_shared<std::atomic<std::uint64_t>>(0);
  static constexpr std::string_view name = "random_neumann";
  static constexpr GradientKind kind = GradientKind::unbiased;
  void validate() const;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// SHINE: the inverse that the forward solver has learned, used again. Ramzi, Mannel, Bai, Starck, Ciuciu,
/// Moreau 2022, "SHINE: SHaring the INverse Estimate from the forward pass for bi-level optimization and
/// implicit models": lambda = B^-T g, with B the quasi-Newton matrix of I - J. Costs no product with J. Needs
/// Broyden or AdjointBroyden as solver (the node then keeps its memory), or one of yours that says
/// keeps_inverse.
/// - The fallback of the paper: a sample whose ||lambda|| exceeds `fallback` ||g|| takes that of JacobianFree
///   instead, and its report says so. The default is the paper's; where rho(J) is near 1 a right lambda is
///   longer than that, too. Infinity: never.
/// - Its refinement: `refinements` further iterations, here lambda <- lambda + B^-T (g + J^T lambda -
/// lambda),
///   one product each.
/// Adjoint Broyden's outer-problem-aware updates (the paper's OPA), which must know the loss during the
/// solve, are not made. Second derivatives are those of the estimate, with B held constant.
struct Shine {
  double fallback = 1.3;
  int refinements = 0;
  static constexpr std::string_view name = "shine";
  static constexpr bool needs_inverse = true;
  void validate() const;
  void check(const FixedPointOptions& options) const;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// Phantom gradients: Geng, Zhang, Bai, Wang, Lin 2021, "On training implicit models". With damping tau,
///   unrolled (eq. 6 there): the derivative of `steps` iterations z <- (1 - tau) z + tau f(z) started at the
///   solution; Neumann (eq. 7): lambda = tau sum_{i < steps} (tau J^T + (1 - tau) I)^i g.
/// At an exact solution both are the same. Their second derivatives are those of the estimate. The states of
/// the path are kept, and f is evaluated at them once more in the sweep, one at a time.
/// The Neumann form may be guarded, which is not in the paper. With M = tau J^T + (1 - tau) I its terms are
/// the residuals of its partial sums, u_m = tau sum_{i < m} M^i g: g - (I - J^T) u_m = M^m g. Where J has
/// eigenvalues left of 1 - 2 / tau they grow. A guarded sample's sum ends before the shortest of M g, ...,
/// M^(steps - 1) g, and so at the least residual known: no product more, one vector more. Where the last of
/// them is the shortest all `steps` terms are taken, the same bits as without a guard, although the residual
/// after the last term is not known. Elsewhere GradientStatus::fell_back is set. To derivatives the number of
/// terms is a constant. From 3 steps on it makes a difference.
struct Phantom {
  enum class Form : std::uint8_t { unrolled, neumann };
  int steps = 5;
  double damping = 0.5;
  Form form = Form::unrolled;
  bool guarded = false;  ///< for the Neumann form
  static constexpr std::string_view name = "phantom";
  void validate() const;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// Backpropagation through the iteration itself: fixed_point records every step, at a memory cost that grows
/// with them. Needs the Picard solver. The start z0 gets a gradient too. Exact for the iterate computed; as a
/// gradient of the fixed point it is approximate.
/// With checkpoint_every = m, only every m-th iterate is kept; a sweep records the steps between two of them
/// afresh, one segment at a time (Griewank 1992, "Achieving logarithmic growth of temporal and spatial
/// complexity in reverse automatic differentiation"; here one level of equal segments). For N steps that is
/// memory for N/m iterates and m recorded steps, least near m = sqrt(N), for one more evaluation of f a step.
/// The gradient is the same, bit for bit, where f alone uses what it captured. A sweep with create_graph
/// records every step. f is replayed from one recording of it, at the answer.
struct Unrolled {
  int checkpoint_every = 0;  ///< 0: every step is recorded, none evaluated again
  static constexpr std::string_view name = "unrolled";
  /// Throws ValueError for options that the rule cannot serve.
  void check(const FixedPointOptions& options) const;
  ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                           const FixedPointOptions& options) const;
};

/// Backpropagation through the last `steps` iterations before each sample's answer only: truncated
/// backpropagation, as Shaban, Cheng, Hatch, Boots 2019, "Truncated back-propagation for bilevel
/// optimization" (K-RMD there), on the path of Picard. The steps before them leave no gradient and cost no
/// memory: each sample remembers where it was up to `steps` iterations ago. With at least as many steps as
/// the solve took it is Unrolled, bit for bit, gradient of z0 included; a sample that took more gives z0
/// none. Its second derivatives are those of these steps. Needs the Picard solver.
struct TruncatedUnroll {
  int steps = 5;
  static constexpr std::string_view name = "truncated_unroll";
  void check(const FixedPointOptions& options) const;
  ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                           const FixedPointOptions& options) const;
};

/// A reversible iteration, whose gradient is exact at constant memory: McCallum, Arora, Foster 2025,
/// "Reversible deep equilibrium models", the coupled steps y <- (1 - b) y + b f(z), z <- (1 - b) z + b f(y)
/// from y = z = z0. Written as one sequence w of one evaluation a step, of which y and z are every other
/// member, w_{k+1} = (1 - b) w_{k-1} + b f(w_k); a sweep inverts each step, w_{k-1} = (w_{k+1} - b f(w_k)) /
/// (1 - b), and accumulates. It is the gradient of the iteration, in theta and in z0.
/// - The iteration takes the place of options.solver, with and without a tape. Stops are as ever: each sample
///   by itself, after any w_k, and a sweep goes back from there as many steps as that sample took.
/// - Inverting a step multiplies rounding errors by up to 1 / |1 - b|, every second evaluation: take b far
///   from 1 where many steps are needed. GradientStatus::reconstruction_error tells what has become of it.
///   Above `reconstruction_tolerance` the adjoint has diverged, and the policy holds.
/// - A sweep with create_graph records every step, for true second derivatives of the iteration.
struct Reversible {
  double damping = 0.8;  ///< b, in (0, 2) but not 1
  double reconstruction_tolerance = 1e-3;
  static constexpr std::string_view name = "reversible";
  Solver solver() const;
  void check(const FixedPointOptions& options) const;
  ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                           const FixedPointOptions& options) const;
};

/// Any of the above, or a rule of your own: any struct with a `name` and an `Adjoint solve(const Linearized&,
/// const Var& g) const`; `kind` is approximate unless the struct says otherwise, and
/// Linearized::estimate_inverse is there if it says `needs_inverse`. A `void validate() const` that throws
/// ValueError for options outside their domain is called before every forward pass. A rule that
/// differentiates an iteration of its own has, in place of `solve`, a `check` and an `iterate` like those of
/// Unrolled; and a `solver`, if that iteration takes the place of the options' solver.
class BackwardRule {
 public:
  template <class R>
  requires(!std::is_same_v<std::decay_t<R>, BackwardRule>) BackwardRule(R rule)
      : rule_(std::make_shared<const Model<R>>(std::move(rule))) {}  // NOLINT: implicit

  std::string_view name() const { return rule_->name(); }
  GradientKind kind() const { return rule_->kind(); }
  /// Whether the rule uses the inverse estimate of the forward solver.
  bool needs_inverse() const { return rule_->needs_inverse(); }
  /// Whether the rule runs the forward pass itself, while a tape records.
  bool iterates() const { return rule_->iterates(); }
  Adjoint solve(const Linearized& f, const Var& g) const { return rule_->solve(f, g); }
  /// Before a forward pass, recorded or not. Throws ValueError for an option of the rule outside its domain.
  void validate() const { rule_->validate(); }
  /// The same of fixed_point's options, if the rule cannot serve them.
  void check(const FixedPointOptions& options) const { rule_->check(options); }
  ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                           const FixedPointOptions& options) const {
    return rule_->iterate(f, z0, options);
  }
  /// The solver whose iteration the rule differentiates, where it is not one of the user's choice.
  std::optional<Solver> solver() const { return rule_->solver(); }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual std::string_view name() const = 0;
    virtual GradientKind kind() const = 0;
    virtual bool needs_inverse() const = 0;
    virtual bool iterates() const = 0;
    virtual Adjoint solve(const Linearized& f, const Var& g) const = 0;
    virtual void validate() const = 0;
    virtual void check(const FixedPointOptions& options) const = 0;
    virtual std::optional<Solver> solver() const = 0;
    virtual ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                                     const FixedPointOptions& options) const = 0;
  };
  template <class R>
  struct Model final : Concept {
    static constexpr bool own_iteration = requires { &R::iterate; };
    explicit Model(R r) : rule(std::move(r)) {}
    std::string_view name() const override { return R::name; }
    GradientKind kind() const override {
      if constexpr (requires { R::kind; })
        return R::kind;
      else
        return GradientKind::approximate;
    }
    bool needs_inverse() const override {
      if constexpr (requires { R::needs_inverse; })
        return R::needs_inverse;
      else
        return false;
    }
    bool iterates() const override { return own_iteration; }
    Adjoint solve(const Linearized& f, const Var& g) const override {
      if constexpr (own_iteration)
        fail<ValueError>(R::name, "differentiates an iteration of its own, and only fixed_point runs one");
      else
        return rule.solve(f, g);
    }
    void validate() const override {
      if constexpr (requires { &R::validate; }) rule.validate();
    }
    void check(const FixedPointOptions& options) const override {
      if constexpr (requires { &R::check; }) rule.check(options);
    }
    std::optional<Solver> solver() const override {
      if constexpr (requires { &R::solver; } && own_iteration)
        return rule.solver();
      else
        return {};
    }
    ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                             const FixedPointOptions& options) const override {
      if constexpr (own_iteration)
        return rule.iterate(f, z0, options);
      else
        fail<ValueError>(R::name, "has no iteration of its own");
    }
    R rule;
  };
  std::shared_ptr<const Concept> rule_;
};

}  // namespace banach
