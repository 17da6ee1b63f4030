#include <tests/nn/files.hpp>

#include <banach/engine/error.hpp>
#include <banach/nn/dataset.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <iostream>
#include <set>

using namespace banach;
using namespace banach::nn;
using Catch::Matchers::Contains;
using files::Folder;
using files::message;

namespace {

/// Four images (1,2,3) of classes 0 1 2 1; pixel i of image n is 10 n + i.
ImageSplit four() {
  Bytes pixels;
  for (int n = 0; n < 4; ++n)
    for (int i = 0; i < 6; ++i) pixels.push_back(static_cast<std::uint8_t>(10 * n + i));
  return {"four", {1, 2, 3}, pixels, {0, 1, 2, 1}, 3};
}

Bytes idx(std::initializer_list<std::uint8_t> extents, const Bytes& data) {
  Bytes bytes{0, 0, 8, static_cast<std::uint8_t>(extents.size())};
  for (const std::uint8_t extent : extents) bytes.insert(bytes.end(), {0, 0, 0, extent});
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

/// A folder like MNIST's with 3 and 2 images of 2 x 2 pixels.
void write_small_mnist(const Folder& folder) {
  folder.write("train-images-idx3-ubyte", idx({3, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255}));
  folder.write("train-labels-idx1-ubyte", idx({3}, {7, 8, 9}));
  folder.write("t10k-images-idx3-ubyte.gz", files::gzip(idx({2, 2, 2}, {1, 1, 1, 1, 2, 2, 2, 2})));
  folder.write("t10k-labels-idx1-ubyte.gz", files::gzip(idx({2}, {0, 1})));
}

struct Moments {
  double mean, deviation;
};

Moments moments(const Tensor& x) {
  double sum = 0.0, squares = 0.0;
  for (const double value : x.values<double>()) sum += value;
  const double mean = sum / static_cast<double>(x.size());
  for (const double value : x.values<double>()) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / static_cast<double>(x.size()))};
}

