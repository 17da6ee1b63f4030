// Every operation at a large size, forward and, where it has a derivative, backward; f32.
//
// An elementwise operation is timed by itself, on a million entries drawn from its own test samples. Any
// other one needs a line in `cases`; until it has one it is timed as its largest test sample is, under the
// name OPERATION/sample, and the program says so at its end. Implicit nodes are bench_deq's.
#include <banach/banach.hpp>
#include <banach/engine/samples.hpp>
#include <banach/ops/implicit/rank_two.hpp>
#include <banach/ops/resample.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>

namespace {

using namespace banach;

/// One use of an operation. Inputs with floating elements get derivatives.
struct Case {
  std::string op, size;
  std::function<Var(const Vars&)> f;
  Tensors inputs;
};

const Op& find(const std::string& name) {
  for (const Op* op : ops())
    if (op->name() == name) return *op;
  std::fprintf(stderr, "bench_ops: no operation has the name '%s' of a case\n", name.c_str());
  std::exit(1);
}

/// An operation on its own, for those that no header declares.
std::function<Var(const Vars&)> bare(const Op& op, const Attrs& attrs = {}) {
  return [&op, attrs](const Vars& inputs) { return apply_all(op, inputs, attrs).front(); };
}

Tensor normal(const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::f32);
  Random(7).fill_normal(t.mutable_data<float>(), t.size());
  return t;
}

Tensor indices(const Shape& shape, std::int64_t below) { return SampleGen(7).indices(shape, below); }

