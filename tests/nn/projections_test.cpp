// Projections beside the quadratic programs that they are, in value and derivative; their limits and errors.
#include <banach/nn/projections.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/qp.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

Var eye(std::int64_t n) { return Var(Tensor::eye(n, DType::f64)); }

Var simplex_by_qp(const Var& x, double total) {
  const std::int64_t n = x.size(-1);
  return qp_solve({.Q = eye(n),
                   .p = -x,
                   .G = -eye(n),
                   .h = Var(Tensor::zeros({n}, DType::f64)),
                   .A = Var(Tensor::ones({1, n}, DType::f64)),
                   .b = Var(Tensor::full({1}, total, DType::f64))})
      .z;
}

// |z|_1 <= radius with z = u - v, u and v >= 0.
Var l1_ball_by_qp(const Var& x, double radius) {
  const std::int64_t n = x.size(-1);
  const Var difference = concat({eye(n), -eye(n)}, 0);  // rows: z = (u, v) times it
  const Var G = concat({-eye(2 * n), Var(Tensor::ones({1, 2 * n}, DType::f64))}, 0);
  Tensor h = Tensor::zeros({2 * n + 1}, DType::f64);
  h.mutable_data<double>()[2 * n] = radius;
  return matmul(qp_solve({.Q = matmul(difference, difference, {.transpose_b = true}),
                          .p = -matmul(x, difference, {.transpose_b = true}),
                          .G = G,
                          .h = Var(h)})
                    .z,
                difference);
}

// The derivative of the rows' outputs along a cotangent.
template <class F>
Var pulled(const Tensor& x, const Tensor& cotangent, F f) {
  const Tape tape;
  const Var at = leaf(x);
  return grad(sum(f(at) * Var(cotangent)), {at})[0];
}

}  // namespace

TEST_CASE("the projection onto the simplex is that of the quadratic program", "[projections]") {
  const std::int64_t n = GENERATE(1, 2, 7, 30);
  const double total = GENERATE(0.3, 1.0, 8.0);
  const Tensor x = normal({20, n}, 1, 1.5), g = normal({20, n}, 2);
  const auto direct = [&](const Var& v) { return project_simplex(v, total); };
  const auto program = [&](const Var& v) { return simplex_by_qp(v, total); };
  CHECK(largest_difference(direct(Var(x)), program(Var(x))) <= 1e-9);
  CHECK(largest_difference(pulled(x, g, direct), pulled(x, g, program)) <= 1e-9);
  CHECK(largest_difference(sum(direct(Var(x)), {1}), Var(Tensor::full({20}, total, DType::f64))) <= 1e-12);
}

