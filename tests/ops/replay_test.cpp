// Solves whose body is recorded once and replayed: eager ones are the specification.
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/log_det.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/ops/counting.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <functional>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

struct Layer {
  Tensor w = normal({12, 12}, 1, 0.12), u = normal({50, 12}, 2);
  Var operator()(const Var& z, const Var& weight) const { return tanh(matmul(z, weight) + Var(u)); }
};

}  // namespace

TEST_CASE("replayed solves give what eager ones give, value, report and gradient", "[program][fixed_point]") {
  const Layer layer;
  const Solver solvers[] = {Picard{},  Picard{.damping = 0.7}, Anderson{},
                            Broyden{}, AdjointBroyden{},       NewtonKrylov{}};
  const BackwardRule rules[] = {Implicit{},           Implicit{Dense{}}, Implicit{Iterative{}},
                                Implicit{BiCgStab{}}, JacobianFree{},    Neumann{5},
                                Phantom{5, 0.5},      RandomNeumann{}};
  const auto check = [&](const Solver& solver, const BackwardRule& rule) {
    INFO(solver.name() << " " << rule.name());
    const auto run = [&](Body body) {
      Tape tape;
      const Var w = leaf(layer.w);
      const auto [z, report, adjoint] =
          fixed_point([&](const Var& at) { return layer(at, w); }, Var(Tensor::zeros({50, 12}, DType::f64)),
                      {.solver = solver, .backward = rule, .tolerance = 1e-10, .body = body});
      const Var g = grad(sum(square(z)), {w})[0].detach();
      return std::tuple(z.detach(), report, g, adjoint.last());
    };
    const auto [z, report, g, adjoint] = run(Body::eager);
    for (const Body body : {Body::replayed, Body::checked}) {
      const auto [same_z, same_report, same_g, same_adjoint] = run(body);
      CHECK(largest_difference(same_z, z) <= 1e-12);
      if (rule.kind() != GradientKind::unbiased) CHECK(largest_difference(same_g, g) <= 1e-7);
      CHECK(same_report.converged());
      CHECK(same_report.nstep == report.nstep);
      REQUIRE(same_report.samples.size() == 50);
      for (std::size_t i = 0; i < 50; ++i) CHECK(same_report.samples[i].nstep == report.samples[i].nstep);
      REQUIRE(same_report.trace.steps == report.trace.steps);
      REQUIRE(same_report.trace.abs_trace.size() == report.trace.abs_trace.size());
      for (std::size_t i = 0; i < report.trace.abs_trace.size(); ++i)
        CHECK(same_report.trace.abs_trace[i] ==
              Approx(report.trace.abs_trace[i]).epsilon(1e-3).margin(1e-13));
      CHECK(same_adjoint.samples.size() == adjoint.samples.size());
    }
  };
  for (const Solver& solver : solvers) check(solver, Implicit{});
  for (const BackwardRule& rule : rules) check(Picard{}, rule);
  check(Broyden{}, Shine{});
}

TEST_CASE("a body that differentiates is replayed: gradients of its own, and log determinants",
          "[program][fixed_point]") {
  const Tensor start = normal({4, 3}, 5);
  const auto potential = [](const Var& y, const Var& w) { return 0.3 * tanh(y * w); };
  const auto gradient_map = [&](const Var& z, const Var& w) {
    return 0.5 * vjp([&](const Vars& y) { return Vars{potential(y[0], w)}; }, {z},
                     {Var(Tensor::ones({4, 3}, DType::f64))})
                     .cotangents[0];
  };
  const auto volume = [&](const LogDetEstimator& estimator) {
    return [&potential, estimator](const Var& z, const Var& w) {
      const auto map = [&](const Var& y) { return potential(y, w); };
      return 0.2 * tanh(z) + reshape(0.1 * log_det(map, z, {.estimator = estimator}).value, {4, 1});
    };
  };
  using F = std::function<Var(const Var&, const Var&)>;
  for (const F& f : {F(gradient_map), F(volume(Exact{})), F(volume(PowerSeries{.terms = 6}))}) {
    const auto run = [&](Body body) {
      Tape tape;
      const Var w = leaf(Tensor::full({3}, 0.9, DType::f64));
      const auto [z, report, adjoint] = fixed_point([&](const Var& at) { return f(at, w) + Var(start); },
                                                    Var(start), {.tolerance = 1e-12, .body = body});
      CHECK(report.converged());
      return std::pair(z.detach(), grad(sum(square(z)), {w})[0].detach());
    };
    const auto [z, g] = run(Body::eager);
    for (const Body body : {Body::replayed, Body::checked}) {
      const auto [same_z, same_g] = run(body);
      CHECK(largest_difference(same_z, z) <= 1e-11);
      CHECK(largest_difference(same_g, g) <= 1e-9);
    }
  }
}

