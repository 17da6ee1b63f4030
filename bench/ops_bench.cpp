// Most operations once, forward and backward, f32, at a size where arithmetic and memory count.
#include <banach/banach.hpp>

#include <benchmark/benchmark.h>

#include <functional>

namespace {

using namespace banach;

Tensor normal(const Shape& shape) {
  Random random(7);
  Tensor t = Tensor::empty(shape, DType::f32);
  random.fill_normal(t.mutable_data<float>(), t.size());
  return t;
}

using Case = std::function<Var(const Vars&)>;

void forward(benchmark::State& state, const Case& f, const Tensors& inputs) {
  const Vars constants(inputs.begin(), inputs.end());
  for (auto _ : state) benchmark::DoNotOptimize(f(constants));
}

void backward(benchmark::State& state, const Case& f, const Tensors& inputs) {
  Tape tape;
  Vars leaves;
  for (const Tensor& input : inputs) leaves.push_back(leaf(input));
  const Var y = f(leaves);
  const GradOptions options{.cotangent = Var(Tensor::ones(y.shape(), y.dtype()))};
  for (auto _ : state) benchmark::DoNotOptimize(grad(y, leaves, options));
}

void add(const std::string& name, const Case& f, const Tensors& inputs) {
  benchmark::RegisterBenchmark((name + "/forward/banach").c_str(), [=](benchmark::State& s) {
    forward(s, f, inputs);
  })->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark((name + "/backward/banach").c_str(), [=](benchmark::State& s) {
    backward(s, f, inputs);
  })->Unit(benchmark::kMicrosecond);
}

// Not a static object: operations are only ready when main starts.
void register_all() {
  const Tensor million = normal({1000, 1000}), positive = exp(Var(million)).value(), row = normal({1000});
  const auto unary = [&](const std::string& name, Var (*f)(const Var&), const Tensor& x) {
    add(name + "_1e6", [f](const Vars& in) { return f(in[0]); }, {x});
  };
  unary("exp", exp, million);
  unary("log", log, positive);
  unary("sqrt", sqrt, positive);
  unary("tanh", tanh, million);
  unary("sigmoid", sigmoid, million);
  unary("relu", relu, million);
  unary("softplus", softplus, million);
  add("leaky_relu_1e6", [](const Vars& in) { return leaky_relu(in[0], 0.1); }, {million});
  add("clamp_1e6", [](const Vars& in) { return clamp(in[0], -1.0, 1.0); }, {million});
  add("add_1e6", [](const Vars& in) { return in[0] + in[1]; }, {million, million});
  add("mul_1e6", [](const Vars& in) { return in[0] * in[1]; }, {million, million});
  add("div_1e6", [](const Vars& in) { return in[0] / in[1]; }, {million, positive});
  add("add_row_1e6", [](const Vars& in) { return in[0] + in[1]; }, {million, row});
  add("where_1e6", [](const Vars& in) { return where(greater(in[0], in[1]), in[0], in[1]); },
      {million, positive});
  add("sum_all_1e6", [](const Vars& in) { return sum(in[0]); }, {million});
  add("sum_rows_1e6", [](const Vars& in) { return sum(in[0], {1}); }, {million});
  add("sum_columns_1e6", [](const Vars& in) { return sum(in[0], {0}); }, {million});
  add("mean_rows_1e6", [](const Vars& in) { return mean(in[0], {1}); }, {million});
  add("max_rows_1e6", [](const Vars& in) { return max(in[0], {1}); }, {million});
  add("logsumexp_1000x1000", [](const Vars& in) { return logsumexp(in[0], {1}); }, {million});
  add("log_softmax_1000x1000", [](const Vars& in) { return log_softmax(in[0]); }, {million});
  add("layer_norm_1000x1000", [](const Vars& in) { return layer_norm(in[0], in[1], in[2]); },
      {million, row, row});
  add("transpose_1000x1000", [](const Vars& in) { return transpose(in[0]); }, {million});
  add("slice_1e6", [](const Vars& in) { return slice(in[0], 1, 100, 900); }, {million});
  add("concat_1e6", [](const Vars& in) { return concat({in[0], in[1]}, 1); }, {million, million});
  add("matmul_128x256x256", [](const Vars& in) { return matmul(in[0], in[1]); },
      {normal({128, 256}), normal({256, 256})});
  add("matmul_512x512x512", [](const Vars& in) { return matmul(in[0], in[1]); },
      {normal({512, 512}), normal({512, 512})});
  add("conv2d_64x32x28x28_3x3", [](const Vars& in) { return conv2d(in[0], in[1], {.padding = 1}); },
      {normal({64, 32, 28, 28}), normal({32, 32, 3, 3})});
  add("conv2d_100x32x9x9_3x3", [](const Vars& in) { return conv2d(in[0], in[1], {.padding = 1}); },
      {normal({100, 32, 9, 9}), normal({32, 32, 3, 3})});
  add("max_pool2d_100x32x28x28", [](const Vars& in) { return max_pool2d(in[0], {.kernel = 2, .stride = 2}); },
      {normal({100, 32, 28, 28})});
}

}  // namespace

int main(int argc, char** argv) {
  register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
