#include <banach/nn/linear.hpp>
#include <banach/nn/sequence.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;

namespace {

// z -> tanh(0.5 z + x W^T).
struct Injected {
  Linear inject;
  explicit Injected(Random& random) : inject(2, 2, random, {.dtype = DType::f64}) {}
  SequenceBody bind(const Var& x, const SegmentMemory&) const {
    return [u = inject(x)](const Var& z) { return tanh(0.5 * z + u); };
  }
  Var start(const Var& x) const { return zeros_like(x); }
  Var output(const Var& z) const { return 2.0 * z; }
  SegmentMemory remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const {
    return nn::remember(old, z, x, 3);
  }
  void visit(Visitor& visitor) { visitor("inject", inject); }
};

}  // namespace

TEST_CASE("last_positions keeps the newest ones", "[sequence]") {
  const Tensor old = normal({2, 3, 2}, 1), now = normal({2, 4, 2}, 2);
  const Var all = concat({Var(old), Var(now)}, 1);
  for (const std::int64_t count : {1, 4, 5, 7})
    CHECK(same_bits(Var(last_positions(old, now, count)), slice(all, 1, 7 - count, 7)));
  CHECK(last_positions(old, now, 9).shape() == Shape{2, 7, 2});
  CHECK(same_bits(Var(last_positions({}, now, 9)), Var(now)));
  CHECK_FALSE(last_positions(old, now, 0).defined());
}

TEST_CASE("remember takes states and inputs of the same positions", "[sequence][errors]") {
  const auto of = [](std::int64_t batch, std::int64_t length, std::int64_t width) {
    return Tensor::zeros({batch, length, width}, DType::f64);
  };
  const SegmentMemory memory = remember({of(2, 3, 4), of(2, 3, 1)}, of(2, 4, 4), of(2, 4, 1), 5);
  CHECK(memory.z.shape() == Shape{2, 5, 4});
  CHECK(memory.x.shape() == Shape{2, 5, 1});
  CHECK_THROWS_WITH(
      remember({}, of(2, 4, 4), of(2, 3, 1), 5),
      Catch::Contains("[remember] z and x must be") && Catch::Contains("got (2,4,4) and (2,3,1)"));
  CHECK_THROWS_AS(remember({of(2, 3, 4), of(2, 2, 1)}, of(2, 4, 4), of(2, 4, 1), 5), ShapeError);
  CHECK_THROWS_AS(remember({of(1, 3, 4), of(1, 3, 1)}, of(2, 4, 4), of(2, 4, 1), 5), ShapeError);
  CHECK_THROWS_AS(remember({of(2, 3, 4), {}}, of(2, 4, 4), of(2, 4, 1), 5), ValueError);
}

TEST_CASE("run goes to the equilibrium, or so many layers deep", "[sequence]") {
  Random random(3);
  Injected plain(random);
  AnyCell cell(plain);
  CHECK(parameters(cell).size() == 2);
  const Var x(normal({2, 3, 2}, 4));
  const Var z0 = cell.start(x);
  const SequenceBody f = cell.bind(x, {});
  const ImplicitSolution deep = run(f, z0, WeightTied{.layers = 80});
  const ImplicitSolution solved = run(f, z0, FixedPointOptions{.tolerance = 1e-13});
  CHECK(deep.report.nstep == 80);
  CHECK(solved.report.converged());
  CHECK(largest_difference(deep.z, solved.z) < 1e-11);
  CHECK(same_bits(cell.output(solved.z), 2.0 * solved.z));
  CHECK(cell.remember({}, solved.z.value(), x.value()).x.shape() == Shape{2, 3, 2});
}
