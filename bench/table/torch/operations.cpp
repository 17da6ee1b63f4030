#include <bench/table/torch/peers.hpp>

namespace bench::peer {
namespace {

using torch::Tensor;
using Tensors = std::vector<Tensor>;
using Function = std::function<Tensor(const Tensors&)>;

constexpr int links = 1000;

Make chain(Tensor (*link)(const Tensor& y, const Tensor& x)) {
  return [=] {
    return Work{.run =
                    [=] {
                      const Tensor x = torch::full({16}, 0.5, torch::requires_grad());
                      Tensor y = x;
                      for (int i = 0; i < links; ++i) y = link(y, x);
                      torch::autograd::grad({y}, {x}, {torch::full({16}, 0.5)});
                    },
                .per = links};
  };
}

Work mlp_step() {
  struct Training {
    torch::nn::Sequential model{torch::nn::Linear(mlp_sizes[0], mlp_sizes[1]), torch::nn::ReLU(),
                                torch::nn::Linear(mlp_sizes[1], mlp_sizes[2]), torch::nn::ReLU(),
                                torch::nn::Linear(mlp_sizes[2], mlp_sizes[3])};
    torch::optim::SGD sgd{model->parameters(), torch::optim::SGDOptions(1e-3)};
    Tensor x = tensor(normal(mlp_batch * mlp_sizes[0], 1.0, 1), {mlp_batch, mlp_sizes[0]}),
           labels = torch::arange(mlp_batch) % mlp_sizes[3];
    void step() {
      sgd.zero_grad();
      torch::nn::functional::cross_entropy(model->forward(x), labels).backward();
      sgd.step();
    }
  };
  const auto training = std::make_shared<Training>();
  return {.run = [=] { training->step(); }};
}

Work forward(const Function& f, const Tensors& inputs) {
  return {.run = [=] {
    const torch::NoGradGuard off;
    f(inputs);
  }};
}

Work backward(const Function& f, const Tensors& inputs) {
  Tensors leaves;
  for (const Tensor& input : inputs) leaves.push_back(input.detach().requires_grad_());
  const Tensor y = f(leaves), ones = torch::ones_like(y);
  return {.run = [=] { torch::autograd::grad({y}, leaves, {ones}, true); }};
}

void add_convolution(std::map<std::string, Make>& work, const std::string& name, const ConvSize& c,
                     at::MemoryFormat format) {
  const auto inputs = [=]() -> Tensors {
    return {tensor(normal(c.batch * c.in * c.side * c.side, 1.0, 1), {c.batch, c.in, c.side, c.side})
                .contiguous(format),
            tensor(normal(c.out * c.in * c.kernel * c.kernel, 0.1, 2), {c.out, c.in, c.kernel, c.kernel})
                .contiguous(format)};
  };
  const auto f = [=](const Tensors& x) { return torch::conv2d(x[0], x[1], {}, 1, c.kernel / 2); };
  work[name + ", forward"] = [=] { return forward(f, inputs()); };
  work[name + ", backward"] = [=] { return backward(f, inputs()); };
}

}  // namespace

void add_operations(std::map<std::string, Make>& work) {
  work["one chained add of 16 floats, with its backward"] =
      chain([](const Tensor& y, const Tensor& x) { return y + x; });
  work["one chained tanh of 16 floats, with its backward"] =
      chain([](const Tensor& y, const Tensor&) { return torch::tanh(y); });
  work["MLP 784-256-256-10, batch 128, training step"] = mlp_step;

  const auto plain = at::MemoryFormat::Contiguous, last = at::MemoryFormat::ChannelsLast;
  add_convolution(work, "conv 3x3, 32 to 32, 28x28, batch 64", {32, 32, 3}, plain);
  add_convolution(work, "the same, LibTorch channels-last", {32, 32, 3}, last);
  add_convolution(work, "conv 3x3, 1 to 32", {1, 32, 3}, plain);
  add_convolution(work, "conv 3x3, 32 to 1", {32, 1, 3}, plain);
  add_convolution(work, "conv 1x1, 32 to 32", {32, 32, 1}, plain);

  const auto elements = [&](const char* name, const Function& f) {
    work[name] = [=] {
      return forward(f, {tensor(normal(1'000'000, 1.0, 1), {1000, 1000}),
                         tensor(normal(1000, 1.0, 2), {1000}), tensor(normal(1000, 1.0, 3), {1000})});
    };
  };
  elements("tanh, 1e6", [](const Tensors& x) { return x[0].tanh(); });
  elements("exp, 1e6", [](const Tensors& x) { return x[0].exp(); });
  elements("softmax, 1000x1000", [](const Tensors& x) { return x[0].softmax(1); });
  elements("layer norm, 1000x1000",
           [](const Tensors& x) { return torch::layer_norm(x[0], {1000}, x[1], x[2]); });
}

}  // namespace bench::peer
