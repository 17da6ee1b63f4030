#pragma once
// Backward rules: how the gradient passes through a fixed point. At z = f(z, theta), with g the cotangent of
// z, the implicit function theorem gives the cotangent of theta as lambda^T df/dtheta, where lambda solves
// the adjoint equation
//     lambda = J^T lambda + g,   J = df/dz.
// A rule is a small value that turns (linearised f, g) into lambda.

#include <banach/ops/implicit/linearized.hpp>

#include <memory>
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
  /// Cotangents of theta, for a rule that does not get them from lambda alone.
  Vars theta = {};
};

/// The exact gradient: lambda by a linear solve. Bai, Kolter, Koltun 2019, "Deep equilibrium models",
/// theorem 1. Differentiable to any order, each derivative being again one linear solve.
struct Implicit {
  LinearSolver solver = Gmres{};
  static constexpr std::string_view name = "implicit";
  static constexpr GradientKind kind = GradientKind::exact;
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// lambda = g. Fung, Heaton, Li, McKenzie, Osher, Yin 2021, "JFB: Jacobian-free backpropagation", eq. 12. A
/// descent direction where f is a contraction and df/dtheta well conditioned (theorem 3.1 there), not in
/// general. Its second derivatives are those of the estimate.
struct JacobianFree {
  static constexpr std::string_view name = "jacobian_free";
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// lambda = sum_{i < terms} (J^T)^i g: the Neumann series of (I - J^T)^-1, cut. Its second derivatives are
/// those of the estimate.
struct Neumann {
  int terms = 5;
  static constexpr std::string_view name = "neumann";
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// Phantom gradients: Geng, Zhang, Bai, Wang, Lin 2021, "On training implicit models". With damping tau,
///   unrolled (eq. 6 there): the derivative of `steps` iterations z <- (1 - tau) z + tau f(z) started at the
///   solution; Neumann (eq. 7): lambda = tau sum_{i < steps} (tau J^T + (1 - tau) I)^i g.
/// At an exact solution both are the same. Their second derivatives are those of the estimate.
struct Phantom {
  enum class Form : std::uint8_t { unrolled, neumann };
  int steps = 5;
  double damping = 0.5;
  Form form = Form::unrolled;
  static constexpr std::string_view name = "phantom";
  Adjoint solve(const Linearized& f, const Var& g) const;
};

/// Backpropagation through the iteration itself: fixed_point records every step, at a memory cost that grows
/// with them. Needs the Picard solver. The start z0 gets a gradient too. Exact for the iterate computed; as a
/// gradient of the fixed point it is approximate.
struct Unrolled {
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

/// Any of the above, or a rule of your own: any struct with a `name` and an `Adjoint solve(const Linearized&,
/// const Var& g) const`; `kind` is approximate unless the struct says otherwise. A rule that differentiates
/// an iteration of its own has, in place of `solve`, a `check` and an `iterate` like those of Unrolled.
class BackwardRule {
 public:
  template <class R>
  requires(!std::is_same_v<std::decay_t<R>, BackwardRule>) BackwardRule(R rule)
      : rule_(std::make_shared<const Model<R>>(std::move(rule))) {}  // NOLINT: implicit

  std::string_view name() const { return rule_->name(); }
  GradientKind kind() const { return rule_->kind(); }
  /// Whether the rule runs the forward pass itself, while a tape records.
  bool iterates() const { return rule_->iterates(); }
  Adjoint solve(const Linearized& f, const Var& g) const { return rule_->solve(f, g); }
  /// Before a forward pass, recorded or not. Throws ValueError for options that the rule cannot serve.
  void check(const FixedPointOptions& options) const { rule_->check(options); }
  ImplicitSolution iterate(FunctionRef<Var(const Var&)> f, const Var& z0,
                           const FixedPointOptions& options) const {
    return rule_->iterate(f, z0, options);
  }

 private:
  struct Concept {
    virtual ~Concept() = default;
    virtual std::string_view name() const = 0;
    virtual GradientKind kind() const = 0;
    virtual bool iterates() const = 0;
    virtual Adjoint solve(const Linearized& f, const Var& g) const = 0;
    virtual void check(const FixedPointOptions& options) const = 0;
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
    bool iterates() const override { return own_iteration; }
    Adjoint solve(const Linearized& f, const Var& g) const override {
      if constexpr (own_iteration)
        fail<ValueError>(R::name, "differentiates an iteration of its own, and only fixed_point runs one");
      else
        return rule.solve(f, g);
    }
    void check(const FixedPointOptions& options) const override {
      if constexpr (own_iteration) rule.check(options);
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