TEST_CASE("the projection onto the l1 ball is that of the quadratic program", "[projections]") {
  const double radius = GENERATE(0.5, 2.0, 6.0);
  const Tensor x = normal({20, 6}, 3), g = normal({20, 6}, 4);
  const auto direct = [&](const Var& v) { return project_l1_ball(v, radius); };
  CHECK(largest_difference(direct(Var(x)), l1_ball_by_qp(Var(x), radius)) <= 1e-8);
  CHECK(max(sum(abs(direct(Var(x))), {1})).item() <= radius + 1e-12);
  const GradcheckReport report =
      gradcheck([&](const Vars& in) { return Vars{direct(in[0])}; }, {Var(x)}, {.step = 1e-5});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("derivatives of projections agree with differences, to second order", "[projections]") {
  const auto check = [](Function f, const Vars& inputs) {
    const GradcheckReport report = gradcheck(f, inputs, {.order = 2, .step = 1e-4});
    INFO(report.to_string());
    CHECK(report.passed);
  };
  const Var x(normal({5, 6}, 5));
  check([](const Vars& in) { return Vars{project_simplex(in[0], 2.0)}; }, {x});
  check([](const Vars& in) { return Vars{project_ball(in[0], 1.5)}; }, {x});
  check([](const Vars& in) { return Vars{project_ball(in[0], 15.0)}; }, {x});
  const Var lower(normal({6}, 6, 0.3)), upper = lower + 0.8;
  check([](const Vars& in) { return Vars{project_box(in[0], in[1], in[2])}; }, {x, lower, upper});
}

TEST_CASE("closed forms of projections, on kinks too", "[projections]") {
  const auto row = [](const std::vector<double>& v) {
    return tensor(v, {1, static_cast<std::int64_t>(v.size())});
  };
  CHECK(largest_difference(project_simplex(Var(row({0.5, 0.5, 0.0}))), Var(row({0.5, 0.5, 0.0}))) <= 1e-15);
  CHECK(largest_difference(project_simplex(Var(row({3.0, 1.0, 0.0})), 3.0), Var(row({2.5, 0.5, 0.0}))) <=
        1e-15);
  CHECK(largest_difference(project_simplex(Var(row({1e9 + 0.5, 1e9, -infinity}))),
                           Var(row({0.75, 0.25, 0.0}))) <= 1e-6);
  CHECK(largest_difference(project_ball(Var(row({3.0, 4.0})), 1.0), Var(row({0.6, 0.8}))) <= 1e-15);
  CHECK(same_bits(project_ball(Var(row({0.3, 0.4})), 0.5), Var(row({0.3, 0.4}))));
  CHECK(same_bits(project_l1_ball(Var(row({0.5, -0.5}))), Var(row({0.5, -0.5}))));
  CHECK(same_bits(project_box(Var(row({-2.0, 0.5, 7.0})), -1.0, infinity), Var(row({-1.0, 0.5, 7.0}))));

  const Tensor ones = Tensor::ones({1, 2}, DType::f64);
  const Tensor first = row({1.0, 0.0});
  // Entry 2 is 0 without being held there.
  CHECK(same_bits(pulled(row({1.0, 0.0}), first, [](const Var& x) { return project_simplex(x); }),
                  Var(row({0.0, 0.0}))));
  CHECK(same_bits(pulled(row({0.0, 0.0}), ones, [](const Var& x) { return project_ball(x); }), Var(ones)));
  CHECK(same_bits(pulled(row({0.6, 0.8}), ones, [](const Var& x) { return project_ball(x); }), Var(ones)));
  CHECK(same_bits(pulled(row({1.0, 2.0}), ones, [](const Var& x) { return project_box(x, 1.0, 2.0); }),
                  Var(ones)));
  const Var lower(Tensor::full({1}, 1.0, DType::f64)), upper(Tensor::full({1}, 2.0, DType::f64));
  CHECK(same_bits(pulled(row({1.0, 2.0}), ones, [&](const Var& x) { return project_box(x, lower, upper); }),
                  Var(ones)));
}

TEST_CASE("the projection onto a ball of rows whose squares overflow or vanish", "[projections]") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const double large = dtype == DType::f32 ? 1.8e19 : 1.3e154, small = dtype == DType::f32 ? 1e-30 : 1e-200;
  const double accuracy = dtype == DType::f32 ? 1e-6 : 1e-14;
  const double size = GENERATE_COPY(as<double>{}, large, small),
               radius = GENERATE_COPY(as<double>{}, large, small);
  const auto row = [&](double a, double b) { return Var(tensor({a, b}, {1, 2}).to(dtype)); };
  const Tape tape;
  const Var x = leaf(row(3.0 * size, -4.0 * size).value());
  const bool inside = 5.0 * size <= radius;
  const Var z = project_ball(x, radius), g = grad(sum(z * row(1.0, 0.0)), {x})[0];
  const double to = inside ? 5.0 * size : radius, factor = inside ? 1.0 : radius / (5.0 * size);
  CHECK(z.value().at(0) == Approx(0.6 * to).epsilon(accuracy));
  CHECK(z.value().at(1) == Approx(-0.8 * to).epsilon(accuracy));
  CHECK(g.value().at(0) == Approx(factor * (inside ? 1.0 : 0.64)).epsilon(10 * accuracy).margin(1e-44));
  CHECK(g.value().at(1) == Approx(factor * (inside ? 0.0 : 0.48)).epsilon(10 * accuracy).margin(1e-44));
}

TEST_CASE("projections do not move what is inside, and never part two points", "[projections]") {
  const Var x(normal({50, 5}, 7, 2.0)), y(normal({50, 5}, 8, 2.0));
  const Var lower(Tensor::full({5}, -0.5, DType::f64)), upper(Tensor::full({5}, 1.0, DType::f64));
  const std::vector<std::function<Var(const Var&)>> all{
      [](const Var& v) { return project_simplex(v); }, [](const Var& v) { return project_l1_ball(v); },
      [](const Var& v) { return project_ball(v); },
      [&](const Var& v) { return project_box(v, lower, upper); }};
  for (const auto& f : all) {
    const Var px = f(x), py = f(y);
    CHECK(largest_difference(f(px), px) <= 1e-14);
    CHECK(max(norm(px - py, {1}) - norm(x - y, {1})).item() <= 1e-12);
  }
}

