// What an expert wants, from what it does: model predictive control of a pendulum that stands upright, whose
// cost weights and gravity are learned from an expert's plans. Each plan is a quadratic program with bounded
// torques, and the gradient passes through its solution (Amos, Rodriguez, Sacks, Boots and Kolter 2018,
// "Differentiable MPC for end-to-end planning and control").
#include <banach/banach.hpp>

#include <cstdio>

using namespace banach;

// States are (angle, velocity), linearised: velocity' = gravity angle + torque. All three numbers are
// positive; torques cost 1, which fixes the scale of the others.
struct Controller {
  static constexpr std::int64_t horizon = 20;
  static constexpr double seconds = 0.1;  // a step
  nn::Parameter log_weights;              // of angle and velocity
  nn::Parameter log_gravity;

  Controller(double angle, double velocity, double gravity)
      : log_weights(log(Var(tensor({angle, velocity}))).value()),
        log_gravity(log(Var(tensor({gravity}))).value()) {}

  // Torques (batch, horizon) within [-1, 1] from here on, for states x0 (batch, 2).
  QpSolved operator()(const Var& x0) const {
    // x[t+1] = A x[t] + B u[t]; what x[1], x[2], ... are after x[0] alone, and after u[0] alone.
    const Var A = Var(tensor({1.0, seconds, 0.0, 1.0}, {2, 2})) +
                  exp(log_gravity) * Var(tensor({0.0, 0.0, seconds, 0.0}, {2, 2}));
    const Var B(tensor({0.0, seconds}, {2, 1}));
    Vars by_state{A}, by_torque{B};
    for (std::int64_t t = 1; t < horizon; ++t) {
      by_state.push_back(matmul(A, by_state.back()));
      by_torque.push_back(matmul(A, by_torque.back()));
    }
    // A later torque does the same later: x = F x0 + S u.
    const Var F = concat(by_state, 0), first = concat(by_torque, 0);
    Vars columns;
    for (std::int64_t t = 0; t < horizon; ++t)
      columns.push_back(pad(slice(first, 0, 0, 2 * (horizon - t)), {2 * t, 0}, {0, 0}));
    const Var S = concat(columns, 1);

    const Var weighted = S * reshape(repeat(exp(log_weights), {horizon}), {-1, 1});
    const Var identity(Tensor::eye(horizon, DType::f64));
    return qp_solve({.Q = matmul(S, weighted, {.transpose_a = true}) + identity,
                     .p = matmul(matmul(x0, F, {.transpose_b = true}), weighted),
                     .G = concat({identity, -identity}, 0),
                     .h = Var(Tensor::ones({2 * horizon}, DType::f64))});
  }
  void visit(nn::Visitor& v) { v("log_weights", log_weights)("log_gravity", log_gravity); }
};

int main() {
  Random random(1);
  const Var x0(nn::init::uniform({64, 2}, -0.5, 0.5, random, DType::f64));
  const Controller expert(10.0, 1.0, 5.0);
  const Var plans = expert(x0).z;

  Controller learner(1.0, 4.0, 2.0);
  const nn::ParameterList parameters = nn::parameters(learner);
  nn::Adam adam(parameters, {.learning_rate = 0.05});
  double loss = 0.0;
  for (int step = 0; step <= 400; ++step) {
    Tape tape;
    const auto [u, nu, lambda, slack, report, adjoint] = learner(x0);
    const Var error = mse(u, plans);
    const Vars gradients = nn::grad(error, parameters);
    loss = error.item();
    if (step % 100 == 0) {
      const Tensor w = exp(learner.log_weights).value();
      std::printf(
          "step %3d  loss %.1e  angle %6.3f  velocity %6.3f  gravity %6.3f\n  plans     %s\n  gradient  %s\n",
          step, loss, w.at(0), w.at(1), exp(learner.log_gravity).item(), report.to_string().c_str(),
          adjoint.last().to_string().c_str());
    }
    adam.step(gradients);
  }
  return loss < 1e-8 ? 0 : 1;  // the expert's: angle 10, velocity 1, gravity 5
}
