// Training steps of an invertible residual block with its log determinant and without, and its inverse.
#include <bench/table/deq.hpp>
#include <bench/table/residual.hpp>

#include <memory>
#include <optional>
#include <string>

namespace bench {

using namespace banach;
using residual::Activation, residual::Map, residual::Parameters;

namespace {

/// The products of one pass through the three convolutions: forward, to the input's gradient or to the
/// weights', which take equally many operations.
std::vector<Gemm> passes(std::int64_t forward, std::int64_t to_input, std::int64_t to_weights) {
  std::vector<Gemm> all;
  constexpr std::int64_t pixels = residual::side * residual::side;
  for (int i = 0; i < 3; ++i) {
    const std::int64_t taps = 9 * residual::channels[i], out = residual::channels[i + 1];
    all.push_back({out, pixels, taps, residual::batch * forward});
    all.push_back({taps, pixels, out, residual::batch * to_input});
    all.push_back({out, taps, pixels, residual::batch * to_weights});
  }
  return all;
}

/// The gradient of sum(y^2) / 2 less the log determinant, if any, in the input and all weights.
void step(const Parameters& parameters, Activation activation, std::optional<SeriesGradient> gradient) {
  const Tape tape;
  const Var x = leaf(parameters.x);
  Map g;
  for (const Tensor& w : parameters.weights) g.weights.push_back(leaf(w));
  Vars wanted = g.weights;
  wanted.push_back(x);
  if (activation == Activation::lip_swish)
    wanted.push_back(g.beta = leaf(scalar(parameters.beta, DType::f32)));
  if (!gradient) {
    grad(0.5 * sum(square(x + g(x))), wanted);
    return;
  }
  const LogDet found = log_det(g, x,
                               {.estimator = PowerSeries{.terms = residual::terms, .gradient = *gradient},
                                .lipschitz = residual::lipschitz});
  grad(0.5 * sum(square(x + found.image)) - sum(found.value), wanted);
}

Make steps(Activation activation, std::optional<SeriesGradient> gradient) {
  return [=] {
    const auto parameters = std::make_shared<const Parameters>();
    return Work{[=] { step(*parameters, activation, gradient); }};
  };
}

Make inverse(const Solver& solver) {
  return [=] {
    const Parameters parameters;
    const Map g{Vars(parameters.weights.begin(), parameters.weights.end()), {}};
    const Var y = parameters.x + g(parameters.x);
    const auto counts = std::make_shared<Counts>();
    const FixedPointOptions options{.solver = solver, .tolerance = 1e-5, .body = Body::replayed};
    return Work{.run =
                    [=] {
                      const FixedPoint found =
                          fixed_point([&](const Var& x) { return y - g(x); }, y, options);
                      counts->f = found.report.nstep;
                    },
                .counts = [=] { return *counts; }};
  };
}

}  // namespace

Section residual_section() {
  // By the Neumann series: forward, a product for each term and the recorded one, the derivative of that in
  // its cotangent and in the weights, and the sweep back through g. By the series each term's product is
  // recorded.
  constexpr std::int64_t n = residual::terms;
  const auto plain = passes(1, 1, 1), neumann = passes(2, n + 2, 2), series = passes(n + 1, n + 1, n + 1);
  const auto line = [](const std::string& name, const Make& ours, const std::vector<Gemm>& products,
                       double times_faster) {
    return Line{.name = name,
                .ours = ours,
                .floor = gemm_floor(products),
                .goal = times_faster > 0.0 ? Goal{Goal::peer, 1.0 / times_faster} : Goal{}};
  };
  const auto once = [](const Counts& c) { return static_cast<double>(c.f); };
  Line picard = line("inverse to 1e-5, Picard", inverse(Picard{}), passes(1, 0, 0), 3.0),
       anderson = line("inverse to 1e-5, Anderson(5)", inverse(Anderson{.memory = 5}), passes(1, 0, 0), 0.0);
  picard.floors = anderson.floors = once;
  return {
      "Invertible residual block: conv 3x3, 1-32-32-1, 28x28, batch 64; log det by 5 terms, 1 probe; f32",
      {line("block, log det, Neumann gradient", steps(Activation::elu, SeriesGradient::neumann), neumann,
            4.0),
       line("block, log det, series gradient", steps(Activation::elu, SeriesGradient::series), series, 4.0),
       line("block, no log det", steps(Activation::elu, {}), plain, 3.0),
       line("block of LipSwish, log det, Neumann gradient",
            steps(Activation::lip_swish, SeriesGradient::neumann), neumann, 0.0),
       line("block of LipSwish, log det, series gradient",
            steps(Activation::lip_swish, SeriesGradient::series), series, 0.0),
       line("block of LipSwish, no log det", steps(Activation::lip_swish, {}), plain, 0.0), picard,
       anderson}};
}

}  // namespace bench
