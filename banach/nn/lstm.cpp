#include <banach/nn/lstm.hpp>
#include <banach/nn/sequence.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>

namespace banach::nn {

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
  check_sequence("lstm", x, input);
  const Var zeros(Tensor::zeros({x.size(0), hidden}, x.dtype()));
  LstmState state{start.h.defined() ? start.h : zeros, start.c.defined() ? start.c : zeros};
  Vars seen;
  for (std::int64_t t = 0; t < x.size(1); ++t) {
    const Var gates = recur(state.h) + inject(reshape(slice(x, 1, t, t + 1), {x.size(0), input}));
    const auto gate = [&](int k) { return slice(gates, 1, k * hidden, (k + 1) * hidden); };
    state.c = sigmoid(gate(1)) * state.c + sigmoid(gate(0)) * tanh(gate(3));
    state.h = sigmoid(gate(2)) * tanh(state.c);
    seen.push_back(state.h);
  }
  return {stack(seen, 1), state};
}

}  // namespace banach::nn
