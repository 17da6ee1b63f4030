#pragma once
// Backward rules and solvers by name, as they are given on the command line: "neumann:5", "phantom:5:0.5",
// "anderson:5".

#include <string>
#include <vector>

#include <banach/ops/implicit/backward.hpp>

namespace banach::lab {

/// A backward rule under study.
struct Rule {
  enum class Kind { implicit, jacobian_free, neumann, phantom, phantom_neumann, unrolled };

  Kind kind = Kind::implicit;
  std::string spec;                     ///< as it was given, and as it is called in all results
  std::string linear_solver = "gmres";  ///< implicit: of the adjoint equation
  int terms = 1;                        ///< neumann, phantom: K
  double damping = 1.0;                 ///< phantom: tau

  /// The rule itself; `tolerance` is that of the adjoint solve (implicit only).
  BackwardRule backward(double tolerance) const;
  /// Differentiating through the iteration needs the Picard solver.
  bool needs_picard() const { return kind == Kind::unrolled; }
  /// A series of so many terms by design: its adjoint equation is not meant to be solved.
  bool truncated() const { return kind != Kind::implicit && kind != Kind::unrolled; }
  std::string formula() const;
  std::string paper() const;
};

/// Reads one rule: implicit[:gmres|dense|picard|anderson|broyden], jfb, neumann:K, phantom:K:TAU,
/// phantom-neumann:K:TAU, unrolled. Throws cli::UsageError naming the bad part and what is allowed.
Rule parse_rule(const std::string& spec);

/// Reads several; none may stand twice.
std::vector<Rule> parse_rules(const std::vector<std::string>& specs);

/// An adjoint status in words for readers: a truncated series that stops at its last term, as it should, is
/// no solve that ran out of steps.
std::string adjoint_in_words(const std::string& rule, const std::string& status);

/// Reads picard[:DAMPING], anderson[:MEMORY] or broyden[:MEMORY]. Throws cli::UsageError.
Solver parse_solver(const std::string& spec);

}  // namespace banach::lab
