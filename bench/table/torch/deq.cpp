// The equilibrium layer as users of LibTorch write it: iterate under NoGrad, one more evaluation with a
// graph, and the adjoint equation through that graph.
#include <bench/table/torch/peers.hpp>
#include <bench/table/torch/solvers.hpp>

#include <fmt/format.h>

namespace bench::peer {
namespace {

enum class Rule { exact, jacobian_free, phantom };

struct Layer {
  Tensor w, u;
  bool with_tanh;
  Counts counts;

  explicit Layer(const Equation& e)
      : w(tensor(e.w, {e.d, e.d})), u(tensor(e.u, {e.batch, e.d})), with_tanh(e.with_tanh) {}

  Tensor f(const Tensor& z, const Tensor& at_w, const Tensor& at_u) const {
    const Tensor y = torch::addmm(at_u, z, at_w.t());
    return with_tanh ? torch::tanh(y) : y;
  }

  Tensor solve(const Solver& solver, const Stop& stop) {
    const torch::NoGradGuard off;
    const Solved solved = solver([&](const Tensor& z) { return f(z, w, u); }, torch::zeros_like(u), stop);
    counts.f = solved.evaluations;
    return solved.z;
  }

  void step(const Solver& solver, const Stop& stop, Rule rule) {
    const Tensor at_w = w.detach().requires_grad_(), at_u = u.detach().requires_grad_();
    Tensor z = solve(solver, stop);
    if (rule == Rule::phantom) {
      for (int i = 0; i < 5; ++i) z = 0.5 * z + 0.5 * f(z, at_w, at_u);
      counts.vjp = 5;
      torch::autograd::grad({z.sum()}, {at_w, at_u});
      return;
    }
    z.requires_grad_();
    const Tensor value = f(z, at_w, at_u), g = torch::ones_like(value);
    Tensor lambda = g;
    counts.vjp = 1;
    if (rule == Rule::exact) {
      const auto pull = [&](const Tensor& x) {
        return torch::autograd::grad({value}, {z}, {x}, true)[0] + g;
      };
      const Solved solved = solver(pull, g, stop);
      counts.vjp += solved.evaluations;
      lambda = solved.z;
    }
    torch::autograd::grad({value}, {at_w, at_u}, {lambda});
  }
};

Make step(std::function<Equation()> equation, Solver solver, Stop stop, Rule rule = Rule::exact) {
  return [=] {
    const auto layer = std::make_shared<Layer>(equation());
    return Work{.run = [=] { layer->step(solver, stop, rule); }, .counts = [=] { return layer->counts; }};
  };
}

/// One step of a solver, as the difference of two solves.
Make step_between(Solver solver, int before, int after) {
  return [=] {
    const auto layer = std::make_shared<Layer>(slow_contraction(0.99));
    const auto solve = [=](int steps) { return [=] { layer->solve(solver, {0.0, steps}); }; };
    Work work{.run = solve(after)};
    if (before > 0) work.less = solve(before);
    work.per = after - before;
    return work;
  };
}

Make per_evaluation(Make make, double samples) {
  return [=] {
    Work work = make();
    work.per = samples;
    work.per_evaluation = true;
    return work;
  };
}

}  // namespace

void add_deq(std::map<std::string, Make>& work) {
  const Stop stop{1e-4, 100}, tight{1e-6, 200};
  const auto layer = [] { return equilibrium(); };
  const auto slow = [] { return slow_contraction(0.9); };
  work["Picard, exact"] = step(layer, picard, stop);
  work["Picard, JacobianFree"] = step(layer, picard, stop, Rule::jacobian_free);
  work["Picard, Phantom(5)"] = step(layer, picard, stop, Rule::phantom);
  work["Anderson(6), exact"] = step(layer, anderson(6), stop);
  work["Anderson(6), one step"] = step_between(anderson(6), 0, 100);
  work["Broyden, exact"] = step(layer, broyden, stop);
  work["Broyden, one step"] = step_between(broyden, 0, 20);
  work["Broyden, one step after 100"] = step_between(broyden, 100, 120);
  work["slow contraction to 1e-6, Picard"] = step(slow, picard, tight);
  work["slow contraction to 1e-6, Anderson(6)"] = step(slow, anderson(6), tight);
  work["slow contraction to 1e-6, Broyden"] = step(slow, broyden, tight);

  for (const std::int64_t batch : {1, 4, 16, 64, 256, 1024, 4096})
    work[fmt::format("batch {}", batch)] = per_evaluation(
        step([=] { return equilibrium(batch, 256); }, picard, stop), static_cast<double>(batch));
  for (const std::int64_t d : {16, 64, 256, 1024, 2048})
    work[fmt::format("d {}", d)] =
        per_evaluation(step([=] { return equilibrium(128, d); }, picard, stop), 128.0);
  const auto steps = [&](const std::string& name, const Solver& solver, int count) {
    work[steps_name(name, count)] = per_evaluation(
        step([] { return slow_contraction(0.99); }, solver, {0.0, count}, Rule::jacobian_free), 128.0);
  };
  for (const int count : {1, 10, 100, 1000}) steps("Picard", picard, count);
  for (const int count : {10, 100, 1000}) steps("Anderson(6)", anderson(6), count);
  for (const int count : {10, 100})
    steps("Broyden", broyden, count);  // 1000 would take a quarter of a minute
}

}  // namespace bench::peer
