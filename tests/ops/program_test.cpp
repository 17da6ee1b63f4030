// Recorded bodies as programs: eager evaluation is the specification.
#include <banach/engine/program/program.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/ops.hpp>
#include <tests/threads.hpp>

#include <functional>
#include <set>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

using Body1 = std::function<Var(const Var&)>;

// A random composition of operations that keeps (rows, n) and treats rows one by one, unless `mixing`.
class RandomFunction {
 public:
  RandomFunction(std::uint64_t seed, std::int64_t rows, std::int64_t n, bool mixing)
      : random_(seed), rows_(rows), n_(n), mixing_(mixing) {
    for (int i = 0; i < 12; ++i) choices_.push_back(random_.bits() % 15);
    for (int i = 0; i < 12; ++i) {
      square_.push_back(normal(random_, {n, n}, 0.5 / std::sqrt(static_cast<double>(n))));
      row_.push_back(normal(random_, {n}));
      whole_.push_back(normal(random_, {rows, n}));
    }
  }

  Var operator()(const Var& z) const {
    Vars made{z};
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      made.push_back(step(i, made));
      if (mixing_ && i % 4 == 3) made.push_back(tanh(made.back()) - 2.0 * mean(made.back(), {0}, true));
    }
    return made.back();
  }

 private:
  Var step(std::size_t i, const Vars& made) const {
    const Var &x = made.back(), &y = made[made.size() / 2];
    const Var w(square_[i]), b(row_[i]), u(whole_[i]);
    switch (choices_[i]) {
      case 0:
        return tanh(x);
      case 1:
        return matmul(x, w) + b;
      case 2:
        return matmul(x, w, {.transpose_b = true}) + u;
      case 3:
        return x * sigmoid(y);
      case 4:
        return softmax(x, 1) - y;
      case 5:
        return concat({slice(x, 1, 1, n_), slice(y, 1, 0, 1)}, 1);
      case 6:
        return reshape(relu(reshape(x, {rows_ * 2, n_ / 2})) - reshape(u, {rows_ * 2, n_ / 2}), {rows_, n_});
      case 7:
        return x - mean(y, {1}, true);
      case 8:
        return where(less(x, y), x * u, y + 0.5);
      case 9:
        return normalize_rows(x) + b;
      case 10:
        return reshape(permute(reshape(x, {rows_, 2, n_ / 2}), {0, 2, 1}), {rows_, n_});
      case 11:
        return topk(x, n_, 1).values + y;
      case 12:
        return maximum(x, b) - minimum(y, u);
      case 13:
        return reshape(matmul(reshape(x, {rows_, 1, n_}), reshape(Var(square_[i]), {1, n_, n_})),
                       {rows_, n_});
      default:
        return x + y;
    }
  }
  static Var normalize_rows(const Var& x) {
    const Var centred = x - mean(x, {1}, true);
    return centred * rsqrt(mean(square(centred), {1}, true) + 1e-3);
  }

  Random random_;
  std::int64_t rows_, n_;
  bool mixing_;
  std::vector<std::uint64_t> choices_;
  std::vector<Tensor> square_, row_, whole_;
};

double relative(const Tensor& got, const Tensor& expected) {
  double size = 1.0;
  for (std::int64_t i = 0; i < expected.size(); ++i) size = std::max(size, std::abs(expected.at(i)));
  return largest_difference(got, expected) / size;
}

// u -> J^T u at z.
Var pulled(const Body1& f, const Tensor& z, const Var& u) {
  return vjp([&](const Vars& at) { return Vars{f(at[0])}; }, {Var(z)}, {u}).cotangents[0];
}

}  // namespace

TEST_CASE("random programs, whole and in tiles, give what their functions give", "[program]") {
  const std::int64_t rows = 80, n = 6;
  int cut = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const bool mixing = seed % 5 == 4;
    const RandomFunction f(seed, rows, n, mixing);
    INFO("seed " << seed);
    const Tensor at = normal({rows, n}, 1000 + seed), other = normal({rows, n}, 2000 + seed);
    program::Recorded recorded = program::record(std::ref(f), at);
    CHECK(same_bits(recorded.value, f(Var(at))));
    const program::Program program(std::move(recorded.code), rows, 0);
    CHECK((program.tiles() > 1) == !mixing);
    cut += program.tiles() > 1;
    for (const Tensor& z : {other, at, other}) CHECK(relative(program.run(z), f(Var(z)).value()) <= 1e-13);

    const program::Program backward(
        program::outline([&](const Var& u) { return pulled(f, at, u); }, other).code, rows, 0);
    CHECK((backward.tiles() > 1) == !mixing);
    const Body1 body = std::cref(f);
    CHECK(relative(backward.run(other), pulled(body, at, Var(other)).value()) <= 1e-13);
  }
  CHECK(cut == 120);
}

