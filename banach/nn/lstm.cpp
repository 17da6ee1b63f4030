#include <banach/nn/lstm.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace banach::nn {
namespace {

// The positions of x (batch, length, width), each (batch, width), by halves of halves: a derivative then
// costs length log(length), where that of so many slices of x itself would cost length^2.
void append_positions(const Var& x, Vars& positions) {
  const std::int64_t length = x.size(1);
  if (length == 1) {
    positions.push_back(reshape(x, {x.size(0), x.size(2)}));
    return;
  }
  append_positions(slice(x, 1, 0, length / 2), positions);
  append_positions(slice(x, 1, length / 2, length), positions);
}

}  // namespace

LSTM::LSTM(std::int64_t input, std::int64_t hidden, Random& random, DType dtype)
    : recur(hidden, 4 * hidden, random, {.bias = false, .dtype = dtype}),
      inject(input, 4 * hidden, random, {.dtype = dtype}) {
  inject.bias->update([&](Tensor& bias) {
    dispatch_floating(dtype, [&](auto zero) {
      using T = decltype(zero);
      std::fill_n(bias.mutable_data<T>() + hidden, hidden, T{1});
    });
  });
}

LSTM::Output LSTM::operator()(const Var& x, const LstmState& start) const {
  const std::int64_t hidden = recur.weight.shape()[1], input = inject.weight.shape()[1];
  if (x.rank() != 3 || x.size(1) < 1 || x.size(2) != input)
    fail<ShapeError>("lstm", fmt::format("x must be (batch,length,{}) with a length of at least 1: got {}",
                                         input, x.shape().to_string()));
  const Var zeros(Tensor::zeros({x.size(0), hidden}, x.dtype()));
  LstmState state{start.h.defined() ? start.h : zeros, start.c.defined() ? start.c : zeros};
  Vars injected, seen;
  append_positions(inject(x), injected);
  for (const Var& of_x : injected) {
    const Var gates = matmul_add(state.h, recur.weight, of_x, {.transpose_b = true});
    const auto gate = [&](int k) { return slice(gates, 1, k * hidden, (k + 1) * hidden); };
    state.c = sigmoid(gate(1)) * state.c + sigmoid(gate(0)) * tanh(gate(3));
    state.h = sigmoid(gate(2)) * tanh(state.c);
    seen.push_back(state.h);
  }
  return {stack(seen, 1), state};
}

}  // namespace banach::nn
