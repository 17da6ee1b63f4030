#include <apps/flow/measure.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <banach/engine/grad.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/reduce.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::flow {
namespace {

constexpr std::int64_t chunk = 4096;

double largest(const Tensor& x) {
  double result = 0.0;
  for (std::int64_t i = 0; i < x.size(); ++i)
    result =
        std::isnan(x.at(i)) ? std::numeric_limits<double>::infinity() : std::max(result, std::abs(x.at(i)));
  return result;
}

double largest_difference(const Var& a, const Var& b) { return largest((a - b).value()); }

// The largest ||(I + J)^-1|| of a block at these points, from its 2 x 2 Jacobians.
double inverse_constant(const PointFlow::Block& block, const Var& x) {
  const EnableGrad on;
  const Differential at("flow", [&](const Vars& v) { return Vars{v[0] + block.g(v[0])}; }, {x});
  const std::int64_t n = x.size(0);
  Tensor first = Tensor::zeros({n, 2}, DType::f64), second = first.clone();
  for (std::int64_t i = 0; i < n; ++i) {
    first.mutable_data<double>()[2 * i] = 1.0;
    second.mutable_data<double>()[2 * i + 1] = 1.0;
  }
  const Tensor top = at.pull({Var(first.to(x.dtype()))})[0].value(),
               bottom = at.pull({Var(second.to(x.dtype()))})[0].value();
  double result = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double a = top.at(2 * i), b = top.at(2 * i + 1), c = bottom.at(2 * i), d = bottom.at(2 * i + 1);
    const double squares = a * a + b * b + c * c + d * d, det = std::abs(a * d - b * c);
    // The larger singular value over the determinant.
    const double larger =
        std::sqrt(0.5 * (squares + std::sqrt(std::max(0.0, squares * squares - 4.0 * det * det))));
    result = std::max(result, larger / det);
  }
  return result;
}

double inverse_constant(const nn::ActNorm& norm) {
  double result = 0.0;
  for (std::int64_t i = 0; i < norm.log_scale.size(); ++i)
    result = std::max(result, std::exp(-norm.log_scale.value().at(i)));
  return result;
}

// The largest singular value by 1,000 steps of power iteration of its own.
double norm_of(const Tensor& w) {
  const std::int64_t rows = w.size(0), columns = w.size(1);
  const Tensor wide = w.to(DType::f64);
  const double* a = wide.data<double>();
  std::vector<double> v(static_cast<std::size_t>(columns)), u(static_cast<std::size_t>(rows));
  Random(1).fill_normal(v.data(), columns);
  double sigma = 0.0;
  for (int step = 0; step < 1000; ++step) {
    double length = 0.0;
    for (const double value : v) length += value * value;
    if (length == 0.0) return 0.0;
    for (double& value : v) value /= std::sqrt(length);
    sigma = 0.0;
    for (std::int64_t i = 0; i < rows; ++i) {
      double& entry = u[static_cast<std::size_t>(i)];
      entry = 0.0;
      for (std::int64_t k = 0; k < columns; ++k) entry += a[i * columns + k] * v[static_cast<std::size_t>(k)];
      sigma += entry * entry;
    }
    std::fill(v.begin(), v.end(), 0.0);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t k = 0; k < columns; ++k)
        v[static_cast<std::size_t>(k)] += a[i * columns + k] * u[static_cast<std::size_t>(i)];
  }
  return std::sqrt(sigma);
}

}  // namespace

Tensor log_densities(PointFlow& model, const Tensor& x) {
  const NoGrad off;
  nn::eval(model);
  const std::int64_t n = x.size(0);
  Tensor result = Tensor::empty({n}, DType::f64);
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const Var part(x.rows(begin, std::min(n, begin + chunk)).to(model.dtype()));
    const Tensor found = model.log_density(model.forward(part)).value();
    for (std::int64_t i = 0; i < found.size(); ++i) result.mutable_data<double>()[begin + i] = found.at(i);
  }
  nn::train(model);
  return result;
}

Mean mean_of(const Tensor& values) {
  const auto n = static_cast<double>(values.size());
  double mean = 0.0, squares = 0.0;
  for (std::int64_t i = 0; i < values.size(); ++i) mean += values.at(i) / n;
  for (std::int64_t i = 0; i < values.size(); ++i) squares += (values.at(i) - mean) * (values.at(i) - mean);
  return {mean, std::sqrt(squares / (n - 1.0) / n)};
}

