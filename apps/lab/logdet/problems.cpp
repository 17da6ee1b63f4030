#include <apps/lab/logdet/problems.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include <banach/engine/random.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/residual_flow.hpp>
#include <banach/ops/derivatives.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/spectrum.hpp>
#include <banach/ops/linalg.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::lab::logdet {
namespace {

using Complex = std::complex<double>;

constexpr std::int64_t dimensions = 8;
constexpr double lipschitz = 0.9;

/// g(x) = Jx for rows.
void map_by(const Tensor& j, Problem& problem) {
  problem.jacobian = j;
  problem.map = [j = Var(j)](const Var& x) { return matmul(x, j, {.transpose_b = true}); };
}

/// Q M Q^T, Q random and orthogonal: neither probes nor rounding shall profit from zeros.
Tensor turned(const Tensor& m, Random& random) {
  const Var q(nn::init::orthogonal({dimensions, dimensions}, random, 1.0, DType::f64));
  return matmul(matmul(q, Var(m)), q, {.transpose_b = true}).value();
}

Tensor normal_rows(std::int64_t rows, std::int64_t columns, Random& random) {
  Tensor t = Tensor::empty({rows, columns}, DType::f64);
  random.fill_normal(t.mutable_data<double>(), t.size());
  return t;
}

/// B B^T / d, of normal B.
Tensor positive(Random& random) {
  const Var b(normal_rows(dimensions, dimensions, random));
  return (matmul(b, b, {.transpose_b = true}) * (1.0 / dimensions)).value();
}

Problem attaining() {
  const Var eye(Tensor::eye(dimensions, DType::f64));
  return {.name = "scaled",
          .title = "J = -cI",
          .story =
              "Every eigenvalue is -c, so no J with this Lipschitz constant has a larger error: the "
              "bounds of the cut series are attained. Rademacher probes have no variance here, so that "
              "of a roulette is all its own.",
          .lipschitz = lipschitz,
          .map = [](const Var& x) { return -lipschitz * x; },
          .at = Tensor::zeros({1, dimensions}, DType::f64),
          .jacobian = (-lipschitz * eye).value(),
          .eigenvalues = std::vector<Complex>(dimensions, -lipschitz),
          .direction = eye.value()};
}

Problem normal() {
  Random random(11);
  Tensor m = Tensor::zeros({dimensions, dimensions}, DType::f64);
  double* entries = m.mutable_data<double>();
  Problem problem{.name = "normal",
                  .title = "Normal J",
                  .story =
                      "Four planes, turned by random angles and shrunk by c, 3c/4, c/2 and c/4, in a "
                      "random orthogonal basis. The spectral radius is c.",
                  .lipschitz = lipschitz,
                  .at = Tensor::zeros({1, dimensions}, DType::f64)};
  for (std::int64_t plane = 0; plane < dimensions / 2; ++plane) {
    const double size = lipschitz * (1.0 - 0.25 * static_cast<double>(plane));
    const Complex z = std::polar(size, std::numbers::pi * random.uniform());
    double* corner = entries + 2 * plane * (dimensions + 1);
    corner[0] = corner[dimensions + 1] = z.real();
    corner[1] = -z.imag(), corner[dimensions] = z.imag();
    problem.eigenvalues.push_back(z);
    problem.eigenvalues.push_back(std::conj(z));
  }
  map_by(turned(m, random), problem);
  problem.direction = positive(random);
  return problem;
}

Problem non_normal() {
  Random random(12);
  Tensor t = triu(Var(normal_rows(dimensions, dimensions, random))).value();
  const Tensor squares = eigh(matmul(Var(t), Var(t), {.transpose_a = true})).values.value();
  const double norm = std::sqrt(squares.at(dimensions - 1));
  t = (Var(t) * (lipschitz / norm)).value();
  Problem problem{.name = "non-normal",
                  .title = "Non-normal J",
                  .story =
                      "A random triangular matrix of norm c in a random orthogonal basis: its "
                      "eigenvalues are far below its norm, and powers of J shrink late.",
                  .lipschitz = lipschitz,
                  .at = Tensor::zeros({1, dimensions}, DType::f64)};
  for (std::int64_t i = 0; i < dimensions; ++i) problem.eigenvalues.push_back(t.at(i * (dimensions + 1)));
  map_by(turned(t, random), problem);
  problem.direction = positive(random);
  return problem;
}

Problem block() {
  constexpr std::int64_t hidden = 16;
  Random random(13);
  nn::ContractiveMlp net = nn::contractive_mlp({dimensions, hidden, hidden, dimensions}, random,
                                               {.lipschitz = lipschitz, .dtype = DType::f64});
  struct Layer {
    Var weight, bias;
  };
  std::vector<Layer> layers;
  for (const nn::SpectralLinear& layer : net.layers) {
    const Shape shape = layer.raw_weight.value().shape();
    const Tensor weight = nn::init::orthogonal(shape, random, layer.bound, DType::f64);
    const Var bias = 1.0 + Var(normal_rows(1, shape[0], random));
    layers.push_back({Var(weight), bias});
  }
  Problem problem{
      .name = "block",
      .title = "A nonlinear block",
      .story =
          "Dense layers 8-16-16-8 with LipSwish between them. Their weights have all singular values "
          "at the bound, which is where training under the bound takes them; drawn, not trained.",
      .lipschitz = lipschitz,
      .map =
          [layers, activations = net.activations](const Var& x) {
            Var y = x;
            for (std::size_t i = 0; i < layers.size(); ++i) {
              if (i > 0) y = activations[i - 1](y);
              y = matmul(y, layers[i].weight, {.transpose_b = true}) + layers[i].bias;
            }
            return y;
          },
      .at = normal_rows(1, dimensions, random)};
  problem.jacobian = reshape(jacobian(problem.map, Var(problem.at)), {dimensions, dimensions}).value();
  problem.eigenvalues = jacobian_eigenvalues(problem.map, Var(problem.at)).front();
  problem.direction = positive(random);
  return problem;
}

}  // namespace

double Problem::radius() const {
  double largest = 0.0;
  for (const Complex z : eigenvalues) largest = std::max(largest, std::abs(z));
  return largest;
}

Answer Problem::exact() const {
  Answer answer;
  for (const Complex z : eigenvalues) {
    answer.value += std::log(std::abs(1.0 + z));
  }
  const Var eye(Tensor::eye(d(), DType::f64));
  answer.derivative = trace(solve(eye + Var(jacobian), Var(direction))).item();
  return answer;
}

Answer Problem::cut(int terms) const {
  Answer answer;
  for (const Complex z : eigenvalues) {
    Complex power = 1.0;
    for (int k = 1; k <= terms; ++k) {
      power *= z;
      answer.value += (k % 2 == 1 ? 1.0 : -1.0) * power.real() / k;
    }
  }
  Var product(direction);  // J^k D
  for (int k = 0; k < terms; ++k) {
    answer.derivative += (k % 2 == 0 ? 1.0 : -1.0) * trace(product).item();
    product = matmul(Var(jacobian), product);
  }
  return answer;
}

Answer Problem::bound(int terms) const {
  double rest = -std::log1p(-lipschitz), power = 1.0;
  for (int k = 1; k <= terms; ++k) {
    power *= lipschitz;
    rest -= power / k;
  }
  // |tr(J^k D)| <= c^k tr(D)
  return {static_cast<double>(d()) * rest, trace(Var(direction)).item() * power / (1.0 - lipschitz)};
}

std::vector<Problem> known_problems() { return {attaining(), normal(), non_normal(), block()}; }

}  // namespace banach::lab::logdet
