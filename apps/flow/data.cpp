#include <apps/flow/data.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include <apps/cli/run.hpp>
#include <apps/flow/sets.hpp>
#include <banach/engine/random.hpp>
#include <banach/engine/tape.hpp>
#include <banach/nn/dataset.hpp>
#include <banach/ops/pool.hpp>

namespace banach::flow {
namespace {

class PointSource final : public Source {
 public:
  PointSource(std::string set, std::uint64_t seed) : set_(std::move(set)), seed_(seed) {}

  DataKind kind() const override { return {.sample = {2}, .classes = classes_of(set_)}; }
  Labelled batch(std::int64_t size, std::uint64_t step) const override { return draw(size, step); }
  Labelled held_out(std::int64_t count) const override { return draw(count, ~std::uint64_t{0}); }

 private:
  Labelled draw(std::int64_t count, std::uint64_t stream) const {
    Points points = draw_points(set_, count, seed_, stream);
    return {std::move(points.x), std::move(points.labels)};
  }

  std::string set_;
  std::uint64_t seed_;
};

class ImageSource final : public Source {
 public:
  ImageSource(nn::ImageDataset data, std::int64_t levels, std::int64_t reduce, std::uint64_t seed)
      : data_(std::move(data)), levels_(levels), reduce_(reduce), seed_(seed) {
    data_.train.normalization = data_.test.normalization = {};
    const Shape& image = data_.train.image_shape();
    if (image[1] % reduce != 0 || image[2] % reduce != 0)
      throw cli::UsageError(fmt::format("--reduce {}: must divide {} x {}", reduce, image[1], image[2]));
  }

  DataKind kind() const override {
    const Shape& image = data_.train.image_shape();
    return {.sample = {image[0], image[1] / reduce_, image[2] / reduce_},
            .classes = data_.classes(),
            .levels = levels_};
  }

  Labelled batch(std::int64_t size, std::uint64_t step) const override {
    const std::int64_t n = data_.train.size(), batches = std::max<std::int64_t>(1, n / size),
                       place = static_cast<std::int64_t>(step), epoch = place / batches;
    if (epoch != epoch_) {
      order_ = Random(seed_, static_cast<std::uint64_t>(epoch)).permutation(n);
      epoch_ = epoch;
    }
    const auto begin = static_cast<std::size_t>(place % batches * size);
    return taken(
        data_.train.batch(std::span(order_).subspan(begin, static_cast<std::size_t>(std::min(size, n)))));
  }
  Labelled held_out(std::int64_t count) const override {
    return taken(data_.test.range(0, std::min(count, data_.test.size())));
  }

 private:
  Labelled taken(nn::Minibatch batch) const {
    const NoGrad off;
    const Pair window{reduce_, reduce_};
    Tensor x = reduce_ == 1 ? std::move(batch.x) : avg_pool2d(Var(batch.x), {.kernel = window}).value();
    float* pixel = x.mutable_data<float>();
    for (std::int64_t i = 0; i < x.size(); ++i)
      pixel[i] = std::round(pixel[i] * static_cast<float>(levels_ - 1));
    return {std::move(x), std::move(batch.labels)};
  }

  nn::ImageDataset data_;
  std::int64_t levels_, reduce_;
  std::uint64_t seed_;
  mutable std::int64_t epoch_ = -1;  // of `order_`
  mutable std::vector<std::int64_t> order_;
};

}  // namespace

std::vector<std::string> data_names() {
  std::vector<std::string> names = set_names();
  names.insert(names.end(), {"digits", "mnist", "fashion-mnist"});
  return names;
}

bool is_points(const std::string& data) {
  const std::vector<std::string>& sets = set_names();
  return std::find(sets.begin(), sets.end(), data) != sets.end();
}

std::int64_t DataKind::entries() const {
  return std::accumulate(sample.begin(), sample.end(), std::int64_t{1}, std::multiplies<>());
}

std::unique_ptr<Source> open_source(const std::string& data, const DataSettings& settings,
                                    std::uint64_t seed) {
  if (is_points(data)) return std::make_unique<PointSource>(data, seed);
  return std::make_unique<ImageSource>(nn::load_images(data, settings.folder), data == "digits" ? 17 : 256,
                                       settings.reduce, seed);
}

}  // namespace banach::flow
