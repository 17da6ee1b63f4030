#include <banach/engine/random.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/backward.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace banach {
namespace {

// What one problem draws, and what it learns of its series.
struct Problem {
  PoolVector<int> terms;  // of each draw
  int longest = 0;
  bool cut = false;
  PoolVector<double> norms;  // of its terms
  double variance = 0.0;
};

Problem drawn(const RandomNeumann& rule, Random random) {
  Problem problem;
  for (int d = 0; d < rule.draws; ++d) {
    // P(further >= i) = P(1 - u <= survival^i) = survival^i, with u uniform on [0, 1).
    const double further = std::floor(std::log1p(-random.uniform()) / std::log(rule.survival));
    problem.cut = problem.cut || further > rule.max_terms - rule.min_terms;
    problem.terms.push_back(rule.min_terms +
                            static_cast<int>(std::min<double>(further, rule.max_terms - rule.min_terms)));
  }
  problem.longest = *std::max_element(problem.terms.begin(), problem.terms.end());
  return problem;
}

// The rate at which the newest terms shrink: a geometric mean, as of residuals.
double rate(const PoolVector<double>& norms) {
  const std::size_t ratios = std::min<std::size_t>(5, norms.size() - 1);
  const double newest = norms.back(), before = norms[norms.size() - 1 - ratios];
  return newest == 0.0 ? 0.0 : std::pow(newest / before, 1.0 / static_cast<double>(ratios));
}

Status status_of(const Problem& problem, double survival) {
  if (!std::isfinite(problem.norms.front())) return Status::non_finite;
  const double newest = rate(problem.norms);
  if (!(newest * newest < survival)) return Status::diverged;
  return problem.cut ? Status::max_steps : Status::converged;
}

// The sums over the terms so far that the variance of one draw is made of. With p_i = P(N >= i), that
// variance is sum_ij <t_i, t_j> (1 / p_min(i,j) - 1), and each pair is seen with probability p_max(i,j).
class Variance {
 public:
  Variance(const Var& g, const Shape& rows)
      : rows_(rows), earlier_(Tensor::zeros({rows[0], rows[1]}, g.dtype())) {}

  /// Takes in term j, whose mean weight over the draws (each 1 / p_j or 0) is given for each problem.
  void add(const Var& term, double probability, std::span<Problem> problems,
           const PoolVector<double>& weights) {
    const double factor = 1.0 / probability - 1.0;
    dispatch_floating(term.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* earlier = earlier_.mutable_data<T>();
      for (std::size_t s = 0; s < problems.size(); ++s) {
        if (weights[s] == 0.0) continue;
        const std::int64_t n = rows_[1], row = static_cast<std::int64_t>(s) * n;
        const T* t = term.value().data<T>() + row;
        problems[s].variance +=
            weights[s] * (factor * vec::dot(t, t, n) + 2.0 * vec::dot(t, earlier + row, n));
        vec::axpy(factor, t, earlier + row, n);
      }
    });
  }

 private:
  Shape rows_;
  Tensor earlier_;  // sum_i (1 / p_i - 1) t_i
};

// A number for each problem, broadcast over its part of the state.
Var per_problem(const Var& state, const Shape& rows, const PoolVector<double>& numbers) {
  Ints extents;
  for (int axis = 0; axis < state.rank(); ++axis) extents.push_back(axis == 0 ? rows[0] : 1);
  Tensor values = Tensor::empty(Shape(extents), state.dtype());
  dispatch_floating(state.dtype(), [&](auto zero) {
    using T = decltype(zero);
    std::transform(numbers.begin(), numbers.end(), values.mutable_data<T>(),
                   [](double x) { return static_cast<T>(x); });
  });
  return Var(values);
}

}  // namespace

void RandomNeumann::validate() const {
  const auto require = [](bool holds, std::string_view what, double given) {
    if (!holds) fail<ValueError>(name, fmt::format("{}: got {}", what, given));
  };
  require(survival > 0.0 && survival < 1.0, "survival must lie in (0, 1)", survival);
  require(min_terms >= 1, "min_terms must be at least 1", min_terms);
  require(max_terms >= min_terms, "max_terms must not be below min_terms", max_terms);
  require(draws >= 1, "draws must be at least 1", draws);
}

Adjoint RandomNeumann::solve(const Linearized& f, const Var& g) const {
  const Shape rows = f.rows();
  const Random sweep(seed, sweeps->fetch_add(1));
  PoolVector<Problem> problems;
  int longest = 2;  // two terms tell a rate
  for (std::int64_t s = 0; s < rows[0]; ++s) {
    problems.push_back(drawn(*this, sweep.split(static_cast<std::uint64_t>(s))));
    longest = std::max(longest, problems.back().longest);
  }

  Variance variance(g, rows);
  PoolVector<double> weights(problems.size());
  Adjoint result{.lambda = {}};
  Var term = g;
  for (int i = 0; i < longest; ++i) {
    if (i > 0) term = f.vjp_state(term);
    const PoolVector<double> norms = f.norms(term);
    const double probability = std::pow(survival, std::max(0, i - min_terms + 1));
    bool any = false;
    for (std::size_t s = 0; s < problems.size(); ++s) {
      const auto alive = std::count_if(problems[s].terms.begin(), problems[s].terms.end(),
                                       [i](int terms) { return i < terms; });
      weights[s] = static_cast<double>(alive) / (draws * probability);
      any = any || alive > 0;
      if (i < std::max(2, problems[s].longest)) problems[s].norms.push_back(norms[s]);
    }
    if (i > 0 && !any) break;
    variance.add(term, probability, problems, weights);
    const Var part = i < min_terms ? term : per_problem(g, rows, weights) * term;
    result.lambda = result.lambda.defined() ? result.lambda + part : part;
  }
  for (const Problem& problem : problems) {
    result.status.push_back(status_of(problem, survival));
    result.variance.push_back(problem.variance / draws);
  }
  return result;
}

}  // namespace banach