std::vector<Case> cases() {
  using In = const Vars&;
  const Tensor million = normal({1000, 1000}), positive = exp(Var(million)).value(), row = normal({1000}),
               column = normal({1000, 1}), one = normal({}), log_probabilities = log_softmax(million).value(),
               probabilities = softmax(million).value();
  const Tensor images = normal({100, 32, 28, 28}), filters = normal({32, 32, 3, 3}),
               small_images = normal({100, 32, 9, 9}), channel = normal({32}),
               positive_channel = exp(channel).value();
  const Tensor table = normal({10000, 256}), picked = indices({4096}, 10000);
  const Tensor labels = indices({1000}, 1000), columns = indices({1000, 1000}, 1000);
  const Var mask = greater(million, 0.0);
  const Conv2dOptions same{.padding = 1};
  Windowing thirds(27);
  for (int i = 0; i < 9; ++i) thirds.add(3 * i, 3, 1.0 / 3);
  const Pool2dOptions half{.kernel = 2};
  std::vector<Case> all;
  const auto add = [&](const char* op, const char* size, std::function<Var(const Vars&)> f, Tensors inputs) {
    all.push_back({op, size, std::move(f), std::move(inputs)});
  };
  add("add", "1e6", [](In x) { return x[0] + x[1]; }, {million, million});
  add("add", "row_1e6", [](In x) { return x[0] + x[1]; }, {million, row});
  add("mul", "1e6", [](In x) { return x[0] * x[1]; }, {million, million});
  add("mul", "column_1e6", [](In x) { return x[0] * x[1]; }, {million, column});
  add("where", "1e6", [=](In x) { return where(mask, x[0], x[1]); }, {million, positive});
  add("cast", "to_f64_1e6", [](In x) { return cast(x[0], DType::f64); }, {million});
  add("alias", "1e6", bare(find("alias")), {million});

  add("sum", "all_1e6", [](In x) { return sum(x[0]); }, {million});
  add("sum", "rows_1e6", [](In x) { return sum(x[0], {1}); }, {million});
  add("sum", "columns_1e6", [](In x) { return sum(x[0], {0}); }, {million});
  add("mean", "rows_1e6", [](In x) { return mean(x[0], {1}); }, {million});
  add("mean", "columns_1e6", [](In x) { return mean(x[0], {0}); }, {million});
  add("max", "rows_1e6", [](In x) { return max(x[0], {1}); }, {million});
  add("max", "columns_1e6", [](In x) { return max(x[0], {0}); }, {million});
  add("min", "rows_1e6", [](In x) { return min(x[0], {1}); }, {million});
  add("var", "rows_1e6", [](In x) { return var(x[0], {1}); }, {million});
  add("norm", "rows_1e6", [](In x) { return norm(x[0], {1}); }, {million});
  add("dot", "1000x1000", [](In x) { return dot(x[0], x[1]); }, {million, positive});
  add("argmax", "rows_1e6", [](In x) { return argmax(x[0], 1); }, {million});
  add("argmin", "rows_1e6", [](In x) { return argmin(x[0], 1); }, {million});
  add("cumsum", "rows_1e6", [](In x) { return cumsum(x[0], 1); }, {million});
  add("sort", "rows_1e6", [](In x) { return sort(x[0]).values; }, {million});
  add("topk", "10_of_rows_1e6", [](In x) { return topk(x[0], 10).values; }, {million});
  add("isotonic_regression", "rows_1e6", [](In x) { return isotonic_regression(x[0]).values; }, {million});
  add("block_ratio", "rows_1e6", [](In x) { return block_ratio(x[0], x[1], x[2]); },
      {million, positive, indices({1000, 1000}, 2)});
  add("broadcast_to", "row_1e6", [](In x) { return broadcast_to(x[0], {1000, 1000}); }, {row});
  add("broadcast_to", "column_1e6", [](In x) { return broadcast_to(x[0], {1000, 1000}); }, {column});
  add("sum_to", "row_1e6", [](In x) { return sum_to(x[0], {1000}); }, {million});
  add("sum_to", "column_1e6", [](In x) { return sum_to(x[0], {1000, 1}); }, {million});

  add("logsumexp", "1000x1000", [](In x) { return logsumexp(x[0], {1}); }, {million});
  add("softmax", "1000x1000", [](In x) { return softmax(x[0]); }, {million});
  add("softmax_vjp", "1000x1000", bare(find("softmax_vjp")), {million, probabilities});
  add("log_softmax", "1000x1000", [](In x) { return log_softmax(x[0]); }, {million});
  add("log_softmax_vjp", "1000x1000", bare(find("log_softmax_vjp")), {million, log_probabilities});
  add("normalize", "1000x1000", [](In x) { return normalize(x[0]); }, {million});
  add("normalize_vjp", "1000x1000", bare(find("normalize_vjp")), {million, million, column});
  add("layer_norm", "1000x1000", [](In x) { return layer_norm(x[0], x[1], x[2]); }, {million, row, row});
  add("group_norm", "8_of_100x32x28x28", [](In x) { return group_norm(x[0], 8, x[1], x[2]); },
      {images, channel, channel});
  add("batch_norm", "100x32x28x28", [](In x) { return batch_norm(x[0], x[1], x[2]).y; },
      {images, channel, channel});
  add("batch_norm_by", "100x32x28x28",
      [=](In x) { return batch_norm_by(x[0], channel, positive_channel, x[1], x[2]); },
      {images, channel, channel});
  add("dropout", "1e6", [](In x) { return dropout(x[0], 0.5, {}); }, {million});
  add("cross_entropy", "1000x1000", [](In x) { return cross_entropy(x[0], x[1]); }, {million, labels});
  add("cross_entropy_vjp", "1000x1000", bare(find("cross_entropy_vjp")), {one, million, labels});
  add("mse", "1e6", [](In x) { return mse(x[0], x[1]); }, {million, positive});

  add("reshape", "1e6", [](In x) { return reshape(x[0], {500, 2000}); }, {million});
  add("permute", "transpose_1000x1000", [](In x) { return transpose(x[0]); }, {million});
  add("permute", "nchw_to_nhwc_100x32x28x28", [](In x) { return permute(x[0], {0, 2, 3, 1}); }, {images});
  add("slice", "1e6", [](In x) { return slice(x[0], 1, 100, 900); }, {million});
  add("pad", "100x32x28x28_by_2", [](In x) { return pad(x[0], {0, 0, 2, 2}, {0, 0, 2, 2}); }, {images});
  add("concat", "1e6", [](In x) { return concat({x[0], x[1]}, 1); }, {million, million});
  add("stack", "2x1e6", [](In x) { return stack({x[0], x[1]}); }, {million, million});
  add("flip", "columns_1e6", [](In x) { return flip(x[0], {1}); }, {million});
  add("repeat", "row_1e6", [](In x) { return repeat(x[0], {1000, 1}); }, {row});
  add("embedding", "4096_of_10000x256", [](In x) { return embedding(x[0], x[1]); }, {table, picked});
  add("one_hot", "1000x1000", [](In x) { return one_hot(x[0], 1000); }, {labels});
  add("gather", "1e6", [](In x) { return gather(x[0], 1, x[1]); }, {million, columns});
  add("gather", "take_4096_rows_of_256", [](In x) { return take(x[0], 0, x[1]); }, {table, picked});
  add("scatter_add", "1e6",
      [](In x) {
        return scatter_add({1000, 1000}, 1, x[1], x[0]);
      },
      {million, columns});

  add("matmul", "128x256x256", [](In x) { return matmul(x[0], x[1]); },
      {normal({128, 256}), normal({256, 256})});
  add("matmul", "512x512x512", [](In x) { return matmul(x[0], x[1]); },
      {normal({512, 512}), normal({512, 512})});
  add("matmul", "512x512x512_transposed", [](In x) { return matmul(x[0], x[1], {.transpose_b = true}); },
      {normal({512, 512}), normal({512, 512})});
  add("matmul_add", "128x256x256_row", [](In x) { return matmul_add(x[0], x[1], x[2]); },
      {normal({128, 256}), normal({256, 256}), normal({256})});
  add("rank_two", "100x100x100", [](In x) { return rank_two(x[0], x[1], x[2], x[3]); },
      {normal({100, 100}), normal({100, 100}), normal({100, 100}), normal({100, 100})});
  add("scaled_dot_product_attention", "16x64x128_4_heads_causal",
      [](In x) { return scaled_dot_product_attention(x[0], x[1], x[2], {.causal = true, .heads = 4}); },
      {normal({16, 64, 128}), normal({16, 64, 128}), normal({16, 64, 128})});
  add("relative_attention", "16x64x128_4_heads_64_in_front",
      [](In x) { return relative_attention(x[0], x[1], x[1], x[2], x[3], x[3], {.heads = 4}); },
      {normal({16, 64, 128}), normal({16, 128, 128}), normal({128, 128}), normal({128})});
  add("matmul", "128_of_64x64x64", [](In x) { return matmul(x[0], x[1]); },
      {normal({128, 64, 64}), normal({128, 64, 64})});
  add("conv2d", "64x32x28x28_3x3", [=](In x) { return conv2d(x[0], x[1], same); },
      {normal({64, 32, 28, 28}), filters});
  add("conv2d", "100x32x9x9_3x3", [=](In x) { return conv2d(x[0], x[1], same); }, {small_images, filters});
  add("conv1d", "64x32x784_3", [](In x) { return conv1d(x[0], x[1], {.padding = 1}); },
      {normal({64, 32, 784}), normal({32, 32, 3})});
  add("conv_transpose2d", "100x32x9x9_3x3", [](In x) { return conv_transpose2d(x[0], x[1], {.padding = 1}); },
      {small_images, filters});
  add("conv2d_input_grad", "100x32x9x9_3x3", [=](In x) { return conv2d_input_grad(x[0], x[1], 9, same); },
      {small_images, filters});
  add("conv2d_weight_grad", "100x32x9x9_3x3", [=](In x) { return conv2d_weight_grad(x[0], x[1], 3, same); },
      {small_images, small_images});
  add("max_pool2d", "100x32x28x28_2x2", [=](In x) { return max_pool2d(x[0], half); }, {images});
  add("max_pool2d_indices", "100x32x28x28_2x2", [=](In x) { return max_pool2d_indices(x[0], half); },
      {images});
  add("avg_pool2d", "100x32x28x28_2x2", [](In x) { return avg_pool2d(x[0]); }, {images});
  add("adaptive_avg_pool2d", "100x32x28x28_to_7x7", [](In x) { return adaptive_avg_pool2d(x[0], 7); },
      {images});
  add("adaptive_max_pool2d", "100x32x28x28_to_7x7", [](In x) { return adaptive_max_pool2d(x[0], 7); },
      {images});
  add("adaptive_max_pool2d_indices", "100x32x28x28_to_7x7",
      [](In x) { return adaptive_max_pool2d_indices(x[0], 7); }, {images});
  add("resample2d", "100x32x27x27_by_3", [=](In x) { return resample2d(x[0], thirds, thirds); },
      {normal({100, 32, 27, 27})});
  add("upsample_nearest", "100x32x9x9_by_2", [](In x) { return upsample_nearest(x[0], 2); }, {small_images});
  add("upsample_bilinear", "100x32x9x9_to_18x18", [](In x) { return upsample_bilinear(x[0], 18); },
      {small_images});
  return all;
}

