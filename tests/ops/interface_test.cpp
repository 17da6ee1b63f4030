// Defaults are part of the interface: a program that leaves an option out relies on it. Whoever changes one
// changes it here, and tells of it in the changelog.

#include <banach/engine/gradcheck.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/implicit/fixed_point.hpp>
#include <banach/ops/implicit/linear_solve.hpp>
#include <banach/ops/implicit/minimize.hpp>
#include <banach/ops/implicit/monotone.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/implicit/root.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/implicit/weight_tied.hpp>
#include <banach/ops/ops.hpp>
#include <banach/solvers/linear.hpp>

#include <catch2/catch.hpp>

#include <cmath>

using namespace banach;

TEST_CASE("defaults of the solvers", "[defaults]") {
  CHECK(Picard{}.damping == 1.0);
  CHECK(Anderson{}.memory == 5);
  CHECK(Anderson{}.damping == 1.0);
  CHECK(Anderson{}.ridge == 1e-10);
  CHECK(Broyden{}.memory == 30);
  CHECK(Broyden{}.damping == 1.0);
  CHECK(AdjointBroyden{}.memory == 30);
  CHECK(AdjointBroyden{}.damping == 1.0);
  CHECK(Newton{}.line_search);
  CHECK(NewtonKrylov{}.krylov == 40);
  CHECK(NewtonKrylov{}.forcing == 0.5);
  CHECK(LevenbergMarquardt{}.radius == 100.0);
  CHECK(LevenbergMarquardt{}.scaled);
  CHECK(TrustRegion{}.radius == 1.0);
  CHECK(TrustRegion{}.max_radius == 1e10);
  CHECK(TrustRegion{}.krylov == 200);
  CHECK_FALSE(ForwardBackward{}.step);
  CHECK(PeacemanRachford{}.step == 1.0);
  CHECK(FallbackMember{Picard{}}.steps == 100);
  CHECK_FALSE(FallbackMember{Picard{}}.from_best);
  const auto chain = Fallback::standard();
  REQUIRE(chain.size() == 4);
  CHECK(chain[0].solver.get_if<Newton>()->line_search);
  CHECK(chain[0].steps == 100);
  CHECK(chain[1].solver.get_if<LevenbergMarquardt>()->radius == 100.0);
  CHECK(chain[1].steps == 400);
  CHECK_FALSE(chain[2].solver.get_if<Newton>()->line_search);
  CHECK(chain[2].steps == 400);
  CHECK(chain[3].solver.get_if<LevenbergMarquardt>()->radius == 1.0);
  CHECK_FALSE(chain[3].solver.get_if<LevenbergMarquardt>()->scaled);
  CHECK(chain[3].steps == 1000);

  CHECK(Gmres{}.restart == 30);
  CHECK(Gmres{}.max_steps == 300);
  CHECK(Gmres{}.tolerance == 1e-6);
  CHECK(BiCgStab{}.max_steps == 300);
  CHECK(BiCgStab{}.tolerance == 1e-6);
  CHECK(Cg{}.max_steps == 300);
  CHECK(Cg{}.tolerance == 1e-6);
  CHECK(Iterative{}.solver.get_if<Picard>());
  CHECK(Iterative{}.max_steps == 300);
  CHECK(Iterative{}.tolerance == 1e-6);

  const StopOptions stop;
  CHECK(stop.max_steps == 100);
  CHECK(stop.tolerance == 1e-4);
  CHECK_FALSE(stop.absolute_tolerance);
  CHECK(stop.error_factor == 100.0);
  CHECK(stop.divergence_factor == 1e6);
  CHECK(stop.stagnation_window == 100);
  CHECK_FALSE(stop.whole_trace);
  CHECK_FALSE(stop.keep_inverse);
  CHECK(stop.accept_rounding);
}

