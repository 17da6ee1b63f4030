// A map applied so many times, against the loop written out.
#include <banach/engine/gradcheck.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/weight_tied.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

const int depths[] = {1, 2, 3, 7, 12};

// tanh(z W^T + b), dropped by a mask drawn before; W, b and the gain are captured.
struct Net {
  Tensor w = normal({4, 4}, 1, 0.5), b = normal({3, 4}, 2), z0 = normal({3, 4}, 3), g = normal({3, 4}, 4);
  RandomState mask{7, 0, 0};

  Vars leaves() const { return {leaf(w), leaf(b), leaf(z0)}; }
  auto body(const Vars& x) const {
    return [this, x](const Var& z) {
      return dropout(tanh(matmul(z, x[0], {.transpose_b = true}) + x[1]), 0.3, mask);
    };
  }
  Var by_hand(const Vars& x, int layers) const {
    Var z = x[2];
    for (int k = 0; k < layers; ++k) z = body(x)(z);
    return z;
  }
  Var loss(const Var& z) const { return sum(z * Var(g)) + 0.5 * sum(square(z)); }
};

double peak_states(const WeightTied& options) {
  const std::int64_t n = 20000;
  memory::reset_peak();
  const auto before = memory::stats().live_bytes;
  Tape tape;
  const Var b = leaf(Tensor::ones({1, n}, DType::f64));
  const auto f = [&](const Var& z) { return tanh(0.5 * z + b); };
  static_cast<void>(grad(sum(weight_tied(f, Var(Tensor::zeros({1, n}, DType::f64)), options).z), {b}));
  return static_cast<double>(memory::stats().peak_bytes - before) / static_cast<double>(n * sizeof(double));
}

}  // namespace

TEST_CASE("weight_tied is the loop written out, bit for bit, however its layers are kept", "[weight_tied]") {
  const Net net;
  for (const int layers : depths)
    for (const int every : {0, 1, 2, 3, 5, 12, 100}) {
      INFO(layers << " layers, a checkpoint every " << every);
      Tape tape;
      const Vars x = net.leaves();
      const ImplicitSolution tied = weight_tied(net.body(x), x[2], {layers, every});
      const Var z = net.by_hand(x, layers);
      CHECK(same_bits(tied.z, z));
      const Vars got = grad(net.loss(tied.z), x), expected = grad(net.loss(z), x);
      for (std::size_t k = 0; k < x.size(); ++k) CHECK(same_bits(got[k], expected[k]));
    }
}

TEST_CASE("weight_tied: second derivatives, both ways", "[weight_tied]") {
  const Net net;
  for (const int every : {0, 2}) {
    INFO("a checkpoint every " << every);
    const auto f = [&](const Vars& x) {
      return Vars{net.loss(weight_tied(net.body(x), x[2], {5, every}).z)};
    };
    const GradcheckReport report = gradcheck(f, {Var(net.w), Var(net.b), Var(net.z0)}, {.step = 2e-4});
    INFO(report.to_string());
    CHECK(report.passed);
  }
}

TEST_CASE("weight_tied reports its layers and the residual of the last", "[weight_tied]") {
  const Var z0(tensor({1.0, 2.0}, {2, 1}));
  Tape tape;
  const Var rate = leaf(tensor({0.5, 0.25}, {2, 1}));
  for (const int every : {0, 2}) {
    const auto [z, report, adjoint] = weight_tied([&](const Var& v) { return rate * v; }, z0, {3, every});
    CHECK(z.value().at(0) == 0.125);
    CHECK(report.nstep == 3);
    CHECK(report.samples[0].nstep == 3);
    CHECK(report.samples[0].status == Status::max_steps);
    CHECK(report.samples[0].abs_lowest == 0.125);
    CHECK(report.samples[0].rel_lowest == 1.0);
    CHECK(report.samples[1].rel_lowest == 3.0);
    CHECK_FALSE(adjoint.run());
    CHECK(grad(sum(z), {rate})[0].value().at(1) == 2.0 * 3.0 / 16.0);
    CHECK(adjoint.last().rule == "weight_tied");
    CHECK(adjoint.last().evaluations == 3);
    CHECK(adjoint.last().samples.size() == 2);
  }
}

