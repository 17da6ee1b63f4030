// Bodies of `banach lab`, trained on the images that are part of the library.
#include <bench/table/table.hpp>

#include <apps/lab/models.hpp>
#include <apps/lab/pass.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/optim.hpp>

namespace bench {

using namespace banach;

namespace {

std::unique_ptr<lab::Classifier> train(const nn::ImageDataset& data, std::uint64_t seed) {
  lab::Options chosen;
  chosen.common.seed = seed;
  const lab::TrainSettings s = lab::resolve(chosen, "digits", data.train.size());
  std::unique_ptr<lab::Classifier> model = lab::make_classifier(s, data.train.image_shape(), data.classes());
  nn::Adam adam(nn::parameters(*model), {.learning_rate = s.learning_rate});
  nn::Loader loader(data.train, {.batch_size = s.batch_size, .seed = seed, .drop_last = true});
  const FixedPointOptions options{.solver = Anderson{.memory = 6},
                                  .backward = JacobianFree{},
                                  .tolerance = s.tolerance,
                                  .body = Body::replayed};
  for (std::int64_t step = 0; step < s.steps; ++step)
    adam.step(lab::run_pass(*model, loader.next(), options).gradients);
  nn::eval(*model);
  return model;
}

}  // namespace

std::vector<TrainedBody> trained_bodies(int models) {
  const nn::ImageDataset data = nn::load_digits();
  const Tensor images = data.test.range(0, 128).x;
  std::vector<TrainedBody> all;
  for (int seed = 0; seed < models; ++seed) {
    const auto model = train(data, static_cast<std::uint64_t>(seed));
    const NoGrad off;
    const lab::Equation equation = model->equation(Var(images));
    for (const double tolerance : {1e-4, 1e-6}) {
      const auto count = [&](const Solver& solver, int& most, double& mean) {
        const FixedPoint solved = fixed_point(
            equation.f, equation.z0,
            {.solver = solver, .tolerance = tolerance, .max_steps = 1000, .body = Body::replayed});
        most = solved.report.nstep;
        for (const SampleReport& sample : solved.report.samples) mean += sample.nstep;
        mean /= static_cast<double>(solved.report.samples.size());
      };
      TrainedBody body{.seed = static_cast<std::uint64_t>(seed), .tolerance = tolerance};
      count(Picard{}, body.picard, body.picard_mean);
      count(Anderson{.memory = 6}, body.anderson, body.anderson_mean);
      all.push_back(body);
    }
  }
  return all;
}

}  // namespace bench
