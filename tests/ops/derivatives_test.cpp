// jacobian, hessian, hvp, and forward mode through implicit nodes: closed forms, differences, and systems
// solved directly.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/ops/counting.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <functional>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

Var eye(std::int64_t n) { return Var(Tensor::eye(n, DType::f64)); }

/// d/dt f(x + t v) at 0 by five points.
Var by_differences(const std::function<Var(const Var&)>& f, const Tensor& x, const Tensor& v,
                   double h = 1e-3) {
  const auto at = [&](double t) { return f((Var(x) + t * Var(v)).value()); };
  return (8.0 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12.0 * h);
}

const JacobianOptions forward{.mode = JacobianMode::forward}, reverse{.mode = JacobianMode::reverse};

}  // namespace

TEST_CASE("the Jacobian of a linear map is its matrix, in both modes", "[derivatives]") {
  const Tensor a = normal({3, 2}, 1);
  const auto f = [&](const Var& x) { return reshape(matmul(Var(a), reshape(x, {2, 1})), {3}); };
  const Var x = normal({2}, 2);
  for (const JacobianOptions& options : {JacobianOptions{}, forward, reverse}) {
    CHECK(largest_difference(jacobian(f, x, options), Var(a)) < 1e-15);
    const NoGrad off;
    CHECK(largest_difference(jacobian(f, x, options), Var(a)) < 1e-15);
  }
}

TEST_CASE("Jacobians of several inputs and outputs", "[derivatives]") {
  const Var x = normal({2, 2}, 3), y = normal({3}, 4);
  const auto f = [](const Vars& in) {
    return Vars{square(in[0]) * sum(in[1]), sum(sin(in[1])), Var(Tensor::ones({2}, DType::f64))};
  };
  int calls = 0;
  const auto counted = [&](const Vars& in) {
    ++calls;
    return f(in);
  };
  for (const JacobianOptions& options : {forward, reverse}) {
    calls = 0;
    const std::vector<Vars> j = jacobian(counted, {x, y}, options);
    CHECK(calls == 1);
    REQUIRE(j.size() == 3);
    CHECK(j[0][0].shape() == Shape{2, 2, 2, 2});
    for (std::int64_t i = 0; i < 4; ++i)
      for (std::int64_t k = 0; k < 4; ++k)
        CHECK(j[0][0].value().at(4 * i + k) ==
              Approx(i == k ? 2 * x.value().at(i) * sum(y).item() : 0.0).margin(1e-14));
    CHECK(j[0][1].shape() == Shape{2, 2, 3});
    for (std::int64_t i = 0; i < 12; ++i)
      CHECK(j[0][1].value().at(i) == Approx(x.value().at(i / 3) * x.value().at(i / 3)));
    CHECK(largest_difference(j[1][0], zeros_like(x)) == 0.0);
    CHECK(largest_difference(j[1][1], cos(y)) < 1e-15);
    CHECK(j[2][0].shape() == Shape{2, 2, 2});
    CHECK(largest_difference(sum(abs(j[2][0])), scalar(0.0, DType::f64)) == 0.0);
  }
}

TEST_CASE("Jacobians where there is nothing", "[derivatives]") {
  const Var none(Tensor::zeros({0}, DType::f64)), x(Tensor::ones({2}, DType::f64));
  for (const JacobianOptions& options : {JacobianOptions{}, forward, reverse}) {
    CHECK(jacobian([](const Var& v) { return square(v); }, none, options).shape() == Shape{0, 0});
    CHECK(jacobian([&](const Var& v) { return sum(v) + x; }, none, options).shape() == Shape{2, 0});
    CHECK(jacobian([&](const Var&) { return none; }, x, options).shape() == Shape{0, 2});
  }
  CHECK_THROWS_AS(jacobian([](const Var& v) { return v; }, Var(Tensor::arange(3))), DTypeError);
}

TEST_CASE("a recorded Jacobian is differentiated again, in both modes", "[derivatives]") {
  // J = diag(3 w x^2): sum J = 3 w sum x^2.
  for (const JacobianOptions& options : {forward, reverse}) {
    Tape tape;
    const Var x = leaf(normal({3}, 5)), w = leaf(scalar(2.0, DType::f64));
    const Var total = sum(jacobian([&](const Var& at) { return w * at * at * at; }, x, options));
    const Vars g = grad(total, {x, w}, {.create_graph = true});
    CHECK(largest_difference(g[0], 12.0 * x) < 1e-13);
    CHECK(g[1].item() == Approx(3.0 * sum(square(x)).item()));
    CHECK(largest_difference(grad(sum(g[0]), {x})[0], Var(Tensor::full({3}, 12.0, DType::f64))) < 1e-13);
  }
}

