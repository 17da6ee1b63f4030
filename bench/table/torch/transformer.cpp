// Layers of transformers as users of LibTorch write them, and their equilibria after torchdeq.
#include <bench/table/torch/peers.hpp>
#include <bench/table/torch/solvers.hpp>
#include <bench/table/transformer.hpp>

#include <fmt/format.h>

namespace bench::peer {
namespace {

using Tensors = std::vector<Tensor>;
namespace F = torch::nn::functional;

using transformer::batch, transformer::d, transformer::heads, transformer::hidden, transformer::length;

/// A layer as a function of z; what does not depend on z is computed when it is bound.
struct Model {
  Tensors parameters;  // the input is the first
  std::function<Map(const Tensors& parameters)> bind;

  /// The model, if its layer is that of Banach at z = x.
  Model checked(const banach::Tensor& expected) const;
};

Tensor copied(const banach::Tensor& t) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < t.rank(); ++i) shape.push_back(t.size(i));
  return torch::from_blob(const_cast<float*>(t.data<float>()), shape).clone();
}

Model Model::checked(const banach::Tensor& expected) const {
  const torch::NoGradGuard off;
  const Tensor value = bind(parameters)(parameters[0]);
  const double error = (value - copied(expected)).abs().max().item<double>();
  if (!(error <= 1e-5))
    throw std::runtime_error(fmt::format("Banach's and LibTorch's layers differ by {:g}", error));
  return *this;
}

const double scale = 1.0 / std::sqrt(static_cast<double>(d / heads));

/// (batch, l, d) -> (batch, heads, l, d / heads), and back.
Tensor split(const Tensor& y) { return y.view({batch, -1, heads, d / heads}).transpose(1, 2); }
Tensor joined(const Tensor& y) { return y.transpose(1, 2).reshape({batch, -1, d}); }
Tensor behind(const Tensor& front, const Tensor& now) {
  return front.defined() ? torch::cat({front, now}, 1) : now;
}
/// -infinity where a key comes after a query.
Tensor causal(std::int64_t before) {
  return torch::full({length, before + length}, -INFINITY).triu(1 + before);
}

Model plain() {
  const transformer::Parameters ours;
  Model model;
  for (const banach::Tensor& t : ours.all()) {
    // Kept as torch::nn::Linear keeps them: (outputs, inputs).
    const Tensor p = copied(t);
    model.parameters.push_back(p.dim() == 2 ? p.t().contiguous() : p);
  }
  model.bind = [mask = causal(0)](const Tensors& p) -> Map {
    return [=](const Tensor& z) {
      const Tensor q = split(F::linear(z, p[1], p[5])), k = split(F::linear(z, p[2], p[6])),
                   v = split(F::linear(z, p[3], p[7]));
      const Tensor weights = torch::softmax(torch::matmul(q * scale, k.transpose(2, 3)) + mask, -1);
      const Tensor heard = F::linear(joined(torch::matmul(weights, v)), p[4], p[8]);
      const Tensor a = torch::layer_norm(z + p[0] + heard, {d}, p[13], p[14]);
      return torch::layer_norm(a + F::linear(torch::relu(F::linear(a, p[9], p[10])), p[11], p[12]), {d},
                               p[15], p[16]);
    };
  };
  const transformer::Layer layer(ours, [](const banach::Tensor& t) { return banach::Var(t); });
  return model.checked(layer(layer.x).value());
}

/// Entry (i, j) is entry (i, j + length - 1 - i) of x, as Transformer-XL shifts it.
Tensor shifted(const Tensor& x) {
  const Tensor padded = torch::constant_pad_nd(x, {1, 0});
  return padded.reshape({batch, heads, -1, length}).slice(2, 1).reshape(x.sizes());
}

/// nn::TransformerCell.
Model relative(std::int64_t before) {
  const transformer::Cell ours(before);
  Model model;
  model.parameters = {copied(ours.x)};
  for (const banach::nn::NamedParameter& p : ours.parameters)
    model.parameters.push_back(copied(p.parameter->value()));
  Tensor z_before, x_before;
  if (before > 0) z_before = copied(ours.memory.z), x_before = copied(ours.memory.x);
  // From the furthest distance to none.
  const Tensor encoding = copied(banach::nn::sinusoidal_encoding(before + length, d)).flip({0});

  model.bind = [=, mask = causal(before)](const Tensors& p) -> Map {
    enum { x, query, key, value, inject, inject_b, position, content_b, position_b, output, output_b };
    enum { in = output_b + 1, in_b, out, out_b, norm1, norm1_b, norm2, norm2_b };
    const Tensors injected = F::linear(p[x], p[inject], p[inject_b]).chunk(3, -1);
    Tensor keys_before, values_before;
    if (before > 0) {
      const Tensors front = F::linear(x_before, p[inject], p[inject_b]).chunk(3, -1);
      keys_before = F::linear(z_before, p[key]) + front[1];
      values_before = F::linear(z_before, p[value]) + front[2];
    }
    const Tensor r = F::linear(encoding, p[position]).view({-1, heads, d / heads});
    return [=](const Tensor& z) {
      const Tensor q = F::linear(z, p[query]) + injected[0];
      const Tensor k = split(behind(keys_before, F::linear(z, p[key]) + injected[1]));
      const Tensor v = split(behind(values_before, F::linear(z, p[value]) + injected[2]));
      const Tensor content = torch::matmul(split((q + p[content_b]) * scale), k.transpose(2, 3));
      const Tensor distance = torch::einsum("bhid,jhd->bhij", {split((q + p[position_b]) * scale), r});
      const Tensor weights = torch::softmax(content + shifted(distance) + mask, -1);
      const Tensor heard = F::linear(joined(torch::matmul(weights, v)), p[output], p[output_b]);
      const Tensor a = torch::layer_norm(z + p[x] + heard, {d}, p[norm1], p[norm1_b]);
      return torch::layer_norm(a + F::linear(torch::relu(F::linear(a, p[in], p[in_b])), p[out], p[out_b]),
                               {d}, p[norm2], p[norm2_b]);
    };
  };
  return model.checked(ours.cell.bind(banach::Var(ours.x), ours.memory)(banach::Var(ours.x)).value());
}

