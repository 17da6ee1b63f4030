#pragma once
// Random and constant initial values. Weights are (out,in) for linear maps and (out,in,kh,kw) for
// convolutions; the fans are the numbers of inputs that reach an output and of outputs that an input reaches.

#include <banach/engine/random.hpp>
#include <banach/engine/tensor.hpp>

namespace banach::nn::init {

struct Fans {
  std::int64_t in, out;
};
/// Throws ShapeError for fewer than two axes.
Fans fans(const Shape& weight);

inline Tensor zeros(const Shape& shape, DType dtype = DType::f32) { return Tensor::zeros(shape, dtype); }
inline Tensor constant(const Shape& shape, double value, DType dtype = DType::f32) {
  return Tensor::full(shape, value, dtype);
}

/// On [low, high). Throws ValueError unless low <= high.
Tensor uniform(const Shape& shape, double low, double high, Random& random, DType dtype = DType::f32);
/// Throws ValueError unless deviation >= 0.
Tensor normal(const Shape& shape, double mean, double deviation, Random& random, DType dtype = DType::f32);

/// Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq.
/// 16: variance gain^2 * 2 / (fan in + fan out).
Tensor xavier_uniform(const Shape& shape, Random& random, double gain = 1.0, DType dtype = DType::f32);
Tensor xavier_normal(const Shape& shape, Random& random, double gain = 1.0, DType dtype = DType::f32);

/// He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers", eq. 15: variance 2 / ((1 + slope^2) fan in),
/// for a leaky relu with that slope (0: relu, 1: linear).
Tensor kaiming_uniform(const Shape& shape, Random& random, double slope = 0.0, DType dtype = DType::f32);
Tensor kaiming_normal(const Shape& shape, Random& random, double slope = 0.0, DType dtype = DType::f32);

/// Rows (or, if there are more rows than columns, columns) orthogonal, of length `gain`, uniformly
/// distributed; axes from 1 on count as columns. Saxe, McClelland and Ganguli 2014, "Exact solutions to the
/// nonlinear dynamics of learning in deep linear neural networks".
Tensor orthogonal(const Shape& shape, Random& random, double gain = 1.0, DType dtype = DType::f32);

}  // namespace banach::nn::init