TEST_CASE("a replayed solve has the same bits with any number of threads", "[program][fixed_point]") {
  const Layer layer;
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})})
    check_threads([&] {
      Tape tape;
      const Var w = leaf(layer.w);
      const auto solved =
          fixed_point([&](const Var& at) { return layer(at, w); }, Var(Tensor::zeros({50, 12}, DType::f64)),
                      {.solver = solver, .body = Body::replayed});
      const Var g = grad(sum(square(solved.z)), {w})[0];
      return Vars{solved.z.detach(), g.detach()};
    });
}

TEST_CASE("f is called twice, and an f that changes is solved eagerly or named", "[program][fixed_point]") {
  const Var z0(Tensor::zeros({20, 2}, DType::f64));
  int calls = 0;
  const FixedPointOptions replayed{.solver = Picard{}, .tolerance = 1e-9, .body = Body::replayed};
  const auto counted = [&](const Var& z) { return ++calls, 0.5 * z + 1.0; };
  fixed_point(counted, z0, replayed);
  CHECK(calls == 2);
  {
    Tape tape;
    fixed_point(counted, leaf(z0.value()), replayed);
    CHECK(calls == 4);
  }

  // Its operations depend on values: what was recorded at z0 is another map than that at the answer.
  const auto branch = [](const Var& z) { return z.value().at(0) < 1.5 ? 0.5 * z + 1.0 : 0.25 * z + 2.25; };
  CHECK(largest_difference(fixed_point(branch, z0, replayed).z,
                           Var(Tensor::full({20, 2}, 3.0, DType::f64))) <= 1e-8);
  FixedPointOptions checked = replayed;
  checked.body = Body::checked;
  CHECK_THROWS_WITH(fixed_point(branch, z0, checked), Contains("[fixed_point]") && Contains("Body::eager"));
  {
    Tape tape;
    const Var c = leaf(scalar(2.25, DType::f64));
    const auto solved = fixed_point(
        [&](const Var& z) { return z.value().at(0) < 1.5 ? 0.5 * z + 1.0 : 0.25 * z + c; }, z0, replayed);
    CHECK(largest_difference(solved.z, Var(Tensor::full({20, 2}, 3.0, DType::f64))) <= 1e-8);
    CHECK(grad(sum(solved.z), {c})[0].item() == Approx(40.0 / 0.75));
  }
  // Constants in disguise.
  const auto detached = [](const Var& z) { return Var(z.detach().value().clone()) * 0.5 + 1.0; };
  CHECK(largest_difference(fixed_point(detached, z0, replayed).z,
                           Var(Tensor::full({20, 2}, 2.0, DType::f64))) <= 1e-8);
  // Shapes that change.
  calls = 0;
  CHECK_THROWS_WITH(
      fixed_point([&](const Var& z) { return ++calls == 2 ? slice(z, 1, 0, 1) : 0.5 * z; }, z0, replayed),
      Contains("(20,2)") && Contains("(20,1)"));
}

