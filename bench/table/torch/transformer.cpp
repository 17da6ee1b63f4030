#include <bench/table/torch/peers.hpp>
#include <bench/table/torch/solvers.hpp>
#include <bench/table/transformer.hpp>

namespace bench::peer {
namespace {

using Tensors = std::vector<Tensor>;
namespace F = torch::nn::functional;

using transformer::batch, transformer::d, transformer::heads, transformer::hidden, transformer::length;

struct Transformer {
  Tensors parameters;  // in the order of transformer::Parameters::all
  Tensor mask = torch::full({length, length}, -INFINITY).triu(1);
  Counts counts;

  Transformer() {
    for (const banach::Tensor& t : transformer::Parameters().all()) {
      std::vector<std::int64_t> shape;
      for (int i = 0; i < t.rank(); ++i) shape.push_back(t.size(i));
      parameters.push_back(torch::from_blob(const_cast<float*>(t.data<float>()), shape).clone());
      // Kept as torch::nn::Linear keeps them: (outputs, inputs).
      if (shape.size() == 2) parameters.back() = parameters.back().t().contiguous();
    }
  }

  Tensor start() const { return torch::zeros({batch, length, d}); }

  Tensor layer(const Tensor& z, const Tensors& p) const {
    const auto split = [](const Tensor& y) {
      return y.view({batch, length, heads, d / heads}).transpose(1, 2);
    };
    const Tensor q = split(F::linear(z, p[1], p[5])), k = split(F::linear(z, p[2], p[6])),
                 v = split(F::linear(z, p[3], p[7]));
    const double scale = 1.0 / std::sqrt(static_cast<double>(d / heads));
    const Tensor weights = torch::softmax(torch::matmul(q * scale, k.transpose(2, 3)) + mask, -1);
    const Tensor joined = torch::matmul(weights, v).transpose(1, 2).reshape({batch, length, d});
    const Tensor a = torch::layer_norm(z + p[0] + F::linear(joined, p[4], p[8]), {d}, p[13], p[14]);
    return torch::layer_norm(a + F::linear(torch::relu(F::linear(a, p[9], p[10])), p[11], p[12]), {d}, p[15],
                             p[16]);
  }

  void step() {
    const Solver solver = anderson(6);
    const Stop stop{0.0, 12};
    const auto rows = [&](const Tensor& z) { return z.reshape({batch, -1}); };
    Tensor z;
    {
      const torch::NoGradGuard off;
      const Solved solved =
          solver([&](const Tensor& at) { return rows(layer(at.view(start().sizes()), parameters)); },
                 rows(start()), stop);
      z = solved.z.view(start().sizes());
      counts = {solved.evaluations, 1};
    }
    Tensors at;
    for (const Tensor& w : parameters) at.push_back(w.detach().requires_grad_());
    z.requires_grad_();
    const Tensor value = layer(z, at), g = rows(2.0 * value.detach());
    const auto pull = [&](const Tensor& x) {
      return rows(torch::autograd::grad({value}, {z}, {x.view(value.sizes())}, true)[0]) + g;
    };
    const Solved solved = solver(pull, g, stop);
    counts.vjp += solved.evaluations;
    torch::autograd::grad({value}, at, {solved.z.view(value.sizes())});
  }
};

Work one_forward() {
  const auto model = std::make_shared<Transformer>();
  return {.run = [=, z = model->parameters[0]] {
    const torch::NoGradGuard off;
    model->layer(z, model->parameters);
  }};
}

Work one_vjp() {
  const auto model = std::make_shared<Transformer>();
  const Tensor z = model->parameters[0].detach().clone().requires_grad_();
  const Tensor value = model->layer(z, model->parameters), g = torch::ones_like(value);
  return {.run = [=] { torch::autograd::grad({value}, {z}, {g}, true); }};
}

}  // namespace

void add_transformer(std::map<std::string, Make>& work) {
  work["transformer, Anderson(6), 12 + 12, exact"] = [] {
    const auto model = std::make_shared<Transformer>();
    return Work{.run = [=] { model->step(); }, .counts = [=] { return model->counts; }};
  };
  work["transformer, one layer"] = one_forward;
  work["transformer, one layer within a solve"] = one_forward;  // it makes no difference there
  work["transformer, vjp of one layer"] = one_vjp;
}

}  // namespace bench::peer
