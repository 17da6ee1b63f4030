#include <apps/lab/rules.hpp>

#include <apps/cli/run.hpp>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace banach::lab {
namespace {

constexpr std::string_view allowed_rules =
    "implicit[:gmres|dense|picard|anderson|broyden], jfb, neumann:K, phantom:K:TAU, phantom-neumann:K:TAU, "
    "unrolled";
constexpr std::string_view allowed_solvers = "picard[:DAMPING], anderson[:MEMORY], broyden[:MEMORY]";
constexpr int max_adjoint_steps = 3000;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  for (std::size_t colon; (colon = text.find(':', from)) != text.npos; from = colon + 1)
    parts.push_back(text.substr(from, colon - from));
  parts.push_back(text.substr(from));
  return parts;
}

/// One "name:part:part" of the command line, read part by part.
class Spec {
 public:
  Spec(std::string_view option, const std::string& text, std::string_view allowed)
      : option_(option), text_(text), allowed_(allowed), parts_(split(text)) {}

  const std::string& name() const { return parts_.front(); }
  bool has(std::size_t part) const { return part < parts_.size(); }

  void expect_parts(std::size_t least, std::size_t most) const {
    const std::size_t given = parts_.size() - 1;
    if (given < least)
      refuse(fmt::format("'{}' needs {} number{} after its name", name(), least, least == 1 ? "" : "s"));
    if (given > most) refuse(fmt::format("'{}' is one part too many", parts_[most + 1]));
  }
  int count(std::size_t part, std::string_view what) const {
    const int value = number<int>(part, what);
    if (value < 1 || value > 10'000)
      refuse(fmt::format("{} must lie in [1, 10000], not '{}'", what, parts_[part]));
    return value;
  }
  double damping(std::size_t part, std::string_view what) const {
    const double value = number<double>(part, what);
    if (!(value > 0.0 && value <= 1.0))
      refuse(fmt::format("{} must lie in (0, 1], not '{}'", what, parts_[part]));
    return value;
  }
  const std::string& choice(std::size_t part, const std::vector<std::string>& choices) const {
    if (std::find(choices.begin(), choices.end(), parts_[part]) == choices.end())
      refuse(fmt::format("'{}' is not known after '{}'", parts_[part], name()));
    return parts_[part];
  }
  [[noreturn]] void refuse(const std::string& why) const {
    throw cli::UsageError(fmt::format("{} {}: {}; allowed: {}", option_, text_, why, allowed_));
  }

 private:
  template <class T>
  T number(std::size_t part, std::string_view what) const {
    const std::string& text = parts_[part];
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      refuse(fmt::format("{} must be a number, not '{}'", what, text));
    return value;
  }

  std::string_view option_;
  std::string text_;
  std::string_view allowed_;
  std::vector<std::string> parts_;
};

LinearSolver adjoint_solver(const std::string& name, double tolerance) {
  if (name == "dense") return Dense{};
  if (name == "picard") return Iterative{Picard{}, max_adjoint_steps, tolerance};
  if (name == "anderson") return Iterative{Anderson{}, max_adjoint_steps, tolerance};
  if (name == "broyden") return Iterative{Broyden{}, max_adjoint_steps, tolerance};
  return Gmres{.max_steps = max_adjoint_steps, .tolerance = tolerance};
}

}  // namespace

BackwardRule Rule::backward(double tolerance) const {
  switch (kind) {
    case Kind::implicit:
      return Implicit{adjoint_solver(linear_solver, tolerance)};
    case Kind::jacobian_free:
      return JacobianFree{};
    case Kind::neumann:
      return Neumann{terms};
    case Kind::phantom:
      return Phantom{terms, damping, Phantom::Form::unrolled};
    case Kind::phantom_neumann:
      return Phantom{terms, damping, Phantom::Form::neumann};
    case Kind::unrolled:
      break;
  }
  return Unrolled{};
}