TEST_CASE("a replayed solve takes no evaluation more than an eager one", "[program][fixed_point]") {
  // Samples that stop after different numbers of steps.
  Tensor rates = Tensor::empty({30, 1}, DType::f64);
  for (int i = 0; i < 30; ++i) rates.mutable_data<double>()[i] = 0.01 * (i + 1);
  const auto f = [&](const Var& z, const Var& c) { return Var(rates) * apply(counted_op, {tanh(z)}) + c; };
  const Var z0(Tensor::zeros({30, 3}, DType::f64)), one(scalar(1.0, DType::f64));
  for (const Solver& solver : {Solver(Picard{}), Solver(Picard{.damping = 0.9})})
    for (const double tolerance : {1e-5, 1e-10}) {
      INFO(solver.name() << " " << tolerance);
      FixedPointOptions options{.solver = solver, .tolerance = tolerance};
      const auto eager = fixed_point([&](const Var& z) { return f(z, one); }, z0, options);
      options.body = Body::replayed;
      evaluations_counted = 0;
      const auto replayed = fixed_point([&](const Var& z) { return f(z, one); }, z0, options);
      CHECK(replayed.report.converged());
      CHECK(replayed.report.nstep == eager.report.nstep);
      CHECK(evaluations_counted == replayed.report.nstep);
      CHECK(largest_difference(replayed.z, eager.z) <= 1e-14);
      for (std::size_t i = 0; i < 30; ++i)
        CHECK(replayed.report.samples[i].nstep == eager.report.samples[i].nstep);

      const Tape tape;
      const Var c = leaf(one.value());
      evaluations_counted = 0;
      const auto recorded = fixed_point([&](const Var& z) { return f(z, c); }, z0, options);
      static_cast<void>(grad(sum(recorded.z), {c}));
      CHECK(evaluations_counted == recorded.report.nstep + 1);  // the recording, at the answer
      CHECK(largest_difference(recorded.z, replayed.z) <= 1e-14);
    }
}

TEST_CASE("f itself judges the last step of all tiles at once", "[program][fixed_point]") {
  const Tensor shift = normal({64, 8192}, 6);
  int calls = 0;
  const auto f = [&](const Var& z) { return ++calls, 0.2 * tanh(z) + Var(shift); };
  FixedPointOptions options{.solver = Picard{}, .tolerance = 1e-8};
  const auto eager = fixed_point(f, Var(shift), options);
  options.body = Body::replayed;
  calls = 0;
  const auto replayed = fixed_point(f, Var(shift), options);
  CHECK(calls == 2);
  CHECK(replayed.report.converged());
  REQUIRE(replayed.report.samples.size() == 64);
  for (std::size_t i = 0; i < 64; ++i) {
    CHECK(replayed.report.samples[i].nstep == eager.report.samples[i].nstep);
    CHECK(replayed.report.samples[i].abs_lowest == Approx(eager.report.samples[i].abs_lowest).epsilon(1e-6));
  }
  CHECK(largest_difference(replayed.z, eager.z) <= 1e-14);
}

TEST_CASE("a solve that takes longer than expected goes on by its recording", "[program][fixed_point]") {
  // The residual falls fast as long as one component is all of it, which the other then is.
  int calls = 0;
  const Var rates(tensor({0.05, 0.9})), z0(tensor({2.0, 1.001}, {1, 2}));
  const auto f = [&](const Var& z) { return ++calls, rates * (z - 1.0) + 1.0; };
  FixedPointOptions options{.solver = Picard{}, .tolerance = 3e-5, .max_steps = 1000};
  const auto eager = fixed_point(f, z0, options);
  options.body = Body::replayed;
  calls = 0;
  const auto replayed = fixed_point(f, z0, options);
  CHECK(calls == 3);
  CHECK(eager.report.converged());
  CHECK(replayed.report.converged());
  CHECK(replayed.report.nstep == eager.report.nstep);
  CHECK(largest_difference(replayed.z, eager.z) <= 1e-12);
  {
    // On a tape f is recorded where it starts and at the answer, and nowhere else.
    const Tape tape;
    const Var center = leaf(tensor({1.0, 1.0}, {1, 2}));
    calls = 0;
    const auto recorded =
        fixed_point([&](const Var& z) { return ++calls, rates * (z - center) + center; }, z0, options);
    CHECK(recorded.report.nstep == eager.report.nstep);
    CHECK(calls == 2);
  }
  for (int most = 2; most <= eager.report.nstep; ++most) {
    // Steps that run out there, or anywhere else.
    INFO(most << " steps");
    FixedPointOptions few = options;
    few.max_steps = most;
    calls = 0;
    const auto cut = fixed_point(f, z0, few);
    CHECK(calls <= 3);
    few.body = Body::eager;
    const auto same = fixed_point(f, z0, few);
    CHECK(cut.report.samples[0].status == same.report.samples[0].status);
    CHECK(cut.report.nstep == same.report.nstep);
    CHECK(largest_difference(cut.z, same.z) <= 1e-12);
  }
  // An f that has become another one by then, of which that point is no solution.
  calls = 0;
  const auto changed =
      fixed_point([&](const Var& z) { return 0.5 * z + (++calls == 1 ? 1.0 : 2.0); }, z0, options);
  CHECK(changed.report.converged());
  CHECK(largest_difference(changed.z, Var(Tensor::full({1, 2}, 4.0, DType::f64))) <= 1e-3);
  // The same for a sample that stopped long before the one that f judges.
  calls = 0;
  const auto other = fixed_point(
      [&](const Var& z) {
        return 0.5 * z + Var(tensor({++calls == 1 ? 1.0 : 2.0, 1.0}, {2, 1}));
      },
      Var(tensor({2.0, 0.0}, {2, 1})), options);
  CHECK(other.report.converged());
  CHECK(largest_difference(other.z, Var(tensor({4.0, 2.0}, {2, 1}))) <= 1e-3);
}

