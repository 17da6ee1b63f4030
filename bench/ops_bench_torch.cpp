// The cases of ops_bench.cpp in LibTorch, where it has the operation, with as many threads. Comparisons give
// bytes there, floats in Banach.
#include <bench/torch_threads.hpp>

#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <functional>

namespace {

using torch::Tensor, torch::randn;
using In = const std::vector<Tensor>&;
using Case = std::function<Tensor(In)>;
namespace F = torch::nn::functional;

void add_forward(const std::string& name, const Case& f, In inputs) {
  benchmark::RegisterBenchmark((name + "/forward/torch").c_str(), [=](benchmark::State& state) {
    const torch::NoGradGuard off;
    const TorchThreads threads;
    for (auto _ : state) benchmark::DoNotOptimize(f(inputs));
  })->Unit(benchmark::kMicrosecond);
}

void add(const std::string& name, const Case& f, In inputs) {
  add_forward(name, f, inputs);
  benchmark::RegisterBenchmark((name + "/backward/torch").c_str(), [=](benchmark::State& state) {
    const TorchThreads threads;
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) leaves.push_back(input.detach().clone().requires_grad_());
    const Tensor y = f(leaves), ones = torch::ones_like(y);
    // A gradient that is a view gets elements of its own, as in Banach. Where an input has no derivative,
    // LibTorch gives an undefined tensor.
    for (auto _ : state)
      for (const Tensor& gradient : torch::autograd::grad({y}, leaves, {ones}, true, false, true))
        benchmark::DoNotOptimize(gradient.defined() ? gradient.contiguous() : gradient);
  })->Unit(benchmark::kMicrosecond);
}