TEST_CASE("defaults of the implicit operations and of their backward rules", "[defaults]") {
  const FixedPointOptions fixed;
  CHECK(fixed.solver.get_if<Anderson>());
  CHECK(fixed.backward.name() == "implicit");
  CHECK(fixed.tolerance == 1e-4);
  CHECK_FALSE(fixed.absolute_tolerance);
  CHECK(fixed.max_steps == 100);
  CHECK(fixed.batch == Batch::axis0);
  CHECK(fixed.policy == Policy::report);
  CHECK(fixed.error_factor == 100.0);
  CHECK_FALSE(fixed.whole_trace);
  CHECK(fixed.spectrum_products == 0);
  const RootOptions of_root;
  CHECK(of_root.solver.get_if<Fallback>());
  CHECK(of_root.backward.name() == "implicit");
  CHECK_FALSE(of_root.tolerance);
  CHECK(of_root.max_steps == 2000);
  CHECK(of_root.batch == Batch::axis0);
  CHECK(of_root.policy == Policy::report);
  CHECK_FALSE(of_root.whole_trace);
  const MinimizeOptions of_minimum;
  CHECK(of_minimum.backward.name() == "implicit");
  CHECK_FALSE(of_minimum.tolerance);
  CHECK(of_minimum.max_steps == 1000);
  CHECK(of_minimum.batch == Batch::axis0);
  CHECK(of_minimum.policy == Policy::report);
  CHECK_FALSE(of_minimum.whole_trace);
  const LinearSolveOptions linear;
  CHECK(std::get<Gmres>(linear.solver).tolerance == 1e-10);
  CHECK(std::get<Gmres>(linear.adjoint).tolerance == 1e-10);
  CHECK(linear.batch == Batch::axis0);
  CHECK(linear.policy == Policy::report);
  const MonotoneOptions monotone;
  CHECK(std::holds_alternative<PeacemanRachford>(monotone.splitting));
  CHECK(monotone.backward.name() == "implicit");
  CHECK(monotone.tolerance == 1e-4);
  CHECK(monotone.max_steps == 200);
  CHECK(monotone.policy == Policy::report);
  CHECK(ArnoldiOptions{}.products == 30);
  CHECK(SpectrumOptions{}.batch == Batch::axis0);
  CHECK(SpectrumOptions{}.products == 30);
  CHECK(SpectrumOptions{}.seed == 0);
  CHECK(JacobianRegularizationOptions{}.probe == Probe::gaussian);
  CHECK(JacobianRegularizationOptions{}.probes == 1);
  CHECK(JacobianRegularizationOptions{}.seed == 0);

  CHECK(std::holds_alternative<Gmres>(Implicit{}.solver));
  CHECK_FALSE(JacobianFree{}.preconditioner);
  CHECK(Neumann{}.terms == 5);
  CHECK(RandomNeumann{}.survival == 0.9);
  CHECK(RandomNeumann{}.min_terms == 4);
  CHECK(RandomNeumann{}.max_terms == 1000);
  CHECK(RandomNeumann{}.draws == 1);
  CHECK(RandomNeumann{}.seed == 0);
  CHECK(Shine{}.fallback == 1.3);
  CHECK(Shine{}.refinements == 0);
  CHECK(Phantom{}.steps == 5);
  CHECK(Phantom{}.damping == 0.5);
  CHECK(Phantom{}.form == Phantom::Form::unrolled);
  CHECK_FALSE(Phantom{}.guarded);
  CHECK(Unrolled{}.checkpoint_every == 0);
  CHECK(WeightTied{}.layers == 12);
  CHECK(WeightTied{}.checkpoint_every == 0);
  CHECK(TruncatedUnroll{}.steps == 5);
  CHECK(Reversible{}.damping == 0.8);
  CHECK(Reversible{}.reconstruction_tolerance == 1e-3);

  CHECK(GradcheckOptions{}.order == 2);
  CHECK(GradcheckOptions{}.directions == 3);
  CHECK(GradcheckOptions{}.step == 1e-3);
  CHECK(GradcheckOptions{}.tolerance == 1e-6);
}

TEST_CASE("defaults of convolutions, pools and attention", "[defaults]") {
  const Pair one = 1, none = 0;
  CHECK(Conv2dOptions{}.stride == one);
  CHECK(Conv2dOptions{}.padding == none);
  CHECK(Conv2dOptions{}.dilation == one);
  CHECK(Conv2dOptions{}.groups == 1);
  CHECK(ConvTranspose2dOptions{}.stride == one);
  CHECK(ConvTranspose2dOptions{}.padding == none);
  CHECK(ConvTranspose2dOptions{}.output_padding == none);
  CHECK(ConvTranspose2dOptions{}.dilation == one);
  CHECK(ConvTranspose2dOptions{}.groups == 1);
  CHECK(Conv1dOptions{}.stride == 1);
  CHECK(Conv1dOptions{}.padding == 0);
  CHECK(Conv1dOptions{}.dilation == 1);
  CHECK(Conv1dOptions{}.groups == 1);
  CHECK_FALSE(Conv1dOptions{}.causal);
  CHECK(Pool2dOptions{}.kernel == Pair(2));
  CHECK_FALSE(Pool2dOptions{}.stride);
  CHECK(Pool2dOptions{}.padding == none);
  CHECK(AvgPool2dOptions{}.kernel == Pair(2));
  CHECK_FALSE(AvgPool2dOptions{}.stride);
  CHECK(AvgPool2dOptions{}.padding == none);
  CHECK(AvgPool2dOptions{}.count_padding);
  CHECK_FALSE(AttentionOptions{}.causal);
  CHECK_FALSE(AttentionOptions{}.scale);
  CHECK(AttentionOptions{}.heads == 1);
  CHECK_FALSE(MatmulOptions{}.transpose_a);
  CHECK_FALSE(MatmulOptions{}.transpose_b);
  CHECK_FALSE(CholeskyOptions{}.upper);
  CHECK_FALSE(TriangularOptions{}.upper);
  CHECK_FALSE(TriangularOptions{}.transposed);
  CHECK_FALSE(TriangularOptions{}.unit_diagonal);
}