// ---- Gradients of sum(z^2) in all parameters --------------------------------------------------------------

enum class Rule { exact, jacobian_free, phantom, neumann };

Tensors leaves(const Tensors& parameters) {
  Tensors at;
  for (const Tensor& w : parameters) at.push_back(w.detach().requires_grad_());
  return at;
}

/// 12 steps under NoGrad, one more evaluation with a graph (Phantom: five), and the adjoint equation through
/// that graph.
Counts equilibrium_step(const Model& model, const Solver& solver, Rule rule) {
  constexpr int terms = 5;
  const Stop stop{0.0, 12};
  const Tensors at = leaves(model.parameters);
  const Map f = model.bind(at);
  const auto rows = [](const Tensor& z) { return z.reshape({batch, -1}); };
  const auto state = [](const Tensor& z) { return z.view({batch, length, d}); };
  Counts counts;
  Tensor z;
  {
    const torch::NoGradGuard off;
    const Solved solved =
        solver([&](const Tensor& z) { return rows(f(state(z))); }, torch::zeros({batch, length * d}), stop);
    z = state(solved.z);
    counts = {solved.evaluations, 1};
  }
  if (rule == Rule::phantom) {
    for (int i = 0; i < terms; ++i) z = 0.5 * z + 0.5 * f(z);
    torch::autograd::grad({z.square().sum()}, at);
    return {counts.f, terms};
  }
  z.requires_grad_();
  const Tensor value = f(z), g = rows(2.0 * value.detach());
  const auto pull = [&](const Tensor& u) {
    ++counts.vjp;
    return rows(torch::autograd::grad({value}, {z}, {state(u)}, true)[0]);
  };
  Tensor lambda = g;
  if (rule == Rule::exact) lambda = solver([&](const Tensor& u) { return pull(u) + g; }, g, stop).z;
  if (rule == Rule::neumann) {
    Tensor term = g;
    for (int i = 1; i < terms; ++i) lambda = lambda + (term = 0.5 * term + 0.5 * pull(term));
    lambda = 0.5 * lambda;
  }
  torch::autograd::grad({value}, at, {state(lambda)});
  return counts;
}

Counts explicit_step(const Model& model, int layers) {
  const Tensors at = leaves(model.parameters);
  const Map f = model.bind(at);
  Tensor z = torch::zeros({batch, length, d});
  for (int i = 0; i < layers; ++i) z = f(z);
  torch::autograd::grad({z.square().sum()}, at);
  return {layers, layers};
}

/// Steps of a model that is made when its line's turn has come.
template <class Step>
Make steps(std::function<Model()> make, Step step) {
  return [=] {
    const auto model = std::make_shared<const Model>(make());
    const auto counts = std::make_shared<Counts>();
    return Work{.run = [=] { *counts = step(*model); }, .counts = [=] { return *counts; }};
  };
}

Work one_forward() {
  const Model model = plain();
  return {.run = [z = model.parameters[0], f = model.bind(model.parameters)] {
    const torch::NoGradGuard off;
    f(z);
  }};
}

Work one_vjp() {
  const Model model = plain();
  const Tensor z = model.parameters[0].detach().clone().requires_grad_();
  const Tensor value = model.bind(model.parameters)(z), g = torch::ones_like(value);
  return {.run = [=] { torch::autograd::grad({value}, {z}, {g}, true); }};
}

}  // namespace

void add_transformer(std::map<std::string, Make>& work) {
  const auto equilibrium = [](int memory, Rule rule) {
    return [=](const Model& model) { return equilibrium_step(model, anderson(memory), rule); };
  };
  work["transformer, Anderson(6), 12 + 12, exact"] = steps(plain, equilibrium(6, Rule::exact));
  work["transformer, one layer"] = one_forward;
  work["transformer, one layer within a solve"] = one_forward;  // it makes no difference there
  work["transformer, vjp of one layer"] = one_vjp;

  const auto alone = [] { return relative(0); };
  work["cell, exact, 12 + 12"] = steps(alone, equilibrium(5, Rule::exact));
  work["cell, JacobianFree"] = steps(alone, equilibrium(5, Rule::jacobian_free));
  work["cell, Phantom(5)"] = steps(alone, equilibrium(5, Rule::phantom));
  work["cell, Phantom(5), Neumann form"] = steps(alone, equilibrium(5, Rule::neumann));
  work["the same with 64 positions of memory"] =
      steps([] { return relative(length); }, equilibrium(5, Rule::neumann));
  for (const int layers : {12, 24, 48})
    work[fmt::format("cell, {} layers", layers)] =
        steps(alone, [=](const Model& model) { return explicit_step(model, layers); });
}

}  // namespace bench::peer
