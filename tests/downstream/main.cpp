#include <banach/banach.hpp>
#include <banach/version.hpp>

#include <cmath>
#include <cstdio>

// z = 1 + t z at t = 1/2: z = 1 / (1 - t) = 2 and dz/dt = 1 / (1 - t)^2 = 4, by the installed library.
int main() {
  using namespace banach;
  Tape tape;
  const Var t = tape.leaf(Tensor::full({1}, 0.5, DType::f64));
  const FixedPoint solution =
      fixed_point([&](const Var& z) { return 1.0 + t * z; }, zeros_like(t), {.tolerance = 1e-12});
  const Var slope = grad(solution.z, {t}).front();
  std::printf("banach %s, %zu operations: z = %.9f, dz/dt = %.9f\n", BANACH_VERSION, ops().size(),
              solution.z.item(), slope.item());
  const bool right = std::abs(solution.z.item() - 2) < 1e-9 && std::abs(slope.item() - 4) < 1e-8;
  return right && !ops().empty() ? 0 : 1;
}