TEST_CASE("values that live at the same time have different places", "[program]") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const RandomFunction f(seed, 40, 6, seed % 2 == 1);
    const Body1 backward = [&](const Var& u) { return pulled(std::cref(f), normal({40, 6}, 7), u); };
    const Body1 body = seed % 4 < 2 ? Body1(std::cref(f)) : backward;
    const program::Code code = program::record(body, normal({40, 6}, seed)).code;
    const program::Plan plan = program::plan(code, 40, 40);
    INFO("seed " << seed);
    // Written by instruction i, and read for the last time by instruction j: nobody may write there in (i,
    // j), and at j only an elementwise operation of the same shape.
    const auto size = [&](std::int32_t v) {
      return code.value(v).shape.size() * static_cast<std::int64_t>(size_of(code.value(v).dtype));
    };
    const auto count = code.instructions.size();
    for (std::size_t i = 0; i < count; ++i)
      for (const std::int32_t value : code.instructions[i].outputs) {
        const std::int64_t begin = plan.offset[static_cast<std::size_t>(value)];
        if (begin < 0) {
          CHECK(code.storage(code.output) == value);
          continue;
        }
        CHECK(begin % 64 == 0);
        CHECK(begin + size(value) <= plan.bytes);
        std::size_t last = i;
        for (std::size_t j = i; j < count; ++j)
          for (const std::int32_t in : code.instructions[j].inputs)
            if (code.storage(in) == value) last = j;
        for (std::size_t j = i; j <= last; ++j)
          for (const std::int32_t other : code.instructions[j].outputs) {
            const std::int64_t from = plan.offset[static_cast<std::size_t>(other)];
            if (other == value || from < 0 || from >= begin + size(value) || from + size(other) <= begin)
              continue;
            const bool in_place = j == last && code.instructions[j].op->def().kind == OpKind::elementwise &&
                                  from == begin && size(other) == size(value);
            CHECK(in_place);
          }
      }
  }
}

TEST_CASE("a program's output may be its input, a constant, or a view of either", "[program]") {
  const Tensor z = normal({40, 4}, 1), constant = normal({40, 4}, 2);
  const Body1 functions[] = {
      [](const Var& x) { return x; },
      [](const Var& x) {
        return reshape(reshape(x, {160}), {40, 4});
      },
      [&](const Var&) { return Var(constant); },
      [&](const Var&) {
        return reshape(Var(constant) * 2.0, {40, 4});
      },
      [&](const Var& x) {
        return reshape(tanh(reshape(x, {80, 2})), {40, 4});
      },
      [&](const Var& x) {
        tanh(x);  // nobody needs it
        return x + Var(constant);
      },
  };
  for (const Body1& f : functions) {
    program::Recorded recorded = program::record(f, z);
    CHECK(recorded.code.instructions.size() <= 1);
    const program::Program program(std::move(recorded.code), 40, 0);
    const Tensor other = normal({40, 4}, 3);
    const Tensor first = program.run(z), second = program.run(other);
    CHECK(same_bits(first, f(Var(z))));
    CHECK(same_bits(second, f(Var(other))));
  }
}

TEST_CASE("what does not depend on the input is computed once, and frames allocate nothing", "[program]") {
  const Tensor w = normal({4, 4}, 1), z = normal({8, 4}, 2);
  Tape tape;
  const Var parameter = leaf(w);
  program::Recorded recorded = program::record(
      [&](const Var& x) { return tanh(matmul(x, matmul(parameter, parameter) * 0.1) + sum(exp(parameter))); },
      z);
  CHECK(recorded.code.instructions.size() == 3);
  const program::Program program(std::move(recorded.code), 8, 0);
  program::Frame frame = program.frame(0);
  frame.run(z);
  const auto before = memory::stats().system_allocations;
  for (int i = 0; i < 10; ++i) frame.run(z);
  CHECK(memory::stats().system_allocations == before);
}

TEST_CASE("an outline evaluates nothing, unless the function looks at values", "[program]") {
  const Tensor z = normal({8, 4}, 2);
  CHECK(program::outline([](const Var& x) { return tanh(x) + x; }, z).code.instructions.size() == 2);
  CHECK_FALSE(program::outline([](const Var& x) { return tanh(x) + x; }, z).value.defined());
  const program::Recorded read = program::outline([](const Var& x) { return x * x.value().at(0); }, z);
  CHECK(read.value.defined());
}

TEST_CASE("a body with an implicit node inside is replayed", "[program]") {
  const auto f = [](const Var& x) {
    return root([&](const Var& y) { return y * y * y + y - x; }, zeros_like(x)).z * 0.5 + 1.0;
  };
  const Tensor z = normal({5, 2}, 4), other = normal({5, 2}, 5);
  const program::Program program(program::record(f, z).code, 5, 0);
  CHECK(program.tiles() == 1);
  CHECK(relative(program.run(other), f(Var(other)).value()) <= 1e-8);
}

// ---- fixed_point ------------------------------------------------------------------------------------------

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
