#include <bench/table/deq.hpp>

#include <banach/banach.hpp>

#include <memory>

namespace bench {

using namespace banach;

namespace {

struct Layer {
  Tensor w, u;
  bool with_tanh;
  Counts counts;

  explicit Layer(const Equation& e)
      : w(Tensor::from(std::span<const float>(e.w), {e.d, e.d})),
        u(Tensor::from(std::span<const float>(e.u), {e.batch, e.d})),
        with_tanh(e.with_tanh) {}

  FixedPoint solve(const Var& at_w, const Var& at_u, const FixedPointOptions& options) {
    const auto f = [&](const Var& z) {
      const Var y = matmul(z, at_w, {.transpose_b = true}) + at_u;
      return with_tanh ? tanh(y) : y;
    };
    FixedPoint solved = fixed_point(f, zeros_like(at_u), options);
    counts.f = solved.report.nstep;
    return solved;
  }

  void step(const FixedPointOptions& options) {
    const Tape tape;
    const Var at_w = leaf(w), at_u = leaf(u);
    const FixedPoint solved = solve(at_w, at_u, options);
    grad(sum(solved.z), {at_w, at_u});
    if (solved.adjoint.run()) counts.vjp = solved.adjoint.last().evaluations;
  }
};

/// So many steps of a solver on a problem that takes more, without a backward pass.
FixedPointOptions steps(const Solver& solver, int count) {
  return {.solver = solver, .tolerance = 0.0, .max_steps = count, .body = Body::replayed};
}

/// Time of one step between two numbers of them.
Make step_between(const Solver& solver, int before, int after) {
  return [=] {
    const Equation e = slow_contraction(0.99);
    Work work = deq_solve(e, steps(solver, after));
    if (before > 0) work.less = deq_solve(e, steps(solver, before)).run;
    work.per = after - before;
    work.counts = {};
    return work;
  };
}

}  // namespace

FixedPointOptions exact(const Solver& solver, const ExactOptions& o) {
  return {.solver = solver,
          .backward = Implicit{Iterative{
              .solver = solver, .max_steps = o.max_steps, .tolerance = o.adjoint_tolerance}},
          .tolerance = o.tolerance,
          .max_steps = o.max_steps,
          .body = Body::replayed};
}

Work deq_step(const Equation& equation, const FixedPointOptions& options) {
  const auto layer = std::make_shared<Layer>(equation);
  return {.run = [=] { layer->step(options); }, .counts = [=] { return layer->counts; }};
}

Work deq_solve(const Equation& equation, const FixedPointOptions& options) {
  const auto layer = std::make_shared<Layer>(equation);
  return {.run = [=] { layer->solve(Var(layer->w), Var(layer->u), options); },
          .counts = [=] { return layer->counts; }};
}

Section deq_section() {
  Section section{"Equilibrium layer: d 256, batch 128, f32", {}};
  using Floors = std::function<double(const Counts&)>;
  const auto add = [&](const char* name, Make ours, Floors floors, Goal goal) {
    section.lines.push_back({.name = name,
                             .ours = std::move(ours),
                             .floor = product_floor(128, 256),
                             .floors = std::move(floors),
                             .goal = goal});
  };
  const auto training = [&](const char* name, const FixedPointOptions& options, Goal goal = {},
                            Floors floors = step_products) {
    const Make make = [=] { return deq_step(equilibrium(), options); };
    add(name, make, std::move(floors), goal);
  };
  const auto one_step = [&](const char* name, const Solver& solver, int before, int after, double goal) {
    add(name, step_between(solver, before, after), {}, {Goal::floor, goal});
  };
  // Banach's adjoint residuals are relative to the cotangent; lambda is about 2.3 times as long, since
  // 1 / sqrt(1 - 0.9^2) is. So both solves go to 1e-6 of what they find, as in the peer.
  const auto slow = [&](const char* name, const Solver& solver) {
    const FixedPointOptions options = exact(solver, {1e-6, 2.3e-6, 300});
    const Make make = [=] { return deq_step(slow_contraction(0.9), options); };
    add(name, make, step_products, {});
  };

  constexpr double tolerance = 1e-4;
  const auto with = [](const BackwardRule& rule) {
    return FixedPointOptions{
        .solver = Picard{}, .backward = rule, .tolerance = tolerance, .body = Body::replayed};
  };
  // Besides the solve and f recorded at its end, each step of the rule is f and its products with both
  // transposes.
  const Floors phantom = [](const Counts& c) { return c.f + 1.0 + 3.0 * 5.0; };
  const Anderson anderson{.memory = 6};

  training("Picard, exact", exact(Picard{}, {tolerance}), {Goal::floor, 1.1});
  training("Picard, JacobianFree", with(JacobianFree{}));
  training("Picard, Phantom(5)", with(Phantom{.steps = 5}), {}, phantom);
  training("Anderson(6), exact", exact(anderson, {tolerance}), {Goal::floor, 1.4});
  one_step("Anderson(6), one step", anderson, 0, 100, 1.4);
  training("Broyden, exact", exact(Broyden{}, {tolerance}), {Goal::floor, 1.6});
  one_step("Broyden, one step", Broyden{}, 0, 20, 1.6);
  one_step("Broyden, one step after 100", Broyden{}, 100, 120, 1.6);
  slow("slow contraction to 1e-6, Picard", Picard{});
  slow("slow contraction to 1e-6, Anderson(6)", anderson);
  slow("slow contraction to 1e-6, Broyden", Broyden{});
  return section;
}

}  // namespace bench
