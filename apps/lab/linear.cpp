#include <apps/lab/linear.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <apps/cli/json.hpp>
#include <apps/cli/run.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/report/format.hpp>
#include <banach/nn/init.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/reduce.hpp>

namespace banach::lab {
namespace {

using Vector = std::vector<double>;

constexpr int linear_draws = 1000;  // of a rule that draws numbers
constexpr double shear = -10.0;     // the upper right entry of a nonnormal block

/// A with its spectrum known: symmetric, Q^T diag(d) Q, or blocks [[rho, shear], [0, rho]].
class Problem {
 public:
  explicit Problem(const LinearSettings& s) : n_(s.dimension), nonnormal_(s.nonnormal), rho_(s.rho) {
    if (nonnormal_) return;
    Random random(s.seed);
    q_ = n_ == 1 ? Tensor::ones({1, 1}, DType::f64) : nn::init::orthogonal({n_, n_}, random, 1.0, DType::f64);
    // From rho down to -rho / 2.
    for (std::int64_t i = 0; i < n_; ++i)
      eigenvalues_.push_back(
          rho_ * (1.0 - (n_ == 1 ? 0.0 : 1.5 * static_cast<double>(i) / static_cast<double>(n_ - 1))));
  }

  Tensor matrix() const {
    if (!nonnormal_) {
      const Tensor d = tensor(eigenvalues_, {n_, 1});
      return matmul(Var(q_), Var(d) * Var(q_), {.transpose_a = true}).value();
    }
    Tensor a = Tensor::zeros({n_, n_}, DType::f64);
    double* out = a.mutable_data<double>();
    for (std::int64_t i = 0; i < n_; ++i) {
      out[i * n_ + i] = rho_;
      if (i % 2 == 0) out[i * n_ + i + 1] = shear;
    }
    return a;
  }

  /// phi(A^T) g for g = (1, ..., 1).
  template <class Phi>
  Vector apply_to_ones(Phi phi_at) const {
    Vector result(static_cast<std::size_t>(n_));
    if (nonnormal_) {
      // phi([[r, 0], [c, r]]) = [[phi(r), 0], [c phi'(r), phi(r)]].
      const Dual f = phi_at(Dual{rho_, 1.0});
      for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = f.value + (i % 2 == 1 ? shear * f.derivative : 0.0);
      return result;
    }
    for (std::int64_t k = 0; k < n_; ++k) {
      double part = 0.0;
      for (std::int64_t i = 0; i < n_; ++i) part += q(k, i);
      part *= phi_at(constant(eigenvalues_[static_cast<std::size_t>(k)])).value;
      for (std::int64_t i = 0; i < n_; ++i) result[static_cast<std::size_t>(i)] += q(k, i) * part;
    }
    return result;
  }

 private:
  double q(std::int64_t k, std::int64_t i) const { return q_.data<double>()[k * n_ + i]; }

