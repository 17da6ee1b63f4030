#include <apps/denoise/models.hpp>

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <apps/denoise/signals.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/optnet.hpp>
#include <banach/nn/total_variation.hpp>
#include <banach/ops/elementwise.hpp>

namespace banach::denoise {
namespace {

Var to_units_of_noise(const Var& y) { return (y - middle_level) / noise; }
Var to_levels(const Var& z) { return noise * z + middle_level; }

/// Two hidden layers of 400 rectified units.
class FullyConnected final : public Denoiser {
 public:
  explicit FullyConnected(Random random)
      : first_(length, hidden, random, in_double),
        second_(hidden, hidden, random, in_double),
        third_(hidden, length, random, in_double) {}

  void visit(nn::Visitor& v) override { v("first", first_)("second", second_)("third", third_); }
  Estimate operator()(const Var& y) const override {
    return {to_levels(third_(relu(second_(relu(first_(to_units_of_noise(y)))))))};
  }
  nn::ParameterGroups groups() override { return {{nn::parameters(*this), 3e-3}}; }

 private:
  static constexpr std::int64_t hidden = 400;
  static constexpr nn::LinearOptions in_double{.dtype = DType::f64};
  nn::Linear first_, second_, third_;
};

/// The program's linear term is a learned map of the signal, as in the paper; its solution is the estimate.
class PureOptNet final : public Denoiser {
 public:
  explicit PureOptNet(Random random)
      : inject_(length, length, random, {.dtype = DType::f64}),
        program_(length, random, {.inequalities = length, .dtype = DType::f64}) {}

  void visit(nn::Visitor& v) override { v("inject", inject_)("program", program_); }
  Estimate operator()(const Var& y) const override {
    const QpSolved solved = program_(inject_(to_units_of_noise(y)));
    return {to_levels(solved.z), solved.report, solved.adjoint};
  }
  nn::ParameterGroups groups() override { return {{nn::parameters(*this), 1e-2}}; }

 private:
  nn::Linear inject_;
  nn::OptNet program_;
};

class BestTotalVariation final : public Denoiser {
 public:
  explicit BestTotalVariation(double lambda)
      : program_(length, {.lambda = lambda / noise, .dtype = DType::f64}) {}

  void visit(nn::Visitor& v) override { v("program", program_); }
  Estimate operator()(const Var& y) const override {
    const auto [z, w, report, adjoint] = program_(to_units_of_noise(y));
    return {to_levels(z), report, adjoint};
  }
  nn::ParameterGroups groups() override { return {}; }

 private:
  nn::TotalVariation program_;
};

/// argmin over z of 1/2 |z - (W y + c)|^2 + sum_i lambda_i |(D z)_i|, W, c, D and all lambda learned: total
/// variation where W = I, c = 0 and D is made of first differences. W and c may be kept as they are.
class Tuned final : public Denoiser {
 public:
  Tuned(double lambda, Random random, bool learn_map)
      : inject_(length, length, random, {.dtype = DType::f64}),
        program_(length, {.lambda = lambda / noise, .learn_D = true, .dtype = DType::f64}) {
    nn::freeze(nn::parameters(inject_), "*", !learn_map);
    inject_.weight.set(Tensor::eye(length, DType::f64));
    inject_.bias->set(Tensor::zeros({length}, DType::f64));
    program_.log_lambda =
        nn::Parameter(Tensor::full({2 * program_.D.shape()[0]}, std::log(lambda / noise), DType::f64));
  }

  void visit(nn::Visitor& v) override { v("inject", inject_)("program", program_); }
  Estimate operator()(const Var& y) const override {
    const auto [z, w, report, adjoint] = program_(inject_(to_units_of_noise(y)));
    return {to_levels(z), report, adjoint};
  }
  nn::ParameterGroups groups() override {
    nn::ParameterGroups groups{{{{"program.D", &program_.D}}, 1e-3},
                               {{{"program.log_lambda", &program_.log_lambda}}, 1e-2}};
    if (inject_.weight.trainable())
      groups.push_back({{{"inject.weight", &inject_.weight}, {"inject.bias", &*inject_.bias}}, 3e-3});
    return groups;
  }
  std::map<std::string, Tensor> shown() const override {
    return {{"W", inject_.weight.value()},
            {"D", program_.D.value()},
            {"lambda", (noise * exp(Var(program_.log_lambda.value()))).value()}};
  }

 private:
  nn::Linear inject_;
  nn::TotalVariation program_;
};

struct Method {
  const char* name;
  const char* description;
  double error_in_paper;
};
constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr Method methods[] = {
    {"fc", "a fully connected network with two hidden layers of 400 rectified units", 29.8},
    {"optnet",
     "a quadratic program with 100 inequalities; Q, G, h and the map of the signal into it are learned",
     53.3},
    {"tv", "total variation with the lambda that is best on the signals held out for that", 16.5},
    {"tuned",
     "total variation with first differences, every lambda and the map of the signal into it learned", 14.4},
    {"tuned-d", "total variation with first differences and every lambda learned", nan}};

const Method& find(const std::string& name) {
  for (const Method& method : methods)
    if (name == method.name) return method;
  fail<ValueError>("denoise",
                   fmt::format("method must be out of {}: got '{}'", fmt::join(method_names(), ", "), name));
}

}  // namespace

const std::vector<std::string>& method_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Method& method : methods) result.push_back(method.name);
    return result;
  }();
  return names;
}

std::string description(const std::string& method) { return find(method).description; }
double error_in_paper(const std::string& method) { return find(method).error_in_paper; }

std::unique_ptr<Denoiser> make_denoiser(const std::string& method, std::uint64_t seed, double lambda) {
  const std::string name = find(method).name;
  const Random random(seed);
  if (name == "fc") return std::make_unique<FullyConnected>(random);
  if (name == "optnet") return std::make_unique<PureOptNet>(random);
  if (name == "tv") return std::make_unique<BestTotalVariation>(lambda);
  return std::make_unique<Tuned>(lambda, random, name == "tuned");
}

}  // namespace banach::denoise
