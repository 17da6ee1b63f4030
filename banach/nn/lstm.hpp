#pragma once

#include <banach/nn/linear.hpp>

namespace banach::nn {

struct LstmState {
  Var h, c;  ///< (batch, hidden); undefined: zeros
};

/// Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers, Schmidhuber and Cummins
/// 2000), recorded position by position:
///     i, f, o, g = W h_{t-1} + U x_t + b
///     c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g),   h_t = sigmoid(o) tanh(c_t)
/// The forget gates' biases start at 1.
struct LSTM {
  Linear recur;   ///< W (4 hidden, hidden), gates i, f, o, g one after another
  Linear inject;  ///< U (4 hidden, input) and b

  /// Throws ValueError unless both are at least 1.
  LSTM(std::int64_t input, std::int64_t hidden, Random& random, DType dtype = DType::f32);

  struct Output {
    Var h;           ///< (batch, length, hidden): at every position
    LstmState last;  ///< where another segment goes on
  };
  /// x (batch, length, input), of at least one position. Throws ShapeError for another.
  Output operator()(const Var& x, const LstmState& start = {}) const;
  void visit(Visitor& visitor) { visitor("recur", recur)("inject", inject); }
};

}  // namespace banach::nn
