// The spectrum of a body's Jacobian, and the penalty on its norm.
#include <banach/engine/gradcheck.hpp>
#include <banach/engine/random.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <complex>
#include <limits>

using namespace banach;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

double squared_norm(const Tensor& a) {
  double total = 0.0;
  for (std::int64_t i = 0; i < a.size(); ++i) total += a.at(i) * a.at(i);
  return total;
}

}  // namespace

TEST_CASE("z = tanh(2 z): 0 is unstable, the other solution is not", "[spectrum]") {
  const auto f = [](const Var& z) { return tanh(2.0 * z); };
  const Var z = tensor({0.0, 0.9575040240772688}, {2, 1});
  const auto found = spectral_radius(f, z);
  REQUIRE(found.size() == 2);
  CHECK(found[0].radius() == Approx(2.0).epsilon(1e-14));
  CHECK(found[0].unstable());
  const double slope = 2.0 * (1.0 - 0.9575040240772688 * 0.9575040240772688);
  CHECK(found[1].radius() == Approx(slope).epsilon(1e-12));
  CHECK_FALSE(found[1].unstable());
}

TEST_CASE("one rotation a sample, estimated and dense", "[spectrum]") {
  const double angle = 0.7;
  const Tensor turn = tensor({std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle)}, {2, 2});
  const Tensor sizes = tensor({0.8, 0.4, 1.2}, {3, 1});
  const auto f = [&](const Var& z) { return Var(sizes) * matmul(z, Var(turn)); };
  const Var z(Tensor::zeros({3, 2}, DType::f64));
  const auto found = spectral_radius(f, z);
  const auto dense = jacobian_eigenvalues(f, z);
  for (std::size_t i = 0; i < 3; ++i) {
    const std::complex<double> expected = std::polar(sizes.at(static_cast<std::int64_t>(i)), angle);
    CHECK(std::abs(found[i].eigenvalue - expected) < 1e-13);
    CHECK(found[i].unstable() == (i == 2));
    REQUIRE(dense[i].size() == 2);
    CHECK(std::abs(dense[i][0] - expected) < 1e-13);
    CHECK(dense[i][1] == std::conj(dense[i][0]));
  }
}

TEST_CASE("a coupled batch is one problem", "[spectrum]") {
  // J = (1/4) of ones: one eigenvalue 1, three 0.
  const auto f = [](const Var& z) { return broadcast_to(mean(z), {4}); };
  const Var z(Tensor::zeros({4}, DType::f64));
  const auto found = spectral_radius(f, z, {.batch = Batch::none});
  REQUIRE(found.size() == 1);
  CHECK(found[0].radius() == Approx(1.0).epsilon(1e-13));
  const auto dense = jacobian_eigenvalues(f, z, Batch::none);
  REQUIRE(dense.size() == 1);
  CHECK(std::abs(dense[0][0] - 1.0) < 1e-13);
  for (std::size_t i = 1; i < 4; ++i) CHECK(std::abs(dense[0][i]) < 1e-13);
}

TEST_CASE("the dense spectrum of a nonlinear body is that of its Jacobian, by falling magnitude",
          "[spectrum]") {
  const Tensor w = normal({6, 6}, 1, 0.6), point = normal({2, 6}, 2);
  const auto f = [&](const Var& z) { return tanh(matmul(z, Var(w))); };
  const auto found = jacobian_eigenvalues(f, Var(point));
  const auto estimated = spectral_radius(f, Var(point));
  for (std::int64_t s = 0; s < 2; ++s) {
    const auto& values = found[static_cast<std::size_t>(s)];
    // trace and determinant of J = D W^T with D = 1 - tanh^2
    const Var z = slice(Var(point), 0, s, s + 1), d = 1.0 - square(f(z));
    const Var j = transpose(Var(w) * d);
    std::complex<double> total = 0.0, product = 1.0;
    for (std::size_t i = 0; i < 6; ++i) {
      total += values[i];
      product *= values[i];
      if (i > 0) CHECK(std::abs(values[i]) <= std::abs(values[i - 1]) * (1 + 1e-15));
    }
    CHECK(std::abs(total - trace(j).item()) < 1e-12);
    const SignLogDet det = slogdet(j);
    CHECK(std::abs(product - det.sign.item() * std::exp(det.log_abs.item())) < 1e-12);
    CHECK(estimated[static_cast<std::size_t>(s)].radius() == Approx(std::abs(values[0])).epsilon(1e-10));
  }
}

