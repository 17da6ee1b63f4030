// The cases of ops_bench.cpp in LibTorch, with as many threads.
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <functional>

namespace {

using torch::Tensor;
using Case = std::function<Tensor(const std::vector<Tensor>&)>;
namespace F = torch::nn::functional;

void add(const std::string& name, const Case& f, const std::vector<Tensor>& inputs) {
  benchmark::RegisterBenchmark((name + "/forward/torch").c_str(), [=](benchmark::State& state) {
    const torch::NoGradGuard off;
    for (auto _ : state) benchmark::DoNotOptimize(f(inputs));
  })->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark((name + "/backward/torch").c_str(), [=](benchmark::State& state) {
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) leaves.push_back(input.detach().clone().requires_grad_());
    const Tensor y = f(leaves), ones = torch::ones_like(y);
    for (auto _ : state) benchmark::DoNotOptimize(torch::autograd::grad({y}, leaves, {ones}, true));
  })->Unit(benchmark::kMicrosecond);
}

const bool registered = [] {
  const Tensor million = torch::randn({1000, 1000}), positive = million.exp(), row = torch::randn({1000});
  using In = const std::vector<Tensor>&;
  add("exp_1e6", [](In in) { return in[0].exp(); }, {million});
  add("log_1e6", [](In in) { return in[0].log(); }, {positive});
  add("sqrt_1e6", [](In in) { return in[0].sqrt(); }, {positive});
  add("tanh_1e6", [](In in) { return in[0].tanh(); }, {million});
  add("sigmoid_1e6", [](In in) { return in[0].sigmoid(); }, {million});
  add("relu_1e6", [](In in) { return in[0].relu(); }, {million});
  add("softplus_1e6", [](In in) { return F::softplus(in[0]); }, {million});
  add("leaky_relu_1e6", [](In in) { return torch::leaky_relu(in[0], 0.1); }, {million});
  add("clamp_1e6", [](In in) { return in[0].clamp(-1.0, 1.0); }, {million});
  add("add_1e6", [](In in) { return in[0] + in[1]; }, {million, million});
  add("mul_1e6", [](In in) { return in[0] * in[1]; }, {million, million});
  add("div_1e6", [](In in) { return in[0] / in[1]; }, {million, positive});
  add("add_row_1e6", [](In in) { return in[0] + in[1]; }, {million, row});
  add("where_1e6", [](In in) { return torch::where(in[0] > in[1], in[0], in[1]); }, {million, positive});
  add("sum_all_1e6", [](In in) { return in[0].sum(); }, {million});
  add("sum_rows_1e6", [](In in) { return in[0].sum(1); }, {million});
  add("sum_columns_1e6", [](In in) { return in[0].sum(0); }, {million});
  add("mean_rows_1e6", [](In in) { return in[0].mean(1); }, {million});
  add("max_rows_1e6", [](In in) { return in[0].amax(1); }, {million});
  add("logsumexp_1000x1000", [](In in) { return in[0].logsumexp(1); }, {million});
  add("log_softmax_1000x1000", [](In in) { return in[0].log_softmax(1); }, {million});
  add("layer_norm_1000x1000", [](In in) { return torch::layer_norm(in[0], {1000}, in[1], in[2]); },
      {million, row, row});
  add("transpose_1000x1000", [](In in) { return in[0].t().contiguous(); }, {million});
  add("slice_1e6", [](In in) { return in[0].slice(1, 100, 900).contiguous(); }, {million});
  add("concat_1e6", [](In in) { return torch::cat({in[0], in[1]}, 1); }, {million, million});
  add("matmul_128x256x256", [](In in) { return in[0].matmul(in[1]); },
      {torch::randn({128, 256}), torch::randn({256, 256})});
  add("matmul_512x512x512", [](In in) { return in[0].matmul(in[1]); },
      {torch::randn({512, 512}), torch::randn({512, 512})});
  add("conv2d_64x32x28x28_3x3", [](In in) { return torch::conv2d(in[0], in[1], {}, 1, 1); },
      {torch::randn({64, 32, 28, 28}), torch::randn({32, 32, 3, 3})});
  add("conv2d_100x32x9x9_3x3", [](In in) { return torch::conv2d(in[0], in[1], {}, 1, 1); },
      {torch::randn({100, 32, 9, 9}), torch::randn({32, 32, 3, 3})});
  add("max_pool2d_100x32x28x28", [](In in) { return torch::max_pool2d(in[0], 2, 2); },
      {torch::randn({100, 32, 28, 28})});
  return true;
}();

}  // namespace
