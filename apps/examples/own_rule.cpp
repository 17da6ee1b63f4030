// A backward rule of your own: any struct with a name and a solve. Here lambda = (I + J^T + (J^T)^2) g, with
// the last term weighted as if the rest of the series were geometric with ratio rho.
#include <banach/banach.hpp>

#include <cstdio>

using namespace banach;

struct Extrapolated {
  double rho = 0.9;
  static constexpr std::string_view name = "extrapolated";
  Adjoint solve(const Linearized& f, const Var& g) const {
    const Var first = f.vjp_state(g), second = f.vjp_state(first);
    return {.lambda = g + first + second / (1.0 - rho)};
  }
};

int main() {
  const Var a(tensor({0.9, 0.1, 0.0, 0.8}, {2, 2}));
  const auto gradient = [&](const BackwardRule& rule) {
    Tape tape;
    const Var b = leaf(tensor({1.0, 1.0}, {1, 2}));
    const auto solved = fixed_point([&](const Var& z) { return matmul(z, a) + b; }, zeros_like(b),
                                    {.backward = rule, .tolerance = 1e-10, .max_steps = 1000});
    const Var g = grad(sum(solved.z), {b})[0];
    std::printf("%-14s (%7.4f, %7.4f)   %s\n", std::string(rule.name()).c_str(), g.value().at(0),
                g.value().at(1), solved.adjoint.last().to_string().c_str());
  };
  gradient(Implicit{Gmres{.tolerance = 1e-12}});
  gradient(JacobianFree{});
  gradient(Neumann{.terms = 3});
  gradient(Extrapolated{});
}
