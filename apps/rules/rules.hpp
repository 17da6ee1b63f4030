#pragma once
// Backward rules and solvers by name, as they are given on the command line: "neumann:5", "phantom:5:0.5",
// "anderson:5".

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <apps/rules/closed_forms.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

namespace banach::rules {

/// A backward rule under study.
struct Rule {
  std::string spec{};  ///< as it was given, and as it is called in all results
  std::string formula{}, paper{};
  std::string solver{};         ///< of the forward equation, if it needs one of its own; else empty
  std::string solver_reason{};  ///< why it needs that one
  int max_steps = 0;            ///< of the forward equation, if fewer than for the others; else 0
  /// Why its adjoint equation is left unsolved on purpose, "truncated by design"; else empty.
  std::string by_design{};
  bool random = false;  ///< the estimate depends on numbers drawn

  /// The rule itself; `tolerance` is that of the adjoint solve and `seed` that of the numbers drawn, where
  /// there are any.
  std::function<BackwardRule(double tolerance, std::uint64_t seed)> backward{};
  /// Its estimate (or the mean of it) for f(z) = r z + b and g = 1, if it has a closed form; `steps` are
  /// those that the forward iteration took from 0.
  std::function<Dual(Dual r, int steps)> closed_form{};
};

/// Reads one rule. Throws cli::UsageError naming the option, the bad part and what is allowed (empty: all
/// rules).
Rule parse_rule(const std::string& spec, const std::string& option = "--rules",
                const std::string& allowed = {});

/// Reads several; none may stand twice. "all" stands for one of each family.
std::vector<Rule> parse_rules(const std::vector<std::string>& specs);

/// What --rules takes, one family a line: "neumann:K", ...
std::vector<std::string> rule_syntax();

/// The solver of a rule's forward equation where others use `solver`: in words, and itself.
std::string solver_of(const Rule& rule, const std::string& solver);
Solver forward_solver(const Rule& rule, const std::string& solver);

/// Most evaluations of f where others have `max_steps`.
int most_steps(const Rule& rule, int max_steps);

/// Which of the rules do not solve by `solver`, and why: one sentence for each reason.
std::vector<std::string> solver_notices(const std::vector<Rule>& rules, const std::string& solver);

/// An adjoint status in words for readers: a truncated series that stops at its last term, as it should, is
/// no solve that ran out of steps, and a gradient of an iteration solves no adjoint equation.
std::string adjoint_in_words(const std::string& rule, const std::string& status);

/// Reads picard[:DAMPING], anderson[:MEMORY], broyden[:MEMORY] or adjoint-broyden[:MEMORY]. Throws
/// cli::UsageError.
Solver parse_solver(const std::string& spec);

}  // namespace banach::rules
