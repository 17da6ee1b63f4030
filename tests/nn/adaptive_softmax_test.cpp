#include <tests/nn/files.hpp>
#include <tests/tensors.hpp>

#include <banach/engine/error.hpp>
#include <banach/engine/gradcheck.hpp>
#include <banach/nn/adaptive_softmax.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::nn;
using files::message;
using test::normal;

namespace {

constexpr std::int64_t features = 6, classes = 11;
const Tensor targets = tensor<std::int64_t>({0, 10, 3, 4, 6, 2, 7});

std::vector<AdaptiveSoftmaxOptions> all_options() {
  return {{.cutoffs = {}, .dtype = DType::f64},
          {.cutoffs = {4, 7}, .divide = 2.0, .dtype = DType::f64},
          {.cutoffs = {4}, .divide = 1.0, .project = false, .dtype = DType::f64},
          {.cutoffs = {4, 7}, .divide = 1.0, .tied = true, .dtype = DType::f64},
          {.cutoffs = {1, 10}, .divide = 1.0, .tied = true, .project = false, .dtype = DType::f64}};
}

Var table_for(const AdaptiveSoftmaxOptions& options) {
  return options.tied ? Var(normal({classes, features}, 9)) : Var();
}

AdaptiveSoftmax make(const AdaptiveSoftmaxOptions& options) {
  Random random(3);
  return {features, classes, random, options};
}

}  // namespace

TEST_CASE("Adaptive softmax: probabilities sum to one, and the loss is that of the full table") {
  for (const AdaptiveSoftmaxOptions& options : all_options()) {
    const AdaptiveSoftmax layer = make(options);
    const Var h(normal({targets.size(), features}, 4, 2.0)), table = table_for(options);
    const Tensor log_p = layer.log_probabilities(h, table).value();
    REQUIRE(log_p.shape() == Shape{targets.size(), classes});
    double mean = 0;
    for (std::int64_t i = 0; i < targets.size(); ++i) {
      double sum = 0;
      for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(log_p.at(i * classes + c));
      CHECK(sum == Approx(1.0).epsilon(1e-12));
      mean -= log_p.at(i * classes + static_cast<std::int64_t>(targets.at(i)));
    }
    CHECK(layer.loss(h, targets, table).item() ==
          Approx(mean / static_cast<double>(targets.size())).epsilon(1e-12));
  }
}

TEST_CASE("Adaptive softmax: derivatives of the loss by features, table and parameters") {
  for (const AdaptiveSoftmaxOptions& options : all_options()) {
    AdaptiveSoftmax layer = make(options);
    const ParameterList list = parameters(layer);
    Vars at{Var(normal({targets.size(), features}, 4))};
    if (options.tied) at.push_back(table_for(options));
    const std::size_t first = at.size();
    for (const NamedParameter& p : list) at.push_back(Var(p.parameter->value()));
    const auto loss = [&](const Vars& in) {
      const Substitution substitution(list, Vars(in.begin() + static_cast<std::ptrdiff_t>(first), in.end()));
      return Vars{layer.loss(in[0], targets, options.tied ? in[1] : Var())};
    };
    const auto result = gradcheck(loss, at);
    INFO(result.to_string());
    CHECK(result.passed);
  }
}

TEST_CASE("Adaptive softmax: clusters are narrower, and their parameters fewer") {
  Random random(1);
  const AdaptiveSoftmax layer(64, 1000, random, {.cutoffs = {100, 400}});
  REQUIRE(layer.parts.size() == 3);
  CHECK(layer.parts[1].weight->shape() == Shape{300, 16});
  CHECK(layer.parts[2].weight->shape() == Shape{600, 4});
}

TEST_CASE("Adaptive softmax refuses what does not fit") {
  Random random(1);
  const auto refused = [&](const AdaptiveSoftmaxOptions& options) {
    return message<ValueError>([&] { AdaptiveSoftmax(features, classes, random, options); });
  };
  CHECK(refused({.cutoffs = {4, 4}}).find("cutoffs must ascend within [1, 11): got [4, 4]") !=
        std::string::npos);
  CHECK(refused({.cutoffs = {11}}).find("must ascend") != std::string::npos);
  CHECK(refused({.cutoffs = {4}, .tied = true}).find("divide must be 1") != std::string::npos);
  CHECK(refused({.cutoffs = {4}, .divide = 0.5}).find("at least 1") != std::string::npos);

  const AdaptiveSoftmax layer = make({.cutoffs = {4}, .dtype = DType::f64});
  const Var h(normal({2, features}, 1));
  CHECK(message<ValueError>([&] {
          layer.loss(h, tensor<std::int64_t>({0, 11}));
        }) == "[adaptive_softmax] targets must lie in [0, 11): entry 1 is 11");
  CHECK_THROWS_AS(layer.loss(h, tensor<std::int64_t>({0})), ShapeError);
  CHECK_THROWS_AS(layer.loss(Var(normal({2, 5}, 1)), tensor<std::int64_t>({0, 1})), ShapeError);
  CHECK_THROWS_AS(layer.loss(h, tensor<std::int64_t>({0, 1}), h), ValueError);
}
