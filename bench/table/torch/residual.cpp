// The invertible residual block as users of LibTorch write it: log determinants by the power series after
// the code of Chen et al. 2019 ("Residual flows"), with a graph of every product or by its Neumann gradient.
#include <bench/table/residual.hpp>
#include <bench/table/torch/peers.hpp>
#include <bench/table/torch/solvers.hpp>

#include <fmt/format.h>

namespace bench::peer {
namespace {

using Tensors = std::vector<Tensor>;
using residual::Activation, residual::batch, residual::side;

enum class LogDet { none, neumann, series };

Tensor copied(const banach::Tensor& t) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < t.rank(); ++i) shape.push_back(t.size(i));
  return torch::from_blob(const_cast<float*>(t.data<float>()), shape).clone();
}

Tensor g(const Tensor& x, const Tensors& weights, const Tensor& beta) {
  Tensor y = x;
  for (std::size_t i = 0; i < weights.size(); i += 2) {
    if (i > 0) y = beta.defined() ? y * torch::sigmoid(y * beta) / 1.1 : torch::elu(y);
    y = torch::conv2d(y, weights[i], weights[i + 1], 1, 1);
  }
  return y;
}

struct Block {
  Tensor x, beta;
  Tensors weights;

  explicit Block(Activation activation) {
    const residual::Parameters ours;
    residual::Map map{banach::Vars(ours.weights.begin(), ours.weights.end()), {}};
    x = copied(ours.x);
    for (const banach::Tensor& w : ours.weights) weights.push_back(copied(w));
    if (activation == Activation::lip_swish) {
      beta = torch::scalar_tensor(ours.beta);
      map.beta = banach::Var(banach::scalar(ours.beta, banach::DType::f32));
    }
    const torch::NoGradGuard off;
    const double error =
        (g(x, weights, beta) - copied(map(banach::Var(ours.x)).value())).abs().max().item<double>();
    if (!(error <= 1e-5))
      throw std::runtime_error(fmt::format("Banach's and LibTorch's blocks differ by {:g}", error));
  }
};

Tensor per_sample(const Tensor& products) { return products.reshape({batch, -1}).sum(1); }

/// J^T u, for a value y = g(x) with a graph.
Tensor pull(const Tensor& y, const Tensor& x, const Tensor& u, bool create_graph) {
  return torch::autograd::grad({y}, {x}, {u}, /*retain_graph=*/true, create_graph)[0];
}

Tensor log_det(const Tensor& y, const Tensor& x, LogDet kind) {
  const Tensor v = torch::randint(0, 2, x.sizes(), x.options().requires_grad(false)) * 2 - 1;
  if (kind == LogDet::series) {
    Tensor u = v, value = torch::zeros({batch});
    for (int k = 1; k <= residual::terms; ++k) {
      u = pull(y, x, u, true);
      value = value + (k % 2 == 1 ? 1.0 : -1.0) / k * per_sample(u * v);
    }
    return value;
  }
  Tensor u = v, sum = v;
  for (int k = 1; k <= residual::terms; ++k) {
    u = pull(y, x, u, false);
    sum = k % 2 == 1 ? sum - u : sum + u;
  }
  return per_sample(pull(y, x, sum, true) * v);  // with the right gradient, but not the value
}

void step(const Block& block, LogDet kind) {
  const Tensor x = block.x.detach().requires_grad_();
  Tensors weights, wanted;
  for (const Tensor& w : block.weights) weights.push_back(w.detach().requires_grad_());
  wanted = weights;
  wanted.push_back(x);
  Tensor beta;
  if (block.beta.defined()) wanted.push_back(beta = block.beta.detach().requires_grad_());
  const Tensor image = g(x, weights, beta);
  Tensor loss = 0.5 * (x + image).square().sum();
  if (kind != LogDet::none) loss = loss - log_det(image, x, kind).sum();
  torch::autograd::grad({loss}, wanted);
}

Make steps(Activation activation, LogDet kind) {
  return [=] {
    const auto block = std::make_shared<const Block>(activation);
    return Work{[=] { step(*block, kind); }};
  };
}

Make inverse(const Solver& solver) {
  return [=] {
    const Block block(Activation::elu);
    const torch::NoGradGuard off;
    const Tensor y = (block.x + g(block.x, block.weights, {})).reshape({batch, -1});
    const auto counts = std::make_shared<Counts>();
    const Map f = [=](const Tensor& x) {
      return y - g(x.view({batch, 1, side, side}), block.weights, {}).reshape({batch, -1});
    };
    return Work{.run =
                    [=] {
                      const torch::NoGradGuard off;
                      counts->f = solver(f, y, {1e-5, 100}).evaluations;
                    },
                .counts = [=] { return *counts; }};
  };
}

}  // namespace

void add_residual(std::map<std::string, Make>& work) {
  for (const auto& [activation, name] :
       {std::pair{Activation::elu, "block"}, std::pair{Activation::lip_swish, "block of LipSwish"}}) {
    work[fmt::format("{}, log det, Neumann gradient", name)] = steps(activation, LogDet::neumann);
    work[fmt::format("{}, log det, series gradient", name)] = steps(activation, LogDet::series);
    work[fmt::format("{}, no log det", name)] = steps(activation, LogDet::none);
  }
  work["inverse to 1e-5, Picard"] = inverse(picard);
  work["inverse to 1e-5, Anderson(5)"] = inverse(anderson(5));
}

}  // namespace bench::peer