TEST_CASE("Hessians of a quadratic form, of log-sum-exp, and of two inputs", "[derivatives]") {
  const Var a = normal({4, 4}, 6), x = normal({4}, 7), v = normal({4}, 8);
  const auto quadratic = [&](const Var& at) { return sum(reshape(at, {4, 1}) * a * at); };
  CHECK(largest_difference(hessian(quadratic, x), a + transpose(a)) < 1e-14);
  const Var hv = reshape(matmul(a + transpose(a), reshape(v, {4, 1})), {4});
  CHECK(largest_difference(hvp(quadratic, x, v), hv) < 1e-13);

  const auto lse = [](const Var& at) { return logsumexp(at, {0}); };
  const Var p = softmax(x);
  const Var expected = eye(4) * p - reshape(p, {4, 1}) * p;
  CHECK(largest_difference(hessian(lse, x), expected) < 1e-14);
  const NoGrad off;
  CHECK(largest_difference(hvp(lse, x, v), reshape(matmul(expected, reshape(v, {4, 1})), {4})) < 1e-14);

  const Var y = normal({2}, 9);
  const auto both = [](const Vars& in) { return Vars{sum(square(in[0])) * sum(in[1] * in[1] * in[1])}; };
  const std::vector<Vars> h = hessian(both, {x, y});
  CHECK(h[0][1].shape() == Shape{4, 2});
  const Var cross = 6.0 * reshape(x, {4, 1}) * square(y);
  CHECK(largest_difference(h[0][1], cross) < 1e-13);
  CHECK(largest_difference(h[1][0], transpose(cross)) < 1e-13);
  CHECK(largest_difference(h[1][1], eye(2) * (6.0 * y * sum(square(x)))) < 1e-13);
  const Vars w = hvp(both, {x, y}, {v, Var(Tensor::zeros({2}, DType::f64))});
  CHECK(largest_difference(w[1], sum(cross * reshape(v, {4, 1}), {0})) < 1e-13);
}

TEST_CASE("a recorded Hessian-vector product is differentiated again", "[derivatives]") {
  // f = sum x^4 / 12: H v = x^2 v
  Tape tape;
  const Var x = leaf(normal({3}, 10)), v = leaf(normal({3}, 11));
  const Var hv = hvp([](const Var& at) { return sum(square(square(at))) / 12.0; }, x, v);
  CHECK(largest_difference(hv, square(x) * v) < 1e-14);
  const Vars g = grad(sum(hv), {x, v});
  CHECK(largest_difference(g[0], 2.0 * x * v) < 1e-14);
  CHECK(largest_difference(g[1], square(x)) < 1e-14);
}

TEST_CASE("second derivatives refuse what has no place for them", "[derivatives][errors]") {
  const Var x = normal({2}, 12);
  const auto vector = [](const Var& at) { return square(at); };
  CHECK_THROWS_WITH(hessian(vector, x), Contains("[hessian]") && Contains("one element") && Contains("(2)"));
  CHECK_THROWS_WITH(hvp(vector, x, x), Contains("[hvp]") && Contains("one element"));
  const auto scalar_valued = [](const Var& at) { return sum(square(at)); };
  CHECK_THROWS_WITH(hvp(scalar_valued, x, normal({3}, 1)),
                    Contains("[hvp]") && Contains("(2)") && Contains("(3)"));
  CHECK_THROWS_WITH(hessian(
                        [](const Vars& at) {
                          return Vars{at[0], at[0]};
                        },
                        Vars{x}),
                    Contains("2 tensors"));
}

// ---- Through implicit nodes -------------------------------------------------------------------------------

namespace {

// z = tanh(z W + x), row by row; W is not symmetric, so that J and J^T are told apart.
struct TanhEquation {
  Tensor w = normal({4, 4}, 20, 0.25);
  FixedPointOptions options{.solver = Anderson{},
                            .backward = Implicit{Gmres{.tolerance = 1e-13}},
                            .tolerance = 1e-13,
                            .max_steps = 500};

