#pragma once
// What the tests of recorded programs share.

#include <banach/engine/grad.hpp>
#include <banach/engine/program/program.hpp>
#include <banach/ops/ops.hpp>
#include <tests/tensors.hpp>

#include <functional>

namespace banach::test {

using Body1 = std::function<Var(const Var&)>;

// A random composition of operations that keeps (rows, n) and treats rows one by one, unless `mixing`.
class RandomFunction {
 public:
  RandomFunction(std::uint64_t seed, std::int64_t rows, std::int64_t n, bool mixing)
      : random_(seed), rows_(rows), n_(n), mixing_(mixing) {
    for (int i = 0; i < 12; ++i) choices_.push_back(random_.bits() % 15);
    for (int i = 0; i < 12; ++i) {
      square_.push_back(normal(random_, {n, n}, 0.5 / std::sqrt(static_cast<double>(n))));
      row_.push_back(normal(random_, {n}));
      whole_.push_back(normal(random_, {rows, n}));
    }
  }

  Var operator()(const Var& z) const {
    Vars made{z};
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      made.push_back(step(i, made));
      if (mixing_ && i % 4 == 3) made.push_back(tanh(made.back()) - 2.0 * mean(made.back(), {0}, true));
    }
    return made.back();
  }

 private:
  Var step(std::size_t i, const Vars& made) const {
    const Var &x = made.back(), &y = made[made.size() / 2];
    const Var w(square_[i]), b(row_[i]), u(whole_[i]);
    switch (choices_[i]) {
      case 0:
        return tanh(x);
      case 1:
        return matmul(x, w) + b;
      case 2:
        return matmul(x, w, {.transpose_b = true}) + u;
      case 3:
        return x * sigmoid(y);
      case 4:
        return softmax(x, 1) - y;
      case 5:
        return concat({slice(x, 1, 1, n_), slice(y, 1, 0, 1)}, 1);
      case 6:
        return reshape(relu(reshape(x, {rows_ * 2, n_ / 2})) - reshape(u, {rows_ * 2, n_ / 2}), {rows_, n_});
      case 7:
        return x - mean(y, {1}, true);
      case 8:
        return where(less(x, y), x * u, y + 0.5);
      case 9:
        return normalize_rows(x) + b;
      case 10:
        return reshape(permute(reshape(x, {rows_, 2, n_ / 2}), {0, 2, 1}), {rows_, n_});
      case 11:
        return topk(x, n_, 1).values + y;
      case 12:
        return maximum(x, b) - minimum(y, u);
      case 13:
        return reshape(matmul(reshape(x, {rows_, 1, n_}), reshape(Var(square_[i]), {1, n_, n_})),
                       {rows_, n_});
      default:
        return x + y;
    }
  }
  static Var normalize_rows(const Var& x) {
    const Var centred = x - mean(x, {1}, true);
    return centred * rsqrt(mean(square(centred), {1}, true) + 1e-3);
  }

  Random random_;
  std::int64_t rows_, n_;
  bool mixing_;
  std::vector<std::uint64_t> choices_;
  std::vector<Tensor> square_, row_, whole_;
};

/// max |got - expected| beside the largest of `expected`, or beside 1.
inline double relative(const Tensor& got, const Tensor& expected) {
  double size = 1.0;
  for (std::int64_t i = 0; i < expected.size(); ++i) size = std::max(size, std::abs(expected.at(i)));
  return largest_difference(got, expected) / size;
}

/// u -> J^T u at z.
inline Var pulled(const Body1& f, const Tensor& z, const Var& u) {
  return vjp([&](const Vars& at) { return Vars{f(at[0])}; }, {Var(z)}, {u}).cotangents[0];
}

}  // namespace banach::test