std::string Rule::formula() const {
  switch (kind) {
    case Kind::implicit:
      return "λ = Jᵀλ + g, solved";
    case Kind::jacobian_free:
      return "λ = g";
    case Kind::neumann:
      return fmt::format("λ = Σ (Jᵀ)ⁱ g, i < {}", terms);
    case Kind::phantom:
      return fmt::format("gradient of {0} steps z ← {1:g} z + {2:g} f(z) from z*", terms, 1.0 - damping,
                         damping);
    case Kind::phantom_neumann:
      return fmt::format("λ = {1:g} Σ ({1:g} Jᵀ + {2:g} I)ⁱ g, i < {0}", terms, damping, 1.0 - damping);
    case Kind::unrolled:
      break;
  }
  return "gradient of the Picard iteration itself";
}

std::string Rule::paper() const {
  switch (kind) {
    case Kind::implicit:
      return "Bai, Kolter, Koltun 2019, Deep equilibrium models, theorem 1";
    case Kind::jacobian_free:
      return "Fung, Heaton et al. 2021, JFB: Jacobian-free backpropagation, eq. 12";
    case Kind::neumann:
      return "the Neumann series of the adjoint equation, cut";
    case Kind::phantom:
      return "Geng et al. 2021, On training implicit models, eq. 6";
    case Kind::phantom_neumann:
      return "Geng et al. 2021, On training implicit models, eq. 7";
    case Kind::unrolled:
      break;
  }
  return "backpropagation through every step; memory grows with them";
}

Rule parse_rule(const std::string& text) {
  const Spec spec("--rules", text, allowed_rules);
  const std::string& name = spec.name();
  Rule rule{.spec = text};
  if (name == "implicit") {
    spec.expect_parts(0, 1);
    if (spec.has(1)) rule.linear_solver = spec.choice(1, {"gmres", "dense", "picard", "anderson", "broyden"});
  } else if (name == "jfb" || name == "unrolled") {
    spec.expect_parts(0, 0);
    rule.kind = name == "jfb" ? Rule::Kind::jacobian_free : Rule::Kind::unrolled;
  } else if (name == "neumann") {
    spec.expect_parts(1, 1);
    rule.kind = Rule::Kind::neumann;
    rule.terms = spec.count(1, "K");
  } else if (name == "phantom" || name == "phantom-neumann") {
    spec.expect_parts(2, 2);
    rule.kind = name == "phantom" ? Rule::Kind::phantom : Rule::Kind::phantom_neumann;
    rule.terms = spec.count(1, "K");
    rule.damping = spec.damping(2, "TAU");
  } else {
    spec.refuse(fmt::format("there is no rule '{}'", name));
  }
  return rule;
}

std::vector<Rule> parse_rules(const std::vector<std::string>& specs) {
  std::vector<Rule> rules;
  for (const std::string& spec : specs) {
    const bool twice = std::any_of(rules.begin(), rules.end(), [&](const Rule& r) { return r.spec == spec; });
    if (twice) throw cli::UsageError(fmt::format("--rules: '{}' stands there twice", spec));
    rules.push_back(parse_rule(spec));
  }
  if (rules.empty()) throw cli::UsageError(fmt::format("--rules: expects at least one of {}", allowed_rules));
  return rules;
}

std::string adjoint_in_words(const std::string& rule, const std::string& status) {
  return status == name(Status::max_steps) && parse_rule(rule).truncated() ? "truncated by design" : status;
}

Solver parse_solver(const std::string& text) {
  const Spec spec("--solver", text, allowed_solvers);
  const std::string& name = spec.name();
  spec.expect_parts(0, 1);
  if (name == "picard") return Picard{.damping = spec.has(1) ? spec.damping(1, "DAMPING") : 1.0};
  if (name == "anderson")
    return Anderson{.memory = spec.has(1) ? spec.count(1, "MEMORY") : Anderson{}.memory};
  if (name == "broyden") return Broyden{.memory = spec.has(1) ? spec.count(1, "MEMORY") : Broyden{}.memory};
  spec.refuse(fmt::format("there is no solver '{}'", name));
}

}  // namespace banach::lab
