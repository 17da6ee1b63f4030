// Hyperparameters by their own gradient: ridge regression on handwritten digits, in which every pixel has a
// ridge of its own, chosen by descent on the error of images that the regression has not seen. The
// regression is one node, argmin over the weights, and the gradient passes through it.
#include <banach/banach.hpp>

#include <cstdio>

using namespace banach;

int main() {
  const nn::ImageDataset digits = nn::load_digits();
  // Few images, so that the ridge matters: 150 to fit, the rest to validate and to test. Labels as rows of a
  // one-hot matrix.
  const auto part = [](const nn::ImageSplit& images, std::int64_t begin, std::int64_t end) {
    const auto [x, labels] = images.range(begin, end, DType::f64);
    return std::pair(flatten(x), one_hot(labels, 10, DType::f64));
  };
  const auto [x, y] = part(digits.train, 0, 150);
  const auto [x_valid, y_valid] = part(digits.train, 150, digits.train.size());
  const auto [x_test, y_test] = part(digits.test, 0, digits.test.size());

  nn::Parameter log_ridge(Tensor::full({64, 1}, -3.0, DType::f64));
  const nn::ParameterList parameters{{"log_ridge", &log_ridge}};
  nn::Adam adam(parameters, {.learning_rate = 0.2});

  const auto fit = [&, x = x, y = y] {
    const Var ridge = exp(log_ridge);
    const auto objective = [&](const Var& w) { return mse(matmul(x, w), y) + mean(ridge * square(w)); };
    return minimize(objective, Var(Tensor::zeros({64, 10}, DType::f64)), {.batch = Batch::none});
  };
  for (int step = 0; step <= 30; ++step) {
    Tape tape;
    const auto [w, report, adjoint] = fit();
    const Var loss = mse(matmul(x_valid, w), y_valid);
    const Vars gradients = nn::grad(loss, parameters);
    if (step % 10 == 0)
      std::printf("step %2d  validation %.4f  test %.4f   fit: %s\n         gradient: %s\n", step,
                  loss.item(), mse(matmul(x_test, w), y_test).item(), report.to_string().c_str(),
                  adjoint.last().to_string().c_str());
    adam.step(gradients);
  }
}