TEST_CASE("what a report says before anything is known", "[defaults]") {
  const SampleReport sample;
  CHECK(sample.status == Status::max_steps);
  CHECK(sample.nstep == 0);
  CHECK(sample.products == 0);
  CHECK(sample.best_step == 0);
  CHECK(std::isnan(sample.amplification_exponent));
  CHECK_FALSE(sample.singular_root);
  CHECK(std::isnan(sample.spectral_radius));
  CHECK_FALSE(sample.unstable());
  const GradientStatus gradient;
  CHECK(gradient.kind == GradientKind::approximate);
  CHECK(gradient.forward == Status::max_steps);
  CHECK(gradient.adjoint == Status::max_steps);
  CHECK(std::isnan(gradient.reconstruction_error));
  CHECK(std::isnan(gradient.variance));
  CHECK_FALSE(gradient.fell_back);
  CHECK(SolveReport{}.nstep == 0);
  CHECK(SolveReport{}.history_bytes == 0);
  CHECK(AdjointReport{}.evaluations == 0);
  CHECK_FALSE(AdjointReport{}.truncated);
  // A radius of exactly one neither attracts nor repels.
  CHECK_FALSE(SpectralRadius{.eigenvalue = {0.0, -1.0}}.unstable());
  CHECK(SpectralRadius{.eigenvalue = {0.0, -1.0000001}}.unstable());
  SampleReport edge;
  edge.spectral_radius = 1.0;
  CHECK_FALSE(edge.unstable());
}

TEST_CASE("arguments left out", "[defaults]") {
  const Var x(tensor({1.0, 5.0, 2.0, 4.0, 3.0, 9.0}, {2, 3}));
  const auto same = [](const Var& a, const Var& b) {
    bool equal = a.shape() == b.shape() && a.dtype() == b.dtype();
    for (std::int64_t i = 0; equal && i < a.size(); ++i) equal = a.value().at(i) == b.value().at(i);
    return equal;
  };
  CHECK(same(sum(x), sum(x, {0, 1}, false)));
  CHECK(same(mean(x), mean(x, {0, 1}, false)));
  CHECK(same(max(x, {0}), max(x, {0}, false)));
  CHECK(same(var(x), var(x, {0, 1}, 1, false)));
  CHECK(same(norm(x), norm(x, {0, 1}, 2.0, false)));
  CHECK(same(logsumexp(x), logsumexp(x, {0, 1}, false)));
  CHECK(same(softmax(x), softmax(x, 1)));
  CHECK(same(log_softmax(x), log_softmax(x, 1)));
  CHECK(same(cumsum(x, 1), cumsum(x, 1, false)));
  CHECK(same(sort(x).indices, sort(x, 1, false).indices));
  CHECK(same(topk(x, 2).indices, topk(x, 2, 1, true).indices));
  CHECK(argmax(x).item() == 5.0);
  CHECK(argmin(x).item() == 0.0);
  CHECK(same(argmax(x, 0), argmax(x, 0, false)));
  CHECK(same(flip(x), flip(x, {0, 1})));
  CHECK(same(slice(x, 1, 0, 3), slice(x, 1, 0, 3, 1)));
  CHECK(same(stack({x, x}), stack({x, x}, 0)));
  CHECK(same(pad(x, {1, 0}, {0, 1}), pad(x, {1, 0}, {0, 1}, 0.0)));
  CHECK(flatten(Var(Tensor::zeros({2, 3, 4}))).shape() == Shape{2, 12});
  CHECK(same(tril(x), tril(x, 0)));
  CHECK(same(triu(x), triu(x, 0)));
  CHECK(same(diagonal(x), diagonal(x, 0)));
  CHECK(same(diagonal_matrix(x), diagonal_matrix(x, 0)));
  CHECK(same(kl_div(x, x), kl_div(x, x, false)));
  CHECK(same(huber(x, 3.0 * x), huber(x, 3.0 * x, 1.0)));
  CHECK(one_hot(Var(Tensor::arange(2)), 3).dtype() == DType::f32);
  const Var image(Tensor::arange(32).to(DType::f64).reshape({1, 2, 4, 4}));
  CHECK(same(adaptive_avg_pool2d(image), adaptive_avg_pool2d(image, 1)));
  CHECK(same(adaptive_max_pool2d(image), adaptive_max_pool2d(image, 1)));
  CHECK(same(adaptive_max_pool2d_indices(image), adaptive_max_pool2d_indices(image, 1)));
  CHECK(same(max_pool2d(image), max_pool2d(image, {.kernel = 2, .stride = Pair(2), .padding = 0})));
  CHECK(same(avg_pool2d(image), avg_pool2d(image, {.kernel = 2, .stride = Pair(2), .padding = 0})));
  CHECK(Tensor::zeros({1}).dtype() == DType::f32);
  CHECK(Tensor::ones({1}).dtype() == DType::f32);
  CHECK(Tensor::full({1}, 2.0).dtype() == DType::f32);
  CHECK(Tensor::eye(1).dtype() == DType::f32);
}