// ---- Operations without a line of their own ---------------------------------------------------------------

std::int64_t count(const Sample& sample) {
  std::int64_t n = 0;
  for (const Tensor& t : sample.inputs) n += t.size();
  return n;
}

/// All inputs floating and of one shape: entry i of the result depends on entry i of each of them.
bool stretches(const Sample& sample) {
  return std::all_of(sample.inputs.begin(), sample.inputs.end(), [&](const Tensor& t) {
    return is_floating(t.dtype()) && t.shape() == sample.inputs[0].shape();
  });
}

/// A million entries, each a random one of the sample: where the operation is defined, and in no pattern.
Tensors stretched(const Sample& sample) {
  constexpr std::int64_t n = 1'000'000;
  const Tensor from = indices({n}, sample.inputs[0].size());
  Tensors result;
  for (const Tensor& input : sample.inputs) result.push_back(take(input, 0, from).value().to(DType::f32));
  return result;
}

/// A case for an operation that `cases` does not have; size "sample" if its sample could not be enlarged.
Case from_samples(const Op& op) {
  SampleGen gen(7);
  Samples samples = op.def().samples ? op.def().samples(gen) : Samples{};
  const auto smaller = [](const Sample& a, const Sample& b) { return count(a) < count(b); };
  const auto largest = std::max_element(samples.begin(), samples.end(), smaller);
  if (largest == samples.end()) return {std::string(op.name()), "sample", {}, {}};

  if (op.def().kind == OpKind::elementwise) {
    const auto end =
        std::partition(samples.begin(), samples.end(), [](const Sample& s) { return stretches(s); });
    const auto best = std::max_element(samples.begin(), end, smaller);
    if (best != end && count(*best) > 0) {
      for (Tensor& t : best->inputs) t = reshape(t, {t.size()}).value();
      return {std::string(op.name()), "1e6", bare(op, best->attrs), stretched(*best)};
    }
  }
  Tensors inputs;
  for (const Tensor& t : largest->inputs) inputs.push_back(is_floating(t.dtype()) ? t.to(DType::f32) : t);
  return {std::string(op.name()), "sample", bare(op, largest->attrs), inputs};
}

