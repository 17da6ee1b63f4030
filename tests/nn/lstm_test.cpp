#include <banach/engine/gradcheck.hpp>
#include <banach/nn/lstm.hpp>
#include <banach/nn/module.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

const std::int64_t batch = 2, length = 5, input = 3, hidden = 4;

LSTM layer() {
  Random random(3);
  return LSTM(input, hidden, random, DType::f64);
}

double sigma(double a) { return 1.0 / (1.0 + std::exp(-a)); }

}  // namespace

TEST_CASE("LSTM is its equations", "[lstm]") {
  const LSTM lstm = layer();
  const Tensor x = normal({batch, length, input}, 1);
  const LSTM::Output out = lstm(Var(x));
  REQUIRE(out.h.shape() == Shape{batch, length, hidden});
  for (std::int64_t b = 0; b < batch; ++b) {
    std::vector<double> h(hidden, 0.0), c(hidden, 0.0);
    for (std::int64_t t = 0; t < length; ++t) {
      const std::vector<double> before = h;
      for (std::int64_t k = 0; k < hidden; ++k) {
        const auto gate = [&](std::int64_t which) {
          const std::int64_t row = which * hidden + k;
          double sum = lstm.inject.bias->value().at(row);
          for (std::int64_t j = 0; j < hidden; ++j)
            sum += lstm.recur.weight.value().at(row * hidden + j) * before[static_cast<std::size_t>(j)];
          for (std::int64_t j = 0; j < input; ++j)
            sum += lstm.inject.weight.value().at(row * input + j) * x.at((b * length + t) * input + j);
          return sum;
        };
        double& cell = c[static_cast<std::size_t>(k)];
        cell = sigma(gate(1)) * cell + sigma(gate(0)) * std::tanh(gate(3));
        h[static_cast<std::size_t>(k)] = sigma(gate(2)) * std::tanh(cell);
        CHECK(out.h.value().at((b * length + t) * hidden + k) == Approx(h[static_cast<std::size_t>(k)]));
      }
    }
    CHECK(out.last.c.value().at(b * hidden) == Approx(c[0]));
  }
  CHECK(lstm.inject.bias->value().at(hidden) == 1.0);
}

TEST_CASE("LSTM goes on from a state, and has derivatives", "[lstm]") {
  LSTM lstm = layer();
  const Var x(normal({batch, length, input}, 2));
  const LSTM::Output first = lstm(slice(x, 1, 0, 2)), second = lstm(slice(x, 1, 2, length), first.last);
  CHECK(largest_difference(concat({first.h, second.h}, 1), lstm(x).h) < 1e-15);

  const ParameterList list = parameters(lstm);
  Vars inputs{x};
  for (const NamedParameter& p : list) inputs.push_back(Var(p.parameter->value()));
  const GradcheckReport report = gradcheck(
      [&](const Vars& at) {
        const Substitution given(list, Vars(at.begin() + 1, at.end()));
        return Vars{lstm(at.front()).h};
      },
      inputs, {.step = 3e-4});
  INFO(report.to_string());
  CHECK(report.passed);
}

TEST_CASE("LSTM says what it refuses", "[lstm][errors]") {
  const LSTM lstm = layer();
  CHECK_THROWS_WITH(lstm(Var(normal({2, 5}, 1))), Contains("[lstm] x must be (batch,length,3)"));
  CHECK_THROWS_WITH(lstm(Var(normal({2, 0, 3}, 1))),
                    Contains("[lstm] x must have at least one position: got the empty sequence (2,0,3)"));
  CHECK(lstm(Var(Tensor::zeros({0, 2, 3}, DType::f64))).h.shape() == Shape{0, 2, 4});
}
