#include <apps/rules/rules.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/run.hpp>
#include <apps/rules/spec.hpp>
#include <banach/ops/compare.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::rules {
namespace {

constexpr std::string_view allowed_solvers =
    "picard[:DAMPING], anderson[:MEMORY], broyden[:MEMORY], adjoint-broyden[:MEMORY]";
constexpr int max_adjoint_steps = 3000;
const std::string truncated = "truncated by design", estimated = "estimated by design";
const std::string through_picard =
    "A gradient through the iteration itself needs one whose steps can be differentiated.";

// ---- the families of rules: each reads its own parts, and says what it is

Rule implicit(const Spec& spec) {
  spec.expect_parts(0, 2);
  const std::string name =
      spec.has(1) ? spec.choice(1, {"gmres", "bicgstab", "dense", "picard", "anderson", "broyden"}) : "gmres";
  const bool cut = spec.has(2);
  if (cut && name != "gmres") spec.refuse("only gmres takes a number of products, as in implicit:gmres:5");
  const int most = cut ? spec.count(2, "K") : max_adjoint_steps;
  if (most < 2) spec.refuse("K must be at least 2: the last product is for the residual");
  const auto solver = [name, most](double tolerance) -> LinearSolver {
    if (name == "gmres") return Gmres{.max_steps = most, .tolerance = tolerance};
    if (name == "bicgstab") return BiCgStab{.max_steps = max_adjoint_steps, .tolerance = tolerance};
    if (name == "dense") return Dense{};
    return Iterative{parse_solver(name), max_adjoint_steps, tolerance};
  };
  if (cut)
    return {.formula = fmt::format("λ = p(Jᵀ) g, p of degree {} or less with the least residual, each "
                                   "sample by itself",
                                   most - 2),
            .paper = "Saad, Schultz 1986, GMRES: A generalized minimal residual algorithm, cut",
            .by_design = truncated,
            .backward = [solver](double tolerance, std::uint64_t) { return Implicit{solver(tolerance)}; }};
  return {.formula = "λ = Jᵀλ + g, solved",
          .paper = "Bai, Kolter, Koltun 2019, Deep equilibrium models, theorem 1",
          .backward = [solver](double tolerance, std::uint64_t) { return Implicit{solver(tolerance)}; },
          .closed_form = [](Dual r, int) { return resolvent(r); }};
}

/// P^T g of the preconditioned rule: each problem's g, scaled so that the residual of its adjoint equation is
/// least.
Var scaled(const Linearized& f, const Var& g) {
  const auto problems = static_cast<std::int64_t>(f.norms(g).size());
  const Shape rows{problems, problems == 0 ? 0 : g.size() / problems};
  const Var each = reshape(g, rows), rest = each - reshape(f.vjp_state(g), rows);
  // Where g is 0, any factor will do.
  const Var squares = sum(rest * rest, {1}, true), safe = where(greater(squares, 0.0), squares, 1.0);
  const Var factor = sum(each * rest, {1}, true) / safe;
  return reshape(factor * each, g.shape());
}

Rule jacobian_free(const Spec& spec) {
  spec.expect_parts(0, 1);
  if (spec.has(1)) {
    spec.choice(1, {"scaled"});
    return {.formula = "λ = α g, α of least residual",
            .paper = "Fung, Heaton et al. 2021, with a preconditioner: one product more",
            .by_design = truncated,
            .backward = [](double, std::uint64_t) { return JacobianFree{.preconditioner = scaled}; }};
  }
  return {.formula = "λ = g",
          .paper = "Fung, Heaton et al. 2021, JFB: Jacobian-free backpropagation, eq. 12",
          .by_design = truncated,
          .backward = [](double, std::uint64_t) { return JacobianFree{}; },
          .closed_form = [](Dual, int) { return constant(1.0); }};
}

Rule neumann(const Spec& spec) {
  spec.expect_parts(1, 1);
  const int terms = spec.count(1, "K");
  return {.formula = fmt::format("λ = Σ (Jᵀ)ⁱ g, i < {}", terms),
          .paper = "the Neumann series of the adjoint equation, cut",
          .by_design = truncated,
          .backward = [=](double, std::uint64_t) { return Neumann{terms}; },
          .closed_form = [=](Dual r, int) { return geometric(r, terms); }};
}

Rule random_neumann(const Spec& spec) {
  spec.expect_parts(1, 2);
  const double survival = spec.fraction(1, "P");
  if (survival == 1.0) spec.refuse("P must be below 1");
  const int draws = spec.has(2) ? spec.count(2, "DRAWS") : 1;
  return {
      .formula = fmt::format("λ = Σ (Jᵀ)ⁱ g / P(N ≥ i), i ≤ N random: one more term with probability {:g}{}",
                             survival, draws == 1 ? "" : fmt::format("; mean of {} draws", draws)),
      .paper = "Chen, Behrmann, Duvenaud, Jacobsen 2019, Residual flows, eq. 6 to 8",
      .random = true,
      .backward =
          [=](double, std::uint64_t seed) {
            return RandomNeumann{.survival = survival, .draws = draws, .seed = seed};
          },
      .closed_form = [](Dual r, int) { return resolvent(r); }};
}

Rule guarded_phantom(const Spec& spec) {
  spec.expect_parts(2, 2);
  const int terms = spec.count(1, "K");
  const double tau = spec.fraction(2, "TAU");
  return {
      .formula = fmt::format("λ = {1:g} Σ ({1:g} Jᵀ + {2:g} I)ⁱ g, i < m ≤ {0}, ended at the least "
                             "residual known, each sample by itself",
                             terms, tau, 1.0 - tau),
      .paper = "Geng et al. 2021, On training implicit models, eq. 7, with a guard that is not in the paper",
      .by_design = truncated,
      .backward = [=](double, std::uint64_t) {
        return Phantom{terms, tau, Phantom::Form::neumann, true};
      }};
}

Rule phantom(const Spec& spec, Phantom::Form form) {
  spec.expect_parts(2, 2);
  const int terms = spec.count(1, "K");
  const double tau = spec.fraction(2, "TAU");
  const bool unrolled = form == Phantom::Form::unrolled;
  return {.formula =
              unrolled
                  ? fmt::format("gradient of {} steps z ← {:g} z + {:g} f(z) from z*", terms, 1.0 - tau, tau)
                  : fmt::format("λ = {1:g} Σ ({1:g} Jᵀ + {2:g} I)ⁱ g, i < {0}", terms, tau, 1.0 - tau),
          .paper = fmt::format("Geng et al. 2021, On training implicit models, eq. {}", unrolled ? 6 : 7),
          .by_design = truncated,
          .backward =
              [=](double, std::uint64_t) {
                return Phantom{terms, tau, form};
              },
          .closed_form = [=](Dual r, int) { return tau * geometric(tau * r + constant(1.0 - tau), terms); }};
}

Rule unrolled(const Spec& spec) {
  spec.expect_parts(0, 1);
  const int every = spec.has(1) ? spec.count(1, "M") : 0;
  return {.formula = every == 0 ? "gradient of the Picard iteration itself"
                                : fmt::format("the same, keeping every {}th iterate: the steps between two "
                                              "are taken again",
                                              every),
          .paper = every == 0
                       ? "backpropagation through every step; memory grows with them"
                       : "Griewank 1992, Achieving logarithmic growth of temporal and spatial complexity",
          .solver = "picard",
          .solver_reason = through_picard,
          .backward = [=](double, std::uint64_t) { return Unrolled{every}; },
          .closed_form = [](Dual r, int steps) { return geometric(r, steps); }};
}

Rule truncated_unroll(const Spec& spec) {
  spec.expect_parts(1, 1);
  const int last = spec.count(1, "K");
  return {.formula = fmt::format("gradient of the last {} Picard steps", last),
          .paper = "Shaban, Cheng, Hatch, Boots 2019, Truncated back-propagation for bilevel optimization",
          .solver = "picard",
          .solver_reason = through_picard,
          .backward = [=](double, std::uint64_t) { return TruncatedUnroll{last}; },
          .closed_form = [=](Dual r, int steps) { return geometric(r, std::min(steps, last)); }};
}

Rule reversible(const Spec& spec) {
  spec.expect_parts(1, 2);
  const double b = spec.number(1, "B");
  if (!(b > 0.0 && b < 2.0 && b != 1.0)) spec.refuse("B must lie in (0, 2) and not be 1");
  const int most = spec.has(2) ? spec.count(2, "STEPS") : 0;
  return {.formula = fmt::format("gradient of y ← {0:g} y + {1:g} f(z), z ← {0:g} z + {1:g} f(y), each step "
                                 "inverted on the way back",
                                 1.0 - b, b),
          .paper = "McCallum, Arora, Foster 2025, Reversible deep equilibrium models",
          .solver = "its own iteration",
          .solver_reason = "Only steps that can be inverted need not be kept.",
          .max_steps = most,
          .backward = [=](double, std::uint64_t) { return Reversible{.damping = b}; },
          .closed_form =
              [=](Dual r, int steps) {
                Dual newer, older;  // derivatives of two neighbouring iterates
                for (int i = 0; i < steps; ++i)
                  older = std::exchange(newer, (1.0 - b) * older + b * (r * newer + constant(1.0)));
                return newer;
              }};
}

Rule shine(const Spec& spec, const std::string& solver) {
  spec.expect_parts(0, 2);
  Shine rule;
  if (spec.has(1)) rule.fallback = spec.positive(1, "FALLBACK");
  if (spec.has(2)) rule.refinements = spec.count(2, "R");
  const std::string guard = std::isinf(rule.fallback)
                                ? ""
                                : fmt::format("; λ = g where that is longer than {:g} ||g||", rule.fallback);
  const std::string refined =
      rule.refinements == 0 ? "" : fmt::format(", refined by {} product(s)", rule.refinements);
  return {.formula = fmt::format("λ = B⁻ᵀ g, B what {} learned of I - J{}{}", solver, refined, guard),
          .paper = "Ramzi et al. 2022, SHINE: sharing the inverse estimate" +
                   std::string(solver == "broyden" ? "" : "; Schlenkrich, Griewank, Walther 2010"),
          .solver = solver,
          .solver_reason = "Their estimate of the inverse is that of the solver.",
          .by_design = estimated,
          .backward = [=](double, std::uint64_t) { return rule; }};
}

/// random_neumann is random-neumann too.
std::string hyphenated(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

struct Family {
  std::string syntax;   ///< "name", "name:K", "name[:one|other]"
  std::string example;  ///< what "all" takes of it
  Rule (*read)(const Spec&);

  std::string name() const { return syntax.substr(0, syntax.find_first_of("[:")); }
};

const std::vector<Family>& families() {
  static const std::vector<Family> list{
      {"implicit[:gmres[:K]|bicgstab|dense|picard|anderson|broyden]", "implicit:gmres", implicit},
      {"jfb[:scaled]", "jfb", jacobian_free},
      {"neumann:K", "neumann:5", neumann},
      {"random-neumann:P[:DRAWS]", "random-neumann:0.9", random_neumann},
      {"phantom:K:TAU", "phantom:5:0.5",
       [](const Spec& spec) { return phantom(spec, Phantom::Form::unrolled); }},
      {"phantom-neumann:K:TAU", "phantom-neumann:5:0.5",
       [](const Spec& spec) { return phantom(spec, Phantom::Form::neumann); }},
      {"phantom-guarded:K:TAU", "phantom-guarded:5:0.5", guarded_phantom},
      {"shine[:FALLBACK[:R]]", "shine", [](const Spec& spec) { return shine(spec, "broyden"); }},
      {"adjoint-broyden[:FALLBACK[:R]]", "adjoint-broyden",
       [](const Spec& spec) { return shine(spec, "adjoint-broyden"); }},
      {"unrolled[:M]", "unrolled", unrolled},
      {"truncated:K", "truncated:5", truncated_unroll},
      // In f32 more steps than that cannot be inverted: rounding errors grow by 1 / (1 - B) every second one.
      {"reversible:B[:STEPS]", "reversible:0.8:8", reversible},
  };
  return list;
}

const std::string& allowed_rules() {
  static const std::string text = fmt::format("{}, all", fmt::join(rule_syntax(), ", "));
  return text;
}

}  // namespace

std::vector<std::string> rule_syntax() {
  std::vector<std::string> lines;
  for (const Family& family : families()) lines.push_back(family.syntax);
  return lines;
}

Rule parse_rule(const std::string& text, const std::string& option, const std::string& allowed) {
  const Spec spec(option, text, allowed.empty() ? allowed_rules() : allowed);
  for (const Family& family : families())
    if (family.name() == hyphenated(spec.name())) {
      Rule rule = family.read(spec);
      rule.spec = text;
      return rule;
    }
  spec.refuse(fmt::format("there is no rule '{}'", spec.name()));
}

std::vector<Rule> parse_rules(const std::vector<std::string>& specs) {
  std::vector<Rule> rules;
  const auto add = [&](const std::string& spec) {
    const bool twice = std::any_of(rules.begin(), rules.end(), [&](const Rule& r) { return r.spec == spec; });
    if (twice) throw cli::UsageError(fmt::format("--rules: '{}' stands there twice", spec));
    rules.push_back(parse_rule(spec));
  };
  for (const std::string& spec : specs)
    if (spec == "all")
      for (const Family& family : families()) add(family.example);
    else
      add(spec);
  if (rules.empty()) throw cli::UsageError("--rules: expects at least one of " + allowed_rules());
  return rules;
}

std::string solver_of(const Rule& rule, const std::string& solver) {
  return rule.solver.empty() ? solver : rule.solver;
}

int most_steps(const Rule& rule, int max_steps) {
  return rule.max_steps == 0 ? max_steps : std::min(rule.max_steps, max_steps);
}

Solver forward_solver(const Rule& rule, const std::string& solver) {
  if (const auto own = rule.backward(1.0, 0).solver()) return *own;
  return parse_solver(solver_of(rule, solver));
}

std::vector<std::string> solver_notices(const std::vector<Rule>& rules, const std::string& solver) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> others;  // by solver and reason
  for (const Rule& rule : rules)
    if (solver_of(rule, solver) != solver) others[{rule.solver, rule.solver_reason}].push_back(rule.spec);
  std::vector<std::string> texts;
  for (const auto& [why, specs] : others)
    texts.push_back(fmt::format("Solved by {}, not by {}: {}. {}", why.first, solver, fmt::join(specs, ", "),
                                why.second));
  return texts;
}

std::string adjoint_in_words(const std::string& spec, const std::string& status) {
  const Rule rule = parse_rule(spec);
  if (status == name(Status::max_steps) && !rule.by_design.empty()) return rule.by_design;
  if (status == name(Status::converged) && rule.backward(1.0, 0).iterates()) return "none: its own iteration";
  return status;
}

Solver parse_solver(const std::string& text) {
  const Spec spec("--solver", text, allowed_solvers);
  const std::string& name = spec.name();
  spec.expect_parts(0, 1);
  if (name == "picard") return Picard{.damping = spec.has(1) ? spec.fraction(1, "DAMPING") : 1.0};
  if (name == "anderson")
    return Anderson{.memory = spec.has(1) ? spec.count(1, "MEMORY") : Anderson{}.memory};
  if (hyphenated(name) == "adjoint-broyden")
    return AdjointBroyden{.memory = spec.has(1) ? spec.count(1, "MEMORY") : AdjointBroyden{}.memory};
  if (name == "broyden") return Broyden{.memory = spec.has(1) ? spec.count(1, "MEMORY") : Broyden{}.memory};
  spec.refuse(fmt::format("there is no solver '{}'", name));
}

}  // namespace banach::rules
