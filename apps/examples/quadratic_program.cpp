// A whole program: a quadratic program and its derivative.
#include <banach/banach.hpp>
#include <cmath>
#include <cstdio>
using namespace banach;

int main() {  // the point z of z1 + z2 <= 1 nearest to c, and how |z|^2 changes with c
  const Tape tape;
  const Var c = leaf(tensor({1.0, 0.6})), Q(Tensor::eye(2, DType::f64)), G(tensor({1.0, 1.0}, {1, 2}));
  const QpSolved found = qp_solve({.Q = Q, .p = -c, .G = G, .h = Var(tensor({1.0}))});
  const Tensor z = found.z.value(), slope = grad(sum(square(found.z)), {c})[0].value();
  std::printf("%s\nz = (%g, %g), multiplier %g\n", found.report.to_string().c_str(), z.at(0), z.at(1),
              found.lambda.item());
  std::printf("gradient (%g, %g): %s\n", slope.at(0), slope.at(1), found.adjoint.last().to_string().c_str());
  return std::abs(slope.at(0) - 0.4) + std::abs(slope.at(1) + 0.4) < 1e-12 ? 0 : 1;
}