TEST_CASE("the radius is the observed rate of Picard's iteration", "[spectrum]") {
  const Tensor w = normal({8, 8}, 3, 0.2), x = normal({1, 8}, 4);
  const auto f = [&](const Var& z) { return tanh(matmul(z, Var(w)) + Var(x)); };
  const auto solved = fixed_point(f, Var(Tensor::zeros({1, 8}, DType::f64)),
                                  {.solver = Anderson{}, .tolerance = 1e-14, .max_steps = 500});
  const double radius = spectral_radius(f, solved.z)[0].radius();
  const auto slow = fixed_point(f, Var(Tensor::zeros({1, 8}, DType::f64)),
                                {.solver = Picard{}, .tolerance = 1e-12, .max_steps = 5000});
  CHECK(slow.report.samples[0].rate == Approx(radius).epsilon(0.15));
}

TEST_CASE("spectra where there is nothing, no number, no derivative, or no fit", "[spectrum]") {
  const auto id = [](const Var& z) { return 0.5 * z; };
  CHECK(spectral_radius(id, Var(Tensor::zeros({0, 3}, DType::f64))).empty());
  CHECK(jacobian_eigenvalues(id, Var(Tensor::zeros({0, 3}, DType::f64))).empty());
  CHECK(jacobian_eigenvalues(id, Var(Tensor::zeros({2, 0}, DType::f64))).size() == 2);
  const Var z(Tensor::ones({2, 2}, DType::f64));
  const auto constant = [&](const Var&) { return z; };
  CHECK(spectral_radius(constant, z)[1].radius() == 0.0);
  CHECK(std::abs(jacobian_eigenvalues(constant, z)[1][0]) == 0.0);
  const Tensor spoilt = tensor({0.5, std::numeric_limits<double>::quiet_NaN()}, {2, 1});
  const auto half_nan = [&](const Var& at) { return Var(spoilt) * at; };
  CHECK(spectral_radius(half_nan, z)[0].radius() == Approx(0.5));
  CHECK(std::isnan(spectral_radius(half_nan, z)[1].radius()));
  CHECK(std::abs(jacobian_eigenvalues(half_nan, z)[0][1]) == Approx(0.5));
  CHECK(std::isnan(jacobian_eigenvalues(half_nan, z)[1][0].real()));
  CHECK_THROWS_WITH(spectral_radius([](const Var& at) { return sum(at, {1}); }, z),
                    Contains("[spectral_radius]") && Contains("(2,2) became (2)"));
  CHECK_THROWS_WITH(jacobian_eigenvalues([](const Var& at) { return sum(at, {1}); }, z),
                    Contains("[jacobian_eigenvalues]"));
  CHECK_THROWS_AS(spectral_radius(id, z, {.products = 0}), ValueError);
  // Nothing is recorded, and f32 works.
  Tape tape;
  const Var w = leaf(Tensor::full({2, 2}, 0.25));
  const std::int64_t before = tape.size();
  CHECK(
      spectral_radius([&](const Var& at) { return matmul(at, w); }, Var(Tensor::ones({1, 2})))[0].radius() ==
      Approx(0.5).epsilon(1e-6));
  CHECK(tape.size() == before);
}

TEST_CASE("the Jacobian penalty has expectation ||J||_F^2 / d", "[regularization]") {
  const std::int64_t d = 5;
  const Tensor a = normal({d, d}, 5);
  const auto f = [&](const Var& z) { return matmul(z, Var(a)); };
  const Var z(Tensor::zeros({400, d}, DType::f64));
  const double expected = squared_norm(a) / static_cast<double>(d);
  for (const Probe probe : {Probe::gaussian, Probe::rademacher}) {
    // One draw's variance, of v^T S v with S = A A^T: at most 2 tr S^2 / d^2, below 2 expected^2; 20,000
    // draws.
    const double estimate = jacobian_regularization(f, z, {.probe = probe, .probes = 50, .seed = 6}).item();
    CHECK(std::abs(estimate - expected) < 4.0 * expected * std::sqrt(2.0 / 20000.0));
    CHECK(estimate != jacobian_regularization(f, z, {.probe = probe, .probes = 50, .seed = 7}).item());
    CHECK(estimate == jacobian_regularization(f, z, {.probe = probe, .probes = 50, .seed = 6}).item());
  }
}