TEST_CASE("weight_tied keeps every k-th state and records a segment at a time", "[weight_tied][memory]") {
  CHECK(peak_states({100, 0}) > 100.0);
  CHECK(peak_states({100, 10}) < 35.0);
  // More layers cost one state for every k of them.
  CHECK(peak_states({300, 10}) - peak_states({100, 10}) == Approx(20.0).margin(1.0));
}

TEST_CASE("weight_tied inside of a fixed point, without a tape, in f32, of nothing", "[weight_tied]") {
  const Net net;
  for (const int every : {0, 2}) {
    // z = g(g(g(z))) has the fixed point of g, and its derivative.
    const auto solve = [&](const Vars& x, bool nested) {
      const auto g = [&](const Var& z) { return 0.5 * tanh(matmul(z, x[0], {.transpose_b = true}) + x[1]); };
      const FixedPointOptions options{.backward = Implicit{Gmres{.tolerance = 1e-12}}, .tolerance = 1e-12};
      return nested ? fixed_point(
                          [&](const Var& z) {
                            return weight_tied(g, z, {3, every}).z;
                          },
                          x[2], options)
                    : fixed_point(g, x[2], options);
    };
    Tape tape;
    const Vars x = net.leaves();
    const Vars got = grad(net.loss(solve(x, true).z), {x[0], x[1]}),
               expected = grad(net.loss(solve(x, false).z), {x[0], x[1]});
    for (std::size_t k = 0; k < got.size(); ++k) CHECK(largest_difference(got[k], expected[k]) < 1e-8);

    const Var none = leaf(Tensor::zeros({0, 4}, DType::f64));
    const ImplicitSolution empty =
        weight_tied([&](const Var& z) { return tanh(z) + 0.0 * none; }, none, {4, every});
    CHECK(empty.z.shape() == Shape{0, 4});
    CHECK(grad(sum(empty.z), {none})[0].shape() == Shape{0, 4});

    const NoGrad off;
    const Var start(net.z0.to(DType::f32));
    CHECK(weight_tied([](const Var& z) { return sin(z); }, start, {2, every}).z.dtype() == DType::f32);
    CHECK(std::isnan(
        weight_tied([](const Var& z) { return log(z - 100.0); }, start, {2, every}).z.value().at(0)));
  }
}

TEST_CASE("weight_tied says what it refuses", "[weight_tied][errors]") {
  Tape tape;
  const Var z0 = leaf(Tensor::ones({2, 3}, DType::f64));
  const auto same = [](const Var& z) { return z; };
  CHECK_THROWS_WITH(weight_tied(same, z0, {0}), Contains("[weight_tied] layers must be at least 1: got 0"));
  CHECK_THROWS_WITH(weight_tied(same, z0, {3, -1}), Contains("checkpoint_every"));
  CHECK_THROWS_AS(weight_tied(same, Var(), {}), ValueError);
  for (const int every : {0, 2}) {
    CHECK_THROWS_AS(weight_tied([](const Var& z) { return sum(z); }, z0, {4, every}), ShapeError);
    CHECK_THROWS_AS(weight_tied([](const Var& z) { return cast(z, DType::f32); }, z0, {4, every}),
                    DTypeError);
  }
  const auto decides = [](const Var& z) { return z.value().at(0) > 2.5 ? 3.0 * z : z + 1.0; };
  const ImplicitSolution tied = weight_tied(decides, z0, {4, 2});
  CHECK(tied.z.value().at(0) == 27.0);
  CHECK_THROWS_WITH(grad(sum(tied.z), {z0}), Contains("[weight_tied]") && Contains("another way"));
}