void check_whole(const ImageDataset& data, double tolerance) {
  CHECK(data.train.size() == 60'000);
  CHECK(data.test.size() == 10'000);
  CHECK(data.train.image_shape() == Shape{1, 28, 28});
  CHECK(data.classes() == 10);
  const Moments m = moments(data.train.range(0, 60'000, DType::f64).x);
  CHECK(std::abs(m.mean) < tolerance);
  CHECK(std::abs(m.deviation - 1.0) < tolerance);
}

}  // namespace

TEST_CASE("Batches are normalised, in either precision, in the order asked for") {
  ImageSplit images = four();
  const std::vector<std::int64_t> rows{2, 0, 2};
  const Minibatch plain = images.batch(rows);
  CHECK(plain.x.shape() == Shape{3, 1, 2, 3});
  CHECK(plain.x.dtype() == DType::f32);
  CHECK(plain.labels.dtype() == DType::i64);
  CHECK(plain.labels.shape() == Shape{3});
  CHECK(plain.labels.at(0) == 2);
  CHECK(plain.labels.at(1) == 0);
  CHECK(plain.x.at(0) == Approx(20.0 / 255).epsilon(1e-7));
  CHECK(plain.x.at(6 + 5) == Approx(5.0 / 255).epsilon(1e-7));
  images.normalization = {.mean = 0.25, .deviation = 0.5};
  const Minibatch normalised = images.batch(rows, DType::f64);
  for (std::int64_t i = 0; i < 18; ++i)
    CHECK(normalised.x.at(i) == Approx((plain.x.at(i) - 0.25) / 0.5).margin(1e-6));
  CHECK(images.range(1, 3).x.at(0) == Approx((10.0 / 255 - 0.25) / 0.5).margin(1e-6));
  CHECK(images.range(4, 4).x.shape() == Shape{0, 1, 2, 3});
}

TEST_CASE("A batch is filled in place unless its tensors are shared or do not fit") {
  const ImageSplit images = four();
  const std::vector<std::int64_t> rows{1, 3}, other{0, 2};
  Minibatch batch = images.batch(rows);
  const float* before = batch.x.data<float>();
  images.fill(other, DType::f32, batch);
  CHECK(batch.x.data<float>() == before);
  CHECK(batch.labels.at(1) == 2);
  const Tensor kept = batch.x;
  const double value = kept.at(0);
  images.fill(rows, DType::f32, batch);
  CHECK(kept.at(0) == value);
  CHECK(batch.x.at(0) != value);
  images.fill(rows, DType::f64, batch);
  CHECK(batch.x.dtype() == DType::f64);
}

TEST_CASE("The first images are a view of the same pixels") {
  const ImageSplit part = four().first(2);
  CHECK(part.size() == 2);
  CHECK(part.label(1) == 1);
  CHECK_THROWS_AS(part.label(2), ValueError);
  CHECK(four().first(9).size() == 4);
  CHECK_THROWS_AS(four().first(-1), ValueError);
}

TEST_CASE("Images that do not fit together are refused") {
  const Bytes pixels(12), labels{0, 1};
  CHECK(message<ValueError>([&] {
          ImageSplit("s", {1, 2, 3}, pixels, {0}, 2);
        }) == "[s] must have as many labels as images of shape (1,2,3): 1 labels, 12 pixels");
  CHECK_THROWS_AS(ImageSplit("s", {1, 2, 3}, Bytes(13), labels, 2), ValueError);
  CHECK_THROWS_AS(ImageSplit("s", {2, 3}, pixels, labels, 2), ValueError);
  CHECK_THROWS_AS(ImageSplit("s", {1, 2, 3}, pixels, labels, 0), ValueError);
  CHECK(message<ValueError>([&] {
          ImageSplit("s", {1, 2, 3}, pixels, {0, 5}, 2);
        }) == "[s] labels must be below 2: label 1 is 5");
  const std::vector<std::int64_t> outside{0, 4};
  CHECK(message<ValueError>([&] { four().batch(outside); }) == "[four] row must lie in [0, 4): got 4");
  CHECK_THROWS_AS(four().range(2, 5), ValueError);
  CHECK_THROWS_AS(four().range(0, 1, DType::i64), DTypeError);
}

TEST_CASE("The digits are all there, split in proportion, the same each time") {
  const ImageDataset data = load_digits();
  CHECK(data.name == "digits");
  CHECK(data.class_names.size() == 10);
  CHECK(data.train.size() == 1437);
  CHECK(data.test.size() == 360);
  CHECK(data.train.image_shape() == Shape{1, 8, 8});

  // Counts of the whole set as its documentation gives them.
  const std::vector<double> all{178, 182, 177, 183, 181, 182, 181, 179, 174, 180};
  std::vector<double> train(10), test(10);
  for (std::int64_t i = 0; i < data.train.size(); ++i) ++train[static_cast<std::size_t>(data.train.label(i))];
  for (std::int64_t i = 0; i < data.test.size(); ++i) ++test[static_cast<std::size_t>(data.test.label(i))];
  for (std::size_t c = 0; c < 10; ++c) {
    CHECK(train[c] + test[c] == all[c]);
    CHECK(std::abs(test[c] - all[c] * 360 / 1797) < 1.0);
  }

  // No image is in both parts: all 1,797 are known to differ.
  std::set<std::vector<float>> seen;
  for (const ImageSplit* part : {&data.train, &data.test}) {
    const Tensor x = part->range(0, part->size()).x;
    for (std::int64_t i = 0; i < part->size(); ++i)
      seen.insert({x.data<float>() + 64 * i, x.data<float>() + 64 * (i + 1)});
  }
  CHECK(seen.size() == 1797);

  const Moments m = moments(data.train.range(0, data.train.size(), DType::f64).x);
  CHECK(std::abs(m.mean) < 0.01);
  CHECK(std::abs(m.deviation - 1.0) < 0.01);

  const ImageDataset again = load_digits();
  const Minibatch a = data.test.range(0, 360), b = again.test.range(0, 360);
  CHECK(std::equal(a.x.values<float>().begin(), a.x.values<float>().end(), b.x.values<float>().begin()));
  // The split is part of every result that is reported on it: it must not change from version to version.
  std::uint64_t hash = 0;
  for (const std::int64_t label : a.labels.values<std::int64_t>())
    hash = hash * 31 + static_cast<std::uint64_t>(label);
  CHECK(hash == 16577551352908298646u);
}

TEST_CASE("Pixels of the digits lie in [0, 1] before they are normalised") {
  ImageSplit train = load_digits().train;
  train.normalization = {};
  const auto x = train.range(0, train.size()).x;
  const auto [low, high] = std::minmax_element(x.values<float>().begin(), x.values<float>().end());
  CHECK(*low == 0.0f);
  CHECK(*high == 1.0f);
}

TEST_CASE("A folder in the format of MNIST is read, plain or gzip") {
  const Folder folder;
  write_small_mnist(folder);
  const ImageDataset data = load_mnist(folder.path());
  CHECK(data.train.size() == 3);
  CHECK(data.test.size() == 2);
  CHECK(data.train.name() == "mnist/train");
  CHECK(data.train.image_shape() == Shape{1, 2, 2});
  CHECK(data.train.label(2) == 9);
  CHECK(data.train.range(2, 3).x.at(3) == Approx((1.0 - 0.1307) / 0.3081).epsilon(1e-6));
  const ImageDataset same = load_images("fashion-mnist", folder.path());
  CHECK(same.class_names[9] == "Ankle boot");
  CHECK(same.train.range(2, 3).x.at(3) == Approx((1.0 - 0.2860) / 0.3530).epsilon(1e-6));
}

TEST_CASE("A missing data set says which file is missing and how to get it") {
  const Folder folder;
  const std::string images = folder / "train-images-idx3-ubyte";
  CHECK(message<FileError>([&] { load_mnist(folder.path()); }) ==
        "[mnist] cannot find " + images + " (nor .gz): get it by `scripts/get-mnist " + folder.path() + "`");
  CHECK(message<FileError>([&] { load_fashion_mnist(folder.path()); }) ==
        "[fashion-mnist] cannot find " + images +
            " (nor .gz): get it by `apt-get install dataset-fashion-mnist`");
  write_small_mnist(folder);
  std::filesystem::remove(folder / "t10k-labels-idx1-ubyte.gz");
  CHECK_THAT(message<FileError>([&] { load_mnist(folder.path()); }),
             Contains("cannot find " + (folder / "t10k-labels-idx1-ubyte")));
  CHECK(message<ValueError>([&] { load_images("cifar", ""); }) ==
        "[data] must be one of digits, fashion-mnist, mnist: got cifar");
}

TEST_CASE("A data set whose files do not fit together is refused") {
  const Folder folder;
  write_small_mnist(folder);
  const auto error = [&] { return message<FileError>([&] { load_mnist(folder.path()); }); };
  const std::string labels = folder / "train-labels-idx1-ubyte", images = folder / "train-images-idx3-ubyte";
  SECTION("labels missing") {
    folder.write("train-labels-idx1-ubyte", idx({2}, {7, 8}));
    CHECK(error() == "[mnist] " + labels + ": must hold one label an image: 2 labels, 3 images");
  }
  SECTION("a label outside the classes") {
    folder.write("train-labels-idx1-ubyte", idx({3}, {7, 10, 8}));
    CHECK(error() == "[mnist/train] labels must be below 10: label 1 is 10 (read from " + labels + ")");
  }
  SECTION("images and labels exchanged") {
    folder.write("train-images-idx3-ubyte", idx({3}, {7, 8, 9}));
    CHECK(error() == "[mnist] " + images + ": must hold bytes (N,H,W): got (3)");
  }
  SECTION("parts of two sizes") {
    folder.write("train-images-idx3-ubyte", idx({3, 1, 1}, {7, 8, 9}));
    CHECK_THAT(error(), Contains("training and test images must have one size: (1,1,1) and (1,2,2)"));
  }
  SECTION("a truncated file") {
    folder.write("train-images-idx3-ubyte", idx({3, 2, 2}, {7, 8, 9}));
    CHECK(error() == "[idx] " + images + ": data is truncated at offset 19: expected 28 bytes");
  }
}

TEST_CASE("Fashion-MNIST as installed") {
  if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")) {
    std::cout << "SKIPPED: Fashion-MNIST is not installed (apt-get install dataset-fashion-mnist)\n";
    return;
  }
  const ImageDataset data = load_images("fashion-mnist");
  check_whole(data, 1e-3);
  CHECK(data.class_names[static_cast<std::size_t>(data.train.label(0))] == "Ankle boot");
}

TEST_CASE("MNIST as fetched") {
  const std::string folder = BANACH_SOURCE_DIR "/data/mnist";
  if (!std::filesystem::exists(folder)) {
    std::cout << "SKIPPED: MNIST is not there (scripts/get-mnist)\n";
    return;
  }
  const ImageDataset data = load_images("mnist", folder);
  check_whole(data, 1e-3);
  CHECK(data.train.label(0) == 5);
}
