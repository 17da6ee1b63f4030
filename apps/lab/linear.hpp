#pragma once
// z = A z + b, where everything is known: the gradient of g^T z in b is lambda = (I - A^T)^-1 g, and every
// rule's estimate is phi(A^T) g for a function phi of its own. So each rule is held against its own closed
// form, found without the library.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <apps/lab/results.hpp>

namespace banach::lab {

struct LinearSettings {
  double rho = 0.9;
  bool nonnormal = false;
  std::int64_t dimension = 1;
  std::vector<Rule> rules{};
  std::string solver{};
  double tolerance = 1e-10;
  int max_steps = 1000;
  std::uint64_t seed = 0;
};

struct LinearRule {
  std::string spec{}, formula{};
  bool random = false;                ///< `computed` is a mean over draws
  std::vector<double> computed{};     ///< by the library, through the node
  std::vector<double> closed_form{};  ///< phi(A^T) g; empty if the rule has none
  double difference = unknown;        ///< ||computed - closed form|| / ||closed form||
  bool matches = false;
  Quality quality{};  ///< beside the exact gradient
  std::string forward_status{}, gradient_kind{}, adjoint_status{};
  int forward_evaluations = 0, backward_evaluations = 0;
};

struct LinearResults {
  Entries settings, environment;
  std::vector<double> exact;
  std::vector<LinearRule> rules;

  bool all_match() const;
};

/// Throws cli::UsageError for settings that contradict one another.
LinearSettings resolve_linear(const Options& options);

/// Is told how many rules are done and what is done now.
using LinearProgress = std::function<void(std::size_t done, const std::string& now)>;
LinearResults solve_linear_problem(
    const LinearSettings& settings, const LinearProgress& progress = [](std::size_t, const std::string&) {});

/// "descent", "points uphill" or "none".
std::string direction(const Quality& quality);
/// What must be said about a rule, if anything.
std::vector<std::string> remarks(const LinearRule& rule);

/// What is printed: the table and, for each rule that needs them, words.
std::string to_text(const LinearResults& results);
std::string summary_json(const LinearResults& results);

}  // namespace banach::lab