TEST_CASE("Rademacher probes are exact for a diagonal Jacobian", "[regularization]") {
  const Var z = normal({3, 4}, 8);
  const double exact = squared_norm((3.0 * square(z)).value()) / 12.0;
  const auto f = [](const Var& at) { return at * at * at; };
  CHECK(jacobian_regularization(f, z, {.probe = Probe::rademacher}).item() == Approx(exact).epsilon(1e-14));
  CHECK(jacobian_regularization(f, z).item() != Approx(exact).epsilon(1e-3));
}

TEST_CASE("the Jacobian penalty is differentiable by parameters and state", "[regularization]") {
  for (const Probe probe : {Probe::gaussian, Probe::rademacher}) {
    const auto penalty = [&](const Vars& in) {
      const auto f = [&](const Var& z) { return tanh(matmul(z, in[0]) + 0.3); };
      return Vars{jacobian_regularization(f, in[1], {.probe = probe, .probes = 2, .seed = 9})};
    };
    const GradcheckReport report =
        gradcheck(penalty, {Var(normal({4, 4}, 10, 0.5)), Var(normal({2, 4}, 11))});
    INFO(report.to_string());
    CHECK(report.passed);
  }
  // A detached state gets nothing, the parameters the same.
  Tape tape;
  const Var w = leaf(normal({4, 4}, 10)), z = leaf(normal({2, 4}, 11));
  const auto f = [&](const Var& at) { return tanh(matmul(at, w)); };
  const Vars both = grad(jacobian_regularization(f, z), {w, z});
  const Vars fixed = grad(jacobian_regularization(f, z.detach()), {w, z});
  CHECK(squared_norm(both[1].value()) > 0.0);
  CHECK(squared_norm(fixed[1].value()) == 0.0);
  CHECK(squared_norm((both[0] - fixed[0]).value()) == 0.0);
}

TEST_CASE("the Jacobian penalty goes through the solution it is taken at", "[regularization]") {
  // z = w z + 1 has z = 1 / (1 - w) and J = w; f = w z^2 / 2 taken there has J = w z.
  const auto penalty = [](const Vars& in) {
    const FixedPointOptions options{
        .backward = Implicit{Dense{}}, .tolerance = 1e-14, .max_steps = 500, .batch = Batch::none};
    const Var z = fixed_point([&](const Var& at) { return in[0] * at + 1.0; },
                              Var(Tensor::zeros({1}, DType::f64)), options)
                      .z;
    return Vars{jacobian_regularization([&](const Var& at) { return 0.5 * in[0] * square(at); }, z,
                                        {.probe = Probe::rademacher})};
  };
  const double w = 0.4;
  const VjpResult got = vjp(penalty, {Var(tensor({w}))}, {Var(scalar(1.0, DType::f64))});
  CHECK(got.outputs[0].item() == Approx(std::pow(w / (1 - w), 2)));       // (w z)^2
  CHECK(got.cotangents[0].item() == Approx(2 * w / std::pow(1 - w, 3)));  // its derivative
}

TEST_CASE("the Jacobian penalty of nothing is zero; bad use is refused", "[regularization]") {
  const auto f = [](const Var& z) { return 0.5 * z; };
  CHECK(jacobian_regularization(f, Var(Tensor::zeros({0, 3}, DType::f64))).item() == 0.0);
  const Var z(Tensor::ones({2, 2}));
  CHECK(jacobian_regularization(f, z).dtype() == DType::f32);
  CHECK_THROWS_WITH(jacobian_regularization(f, z, {.probes = 0}),
                    Contains("probes must be at least 1: got 0"));
  CHECK_THROWS_WITH(jacobian_regularization([](const Var& at) { return sum(at); }, z),
                    Contains("[jacobian_regularization]") && Contains("(2,2)"));
  CHECK_THROWS_AS(jacobian_regularization(f, Var(Tensor::arange(3))), DTypeError);
}
