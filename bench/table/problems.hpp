#pragma once
// The numbers that every library is given.

#include <banach/engine/random.hpp>
#include <banach/nn/init.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

using Floats = std::vector<float>;

inline Floats normal(std::int64_t size, double deviation, std::uint64_t seed) {
  Floats x(static_cast<std::size_t>(size));
  banach::Random(seed).fill_normal(x.data(), size, 0.0f, static_cast<float>(deviation));
  return x;
}

/// z = f(z) with a square matrix W (d, d) and u (batch, d).
struct Equation {
  std::int64_t batch, d;
  bool with_tanh;  ///< f = tanh(W z + u), else W z + u
  Floats w, u;
};

/// An equilibrium layer as training makes them: tanh, and W such that Picard takes 12 evaluations to 1e-4.
inline Equation equilibrium(std::int64_t batch = 128, std::int64_t d = 256) {
  return {batch, d, true, normal(d * d, 0.58 / std::sqrt(static_cast<double>(d)), 3),
          normal(batch * d, 1.0, 4)};
}

/// `rate` times an orthogonal matrix: every solver that only sees a Krylov space is about as slow as Picard.
inline Equation slow_contraction(double rate, std::int64_t batch = 128, std::int64_t d = 256) {
  banach::Random random(5);
  const banach::Tensor q = banach::nn::init::orthogonal({d, d}, random, rate);
  return {batch, d, false, Floats(q.data<float>(), q.data<float>() + q.size()), normal(batch * d, 1.0, 6)};
}

/// The name of a line of the growth with steps.
inline std::string steps_name(const std::string& solver, int steps) {
  return solver + ", " + std::to_string(steps) + (steps == 1 ? " step" : " steps");
}

/// Sizes of the classifier: inputs, two hidden layers, classes.
inline constexpr std::int64_t mlp_sizes[] = {784, 256, 256, 10};
inline constexpr std::int64_t mlp_batch = 128;

struct ConvSize {
  std::int64_t in, out, kernel;
  static constexpr std::int64_t batch = 64, side = 28;
};

}  // namespace bench
