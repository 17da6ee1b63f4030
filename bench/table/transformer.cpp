#include <bench/table/deq.hpp>
#include <bench/table/transformer.hpp>

#include <memory>

namespace bench {

using namespace banach;
using transformer::batch, transformer::d, transformer::heads, transformer::hidden, transformer::length;
using transformer::Layer, transformer::Parameters;

namespace {

constexpr int solver_steps = 12;

Layer constant_layer() {
  return Layer(Parameters(), [](const Tensor& t) { return Var(t); });
}

/// Products of one evaluation, of its vjp in z, and of that in the weights.
std::vector<Gemm> linear_products(std::int64_t times) {
  constexpr std::int64_t rows = batch * length;
  return {{rows, d, d, 4 * times}, {rows, hidden, d, times}, {rows, d, hidden, times}};
}
std::vector<Gemm> forward_products(std::int64_t times = 1) {
  std::vector<Gemm> all = linear_products(times);
  constexpr std::int64_t inner = d / heads;
  all.push_back({length, length, inner, batch * heads * times});  // scores
  all.push_back({length, inner, length, batch * heads * times});  // their product with the values
  return all;
}
std::vector<Gemm> vjp_products(std::int64_t times = 1) {
  std::vector<Gemm> all = forward_products(times);  // the linear maps transposed; of attention twice as many
  constexpr std::int64_t inner = d / heads;
  all.push_back({length, length, inner, batch * heads * times});
  all.push_back({length, inner, length, batch * heads * times});
  return all;
}
/// Besides the solvers' evaluations, f is recorded once, and lambda pulled back to z and to the weights.
std::vector<Gemm> products_of_step() {
  std::vector<Gemm> all = forward_products(solver_steps + 1);
  for (const std::vector<Gemm>& more : {vjp_products(solver_steps + 1), linear_products(1)})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

Work step() {
  const auto parameters = std::make_shared<Parameters>();
  const auto counts = std::make_shared<Counts>();
  // No residual is small enough: all steps are done.
  const FixedPointOptions options = exact(Anderson{.memory = 6}, {1e-12, 1e-12, solver_steps});
  return {.run =
              [=] {
                const Tape tape;
                const Layer layer(*parameters, [](const Tensor& t) { return leaf(t); });
                const FixedPoint solved =
                    fixed_point([&](const Var& z) { return layer(z); }, zeros_like(layer.x), options);
                grad(sum(square(solved.z)), layer.all());
                *counts = {solved.report.nstep, solved.adjoint.last().evaluations};
              },
          .counts = [=] { return *counts; }};
}

Work one_forward() {
  return {.run = [layer = constant_layer()] { layer(layer.x); }};
}

Work one_vjp() {
  struct Recorded {
    Layer layer = constant_layer();
    Tape tape;
    Var z = leaf(layer.x.value()), y = layer(z), cotangent = ones_like(y);
  };
  const auto recorded = std::make_shared<Recorded>();
  return {.run = [=] { grad(recorded->y, {recorded->z}, {.cotangent = recorded->cotangent}); }};
}

/// In a solve, where the layer is replayed.
Work one_replayed() {
  const auto solve = [layer = constant_layer()](int steps) {
    fixed_point([&](const Var& z) { return layer(z); }, zeros_like(layer.x),
                {.solver = Picard{}, .tolerance = 0.0, .max_steps = steps, .body = Body::replayed});
  };
  return {.run = [=] { solve(12); }, .less = [=] { solve(4); }, .per = 8};
}

}  // namespace

Section transformer_section() {
  return {"Equilibrium transformer: batch 16, sequence 64, d 128, 4 heads, feed-forward 256, causal, f32",
          {{.name = "transformer, Anderson(6), 12 + 12, exact",
            .ours = step,
            .floor = gemm_floor(products_of_step()),
            .goal = {Goal::floor, 1.25}},
           {.name = "transformer, one layer", .ours = one_forward, .floor = gemm_floor(forward_products())},
           {.name = "transformer, one layer within a solve",
            .ours = one_replayed,
            .floor = gemm_floor(forward_products())},
           {.name = "transformer, vjp of one layer", .ours = one_vjp, .floor = gemm_floor(vjp_products())}}};
}

}  // namespace bench
