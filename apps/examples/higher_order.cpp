// Derivatives of a fixed point, to third order: z = 1 + t z has z(t) = 1 / (1 - t), so z', z'', z''' at t =
// 1/2 are 4, 16, 96.
#include <banach/banach.hpp>

#include <cstdio>

using namespace banach;

int main() {
  Tape tape;
  const Var t = leaf(tensor({0.5}));
  Var d = fixed_point([&](const Var& z) { return 1.0 + t * z; }, zeros_like(t), {.tolerance = 1e-12}).z;
  for (const char* name : {"z   ", "z'  ", "z'' ", "z'''"}) {
    std::printf("%s %.10f\n", name, d.item());
    d = grad(d, {t}, {.create_graph = true})[0];
  }
}