TEST_CASE("one sample's NaN leaves the others of a replayed solve as they are", "[program][fixed_point]") {
  Tensor rates = normal({40, 1}, 3, 0.3);
  const auto run = [&](double third) {
    rates.mutable_data<double>()[3] = third;
    return fixed_point([&](const Var& z) { return Var(rates) * tanh(z) + 1.0; },
                       Var(Tensor::zeros({40, 1}, DType::f64)), {.tolerance = 1e-12, .body = Body::replayed});
  };
  const auto with = run(std::nan("")), without = run(0.1);
  CHECK(with.report.samples[3].status == Status::non_finite);
  CHECK(with.report.samples[3].nstep == 1);
  for (std::int64_t i = 0; i < 40; ++i) {
    if (i == 3) continue;
    CHECK(with.z.value().at(i) == without.z.value().at(i));
    CHECK(with.report.samples[static_cast<std::size_t>(i)].nstep ==
          without.report.samples[static_cast<std::size_t>(i)].nstep);
  }
}

TEST_CASE("states without elements, and few steps, are replayed too", "[program][fixed_point]") {
  const auto f = [](const Var& z) { return 0.5 * z + 1.0; };
  for (const Shape& shape : {Shape{0, 3}, Shape{3, 0}, Shape{}, Shape{1}, Shape{2, 1, 2}})
    for (const int steps : {0, 1, 2, 100}) {
      const Var z0(Tensor::zeros(shape, DType::f64));
      FixedPointOptions options{.solver = Picard{}, .max_steps = steps, .body = Body::replayed};
      const auto replayed = fixed_point(f, z0, options);
      options.body = Body::eager;
      const auto eager = fixed_point(f, z0, options);
      CHECK(same_bits(replayed.z, eager.z));
      CHECK(replayed.report.nstep == eager.report.nstep);
      CHECK(replayed.report.samples.size() == eager.report.samples.size());
    }
}

TEST_CASE("evaluations of an exact training step of a tanh layer", "[program][fixed_point]") {
  // d 256, 128 samples, f32, tolerance 1e-4, W such that Picard takes 12 evaluations.
  Random random(3);
  const auto draw = [&](const Shape& shape, float deviation) {
    Tensor x = Tensor::empty(shape, DType::f32);
    random.fill_normal(x.mutable_data<float>(), x.size(), 0.0f, deviation);
    return x;
  };
  const Tensor w_values = draw({256, 256}, 0.6f / 16.0f), u_values = draw({128, 256}, 1.0f);
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{.memory = 6}), Solver(Broyden{})}) {
    CAPTURE(solver.name());
    const Tape tape;
    const Var w = leaf(w_values), u = leaf(u_values);
    const FixedPoint solved = fixed_point(
        [&](const Var& z) { return tanh(matmul(z, w, {.transpose_b = true}) + u); }, zeros_like(u),
        {.solver = solver,
         .backward = Implicit{Iterative{.solver = solver, .tolerance = 1e-4}},
         .tolerance = 1e-4,
         .body = Body::replayed});
    grad(sum(solved.z), {w, u});
    CHECK(solved.report.converged());
    CHECK(solved.report.nstep <= 12);
    CHECK(solved.adjoint.last().evaluations <= (solver.name() == Picard::name ? 13 : 12));
  }
}
