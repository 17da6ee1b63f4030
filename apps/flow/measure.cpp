#include <apps/flow/measure.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <banach/engine/grad.hpp>
#include <banach/engine/tape.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/order.hpp>
#include <banach/ops/reduce.hpp>

namespace banach::flow {
namespace {

double largest(const Tensor& x) {
  double result = 0.0;
  for (std::int64_t i = 0; i < x.size(); ++i)
    result =
        std::isnan(x.at(i)) ? std::numeric_limits<double>::infinity() : std::max(result, std::abs(x.at(i)));
  return result;
}

double largest_difference(const Var& a, const Var& b) { return largest((a - b).value()); }

double epsilon_of(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

/// body(part) for x in pieces that fit into memory.
template <class Body>
void in_pieces(const FlowModel& model, const Tensor& x, Body body) {
  const std::int64_t piece = model.entries() == 2 ? 4096 : 100;
  for (std::int64_t begin = 0; begin < x.size(0); begin += piece)
    body(begin, Var(x.rows(begin, std::min(x.size(0), begin + piece)).to(model.dtype())));
}

// ---- constants of the inverse of each part, measured at samples x

// For pairs of numbers: the largest ||(I + J)^-1||, from 2 x 2 Jacobians.
double inverse_constant(const DenseBlock& block, const Var& x) {
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

// For images: 1 / (1 - ||J||), which is at least ||(I + J)^-1||, with ||J|| by power iteration.
double inverse_constant(const ConvBlock& block, const Var& x) {
  const EnableGrad on;
  Differential at("flow", [&](const Vars& v) { return Vars{block.g(v[0])}; }, {x});
  Tensor start = Tensor::empty(x.shape(), DType::f64);
  Random(1).fill_normal(start.mutable_data<double>(), start.size());
  Var v(start.to(x.dtype()));
  const Axes each{1, 2, 3};
  Tensor norms;
  constexpr int steps = 30;
  for (int i = 0; i < steps; ++i) {
    v = v / norm(v, each, 2.0, true);
    const Var u = at.push({v})[0];
    norms = norm(u, each).value();
    v = at.pull({u})[0];
  }
  return 1.0 / (1.0 - largest(norms));
}

double inverse_constant(const nn::ActNorm& norm, const Var&) {
  double result = 0.0;
  for (std::int64_t i = 0; i < norm.log_scale.size(); ++i)
    result = std::max(result, std::exp(-norm.log_scale.value().at(i)));
  return result;
}

// The sigmoid's slope is at most 1/4.
double inverse_constant(const nn::LogitTransform& map, const Var&) { return 0.25 / (1.0 - 2.0 * map.alpha); }
double inverse_constant(const nn::Squeeze&, const Var&) { return 1.0; }
double inverse_constant(const nn::Dequantize&, const Var&) { return 1.0; }

// ---- norms of layers, by 1,000 steps of power iteration that shares nothing with that of training

double norm_of(const nn::SpectralLinear& layer) {
  const Tensor wide = layer.weight().value().to(DType::f64);
  const std::int64_t rows = wide.size(0), columns = wide.size(1);
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

double norm_of(const nn::SpectralConv2d& layer) {
  const EnableGrad on;
  const Shape input{1, layer.raw_weight.shape()[1] * layer.geometry.groups, layer.image.h, layer.image.w};
  const Var w(layer.weight().value());
  Differential at("flow", [&](const Vars& v) { return Vars{conv2d(v[0], w, layer.geometry)}; },
                  {Var(Tensor::zeros(input, w.dtype()))});
  Tensor start = Tensor::empty(input, DType::f64);
  Random(1).fill_normal(start.mutable_data<double>(), start.size());
  Var v(start.to(w.dtype()));
  double sigma = 0.0;
  for (int step = 0; step < 1000; ++step) {
    v = v / norm(v);
    const Var u = at.push({v})[0];
    sigma = norm(u).item();
    if (sigma == 0.0) break;
    v = at.pull({u})[0];
  }
  return sigma;
}

template <class Block>
void add(const Block& block, Constants& result) {
  result.bound = std::max(result.bound, block.g.bound());
  result.certified = std::max(result.certified, block.g.lipschitz().upper);
  for (const auto& layer : block.g.layers)
    result.layers = std::max(result.layers, norm_of(layer) / layer.bound);
}

// What one block adds to a check of an estimator at x; `bias` sums up over blocks.
template <class Block>
void add(const Block& block, std::uint64_t index, const LogDetEstimator& estimator, const Var& x,
         double blocks, Tensor& bias, EstimatorCheck& result) {
  const auto n = static_cast<double>(x.size(0));
  const auto g = [&](const Var& z) { return block.g(z); };
  const bool known = x.size() / x.size(0) <= most_exact;
  const Tensor exact = known
                           ? log_det(g, x).value.value()
                           : Tensor::full({x.size(0)}, std::numeric_limits<double>::quiet_NaN(), DType::f64);
  const int draws = known ? 20 : 1;  // one report says all that it can
  double bound = 0.0;
  for (int draw = 0; draw < draws; ++draw) {
    const std::uint64_t seed = Random(index, 1).split(static_cast<std::uint64_t>(draw)).bits();
    const LogDet found = log_det(g, x, {.estimator = estimator, .lipschitz = block.g.bound(), .seed = seed});
    for (std::int64_t k = 0; k < x.size(0); ++k) {
      const double error = found.value.value().at(k) - exact.at(k);
      bias.mutable_data<double>()[k] += error / draws;
      result.deviation += error * error / n / draws;
    }
    if (draw > 0) continue;
    for (const LogDetSample& sample : found.report.samples) {
      if (!(sample.truncation_bound <= bound)) bound = sample.truncation_bound;  // NaN stays
      result.infinite_variance += (sample.finite_variance ? 0.0 : 1.0) / n / blocks;
    }
  }
  result.bound += bound;
}

}  // namespace

Weighed weigh(FlowModel& model, const Tensor& x) {
  const NoGrad off;
  nn::eval(model);
  const double all = static_cast<double>(x.size(0)) * static_cast<double>(model.blocks());
  Weighed result{.log_p = Tensor::empty({x.size(0)}, DType::f64)};
  in_pieces(model, x, [&](std::int64_t begin, const Var& part) {
    const FlowModel::Transformed at = model.forward(part);
    const Tensor log_p = model.log_density(at).value();
    for (std::int64_t i = 0; i < log_p.size(); ++i)
      result.log_p.mutable_data<double>()[begin + i] = log_p.at(i);
    for (const LogDetReport& report : at.reports)
      for (const LogDetSample& sample : report.samples)
        result.infinite_variance += sample.finite_variance ? 0.0 : 1.0 / all;
  });
  nn::train(model);
  return result;
}

Tensor log_densities(FlowModel& model, const Tensor& x) { return weigh(model, x).log_p; }

Tensor labels_by(FlowModel& model, const Tensor& x) {
  const NoGrad off;
  nn::eval(model);
  Tensor result = Tensor::empty({x.size(0)}, DType::i64);
  in_pieces(model, x, [&](std::int64_t begin, const Var& part) {
    const Tensor said = argmax(model.logits(model.transform(part)), 1).value();
    std::copy_n(said.data<std::int64_t>(), said.size(), result.mutable_data<std::int64_t>() + begin);
  });
  nn::train(model);
  return result;
}

double accuracy(FlowModel& model, const Labelled& batch) {
  const Tensor said = labels_by(model, batch.x);
  double right = 0.0;
  for (std::int64_t i = 0; i < said.size(); ++i)
    right += said.data<std::int64_t>()[i] == batch.labels.data<std::int64_t>()[i] ? 1.0 : 0.0;
  return right / static_cast<double>(said.size());
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

EstimatorCheck check_estimator(FlowModel& model, LogDetEstimator estimator, const Tensor& x) {
  const NoGrad off;
  // Each sample by a draw of its own, so that the mean over them has an error.
  if (auto* roulette = std::get_if<Roulette>(&estimator)) roulette->shared = false;
  nn::eval(model);
  Tensor bias = Tensor::zeros({x.size(0)}, DType::f64);  // of each sample, over the draws
  EstimatorCheck result;
  model.lead(Var(x.to(model.dtype())), [&](std::size_t i, const auto& map, const Var& at) -> Var {
    if constexpr (ResidualMap<std::decay_t<decltype(map)>>) {
      add(map, i, estimator, at, static_cast<double>(model.blocks()), bias, result);
      return at + map.g(at);
    } else {
      return map.forward(at).y;
    }
  });
  result.bias = mean_of(bias);
  result.deviation = std::sqrt(result.deviation);
  nn::train(model);
  return result;
}

double Reconstruction::worst_block() const { return *std::max_element(blocks.begin(), blocks.end()); }

Reconstruction reconstruct(FlowModel& model, const Tensor& samples) {
  const NoGrad off;
  nn::eval(model);
  Reconstruction result;
  std::vector<double> constants(model.parts().size(), 1.0);
  Var start;
  const Var z =
      model.lead(Var(samples.to(model.dtype())), [&](std::size_t i, const auto& map, const Var& at) -> Var {
        if (i == model.first_exact()) start = at;
        constants[i] = inverse_constant(map, at);
        Var y;
        if constexpr (ResidualMap<std::decay_t<decltype(map)>>) {
          y = at + map.g(at);
          result.blocks.push_back(largest_difference(map.solve(y).z, at));
        } else {
          y = map.forward(at).y;
        }
        if (i >= model.first_exact()) result.scale = std::max(result.scale, largest(y.value()));
        return y;
      });
  // From the end on. What left on the way is not touched by the inverses of what came after.
  result.inverse_lipschitz = 1.0;
  for (std::size_t i = constants.size(); i-- > 0;)
    result.inverse_lipschitz = std::holds_alternative<nn::FactorOut>(model.parts()[i].map)
                                   ? std::max(result.inverse_lipschitz, 1.0)
                                   : result.inverse_lipschitz * constants[i];
  const FlowModel::Inverted back = model.inverse(z, model.first_exact());
  result.network = largest_difference(back.x, start);
  double evaluations = 0.0, solves = 0.0;
  for (const SolveReport& report : back.reports) {
    training::count(result.statuses, report.samples, &SampleReport::status);
    for (const SampleReport& sample : report.samples) evaluations += sample.nstep, solves += 1.0;
  }
  result.evaluations = evaluations / solves;
  result.bound = 10.0 * epsilon_of(model.dtype()) * result.scale * result.inverse_lipschitz;
  nn::train(model);
  return result;
}

Constants constants_of(const FlowModel& model) {
  const NoGrad off;
  Constants result;
  for (const Part& part : model.parts())
    std::visit(
        [&](const auto& map) {
          if constexpr (ResidualMap<std::decay_t<decltype(map)>>) add(map, result);
        },
        part.map);
  return result;
}

}  // namespace banach::flow
