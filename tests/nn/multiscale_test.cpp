#include <banach/nn/dataset.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/multiscale.hpp>
#include <banach/nn/optim.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <tests/nn/layers.hpp>

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

MultiscaleBlock block_of(std::vector<std::int64_t> channels, std::int64_t groups, double dropout = 0.0) {
  Random random(4);
  return MultiscaleBlock(
      {.channels = std::move(channels), .groups = groups, .dropout = dropout, .dtype = DType::f64}, random);
}

}  // namespace

TEST_CASE("MultiscaleBlock keeps one image a scale, each half the one before", "[multiscale]") {
  const MultiscaleBlock block = block_of({4, 6, 8}, 2);
  const Var x(normal({2, 4, 7, 5}, 1));
  const Vars z0 = block.start(x), z = block.bind(x)(z0);
  const Shape shapes[] = {{2, 4, 7, 5}, {2, 6, 4, 3}, {2, 8, 2, 2}};
  REQUIRE(z.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(z0[i].shape() == shapes[i]);
    CHECK(z[i].shape() == shapes[i]);
  }
  // Samples are apart.
  const Vars alone =
      block.bind(slice(x, 0, 1, 2))({slice(z[0], 0, 1, 2), slice(z[1], 0, 1, 2), slice(z[2], 0, 1, 2)});
  const Vars together = block.bind(x)(z);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(largest_difference(alone[i], slice(together[i], 0, 1, 2)) < 1e-12);
}

TEST_CASE("MultiscaleBlock: every scale hears of every other, and of x", "[multiscale]") {
  const MultiscaleBlock block = block_of({4, 6, 8}, 2);
  const Var x(normal({1, 4, 8, 8}, 2));
  const MultiscaleBlock::Body f = block.bind(x);
  const Vars z = f(block.start(x)), plain = f(z);
  for (std::size_t from = 0; from < 3; ++from) {
    Vars moved = z;
    moved[from] = moved[from] + Var(normal(z[from].shape(), 3, 0.1));
    const Vars seen = f(moved);
    for (std::size_t to = 0; to < 3; ++to) CHECK(largest_difference(seen[to], plain[to]) > 1e-4);
  }
  const Vars other = block.bind(2.0 * x)(z);
  for (std::size_t to = 0; to < 3; ++to) CHECK(largest_difference(other[to], plain[to]) > 1e-4);
}

TEST_CASE("MultiscaleBlock: derivatives through the equilibrium", "[multiscale]") {
  MultiscaleBlock block = block_of({2, 4}, 2);
  const FixedPointOptions exact{.solver = Anderson{.memory = 10},
                                .backward = Implicit{Gmres{.tolerance = 1e-13}},
                                .tolerance = 1e-13,
                                .max_steps = 2000};
  const GradcheckReport report =
      check_gradients(block, normal({1, 2, 4, 3}, 5),
                      [&](const Var& x) {
                        const FixedPoints solved = fixed_point(block.bind(x), block.start(x), exact);
                        CHECK(solved.report.converged());
                        return concat({flatten(solved.z[0]), flatten(solved.z[1])}, 1);
                      },
                      {.order = 1, .step = 1e-5});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("MultiscaleBlock starts as a contraction", "[multiscale]") {
  for (const std::uint64_t seed : {1, 2, 3}) {
    Random random(seed);
    const MultiscaleBlock block({.channels = {8, 16}, .groups = 4, .dtype = DType::f64}, random);
    const Var x(normal({2, 8, 8, 8}, seed));
    const FixedPoints solved =
        fixed_point(block.bind(x), block.start(x), {.max_steps = 20, .spectrum_products = 30});
    CHECK(solved.report.converged());
    for (const SampleReport& sample : solved.report.samples) CHECK(sample.spectral_radius < 0.9);
  }
}

TEST_CASE("MultiscaleBlock drops the same entries at every step", "[multiscale]") {
  MultiscaleBlock block = block_of({4, 4}, 2, 0.5);
  const Var x(normal({2, 4, 4, 4}, 6));
  const MultiscaleBlock::Body f = block.bind(x), other = block.bind(x);
  const Vars z = f(block.start(x));
  CHECK(same_bits(f(z)[0], f(z)[0]));
  CHECK(largest_difference(f(z)[0], other(z)[0]) > 1e-3);
  eval(block);
  CHECK(same_bits(block.bind(x)(z)[1], block_of({4, 4}, 2).bind(x)(z)[1]));
}

TEST_CASE("a classifier on a MultiscaleBlock learns digits", "[multiscale][unsanitized]") {
  const ImageDataset digits = load_digits();
  Random random(7);
  Conv2d stem(1, 8, 3, random, {.padding = 1});
  MultiscaleBlock block({.channels = {8, 16}, .groups = 4}, random);
  Linear head(8 * 64 + 16 * 16, 10, random);
  ParameterList list;
  const auto add = [&](const std::string& prefix, const ParameterList& part) {
    for (const NamedParameter& p : part) list.push_back({prefix + p.name, p.parameter});
  };
  add("stem.", parameters(stem)), add("block.", parameters(block)), add("head.", parameters(head));
  Adam adam(list, {.learning_rate = 5e-3});
  const std::int64_t batch = 32;
  double last = 0.0;
  for (int step = 0; step < 20; ++step) {
    const Minibatch digit = digits.train.range(step * batch, (step + 1) * batch);
    const Tape tape;
    const Var x = stem(Var(digit.x));
    const FixedPoints solved =
        fixed_point(block.bind(x), block.start(x),
                    {.backward = JacobianFree{}, .tolerance = 1e-2, .max_steps = 15, .body = Body::replayed});
    const Var loss =
        cross_entropy(head(concat({flatten(solved.z[0]), flatten(solved.z[1])}, 1)), Var(digit.labels));
    if (step == 0) CHECK(loss.item() > 1.8);
    if (step >= 15) last += loss.item() / 5.0;
    adam.step(grad(loss, list));
  }
  CHECK(last < 0.9);
}

TEST_CASE("MultiscaleBlock says what it refuses", "[multiscale][errors]") {
  Random random(8);
  CHECK_THROWS_WITH(MultiscaleBlock({.channels = {}}, random), Contains("[multiscale_block]"));
  CHECK_THROWS_AS(MultiscaleBlock({.channels = {4, 6}, .groups = 4}, random), ValueError);
  CHECK_THROWS_WITH(block_of({4, 4}, 2).bind(Var(normal({2, 3, 4, 4}, 1))),
                    Contains("(n,4,h,w): got (2,3,4,4)"));
}
