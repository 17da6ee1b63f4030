// What happens when nothing is asked for: the defaults do what their documentation says.

#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/implicit/trajectory.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;
using namespace banach::test;

namespace {

// n x n, symmetric, with eigenvalues from 1 to `condition`.
Tensor spd(std::int64_t n, double condition, std::uint64_t seed) {
  const Var q = eigh(Var(normal({n, n}, seed)) + transpose(Var(normal({n, n}, seed)))).vectors;
  Tensor values = Tensor::empty({n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i)
    values.mutable_data<double>()[i] =
        std::pow(condition, static_cast<double>(i) / static_cast<double>(n - 1));
  return matmul(q * Var(values), q, {.transpose_b = true}).value();
}

}  // namespace

TEST_CASE("defaults: root and minimize go on to 1e-8 in f64 and to 1e-4 in f32, and no further",
          "[defaults]") {
  const auto [dtype, tolerance] = GENERATE(std::pair{DType::f64, 1e-8}, std::pair{DType::f32, 1e-4});
  const Var start(Tensor::ones({1, 1}, dtype));
  // Picard: the residual falls by 0.9 a step.
  const auto by_root = root([](const Var& z) { return 0.1 * z; }, start, {.solver = Picard{}});
  CHECK(by_root.report.samples[0].abs_lowest <= tolerance);
  CHECK(by_root.report.samples[0].abs_lowest >= 0.85 * tolerance);
  const auto quartic = minimize([](const Var& z) { return sum(0.25 * z * z * z * z, {1}); }, start);
  CHECK(quartic.report.samples[0].abs_lowest <= tolerance);
}

TEST_CASE("defaults: linear_solve and minimize solve their adjoint equations to 1e-10", "[defaults]") {
  const std::int64_t batch = 3, n = 24;
  const Tensor a = spd(n, 50.0, 1), b = normal({batch, n}, 2), weight = normal({batch, n}, 3);
  const Tape tape;
  const Var matrix = leaf(a), right = leaf(b);
  const Var expected = matmul(right, inverse(matrix));
  const Vars dense = grad(sum(Var(weight) * expected), {matrix, right});

  SECTION("linear_solve, several systems at once") {
    const auto solved = linear_solve([&](const Var& x) { return matmul(x, matrix); }, right);
    CHECK(solved.report.converged());
    CHECK(largest_difference(solved.z, expected) < 1e-8);
    const Vars found = grad(sum(Var(weight) * solved.z), {matrix, right});
    CHECK(largest_difference(found[0], dense[0]) < 3e-9 * max(abs(dense[0])).item());
    CHECK(largest_difference(found[1], dense[1]) < 3e-9 * max(abs(dense[1])).item());
    for (const GradientStatus& status : solved.adjoint.last().samples) CHECK(status.adjoint_residual <= 1e-9);
  }
  SECTION("minimize") {
    const auto phi = [&](const Var& z) { return sum(0.5 * z * matmul(z, matrix) - right * z, {1}); };
    const auto solved = minimize(phi, Var(Tensor::zeros({batch, n}, DType::f64)), {.tolerance = 1e-11});
    CHECK(solved.report.converged());
    const Var found = grad(sum(Var(weight) * solved.z), {right})[0];
    CHECK(largest_difference(found, dense[1]) < 3e-9 * max(abs(dense[1])).item());
    for (const GradientStatus& status : solved.adjoint.last().samples) CHECK(status.adjoint_residual <= 1e-9);
  }
}

TEST_CASE("defaults: the monotone equilibrium is found to 1e-4, with its gradients", "[defaults][monotone]") {
  const std::int64_t batch = 3, n = 5;
  // W = (1 - m) I - A^T A + S - S^T is such that I - W is at least m.
  const Var a(normal({n, n}, 4, 0.5)), skew(normal({n, n}, 5));
  const Tensor w =
      (0.5 * Var(Tensor::eye(n, DType::f64)) - matmul(a, a, {.transpose_a = true}) + skew - transpose(skew))
          .value();
  const Tensor c = normal({batch, n}, 6, 2.0), weight = normal({batch, n}, 7);
  const auto residual = [&](const Var& z) {
    const Var off = relu(matmul(z, Var(w), {.transpose_b = true}) + Var(c)) - z;
    return std::sqrt(max(sum(off * off, {1}) / sum(z * z, {1})).item());
  };
  CHECK(residual(monotone_fixed_point(Var(w), Var(c)).z) <= 1.1e-4);

  // Exact gradients of a tight solve agree with central differences.
  const auto loss = [&](const Var& weights, const Var& shift) {
    const auto solved = monotone_fixed_point(
        weights, shift, {.backward = Implicit{Dense{}}, .tolerance = 1e-13, .max_steps = 5000});
    CHECK(solved.report.converged());
    return sum(Var(weight) * solved.z);
  };
  const Tape tape;
  const Var weights = leaf(w), shift = leaf(c);
  const Vars found = grad(loss(weights, shift), {weights, shift});
  const Tensor along_w = normal({n, n}, 8), along_c = normal({batch, n}, 9);
  const double step = 1e-6;
  const NoGrad off;
  const auto moved = [&](double t) {
    return loss(Var(w) + t * Var(along_w), Var(c) + t * Var(along_c)).item();
  };
  const double numeric = (moved(step) - moved(-step)) / (2.0 * step);
  CHECK(sum(found[0] * Var(along_w)).item() + sum(found[1] * Var(along_c)).item() ==
        Approx(numeric).epsilon(1e-6));
}

TEST_CASE("defaults: a trace of 64 rows, the whole one if asked for", "[defaults]") {
  const auto f = [](const Var& z) { return 0.99 * z + 1.0; };
  const auto steps = [&](bool whole) {
    return fixed_point(f, Var(Tensor::zeros({1, 1}, DType::f64)),
                       {.solver = Picard{}, .tolerance = 0.0, .max_steps = 300, .whole_trace = whole})
        .report.trace.steps.size();
  };
  CHECK(steps(true) == 300);
  CHECK(fixed_point(f, Var(Tensor::zeros({1, 1}, DType::f64)),
                    {.solver = Picard{}, .tolerance = 0.0, .max_steps = 300})
            .report.trace.steps.size() <= 64);
}

TEST_CASE("defaults: random Neumann serves contractions up to a rate of 0.9", "[defaults][random]") {
  const Tape tape;
  const Var b = leaf(Tensor::ones({50, 1}, DType::f64));
  const auto solved = fixed_point([&](const Var& z) { return 0.85 * z + b; },
                                  Var(Tensor::full({50, 1}, 1.0 / 0.15, DType::f64)),
                                  {.backward = RandomNeumann{}, .tolerance = 1e-10});
  grad(sum(solved.z), {b});
  for (const GradientStatus& status : solved.adjoint.last().samples)
    CHECK(status.adjoint == Status::converged);
}

TEST_CASE("defaults: losses and normalisations", "[defaults]") {
  const Var zero(Tensor::zeros({2}, DType::f64));
  // huber with delta 1: d^2 / 2 up to 1, |d| - 1/2 from there.
  CHECK(huber(Var(tensor<double>({0.75, -0.5}, {2})), zero).item() == Approx((0.28125 + 0.125) / 2.0));
  CHECK(huber(Var(tensor<double>({3.0, -2.0}, {2})), zero).item() == Approx((2.5 + 1.5) / 2.0));
  // batch_norm_by with eps 1e-5, which shows where the variance is small.
  const Var x(tensor<double>({1.0, 2.0, 3.0, 4.0}, {2, 2})), mean(tensor<double>({0.5, 1.0}, {2})),
      variance(tensor<double>({0.0, 4e-5}, {2}));
  const Tensor y = batch_norm_by(x, mean, variance).value();
  for (int i = 0; i < 4; ++i)
    CHECK(y.at(i) ==
          Approx((x.value().at(i) - mean.value().at(i % 2)) / std::sqrt(variance.value().at(i % 2) + 1e-5)));
  // Of a loss along the way, later states count more, by 1 / 0.8 each.
  const auto trajectory = fixed_point_trajectory([](const Var& z) { return 0.5 * z + 1.0; }, zero,
                                                 std::vector<int>{1, 2, 3}, {.solver = Picard{}});
  const auto loss = [](const Var& z) { return sum(z * z); };
  double expected = 0.0;
  for (int i = 0; i < 3; ++i)
    expected += std::pow(0.8, 2 - i) * loss(trajectory.states[static_cast<std::size_t>(i)]).item();
  CHECK(expected > 0.0);
  CHECK(trajectory_loss(trajectory, loss).item() == Approx(expected));
}

TEST_CASE("defaults: sort and topk go along the last axis", "[defaults]") {
  const Var x(tensor<double>({3, 1, 2, 0, 5, 4}, {2, 3}));
  CHECK(largest_difference(sort(x).values, Var(tensor<double>({1, 2, 3, 0, 4, 5}, {2, 3}))) == 0.0);
  CHECK(largest_difference(topk(x, 1).values, Var(tensor<double>({3, 5}, {2, 1}))) == 0.0);
}

TEST_CASE("defaults: linear_solve goes on to 1e-10, forward and backward", "[defaults]") {
  // Eigenvalues spread evenly: each product gains about half a digit, and the space is not exhausted by far.
  const std::int64_t n = 300;
  Tensor values = Tensor::empty({n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i)
    values.mutable_data<double>()[i] = 1.0 + 3.0 * static_cast<double>(i) / static_cast<double>(n);
  const Tape tape;
  const Var right = leaf(normal({2, n}, 11));
  const auto solved = linear_solve([&](const Var& x) { return x * Var(values); }, right);
  CHECK(solved.report.converged());
  for (const SampleReport& sample : solved.report.samples) CHECK(sample.rel_lowest <= 1e-10);
  grad(solved.z, {right}, {.cotangent = Var(normal({2, n}, 12))});
  for (const GradientStatus& sample : solved.adjoint.last().samples) CHECK(sample.adjoint_residual <= 1e-10);
}

TEST_CASE("defaults: normalisations add 1e-5 to the variance", "[defaults]") {
  // Of variance 1e-5 itself, so that half of the sum is eps.
  const double d = std::sqrt(1e-5);
  const Var rows(tensor<double>({1.0 + d, 1.0 - d, -d, d}, {2, 2})), one(Tensor::ones({2}, DType::f64)),
      zero(Tensor::zeros({2}, DType::f64));
  const double size = std::sqrt(0.5);
  const Var by_rows(tensor<double>({size, -size, -size, size}, {2, 2}));
  CHECK(largest_difference(normalize(rows), by_rows) < 1e-9);
  CHECK(largest_difference(layer_norm(rows, one, zero), by_rows) < 1e-9);
  CHECK(largest_difference(group_norm(rows, 1), by_rows) < 1e-9);
  const Var columns = transpose(rows), by_columns = transpose(by_rows);
  CHECK(largest_difference(batch_norm(columns).y, by_columns) < 1e-9);
  CHECK(largest_difference(batch_norm_by(columns, mean(columns, {0}), var(columns, {0}, 0)), by_columns) <
        1e-9);
}

TEST_CASE("defaults: what each backward rule estimates on z = a z + b", "[defaults][rules]") {
  const double a = 0.7;
  const auto slope = [&](const BackwardRule& rule, const Solver& solver = Picard{}) {
    const Tape tape;
    const Var b = leaf(Tensor::ones({1, 1}, DType::f64));
    const auto solved =
        fixed_point([&](const Var& z) { return a * z + b; }, Var(Tensor::zeros({1, 1}, DType::f64)),
                    {.solver = solver, .backward = rule, .tolerance = 1e-9, .max_steps = 300});
    return grad(sum(solved.z), {b})[0].item();
  };
  const auto series = [](double ratio, int terms) { return (1.0 - std::pow(ratio, terms)) / (1.0 - ratio); };
  CHECK(slope(Implicit{}) == Approx(1.0 / (1.0 - a)).epsilon(2e-6));
  CHECK(slope(JacobianFree{}) == Approx(1.0));
  CHECK(slope(Neumann{}) == Approx(series(a, 5)));
  CHECK(slope(TruncatedUnroll{}) == Approx(series(a, 5)));
  CHECK(slope(Phantom{}) == Approx(0.5 * series(0.5 + 0.5 * a, 5)));
  CHECK(slope(Phantom{.form = Phantom::Form::neumann}) == Approx(0.5 * series(0.5 + 0.5 * a, 5)));
  CHECK(slope(Unrolled{}) == Approx(1.0 / (1.0 - a)).epsilon(1e-6));
  CHECK(slope(Reversible{}) == Approx(1.0 / (1.0 - a)).epsilon(1e-6));
  // Shine's estimate is longer than 1.3 of g here, and so it takes that of JacobianFree.
  CHECK(slope(Shine{}, Broyden{}) == Approx(1.0));
}

TEST_CASE("defaults: fixed_point goes on to 1e-4 with a memory of five, and makes no spectrum",
          "[defaults]") {
  const Var zero(Tensor::zeros({1, 6}, DType::f64));
  // Five different slopes and an offset: what five differences can cancel, but not four.
  const Var slopes(tensor<double>({0.9, -0.8, 0.5, -0.3, 0.2, 0.2}, {1, 6}));
  const auto f = [&](const Var& z) { return slopes * z + 1.0; };
  const auto solved = fixed_point(f, zero, {.tolerance = 1e-9});
  CHECK(solved.report.converged());
  CHECK(solved.report.solver == "anderson");
  CHECK(solved.report.nstep == 7);
  CHECK(fixed_point(f, zero, {.solver = Anderson{.memory = 4}, .tolerance = 1e-9}).report.nstep > 7);
  CHECK(std::isnan(solved.report.samples[0].spectral_radius));
  const auto picard = fixed_point([](const Var& z) { return 0.9 * z + 1.0; }, zero, {.solver = Picard{}});
  CHECK(picard.report.converged());
  CHECK(picard.report.samples[0].rel_lowest <= 1e-4);
  CHECK(picard.report.samples[0].rel_lowest > 0.89e-4);
  // The error may be a hundred times the residual's bound: a contraction by 0.995 is 200 times off.
  const auto slow = fixed_point([](const Var& z) { return 0.995 * z + 1.0; }, zero,
                                {.solver = Picard{}, .max_steps = 3000});
  CHECK(slow.report.converged());
  CHECK(slow.report.samples[0].rel_lowest <= 0.5e-4);
  CHECK(slow.report.samples[0].rel_lowest > 0.49e-4);
}