  Var operator()(const Var& x) const {
    return fixed_point([&](const Var& z) { return tanh(matmul(z, Var(w)) + x); }, zeros_like(x), options).z;
  }
  /// dz / dx of one row: with D = 1 - z^2, dz = D (dz W + dx), so dz (I - W D) = dx D.
  Var derivative(const Var& z) const {
    const Var d = 1.0 - square(z);
    return transpose(solve(transpose(eye(4) - Var(w) * d), eye(4) * d));
  }
};

}  // namespace

TEST_CASE("forward mode through a fixed point solves with J, not its transpose", "[derivatives][implicit]") {
  const TanhEquation equation;
  const Tensor x = normal({3, 4}, 21), v = normal({3, 4}, 22);
  const Var pushed =
      jvp([&](const Vars& at) { return Vars{equation(at[0])}; }, {Var(x)}, {Var(v)}).tangents[0];
  CHECK(largest_difference(pushed, by_differences(equation, x, v)) < 1e-9);
  const Var z = equation(Var(x));
  for (int i = 0; i < 3; ++i) {
    const Var row = matmul(slice(Var(v), 0, i, i + 1), equation.derivative(slice(z, 0, i, i + 1)));
    CHECK(largest_difference(slice(pushed, 0, i, i + 1), row) < 1e-11);
  }
}

TEST_CASE("dense Jacobians through a fixed point: both modes and the closed form",
          "[derivatives][implicit]") {
  const TanhEquation equation;
  const Tensor x = normal({1, 4}, 23);
  const auto f = [&](const Var& at) { return equation(at); };
  const Var expected = transpose(equation.derivative(equation(Var(x))));  // by output, then input
  for (const JacobianOptions& options : {forward, reverse})
    CHECK(largest_difference(reshape(jacobian(f, Var(x), options), {4, 4}), expected) < 1e-11);
}

TEST_CASE("Hessians through a fixed point agree with those of the same system solved directly",
          "[derivatives][implicit]") {
  // z = z A + b, that is z = b (I - A)^-1, and a loss that is not linear in z.
  const Tensor a = normal({3, 3}, 24, 0.2), b = normal({1, 3}, 25);
  const FixedPointOptions options{
      .backward = Implicit{Gmres{.tolerance = 1e-13}}, .tolerance = 1e-13, .max_steps = 500};
  const auto loss = [](const Var& z) { return sum(sin(z) * z); };
  const auto iterated = [&](const Vars& in) {
    return Vars{loss(
        fixed_point([&](const Var& z) { return matmul(z, in[0]) + in[1]; }, zeros_like(in[1]), options).z)};
  };
  const auto direct = [&](const Vars& in) {
    return Vars{loss(transpose(solve(transpose(eye(3) - in[0]), transpose(in[1]))))};
  };
  const std::vector<Vars> got = hessian(iterated, {Var(a), Var(b)});
  const std::vector<Vars> expected = hessian(direct, {Var(a), Var(b)});
  const Vars v{Var(normal({3, 3}, 26)), Var(normal({1, 3}, 27))};
  const Vars got_v = hvp(iterated, {Var(a), Var(b)}, v), expected_v = hvp(direct, {Var(a), Var(b)}, v);
  for (std::size_t i = 0; i < 2; ++i) {
    for (std::size_t k = 0; k < 2; ++k) CHECK(largest_difference(got[i][k], expected[i][k]) < 1e-9);
    CHECK(largest_difference(got_v[i], expected_v[i]) < 1e-9);
  }
}

TEST_CASE("hvp through a fixed point agrees with differences of the gradient", "[derivatives][implicit]") {
  const TanhEquation equation;
  const auto loss = [&](const Var& x) { return sum(square(equation(x))); };
  const Tensor x = normal({2, 4}, 28), v = normal({2, 4}, 29);
  const auto gradient = [&](const Var& at) {
    Tape tape;
    const Var own = leaf(at.value());
    return grad(loss(own), {own})[0].detach();
  };
  CHECK(largest_difference(hvp(loss, Var(x), Var(v)), by_differences(gradient, x, v)) < 1e-8);
  // Forward over reverse gives the same.
  const auto recorded = [&](const Vars& at) {
    return vjp([&](const Vars& in) { return Vars{loss(in[0])}; }, at, {Var(scalar(1.0, DType::f64))})
        .cotangents;
  };
  CHECK(largest_difference(jvp(recorded, {Var(x)}, {Var(v)}).tangents[0], hvp(loss, Var(x), Var(v))) < 1e-10);
}