TEST_CASE("projections of f32, of no rows, and of NaN", "[projections]") {
  const Tensor x = normal({10, 8}, 9);
  CHECK(largest_difference(project_simplex(Var(x.to(DType::f32))),
                           Var(project_simplex(Var(x)).value().to(DType::f32))) <= 1e-6);
  CHECK(project_simplex(Var(Tensor::zeros({0, 3}))).shape() == Shape{0, 3});
  CHECK(project_simplex(Var(Tensor::zeros({2, 4, 3}))).shape() == Shape{2, 4, 3});
  const Var broken(tensor({0.1, not_a_number, 0.2, 0.3, 0.4, 0.5}, {2, 3}));
  for (const Var& z : {project_simplex(broken), project_l1_ball(broken), project_ball(broken)}) {
    for (int i = 0; i < 3; ++i) {
      CHECK(std::isnan(z.value().at(i)));
      CHECK(std::isfinite(z.value().at(3 + i)));
    }
  }
  for (int i = 0; i < 4; ++i)
    CHECK(std::isnan(project_simplex(Var(tensor({0.0, infinity, 2.0, -infinity}))).value().at(i)));
  CHECK(std::isnan(project_simplex(Var(tensor({infinity, 0.0}))).value().at(1)));
}

TEST_CASE("a projection serves inside the body of a fixed point", "[projections]") {
  // Projected gradient descent of |z - c|^2, from a point with another support, recorded once or not.
  const Body body = GENERATE(Body::eager, Body::checked);
  const Var c(normal({3, 5}, 10));
  const Var start(
      tensor({1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0}, {3, 5}));
  const auto solve = [&](const Var& target) {
    return fixed_point([&](const Var& z) { return project_simplex(z - 0.3 * (z - target)); }, start,
                       {.tolerance = 1e-13, .body = body});
  };
  const auto found = solve(c);
  CHECK(found.report.converged());
  CHECK(largest_difference(found.z, project_simplex(c)) <= 1e-9);
  const Tensor g = normal({3, 5}, 11);
  CHECK(largest_difference(pulled(c.value(), g, [&](const Var& target) { return solve(target).z; }),
                           pulled(c.value(), g, [](const Var& target) { return project_simplex(target); })) <=
        1e-6);
}

TEST_CASE("projections refuse what has no meaning", "[projections]") {
  const Var x(Tensor::zeros({2, 3}, DType::f64)), empty(Tensor::zeros({2, 0}, DType::f64));
  CHECK_THROWS_WITH(project_simplex(x, -1.0), Contains("[project_simplex] total must be positive: got -1"));
  CHECK_THROWS_WITH(project_l1_ball(x, not_a_number), Contains("[project_l1_ball] radius must be positive"));
  CHECK_THROWS_WITH(project_ball(x, 0.0), Contains("[project_ball] radius must be positive: got 0"));
  const Var narrow(Tensor::zeros({2, 3}));
  CHECK_THROWS_WITH(project_ball(narrow, 1e-50), Contains("[project_ball] radius must be positive"));
  CHECK_THROWS_AS(project_ball(narrow, 1e50), ValueError);
  CHECK_THROWS_AS(project_l1_ball(narrow, 1e-50), ValueError);
  CHECK_THROWS_AS(project_simplex(narrow, 1e-50), ValueError);
  CHECK_NOTHROW(project_ball(x, 1e-50));
  CHECK_THROWS_WITH(project_box(x, 1.0, 0.5),
                    Contains("[project_box] lower must be at most upper: got 1 and 0.5"));
  CHECK_THROWS_AS(project_box(x, 0.0, not_a_number), ValueError);
  CHECK_THROWS_AS(project_box(x, Var(Tensor::ones({3}, DType::f64)), x), ValueError);
  CHECK_THROWS_WITH(project_simplex(empty), Contains("expects rows with entries, (...,n): got (2,0)"));
  CHECK_THROWS_AS(project_ball(Var(Tensor::zeros({}, DType::f64))), ShapeError);
  CHECK_THROWS_AS(project_simplex(Var(Tensor::zeros({2}, DType::i64))), DTypeError);
}
