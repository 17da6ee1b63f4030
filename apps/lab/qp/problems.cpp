#include <apps/lab/qp/problems.hpp>

#include <utility>

#include <fmt/format.h>

#include <apps/qp/file.hpp>
#include <banach/engine/error.hpp>

namespace banach::lab::qp {
namespace {

using Numbers = std::vector<double>;

Tensor vector(const Numbers& values) {
  return Tensor::from<double>(values, {static_cast<std::int64_t>(values.size())});
}

/// Rows of two.
Tensor matrix(const Numbers& values) {
  return Tensor::from<double>(values, {static_cast<std::int64_t>(values.size() / 2), 2});
}

/// p of an objective whose free optimum is c.
Tensor pulling_to(const Numbers& Q, const Vector& c) {
  return vector({-(Q[0] * c[0] + Q[1] * c[1]), -(Q[2] * c[0] + Q[3] * c[1])});
}

/// dp that moves the free optimum by d.
Line moving(const Numbers& Q, const Vector& d, const std::string& words) {
  return {.words = words, .p = pulling_to(Q, d)};
}

const Numbers tilted{2.0, 0.6, 0.6, 1.0}, plain{1.0, 0.0, 0.0, 1.0};
const Numbers triangle{1, 1, -1, 0, 0, -1}, triangle_h{2, 0, 0};

QpData inequalities(const Numbers& Q, const Vector& free_optimum, const Numbers& G, const Numbers& h) {
  return {.Q = matrix(Q), .p = pulling_to(Q, free_optimum), .G = matrix(G), .h = vector(h)};
}

std::vector<Problem> regular() {
  return {
      {.name = "interior",
       .title = "No constraint active",
       .story =
           "The free optimum is feasible, so it is the solution, and dz/dp = -Q^-1. The constraints could "
           "move a little without anybody noticing: dz/dh = 0.",
       .data = inequalities(tilted, {0.5, 0.7}, triangle, triangle_h),
       .reach = 1.5,
       .center = {0.9, 0.9}},
      {.name = "edge",
       .title = "One constraint active",
       .story = "The solution lies where a level curve touches an edge. It can slide along the edge, but not "
                "leave it: both columns of dz/dp lie in the edge. Moving the edge takes the solution along.",
       .data = inequalities(tilted, {1.6, 1.2}, triangle, triangle_h),
       .line = moving(tilted, {2.2, 0.6},
                      "p moves such that the free optimum goes from (-0.6, 0.6) to (3.8, 1.8)"),
       .reach = 1.7,
       .center = {1.0, 1.0}},
      {.name = "vertex",
       .title = "A vertex",
       .story = "Two independent constraints hold the solution. No small change of p moves it: dz/dp = 0, "
                "exactly. Moving one constraint makes it slide along the other.",
       .data = inequalities(tilted, {1.9, 1.7}, {1, 0, 0.3, 1, -1, -1}, {1.0, 1.2, 0.5}),
       .reach = 1.9,
       .center = {0.6, 0.5}},
      {.name = "almost",
       .title = "Almost weakly active",
       .story = "The free optimum is 0.02 beyond the edge. The derivative exists, and holds the solution to "
                "the edge; "
                "but only for small changes: a little farther on, the solution leaves the edge, as the pale "
                "lines do.",
       .data = inequalities(tilted, {1.02, 0.4}, {1, 0, 0, 1, -1, 0, 0, -1}, {1, 1, 0, 0}),
       .reach = 0.95,
       .center = {0.6, 0.5}},
      {.name = "near",
       .title = "Nearly parallel constraints",
       .story =
           "Two active constraints that meet at a small angle. The derivative exists, and is large: a small "
           "move of one constraint moves the vertex far.",
       .data = inequalities(plain, {2.0, 0.25}, {1, 0, 1, 0.1, 0, -1}, {1.0, 1.02, 0.9}),
       .reach = 1.3,
       .center = {0.9, 0.1}},
  };
}

std::vector<Problem> degenerate() {
  return {
      {.name = "weak",
       .title = "A weakly active constraint",
       .story =
           "The free optimum lies on an edge: multiplier and slack of that constraint are both 0. Pulled "
           "inwards the solution leaves the edge, pulled outwards it is held: the derivatives from left and "
           "right differ, so there is none. What is reported is an element of the generalised Jacobian: "
           "that of the constraint taken for inactive.",
       .data = inequalities(tilted, {1.0, 0.4}, {1, 0, 0, 1, -1, 0, 0, -1}, {1, 1, 0, 0}),
       .line = moving(tilted, {0.8, 0.3}, "p moves such that the free optimum crosses the edge at t = 0"),
       .reach = 0.95,
       .center = {0.6, 0.5}},
      {.name = "repeated",
       .title = "A constraint given twice",
       .story =
           "x₁ ≤ 1 stands there twice. Only the smaller of h₁ and h₂ counts, so there is no derivative by "
           "one of them alone; moving both together has one. The system of derivatives is singular, and its "
           "solution of least norm gives each row the same share.",
       .data = inequalities(plain, {2.0, 0.3}, {1, 0, 1, 0, 0, -1}, {1, 1, 0.6}),
       .line = Line{.words = "h₁ moves, h₂ stays", .h = vector({0.8, 0, 0})},
       .reach = 1.5,
       .center = {0.9, 0.3}},
      {.name = "three",
       .title = "Three constraints through one point",
       .story = "In the plane two constraints fix a vertex; the third is one too many. Each of them, moved "
                "inwards, takes the vertex along; moved outwards it may not matter at all. The least-squares "
                "answer shares the vertex among the three.",
       .data = inequalities(plain, {2.0, 1.8}, {1, 0, 0, 1, 1, 1}, {1, 1, 2}),
       .line = Line{.words = "h₃ moves: the third constraint sweeps across the vertex of the other two",
                    .h = vector({0, 0, 0.8})},
       .reach = 1.5,
       .center = {0.8, 0.8}},
      {.name = "pinned",
       .title = "Held from both sides",
       .story =
           "x₁ ≤ 1 and -x₁ ≤ -1: two inequalities that make an equality. Moved apart they let the solution "
           "go, moved together they leave no point at all, so differences exist on one side only.",
       .data = inequalities(plain, {1.8, 0.4}, {1, 0, -1, 0}, {1, -1}),
       .reach = 1.3,
       .center = {1.0, 0.3}},
      {.name = "equalities",
       .title = "Dependent equalities",
       .story =
           "The second row of A is twice the first. b = (1, 2) agrees with that; any other change of one "
           "entry alone has no solution. The least-squares answer is the derivative along the changes that "
           "keep the rows in agreement.",
       .data = {.Q = matrix(plain), .p = vector({-0.2, 0.4}), .A = matrix({1, 1, 2, 2}), .b = vector({1, 2})},
       .reach = 1.3,
       .center = {0.6, 0.3}},
      {.name = "flat",
       .title = "A solution that is not unique",
       .story =
           "Q is only semidefinite: nothing pulls along x₂, and every feasible point with x₁ = 0.5 would do. "
           "x₁ is determined, x₂ is not: pull along x₂ however little, and it jumps. What is returned lies "
           "amid the solutions, so it moves with the box, though no derivative says so.",
       .data = {.Q = matrix({1, 0, 0, 0}),
                .p = vector({-0.5, 0}),
                .G = matrix({0, 1, 0, -1, 1, 0, -1, 0}),
                .h = vector({1, 1, 1.2, 1.2})},
       .line = Line{.words = "p₂ moves from -0.5 to 0.5", .p = vector({0, 0.5})},
       .reach = 1.5},
  };
}

std::vector<Problem> without_solution() {
  return {
      {.name = "infeasible",
       .title = "No feasible point",
       .story = "No point lies on the allowed side of all three lines. The multipliers prove it: added with "
                "these weights, the left sides cancel and the right sides give a negative number, so the sum "
                "says 0 ≤ -1.",
       .data = inequalities(plain, {0.2, 0.2}, {1, 0, 0.2, 1, -1, -1}, {0.6, 0.6, -1.9}),
       .reach = 1.3,
       .center = {0.8, 0.7}},
      {.name = "unbounded",
       .title = "No lower bound",
       .story =
           "There is a direction along which nothing curves (Qz = 0), no constraint stops (Gz ≤ 0), and the "
           "objective falls (p'z < 0): following it, the objective falls without end.",
       .data = {.Q = matrix({1, -1, -1, 1}),
                .p = vector({-1, -0.5}),
                .G = matrix({-1, 0, 0, -1, 1, -1}),
                .h = vector({0, 0, 1})},
       .reach = 2.2,
       .center = {1.7, 1.7}},
      {.name = "non-convex",
       .title = "Not convex",
       .story = "Q has a negative eigenvalue: the level curves are hyperbolas, and a box would have several "
                "local optima. The problem is named, not solved, and nothing is drawn as its solution.",
       .data = {.Q = matrix({1, 0, 0, -1}),
                .p = vector({0.2, 0.1}),
                .G = matrix({1, 0, -1, 0, 0, 1, 0, -1}),
                .h = vector({1, 1, 1, 1})},
       .reach = 1.5},
  };
}

/// Problem i of what may have a batch axis, in f64.
Tensor part(const Tensor& t, int rank, std::int64_t i) {
  if (!t.defined()) return t;
  const Tensor x = t.to(DType::f64);
  if (x.rank() == rank) return x;
  Ints extents;
  for (int axis = 1; axis < x.rank(); ++axis) extents.push_back(x.shape()[axis]);
  return x.rows(i, i + 1).reshape(Shape(extents));
}

}  // namespace

const std::vector<Problem>& known_problems() {
  static const std::vector<Problem> all = [] {
    std::vector<Problem> problems = regular();
    for (const auto& more : {degenerate(), without_solution()})
      problems.insert(problems.end(), more.begin(), more.end());
    return problems;
  }();
  return all;
}

std::vector<Problem> problems_of_file(const std::string& path) {
  const QpData data = qp_command::read_problems(path);
  for (const auto& [name, tensor] : {std::pair("Q", &data.Q), std::pair("p", &data.p)})
    if (!tensor->defined())
      fail<FileError>("lab qp", fmt::format("{}: tensor '{}' is missing: what is drawn has both, Q (2,2) and "
                                            "p (2), if only as zeros",
                                            path, name));
  const QpSolution solution = [&] {  // says what does not fit together
    try {
      return solve_qp(data);
    } catch (const Error& error) {
      throw FileError(fmt::format("{}: {}", path, error.what()));
    }
  }();
  const auto count = static_cast<std::int64_t>(solution.report.samples.size());
  const std::int64_t variables = solution.z.shape()[solution.z.rank() - 1];
  if (variables != 2)
    fail<FileError>(
        "lab qp", fmt::format("{}: only problems in two variables can be drawn: p has {}", path, variables));
  constexpr std::int64_t most = 12;
  if (count < 1 || count > most)
    fail<FileError>("lab qp",
                    fmt::format("{}: from 1 to {} problems go on a page: there are {}", path, most, count));
  std::vector<Problem> problems;
  for (std::int64_t i = 0; i < count; ++i)
    problems.push_back({.name = fmt::format("problem-{}", i),
                        .title = fmt::format("Problem {}", i),
                        .story = fmt::format("Problem {} of {}.", i, path),
                        .data = {part(data.Q, 2, i), part(data.p, 1, i), part(data.G, 2, i),
                                 part(data.h, 1, i), part(data.A, 2, i), part(data.b, 1, i)}});
  return problems;
}

}  // namespace banach::lab::qp
