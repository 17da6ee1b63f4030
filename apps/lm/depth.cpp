#include <apps/lm/depth.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/cli/run.hpp>
#include <apps/rules/rules.hpp>
#include <apps/rules/spec.hpp>

namespace banach::lm {
namespace {

/// "implicit" of "implicit:gmres".
std::string family(const std::string& spec) { return spec.substr(0, spec.find(':')); }

}  // namespace

std::vector<std::string> depth_syntax() {
  std::vector<std::string> lines{"explicit:L[:M]"};
  for (const std::string& rule : rules::rule_syntax()) lines.push_back(rule);
  return lines;
}

bool is_explicit(const std::string& spec) { return family(spec) == "explicit"; }
bool is_exact(const std::string& spec) {
  return family(spec) == "implicit" && rules::parse_rule(spec, "--depth").by_design.empty();
}

nn::Depth parse_depth(const std::string& text, const SolveSettings& settings, std::uint64_t seed) {
  if (is_explicit(text)) {
    const rules::Spec spec("--depth", text, "explicit:L[:M]");
    spec.expect_parts(1, 2);
    const int layers = spec.count(1, "L"), every = spec.has(2) ? spec.count(2, "M") : 0;
    if (every > layers) spec.refuse(fmt::format("M must be at most L, not {}", every));
    return nn::WeightTied{.layers = layers, .checkpoint_every = every};
  }
  if (text.find(',') != text.npos)
    throw cli::UsageError(
        fmt::format("--depth {}: takes one; 'banach lm compare --depths' trains several", text));
  const rules::Rule rule =
      rules::parse_rule(text, "--depth", fmt::format("{}", fmt::join(depth_syntax(), ", ")));
  return FixedPointOptions{.solver = rules::forward_solver(rule, settings.solver),
                           .backward = rule.backward(settings.adjoint_tolerance, seed),
                           .tolerance = settings.tolerance,
                           .max_steps = rules::most_steps(rule, settings.max_steps),
                           .body = Body::replayed};
}

}  // namespace banach::lm