  std::int64_t n_;
  bool nonnormal_;
  double rho_;
  Tensor q_;
  Vector eigenvalues_;
};

double norm(const Vector& v) {
  double squares = 0.0;
  for (const double x : v) squares += x * x;
  return std::sqrt(squares);
}

Quality compare(const Vector& estimate, const Vector& exact) {
  double inner = 0.0;
  for (std::size_t i = 0; i < exact.size(); ++i) inner += estimate[i] * exact[i];
  return {inner / (norm(estimate) * norm(exact)), norm(estimate) / norm(exact), inner > 0.0};
}

double relative_difference(const Vector& computed, const Vector& expected) {
  Vector difference = computed;
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= expected[i];
  const double scale = norm(expected);
  return scale > 0.0 ? norm(difference) / scale : norm(difference);
}

/// The mean of some vectors, and the standard error of each entry of it.
struct Average {
  Vector mean, error;
};

Average average(const std::vector<Vector>& vectors) {
  const auto count = static_cast<double>(vectors.size());
  Average result{Vector(vectors.front().size()), Vector(vectors.front().size())};
  for (std::size_t i = 0; i < result.mean.size(); ++i) {
    for (const Vector& v : vectors) result.mean[i] += v[i] / count;
    for (const Vector& v : vectors) result.error[i] += (v[i] - result.mean[i]) * (v[i] - result.mean[i]);
    if (count > 1.0) result.error[i] = std::sqrt(result.error[i] / (count - 1.0) / count);
  }
  return result;
}

LinearRule solve_with(const LinearSettings& settings, const Rule& rule, const Problem& problem,
                      const Tensor& matrix, const Vector& exact) {
  constexpr double adjoint_tolerance = 1e-12, allowed_difference = 1e-8, allowed_errors = 5.0;
  const FixedPointOptions options{.solver = forward_solver(rule, settings.solver),
                                  .backward = rule.backward(adjoint_tolerance, settings.seed),
                                  .tolerance = settings.tolerance,
                                  .max_steps = most_steps(rule, settings.max_steps)};
  const Tape tape;
  const Var a(matrix), b = leaf(Tensor::ones({1, settings.dimension}, DType::f64));
  const FixedPoint solved = fixed_point([&](const Var& z) { return matmul(z, a, {.transpose_b = true}) + b; },
                                        Var(Tensor::zeros(b.shape(), DType::f64)), options);
  std::vector<Vector> gradients;
  for (int draw = 0; draw < (rule.random ? linear_draws : 1); ++draw) {
    // Unrolled may find no better iterate than the start, on which b has no influence.
    const Tensor gradient =
        solved.z.recorded() ? grad(sum(solved.z), {b}).front().value() : Tensor::zeros(b.shape(), DType::f64);
    gradients.emplace_back(gradient.data<double>(), gradient.data<double>() + gradient.size());
  }
  const Average found = average(gradients);

  LinearRule result{.spec = rule.spec, .formula = rule.formula, .random = rule.random};
  const SampleReport& forward = solved.report.samples.front();
  // The answer is the iterate before the evaluation with the smallest residual.
  const int steps = forward.best_step - 1;
  result.computed = found.mean;
  result.quality = compare(result.computed, exact);
  result.forward_status = name(forward.status);
  result.forward_evaluations = forward.nstep;
  bool unbiased = true;
  if (solved.adjoint.run()) {
    const GradientStatus& status = solved.adjoint.last().samples.front();
    result.gradient_kind = name(status.kind);
    result.adjoint_status = name(status.adjoint);
    result.backward_evaluations = solved.adjoint.last().evaluations;
    for (const AdjointReport& sweep : solved.adjoint.sweeps())
      unbiased = unbiased && sweep.samples.front().kind == GradientKind::unbiased;
  } else {
    result.gradient_kind = name(GradientKind::approximate);
    result.backward_evaluations = steps;
  }
  // A mean says little where the rule itself finds its variance infinite.
  if (rule.closed_form && (!rule.random || unbiased)) {
    result.closed_form = problem.apply_to_ones([&](Dual r) { return rule.closed_form(r, steps); });
    result.difference = relative_difference(result.computed, result.closed_form);
    result.matches = true;
    for (std::size_t i = 0; rule.random && i < found.mean.size(); ++i)
      result.matches = result.matches && std::abs(found.mean[i] - result.closed_form[i]) <=
                                             allowed_errors * found.error[i] +
                                                 allowed_difference * std::abs(result.closed_form[i]);
    if (!rule.random) result.matches = result.difference <= allowed_difference;
  }
  return result;
}

/// Few numbers in full, many by the first ones.
std::string numbers(const Vector& v) {
  const std::size_t shown = std::min<std::size_t>(v.size(), 2);
  if (v.empty()) return "none";
  std::string text;
  for (std::size_t i = 0; i < shown; ++i) text += fmt::format("{}{:.10g}", i == 0 ? "" : ", ", v[i]);
  if (v.size() > shown) text += ", ...";
  return v.size() == 1 ? text : "(" + text + ")";
}

}  // namespace

bool LinearResults::all_match() const {
  return std::all_of(rules.begin(), rules.end(),
                     [](const LinearRule& r) { return r.matches || r.closed_form.empty(); });
}

LinearSettings resolve_linear(const Options& o) {
  LinearSettings s{.rho = o.rho, .nonnormal = o.nonnormal, .solver = o.solver};
  s.dimension = o.dimension.value_or(s.nonnormal ? 2 : 1);
  if (s.nonnormal && s.dimension % 2 != 0)
    throw cli::UsageError(
        fmt::format("--dimension {}: must be even with --nonnormal, whose blocks are 2 x 2", s.dimension));
  if (s.rho == 1.0) throw cli::UsageError("--rho 1: I - A would be singular, and no gradient exists");
  s.rules = parse_rules(o.rules.empty() ? std::vector<std::string>{"implicit:gmres", "implicit:dense", "jfb",
                                                                   "neumann:5", "neumann:10", "phantom:5:0.5",
                                                                   "phantom-neumann:5:0.5", "unrolled"}
                                        : o.rules);
  parse_solver(s.solver);
  s.tolerance = o.tolerance.value_or(s.tolerance);
  s.max_steps = o.max_steps.value_or(s.max_steps);
  s.seed = o.common.seed;
  return s;
}

LinearResults solve_linear_problem(const LinearSettings& settings, const LinearProgress& progress) {
  progress(0, "making the problem");
  const Problem problem(settings);
  const Tensor matrix = problem.matrix();
  LinearResults results;
  results.settings = {{"--problem", "linear"},
                      {"--rho", fmt::format("{:g}", settings.rho)},
                      {"--nonnormal", settings.nonnormal ? "yes" : "no"},
                      {"--dimension", std::to_string(settings.dimension)},
                      {"--solver", settings.solver},
                      {"--tolerance", fmt::format("{:g}", settings.tolerance)},
                      {"--max-steps", std::to_string(settings.max_steps)},
                      {"--seed", std::to_string(settings.seed)}};
  results.exact = problem.apply_to_ones(resolvent);
  for (const Rule& rule : settings.rules) {
    progress(results.rules.size(), rule.spec);
    results.rules.push_back(solve_with(settings, rule, problem, matrix, results.exact));
  }
  progress(results.rules.size(), "done");
  return results;
}

std::string direction(const Quality& quality) {
  return quality.descent ? "descent" : quality.norm_ratio > 0.0 ? "points uphill" : "none";
}

std::vector<std::string> remarks(const LinearRule& rule) {
  std::vector<std::string> texts;
  if (rule.quality.norm_ratio == 0.0)
    texts.push_back(
        fmt::format("{} gives no gradient at all: no step came closer to a solution.", rule.spec));
  else if (!rule.quality.descent)
    texts.push_back(fmt::format("{} points uphill: its cosine to the exact gradient is {:.4f}.", rule.spec,
                                rule.quality.cosine));
  if (!rule.closed_form.empty() && !rule.matches)
    texts.push_back(fmt::format("{} does not match its own closed form: relative difference {:.1e}.",
                                rule.spec, rule.difference));
  return texts;
}

std::string to_text(const LinearResults& results) {
  std::vector<std::vector<std::string>> rows;
  std::string words;
  for (const LinearRule& r : results.rules) {
    if (r.random)
      words += fmt::format(
          "{}: the mean of {} draws, held against the mean's closed form within five standard errors.\n",
          r.spec, linear_draws);
    rows.push_back(
        {r.spec, numbers(r.computed), numbers(r.closed_form),
         r.closed_form.empty() ? "-" : report::format_number(r.difference, 2),
         fmt::format("{:.6f}", r.quality.cosine), fmt::format("{:.6g}", r.quality.norm_ratio),
         direction(r.quality), fmt::format("{} ({})", r.forward_status, r.forward_evaluations),
         r.adjoint_status.empty()
             ? "-"
             : fmt::format("{} ({})", adjoint_in_words(r.spec, r.adjoint_status), r.backward_evaluations),
         r.closed_form.empty() ? "-"
         : r.matches           ? "yes"
                               : "NO"});
    for (const std::string& remark : remarks(r)) words += remark + "\n";
  }
  return fmt::format("z = A z + b, loss 1^T z; the exact gradient in b: {}\n\n", numbers(results.exact)) +
         cli::text_table({"rule", "gradient", "closed form", "difference", "cosine", "norm ratio",
                          "direction", "forward (f)", "adjoint (vjp)", "matches"},
                         rows) +
         (words.empty() ? "" : "\n" + words);
}

std::string summary_json(const LinearResults& results) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["settings"] = cli::object_of(results.settings);
  json["environment"] = cli::object_of(results.environment);
  json["exact"] = results.exact;
  json["all_match"] = results.all_match();
  json["rules"] = Json::array();
  for (const LinearRule& r : results.rules)
    json["rules"].push_back({{"rule", r.spec},
                             {"formula", r.formula},
                             {"gradient", r.computed},
                             {"closed_form", r.closed_form},
                             {"relative_difference", r.difference},
                             {"matches", r.closed_form.empty() ? Json(nullptr) : Json(r.matches)},
                             {"cosine", r.quality.cosine},
                             {"norm_ratio", r.quality.norm_ratio},
                             {"descent", r.quality.descent},
                             {"forward_status", r.forward_status},
                             {"forward_evaluations", r.forward_evaluations},
                             {"gradient_kind", r.gradient_kind},
                             {"adjoint_status", r.adjoint_status},
                             {"backward_evaluations", r.backward_evaluations}});
  return json.dump(2) + "\n";
}

}  // namespace banach::lab