// ---- Timing -----------------------------------------------------------------------------------------------

void forward(benchmark::State& state, const Case& c) {
  const Vars constants(c.inputs.begin(), c.inputs.end());
  for (auto _ : state) benchmark::DoNotOptimize(c.f(constants));
}

void backward(benchmark::State& state, const Case& c) {
  Tape tape;
  Vars inputs, leaves;
  for (const Tensor& input : c.inputs) {
    inputs.push_back(is_floating(input.dtype()) ? leaf(input) : Var(input));
    if (inputs.back().recorded()) leaves.push_back(inputs.back());
  }
  const Var y = c.f(inputs);
  const GradOptions options{.cotangent = ones_like(y)};
  for (auto _ : state) benchmark::DoNotOptimize(grad(y, leaves, options));
}

void add(const Op& op, const Case& c) {
  const std::string name = c.op + "/" + c.size;
  const auto microseconds = [](auto* b) { b->Unit(benchmark::kMicrosecond); };
  microseconds(benchmark::RegisterBenchmark((name + "/forward/banach").c_str(),
                                            [=](benchmark::State& s) { forward(s, c); }));
  if (op.def().vjp || op.def().composite)
    microseconds(benchmark::RegisterBenchmark((name + "/backward/banach").c_str(),
                                              [=](benchmark::State& s) { backward(s, c); }));
}

}  // namespace

// Not by static objects: operations are only ready when main starts.
int main(int argc, char** argv) {
  std::set<std::string_view> has_case;
  for (const Case& c : cases()) {
    const Op& op = find(c.op);
    add(op, c);
    has_case.insert(op.name());
  }
  std::string small;
  for (const Op* op : ops()) {
    if (op->def().kind == OpKind::implicit || has_case.count(op->name())) continue;
    const Case c = from_samples(*op);
    if (c.f) add(*op, c);
    if (c.size == "sample") small += " " + c.op;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  if (!small.empty())
    std::fprintf(stderr, "bench_ops: timed at the size of a test only, for want of a line in `cases`:%s\n",
                 small.c_str());
}