Tensor grid_points(std::int64_t side, double reach) {
  Tensor points = Tensor::empty({side * side, 2}, DType::f64);
  const double step = 2.0 * reach / static_cast<double>(side);
  auto* x = points.mutable_data<double>();
  for (std::int64_t i = 0; i < side * side; ++i) {
    x[2 * i] = -reach + step * (static_cast<double>(i % side) + 0.5);
    x[2 * i + 1] = reach - step * (static_cast<double>(i / side) + 0.5);
  }
  return points;
}

EstimatorCheck check_estimator(PointFlow& model, LogDetEstimator estimator, const Tensor& x) {
  const NoGrad off;
  // Each sample by a draw of its own, so that the mean over them has an error.
  if (auto* roulette = std::get_if<Roulette>(&estimator)) roulette->shared = false;
  constexpr int draws = 20;
  const std::int64_t n = x.size(0);
  Tensor bias = Tensor::zeros({n}, DType::f64);  // of each point, over the draws
  EstimatorCheck result;
  Var at(x.to(model.dtype()));
  for (std::size_t i = 0; i < model.blocks().size(); ++i) {
    const PointFlow::Block& block = model.blocks()[i];
    at = model.norms()[i].forward(at).y;
    const auto g = [&](const Var& z) { return block.g(z); };
    const Tensor exact = log_det(g, at).value.value();
    double bound = 0.0;
    for (int draw = 0; draw < draws; ++draw) {
      const LogDet found = log_det(
          g, at,
          {.estimator = estimator, .lipschitz = block.g.bound(), .seed = Random(i, 1).split(draw).bits()});
      for (std::int64_t k = 0; k < n; ++k) {
        const double error = found.value.value().at(k) - exact.at(k);
        bias.mutable_data<double>()[k] += error / draws;
        result.deviation += error * error / static_cast<double>(n) / draws;
      }
      if (draw > 0) continue;
      for (const LogDetSample& sample : found.report.samples) {
        bound = std::max(bound, sample.truncation_bound);
        if (!(sample.truncation_bound <= bound)) bound = sample.truncation_bound;  // NaN
        result.infinite_variance += (sample.finite_variance ? 0.0 : 1.0) / static_cast<double>(n) /
                                    static_cast<double>(model.blocks().size());
      }
    }
    result.bound += bound;
    at = at + block.g(at);
  }
  result.bias = mean_of(bias);
  result.deviation = std::sqrt(result.deviation);
  return result;
}

double Reconstruction::worst_block() const { return *std::max_element(blocks.begin(), blocks.end()); }

Reconstruction reconstruct(PointFlow& model, const Tensor& points) {
  const NoGrad off;
  nn::eval(model);
  const Var x(points.to(model.dtype()));
  Reconstruction result{.inverse_lipschitz = inverse_constant(model.norms().back()),
                        .scale = largest(x.value())};
  double evaluations = 0.0, samples = 0.0;
  Var at = x;
  for (std::size_t i = 0; i < model.blocks().size(); ++i) {
    const PointFlow::Block& block = model.blocks()[i];
    at = model.norms()[i].forward(at).y;
    const Var y = at + block.g(at);
    result.blocks.push_back(largest_difference(block.solve(y).z, at));
    result.inverse_lipschitz *= inverse_constant(model.norms()[i]) * inverse_constant(block, at);
    result.scale = std::max({result.scale, largest(at.value()), largest(y.value())});
    at = y;
  }
  const PointFlow::Inverted back = model.inverse(model.norms().back().forward(at).y);
  result.network = largest_difference(back.x, x);
  for (const SolveReport& report : back.reports) {
    training::count(result.statuses, report.samples, &SampleReport::status);
    for (const SampleReport& sample : report.samples) evaluations += sample.nstep, samples += 1.0;
  }
  result.evaluations = evaluations / samples;
  const double rounding = model.dtype() == DType::f64 ? std::numeric_limits<double>::epsilon()
                                                      : std::numeric_limits<float>::epsilon();
  result.bound = 10.0 * rounding * result.scale * result.inverse_lipschitz;
  nn::train(model);
  return result;
}

Constants constants_of(const PointFlow& model) {
  const NoGrad off;
  Constants result;
  for (const PointFlow::Block& block : model.blocks()) {
    result.bound = std::max(result.bound, block.g.bound());
    result.certified = std::max(result.certified, block.g.lipschitz().upper);
    for (const nn::SpectralLinear& layer : block.g.layers)
      result.layers = std::max(result.layers, norm_of(layer.weight().value()) / layer.bound);
  }
  return result;
}

}  // namespace banach::flow