TEST_CASE("forward mode through a fixed point inside the body of another one", "[derivatives][implicit]") {
  const TanhEquation inner;
  const Tensor mix = normal({4, 4}, 30, 0.15);
  // z = 0.5 w(z) + z mix + x with w = tanh(w W + z)
  const auto outer = [&](const Var& x) {
    return fixed_point([&](const Var& z) { return 0.5 * inner(z) + matmul(z, Var(mix)) + x; }, zeros_like(x),
                       inner.options)
        .z;
  };
  const Tensor x = normal({2, 4}, 31), v = normal({2, 4}, 32);
  const auto f = [&](const Vars& at) { return Vars{outer(at[0])}; };
  const JvpResult pushed = jvp(f, {Var(x)}, {Var(v)});
  CHECK(largest_difference(pushed.tangents[0], by_differences(outer, x, v)) < 1e-9);

  // dz (I - 0.5 dw/dz - mix) = dx
  const Var z = pushed.outputs[0], w = inner(z);
  for (int i = 0; i < 2; ++i) {
    const Var m = eye(4) - 0.5 * inner.derivative(slice(w, 0, i, i + 1)) - Var(mix);
    const Var expected = transpose(solve(transpose(m), transpose(slice(Var(v), 0, i, i + 1))));
    CHECK(largest_difference(slice(pushed.tangents[0], 0, i, i + 1), expected) < 1e-10);
  }

  const auto loss = [&](const Var& at) { return sum(square(outer(at))); };
  const auto gradient = [&](const Var& at) {
    Tape tape;
    const Var own = leaf(at.value());
    return grad(loss(own), {own})[0].detach();
  };
  CHECK(largest_difference(hvp(loss, Var(x), Var(v)), by_differences(gradient, x, v)) < 1e-8);
  const Tensor one_row = normal({1, 4}, 33);
  for (const JacobianOptions& options : {forward, reverse}) {
    const Var j = reshape(jacobian(outer, Var(one_row), options), {4, 4});
    const Var u = normal({1, 4}, 34);
    CHECK(largest_difference(matmul(u, j, {.transpose_b = true}), by_differences(outer, one_row, u.value())) <
          1e-9);
  }
}

TEST_CASE("a recorded tangent through a fixed point is differentiated again", "[derivatives][implicit]") {
  // z = 1 + t z: dz/dt = 1 / (1 - t)^2, and so on.
  const FixedPointOptions options{
      .backward = Implicit{Dense{}}, .tolerance = 1e-13, .max_steps = 500, .batch = Batch::none};
  const auto f = [&](const Vars& in) {
    return Vars{
        fixed_point([&](const Var& z) { return 1.0 + in[0] * z; }, Var(scalar(0.0, DType::f64)), options).z};
  };
  Tape tape;
  const Var t = leaf(scalar(0.5, DType::f64)), one = Var(scalar(1.0, DType::f64));
  const Var first = jvp(f, {t}, {one}).tangents[0];
  const Var second = jvp([&](const Vars& in) { return jvp(f, in, {one}).tangents; }, {t}, {one}).tangents[0];
  CHECK(first.item() == Approx(4.0).epsilon(1e-10));
  CHECK(second.item() == Approx(16.0).epsilon(1e-9));
  CHECK(grad(second, {t})[0].item() == Approx(96.0).epsilon(1e-8));
}

