// Parameters and implicit nodes: capture, updates while a tape lives, freezing, and calling a model with
// other parameters.
#include <banach/nn/parameter.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/ops.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using nn::Parameter;

namespace {

Parameter f64(double value) { return Parameter(tensor({value}, {1, 1})); }

const FixedPointOptions exact{.solver = Picard{}, .tolerance = 1e-14, .max_steps = 1000};

// z = w z + b: z = b / (1 - w).
Var solve(const Parameter& w, const Parameter& b) {
  return fixed_point([&](const Var& z) { return w * z + b; }, Var(Tensor::zeros({1, 1}, DType::f64)), exact)
      .z;
}

}  // namespace

TEST_CASE("a parameter first touched inside the body is a leaf of the user's tape", "[nn][fixed_point]") {
  Parameter w = f64(0.5), b = f64(3.0), unused = f64(1.0);
  Tape tape;
  const Var z = solve(w, b);
  const Vars g = nn::grad(sum(z * b), {{"w", &w}, {"b", &b}, {"unused", &unused}});  // b^2 / (1 - w)
  CHECK(g[0].item() == Approx(36.0));
  CHECK(g[1].item() == Approx(12.0));
  CHECK(g[2].item() == 0.0);
}

TEST_CASE("also where the body is that of a node in a node", "[nn][fixed_point]") {
  Parameter w = f64(0.5), b = f64(1.0);
  Tape tape;
  const auto outer = [&](const Var& y) { return 0.25 * y + solve(w, b); };
  const Var y = fixed_point(outer, Var(Tensor::zeros({1, 1}, DType::f64)), exact).z;  // 4/3 b / (1 - w)
  const Vars g = nn::grad(sum(y), {{"w", &w}, {"b", &b}});
  CHECK(g[0].item() == Approx(16.0 / 3.0));
  CHECK(g[1].item() == Approx(8.0 / 3.0));
}

TEST_CASE("an update while the tape lives does not change what the tape has seen", "[nn][fixed_point]") {
  Parameter w = f64(0.5), b = f64(1.0);
  Tape tape;
  const Var first = solve(w, b);
  w.update([](Tensor& value) { value.mutable_data<double>()[0] = 0.75; });
  const Var second = solve(w, b);
  CHECK(first.item() == Approx(2.0));
  CHECK(second.item() == Approx(4.0));
  CHECK(nn::grad(sum(first), {{"w", &w}})[0].item() == Approx(4.0));
  CHECK(nn::grad(sum(second), {{"w", &w}})[0].item() == Approx(16.0));
  CHECK(nn::grad(sum(first + second), {{"w", &w}})[0].item() == Approx(20.0));
}

TEST_CASE("frozen parameters are constants, and inputs alone can be asked for", "[nn][fixed_point]") {
  Parameter w = f64(0.5), b = f64(1.0);
  w.set_trainable(false);
  Tape tape;
  const Var x = leaf(tensor({2.0}, {1, 1}));
  const Var z = fixed_point([&](const Var& s) { return w * s + b * x; }, zeros_like(x), exact).z;
  CHECK(nn::grad(sum(z), {{"w", &w}, {"b", &b}})[0].item() == 0.0);
  CHECK(nn::grad(sum(z), {{"b", &b}})[0].item() == Approx(4.0));
  CHECK(grad(sum(z), {x})[0].item() == Approx(2.0));
}

TEST_CASE("a model called with parameters passed in: the gradient through a step of descent",
          "[nn][fixed_point]") {
  // Inner loss z^2 / 2 with z = b / (1 - w): b' = b - r b / (1 - w)^2; outer loss z(b'). With w = 1/2, r =
  // 1/8: b' = b / 2, so dz'/db = 2 (1 - r 4) = 1 and dz'/dw = b'/(1-w)^2 + (1/(1-w)) (-2 r b / (1-w)^3).
  Parameter w = f64(0.5), b = f64(3.0);
  const nn::ParameterList list{{"w", &w}, {"b", &b}};
  Tape tape;
  const Var z = solve(w, b);
  const Var step = nn::grad(0.5 * sum(z * z), {{"b", &b}}, {.create_graph = true})[0];
  const Var moved = b - 0.125 * step;
  const Var outer = [&] {
    const nn::Substitution with(nn::ParameterList{{"b", &b}}, {moved});
    return solve(w, b);
  }();
  CHECK(outer.item() == Approx(3.0));
  const Vars g = nn::grad(sum(outer), list);
  CHECK(g[0].item() == Approx(1.5 * 4 + 2.0 * (-2 * 0.125 * 3.0 * 8)));
  CHECK(g[1].item() == Approx(1.0));
  CHECK_THROWS_AS(nn::Substitution(list, {moved}), ShapeError);
}

TEST_CASE("a copy is a parameter of its own", "[nn]") {
  Parameter a = f64(1.0);
  Parameter b = a;
  CHECK(a.id() != b.id());
  b.update([](Tensor& value) { value.mutable_data<double>()[0] = 2.0; });
  CHECK(a.value().item() == 1.0);
  Tape tape;
  CHECK(nn::grad(sum(a * b), {{"a", &a}, {"b", &b}})[0].item() == 2.0);
  CHECK_THROWS_AS(a.set(tensor({1.0})), ShapeError);
}
