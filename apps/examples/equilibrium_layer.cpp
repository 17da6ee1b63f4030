// An equilibrium layer, trained on handwritten digits: the program of the README.
#include <banach/banach.hpp>

#include <algorithm>
#include <cstdio>

using namespace banach;

// z = tanh(W z + U x + b), with W kept a contraction.
struct EquilibriumLayer {
  nn::SpectralLinear recur;
  nn::Linear inject;
  FixedPointOptions options{.solver = Anderson{.memory = 5}, .backward = Implicit{}, .tolerance = 1e-4};

  EquilibriumLayer(std::int64_t in, std::int64_t width, Random& random)
      : recur(width, width, random, {.bound = 0.9}, {.bias = false}), inject(in, width, random) {}

  FixedPoint operator()(const Var& x) const {
    const Var u = inject(x), w = recur.weight();
    return fixed_point([&](const Var& z) { return tanh(nn::linear(z, w) + u); }, zeros_like(u), options);
  }
  void visit(nn::Visitor& v) { v("recur", recur)("inject", inject); }
};

struct Classifier {
  EquilibriumLayer layer;
  nn::Linear head;

  explicit Classifier(Random random) : layer(64, 64, random), head(64, 10, random) {}
  void visit(nn::Visitor& v) { v("layer", layer)("head", head); }
};

int main() {
  const nn::ImageDataset digits = nn::load_digits();
  Classifier model(Random(1));
  const nn::ParameterList parameters = nn::parameters(model);
  nn::Adam adam(parameters, {.learning_rate = 3e-3});
  nn::Loader loader(digits.train, {.batch_size = 64, .seed = 1});

  for (int epoch = 0; epoch < 5; ++epoch)
    for (auto [x, labels] : loader) {
      Tape tape;  // records until the brace
      const auto [z, report, adjoint] = model.layer(flatten(x));
      const Var loss = cross_entropy(model.head(z), labels);
      adam.step(nn::grad(loss, parameters));
      if (loader.position().batch == 0)
        std::printf("epoch %d  loss %.3f\n  forward   %s\n  gradient  %s\n", epoch, loss.item(),
                    report.to_string().c_str(), adjoint.last().to_string().c_str());
    }

  const auto [x, labels] = digits.test.range(0, digits.test.size());
  const Tensor logits = model.head(model.layer(flatten(x)).z).value();
  int right = 0;
  for (std::int64_t i = 0; i < labels.size(); ++i) {
    const float* row = logits.data<float>() + 10 * i;
    right += std::max_element(row, row + 10) - row == labels.data<std::int64_t>()[i];
  }
  std::printf("test accuracy %.1f %%\n", 100.0 * right / static_cast<double>(labels.size()));
}
