#pragma once
// The equilibrium transformers, in f32: one causal self-attention layer with injection of its input as the
// body of a fixed point, and nn::TransformerCell of the same sizes. The peers read their parameters.

#include <banach/banach.hpp>

#include <cmath>
#include <vector>

namespace transformer {

using namespace banach;

constexpr std::int64_t batch = 16, length = 64, d = 128, heads = 4, hidden = 256;

/// Matrices multiply from the right: x W.
struct Parameters {
  Tensor x;                               // (batch, length, d): the input
  Tensor wq, wk, wv, wo, bq, bk, bv, bo;  // (d, d) and (d)
  Tensor w1, b1, w2, b2;                  // (d, hidden), (hidden), (hidden, d), (d)
  Tensor gamma1, beta1, gamma2, beta2;    // (d)

  Parameters() {
    Random random(7);
    const auto normal = [&](const Shape& shape, double deviation) {
      Tensor t = Tensor::empty(shape, DType::f32);
      random.fill_normal(t.mutable_data<float>(), t.size(), 0.0f, static_cast<float>(deviation));
      return t;
    };
    const double narrow = 0.5 / std::sqrt(static_cast<double>(d)),
                 wide = 0.5 / std::sqrt(static_cast<double>(hidden));
    x = normal({batch, length, d}, 1.0);
    for (Tensor* w : {&wq, &wk, &wv, &wo}) *w = normal({d, d}, narrow);
    w1 = normal({d, hidden}, narrow), w2 = normal({hidden, d}, wide), b1 = normal({hidden}, 0.1);
    for (Tensor* b : {&bq, &bk, &bv, &bo, &b2, &beta1, &beta2}) *b = normal({d}, 0.1);
    gamma1 = gamma2 = Tensor::ones({d}, DType::f32);
  }

  /// All of them, in the order above.
  std::vector<Tensor> all() const {
    return {x, wq, wk, wv, wo, bq, bk, bv, bo, w1, b1, w2, b2, gamma1, beta1, gamma2, beta2};
  }
};

/// The same on a tape, or as constants.
struct Layer {
  Var x, wq, wk, wv, wo, bq, bk, bv, bo, w1, b1, w2, b2, gamma1, beta1, gamma2, beta2;

  /// `make` turns a tensor into a Var: leaf, or Var itself.
  template <class Make>
  Layer(const Parameters& p, Make make)
      : x(make(p.x)),
        wq(make(p.wq)),
        wk(make(p.wk)),
        wv(make(p.wv)),
        wo(make(p.wo)),
        bq(make(p.bq)),
        bk(make(p.bk)),
        bv(make(p.bv)),
        bo(make(p.bo)),
        w1(make(p.w1)),
        b1(make(p.b1)),
        w2(make(p.w2)),
        b2(make(p.b2)),
        gamma1(make(p.gamma1)),
        beta1(make(p.beta1)),
        gamma2(make(p.gamma2)),
        beta2(make(p.beta2)) {}

  Vars all() const {
    return {x, wq, wk, wv, wo, bq, bk, bv, bo, w1, b1, w2, b2, gamma1, beta1, gamma2, beta2};
  }

  Var operator()(const Var& z) const {
    const Var heard = scaled_dot_product_attention(matmul_add(z, wq, bq), matmul_add(z, wk, bk),
                                                   matmul_add(z, wv, bv), {.causal = true, .heads = heads});
    const Var a = layer_norm(z + x + matmul_add(heard, wo, bo), gamma1, beta1);
    return layer_norm(a + matmul_add(relu(matmul_add(a, w1, b1)), w2, b2), gamma2, beta2);
  }
};

/// nn::TransformerCell, with memory of so many positions in front.
struct Cell {
  Tensor x;
  nn::SegmentMemory memory;
  nn::TransformerCell cell;
  nn::ParameterList parameters = nn::parameters(cell);

  explicit Cell(std::int64_t before, Random random = Random(8))
      : x(normal(length, random)),
        cell({.d_model = d, .heads = heads, .hidden = hidden, .weight_norm = false}, random) {
    if (before > 0) memory = {normal(before, random), normal(before, random)};
  }
  static Tensor normal(std::int64_t positions, Random& random) {
    return nn::init::normal({batch, positions, d}, 0.0, 1.0, random);
  }
};

}  // namespace transformer