const bool registered = [] {
  const Tensor million = randn({1000, 1000}), positive = million.exp(), row = randn({1000}),
               column = randn({1000, 1}), probabilities = million.softmax(1),
               log_probabilities = million.log_softmax(1), images = randn({100, 32, 28, 28}),
               filters = randn({32, 32, 3, 3}), small_images = randn({100, 32, 9, 9}), channel = randn({32}),
               positive_channel = channel.exp();
  const Tensor mask = million > 0, labels = torch::randint(1000, {1000}, torch::kLong),
               columns = torch::randint(1000, {1000, 1000}, torch::kLong),
               picked = torch::randint(10000, {4096}, torch::kLong);

  add("add/1e6", [](In x) { return x[0] + x[1]; }, {million, million});
  add("add/row_1e6", [](In x) { return x[0] + x[1]; }, {million, row});
  add("accumulate/1e6", [](In x) { return x[0] + x[1]; }, {million, million});
  add("sub/1e6", [](In x) { return x[0] - x[1]; }, {million, million});
  add("mul/1e6", [](In x) { return x[0] * x[1]; }, {million, million});
  add("mul/column_1e6", [](In x) { return x[0] * x[1]; }, {million, column});
  add("div/1e6", [](In x) { return x[0] / x[1]; }, {million, positive});
  add("affine/1e6", [](In x) { return x[0] * 2.0 + 1.0; }, {million});
  add("neg/1e6", [](In x) { return -x[0]; }, {million});
  add("square/1e6", [](In x) { return x[0].square(); }, {million});
  add("reciprocal/1e6", [](In x) { return x[0].reciprocal(); }, {positive});
  add("abs/1e6", [](In x) { return x[0].abs(); }, {million});
  add("sqrt/1e6", [](In x) { return x[0].sqrt(); }, {positive});
  add("rsqrt/1e6", [](In x) { return x[0].rsqrt(); }, {positive});
  add("exp/1e6", [](In x) { return x[0].exp(); }, {million});
  add("expm1/1e6", [](In x) { return x[0].expm1(); }, {million});
  add("log/1e6", [](In x) { return x[0].log(); }, {positive});
  add("log1p/1e6", [](In x) { return x[0].log1p(); }, {positive});
  add("sin/1e6", [](In x) { return x[0].sin(); }, {million});
  add("cos/1e6", [](In x) { return x[0].cos(); }, {million});
  add("pow/1e6", [](In x) { return x[0].pow(x[1]); }, {positive, million});
  add("erf/1e6", [](In x) { return x[0].erf(); }, {million});
  add("tanh/1e6", [](In x) { return x[0].tanh(); }, {million});
  add("tanh_vjp/1e6", [](In x) { return at::tanh_backward(x[0], x[1]); }, {million, million});
  add("sigmoid/1e6", [](In x) { return x[0].sigmoid(); }, {million});
  add("sigmoid_vjp/1e6", [](In x) { return at::sigmoid_backward(x[0], x[1]); }, {million, million});
  add("softplus/1e6", [](In x) { return F::softplus(x[0]); }, {million});
  add("relu/1e6", [](In x) { return x[0].relu(); }, {million});
  add("relu_vjp/1e6", [](In x) { return at::threshold_backward(x[0], x[1], 0); }, {million, million});
  add("leaky_relu/1e6", [](In x) { return torch::leaky_relu(x[0], 0.1); }, {million});
  add("leaky_relu_vjp/1e6", [](In x) { return at::leaky_relu_backward(x[0], x[1], 0.1, false); },
      {million, million});
  add("elu/1e6", [](In x) { return torch::elu(x[0]); }, {million});
  add("silu/1e6", [](In x) { return torch::silu(x[0]); }, {million});
  add("gelu/1e6", [](In x) { return torch::gelu(x[0]); }, {million});
  add("gelu_tanh/1e6", [](In x) { return torch::gelu(x[0], "tanh"); }, {million});
  add("clamp/1e6", [](In x) { return x[0].clamp(-1.0, 1.0); }, {million});
  add("maximum/1e6", [](In x) { return torch::maximum(x[0], x[1]); }, {million, positive});
  add("minimum/1e6", [](In x) { return torch::minimum(x[0], x[1]); }, {million, positive});
  add("where/1e6", [=](In x) { return torch::where(mask, x[0], x[1]); }, {million, positive});
  add("cast/to_f64_1e6", [](In x) { return x[0].to(torch::kDouble); }, {million});
  add("alias/1e6", [](In x) { return x[0].alias(); }, {million});
  add_forward("sign/1e6", [](In x) { return x[0].sign(); }, {million});
  add_forward("equal/1e6", [](In x) { return x[0] == x[1]; }, {million, positive});
  add_forward("not_equal/1e6", [](In x) { return x[0] != x[1]; }, {million, positive});
  add_forward("less/1e6", [](In x) { return x[0] < x[1]; }, {million, positive});
  add_forward("less_equal/1e6", [](In x) { return x[0] <= x[1]; }, {million, positive});
  add_forward("greater/1e6", [](In x) { return x[0] > x[1]; }, {million, positive});
  add_forward("greater_equal/1e6", [](In x) { return x[0] >= x[1]; }, {million, positive});

  add("sum/all_1e6", [](In x) { return x[0].sum(); }, {million});
  add("sum/rows_1e6", [](In x) { return x[0].sum(1); }, {million});
  add("sum/columns_1e6", [](In x) { return x[0].sum(0); }, {million});
  add("mean/rows_1e6", [](In x) { return x[0].mean(1); }, {million});
  add("mean/columns_1e6", [](In x) { return x[0].mean(0); }, {million});
  add("max/rows_1e6", [](In x) { return x[0].amax(1); }, {million});
  add("max/columns_1e6", [](In x) { return x[0].amax(0); }, {million});
  add("min/rows_1e6", [](In x) { return x[0].amin(1); }, {million});
  add("var/rows_1e6", [](In x) { return x[0].var(1); }, {million});
  add("norm/rows_1e6", [](In x) { return x[0].norm(2, 1); }, {million});
  add("dot/1000x1000", [](In x) { return (x[0] * x[1]).sum(1); }, {million, positive});
  add_forward("argmax/rows_1e6", [](In x) { return x[0].argmax(1); }, {million});
  add_forward("argmin/rows_1e6", [](In x) { return x[0].argmin(1); }, {million});
  add("cumsum/rows_1e6", [](In x) { return x[0].cumsum(1); }, {million});
  add("sort/rows_1e6", [](In x) { return std::get<0>(x[0].sort(1)); }, {million});
  add("topk/10_of_rows_1e6", [](In x) { return std::get<0>(x[0].topk(10)); }, {million});
  add("broadcast_to/row_1e6", [](In x) { return x[0].expand({1000, 1000}).contiguous(); }, {row});
  add("broadcast_to/column_1e6", [](In x) { return x[0].expand({1000, 1000}).contiguous(); }, {column});
  add("sum_to/row_1e6", [](In x) { return x[0].sum_to_size({1000}); }, {million});
  add("sum_to/column_1e6", [](In x) { return x[0].sum_to_size({1000, 1}); }, {million});

  add("logsumexp/1000x1000", [](In x) { return x[0].logsumexp(1); }, {million});
  add("softmax/1000x1000", [](In x) { return x[0].softmax(1); }, {million});
  add("softmax_vjp/1000x1000", [](In x) { return at::_softmax_backward_data(x[0], x[1], 1, torch::kFloat); },
      {million, probabilities});
  add("log_softmax/1000x1000", [](In x) { return x[0].log_softmax(1); }, {million});
  add("log_softmax_vjp/1000x1000",
      [](In x) { return at::_log_softmax_backward_data(x[0], x[1], 1, torch::kFloat); },
      {million, log_probabilities});
  add("normalize/1000x1000", [](In x) { return torch::layer_norm(x[0], {1000}); }, {million});
  add("layer_norm/1000x1000", [](In x) { return torch::layer_norm(x[0], {1000}, x[1], x[2]); },
      {million, row, row});
  add("group_norm/8_of_100x32x28x28", [](In x) { return torch::group_norm(x[0], 8, x[1], x[2]); },
      {images, channel, channel});
  add("batch_norm/100x32x28x28",
      [](In x) { return torch::batch_norm(x[0], x[1], x[2], {}, {}, true, 0.1, 1e-5, false); },
      {images, channel, channel});
  add("batch_norm_by/100x32x28x28",
      [=](In x) {
        return torch::batch_norm(x[0], x[1], x[2], channel, positive_channel, false, 0.1, 1e-5, false);
      },
      {images, channel, channel});
  add("dropout/1e6", [](In x) { return torch::dropout(x[0], 0.5, true); }, {million});
  add("cross_entropy/1000x1000", [=](In x) { return F::cross_entropy(x[0], labels); }, {million});
  add("mse/1e6", [](In x) { return F::mse_loss(x[0], x[1]); }, {million, positive});

  add("reshape/1e6", [](In x) { return x[0].reshape({500, 2000}); }, {million});
  add("permute/transpose_1000x1000", [](In x) { return x[0].t().contiguous(); }, {million});
  add("permute/nchw_to_nhwc_100x32x28x28",
      [](In x) {
        return x[0].permute({0, 2, 3, 1}).contiguous();
      },
      {images});
  add("slice/1e6", [](In x) { return x[0].slice(1, 100, 900).contiguous(); }, {million});
  add("pad/100x32x28x28_by_2", [](In x) { return torch::constant_pad_nd(x[0], {2, 2, 2, 2}); }, {images});
  add("concat/1e6", [](In x) { return torch::cat({x[0], x[1]}, 1); }, {million, million});
  add("stack/2x1e6", [](In x) { return torch::stack({x[0], x[1]}); }, {million, million});
  add("flip/columns_1e6", [](In x) { return x[0].flip(1); }, {million});
  add("repeat/row_1e6", [](In x) { return x[0].repeat({1000, 1}); }, {row});
  add("embedding/4096_of_10000x256", [=](In x) { return torch::embedding(x[0], picked); },
      {randn({10000, 256})});
  add_forward("one_hot/1000x1000", [](In x) { return torch::one_hot(x[0], 1000); }, {labels});
  add("gather/1e6", [=](In x) { return x[0].gather(1, columns); }, {million});
  add("gather/take_4096_rows_of_256", [=](In x) { return x[0].index_select(0, picked); },
      {randn({10000, 256})});
  add("scatter_add/1e6",
      [=](In x) {
        return torch::zeros({1000, 1000}).scatter_add(1, columns, x[0]);
      },
      {million});

  add("matmul/128x256x256", [](In x) { return x[0].matmul(x[1]); }, {randn({128, 256}), randn({256, 256})});
  add("matmul/512x512x512", [](In x) { return x[0].matmul(x[1]); }, {randn({512, 512}), randn({512, 512})});
  add("matmul/512x512x512_transposed", [](In x) { return x[0].matmul(x[1].t()); },
      {randn({512, 512}), randn({512, 512})});
  add("matmul/128_of_64x64x64", [](In x) { return x[0].matmul(x[1]); },
      {randn({128, 64, 64}), randn({128, 64, 64})});
  add("conv2d/64x32x28x28_3x3", [](In x) { return torch::conv2d(x[0], x[1], {}, 1, 1); },
      {randn({64, 32, 28, 28}), filters});
  add("conv2d/100x32x9x9_3x3", [](In x) { return torch::conv2d(x[0], x[1], {}, 1, 1); },
      {small_images, filters});
  add("conv1d/64x32x784_3", [](In x) { return torch::conv1d(x[0], x[1], {}, 1, 1); },
      {randn({64, 32, 784}), randn({32, 32, 3})});
  add("conv_transpose2d/100x32x9x9_3x3", [](In x) { return torch::conv_transpose2d(x[0], x[1], {}, 1, 1); },
      {small_images, filters});
  add("conv2d_input_grad/100x32x9x9_3x3", [](In x) { return torch::conv_transpose2d(x[0], x[1], {}, 1, 1); },
      {small_images, filters});
  add("conv2d_weight_grad/100x32x9x9_3x3",
      [=](In x) {
        return std::get<1>(at::convolution_backward(x[1], x[0], filters, c10::nullopt, {1, 1}, {1, 1}, {1, 1},
                                                    false, {0, 0}, 1, {false, true, false}));
      },
      {small_images, small_images});
  add("max_pool2d/100x32x28x28_2x2", [](In x) { return torch::max_pool2d(x[0], 2, 2); }, {images});
  add_forward("max_pool2d_indices/100x32x28x28_2x2",
              [](In x) { return std::get<1>(torch::max_pool2d_with_indices(x[0], 2, 2)); }, {images});
  add("avg_pool2d/100x32x28x28_2x2", [](In x) { return torch::avg_pool2d(x[0], 2); }, {images});
  add("adaptive_avg_pool2d/100x32x28x28_to_7x7",
      [](In x) {
        return torch::adaptive_avg_pool2d(x[0], {7, 7});
      },
      {images});
  add("adaptive_max_pool2d/100x32x28x28_to_7x7",
      [](In x) {
        return std::get<0>(torch::adaptive_max_pool2d(x[0], {7, 7}));
      },
      {images});
  add_forward("adaptive_max_pool2d_indices/100x32x28x28_to_7x7",
              [](In x) {
                return std::get<1>(torch::adaptive_max_pool2d(x[0], {7, 7}));
              },
              {images});
  add("upsample_nearest/100x32x9x9_by_2",
      [](In x) {
        return at::upsample_nearest2d(x[0], {18, 18});
      },
      {small_images});
  add("upsample_bilinear/100x32x9x9_to_18x18",
      [](In x) {
        return at::upsample_bilinear2d(x[0], {18, 18}, false);
      },
      {small_images});
  return true;
}();

}  // namespace