TEST_CASE("forward mode and Hessian-vector products through root, minimize and linear_solve",
          "[derivatives][implicit]") {
  const Tensor w = normal({3, 3}, 40, 0.4), spd = normal({3, 3}, 41, 0.4);
  const Tensor x = normal({2, 3}, 42), v = normal({2, 3}, 43);
  const auto through = [&](const std::function<Var(const Var&)>& f) {
    const auto all = [&](const Vars& at) { return Vars{f(at[0])}; };
    CHECK(largest_difference(jvp(all, {Var(x)}, {Var(v)}).tangents[0], by_differences(f, x, v)) < 1e-7);
    const auto loss = [&](const Var& at) { return sum(sin(f(at))); };
    const auto gradient = [&](const Var& at) {
      return vjp([&](const Vars& in) { return Vars{loss(in[0])}; }, {at}, {Var(scalar(1.0, DType::f64))})
          .cotangents[0];
    };
    CHECK(largest_difference(hvp(loss, Var(x), Var(v)), by_differences(gradient, x, v)) < 1e-6);
  };
  SECTION("root: F(z) = z + tanh(z W) - x") {
    through([&](const Var& b) {
      return root([&](const Var& z) { return z + tanh(matmul(z, Var(w))) - b; }, zeros_like(b),
                  {.backward = Implicit{Gmres{.tolerance = 1e-13}}, .tolerance = 1e-12})
          .z;
    });
  }
  SECTION("minimize: |z S|^2 / 2 + |z|^2 / 2 + sum log cosh z - z x") {
    through([&](const Var& b) {
      const auto phi = [&](const Var& z) {
        return sum(0.5 * square(matmul(z, Var(spd))), {1}) +
               sum(0.5 * square(z) + softplus(2.0 * z) - z - z * b, {1});
      };
      return minimize(phi, zeros_like(b), {.backward = Implicit{Cg{.tolerance = 1e-13}}, .tolerance = 1e-12})
          .z;
    });
  }
  SECTION("linear_solve: z + z tanh(diag) W = x, the matrix depending on x too") {
    through([&](const Var& b) {
      return linear_solve([&](const Var& z) { return z + matmul(z * tanh(b), Var(w)); }, b,
                          {.solver = Gmres{.tolerance = 1e-13}, .adjoint = Gmres{.tolerance = 1e-13}})
          .z;
    });
  }
}

TEST_CASE("forward mode is the transpose of reverse mode, whatever the rule estimates",
          "[derivatives][implicit]") {
  const Tensor w = normal({4, 4}, 50, 0.25), x = normal({2, 4}, 51), v = normal({2, 4}, 52),
               u = normal({2, 4}, 53);
  const auto both_ways = [&](BackwardRule rule) {
    const FixedPointOptions options{
        .solver = Picard{}, .backward = std::move(rule), .tolerance = 1e-10, .max_steps = 300};
    const auto f = [&](const Vars& at) {
      return Vars{fixed_point([&](const Var& z) { return tanh(matmul(z, Var(w)) + at[0]); },
                              zeros_like(at[0]), options)
                      .z};
    };
    INFO(options.backward.name());
    const double pulled = sum(vjp(f, {Var(x)}, {Var(u)}).cotangents[0] * Var(v)).item();
    const double pushed = sum(jvp(f, {Var(x)}, {Var(v)}).tangents[0] * Var(u)).item();
    CHECK(pushed == Approx(pulled).epsilon(1e-9));
  };
  both_ways(Implicit{});
  both_ways(JacobianFree{});
  both_ways(Neumann{5});
  both_ways(Phantom{});
  both_ways(Unrolled{});
  both_ways(Unrolled{.checkpoint_every = 4});
  both_ways(TruncatedUnroll{5});
  both_ways(Reversible{});
}

TEST_CASE("a Jacobian takes a sweep an output or an input, whichever are fewer", "[derivatives]") {
  const Vars at{Var(tensor({1.0, 2.0, 3.0})), Var(tensor({0.5}))};
  const auto sweeps = [&](const std::function<Vars(const Vars&)>& f, JacobianMode mode) {
    sweeps_counted = 0;
    jacobian([&](const Vars& in) { return f({apply(counting_op, {in[0]}), in[1]}); }, at, {.mode = mode});
    return sweeps_counted;
  };
  const auto narrow = [](const Vars& in) { return Vars{sum(in[0]) * in[1], in[1] * in[1] * sum(in[0])}; };
  const auto wide = [](const Vars& in) {
    return Vars{concat({in[0] * in[1], in[0] * in[0]}, 0), in[0] * in[1]};
  };
  CHECK(sweeps(narrow, JacobianMode::reverse) == 2);
  CHECK(sweeps(narrow, JacobianMode::automatic) == sweeps(narrow, JacobianMode::reverse));
  CHECK(sweeps(narrow, JacobianMode::automatic) != sweeps(narrow, JacobianMode::forward));
  const auto joint = [](const Vars& in) { return Vars{concat({sum(in[0]) * in[1], in[1] * in[1]}, 0)}; };
  CHECK(sweeps(joint, JacobianMode::automatic) == 2);  // two outputs, four inputs in all
  CHECK(sweeps(wide, JacobianMode::automatic) == sweeps(wide, JacobianMode::forward));
  CHECK(sweeps(wide, JacobianMode::reverse) == 9);
}
