#pragma once

#include <banach/engine/tensor.hpp>
#include <banach/nn/file.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace banach::nn {

/// Inputs with their labels: x (B, C, H, W) f32 or f64, labels (B) i64.
struct Minibatch {
  Tensor x, labels;
};

/// Pixels p in [0, 1] are given out as (p - mean) / deviation; the default leaves them as they are.
struct Normalization {
  double mean = 0.0;
  double deviation = 1.0;
};

/// Labelled images, one byte a pixel; converted as batches are asked for. Copies share the pixels.
class ImageSplit {
 public:
  /// `pixels` is (N, C, H, W) for image shape (C, H, W), the value `white` standing for 1. Throws ValueError
  /// if the numbers do not fit together or a label is not below `classes`.
  ImageSplit(std::string name, const Shape& image, Bytes pixels, Bytes labels, std::int64_t classes,
             std::uint8_t white = 255);

  const std::string& name() const { return name_; }
  std::int64_t size() const { return size_; }
  const Shape& image_shape() const { return image_; }
  std::int64_t classes() const { return classes_; }
  std::int64_t label(std::int64_t row) const;

  /// The images at `rows`. Throws ValueError for a row outside [0, size), DTypeError for i64.
  Minibatch batch(std::span<const std::int64_t> rows, DType dtype = DType::f32) const;
  /// Images [begin, end).
  Minibatch range(std::int64_t begin, std::int64_t end, DType dtype = DType::f32) const;
  /// As batch(), into tensors that are there already, where they fit and nobody shares them.
  void fill(std::span<const std::int64_t> rows, DType dtype, Minibatch& batch) const;
  /// The first n images, or all if there are fewer; shares the pixels.
  ImageSplit first(std::int64_t n) const;

  Normalization normalization;

 private:
  struct Store {
    Bytes pixels, labels;
  };

  void check_row(std::int64_t row) const;

  std::string name_;
  Shape image_;
  std::int64_t size_, classes_;
  std::uint8_t white_;
  std::shared_ptr<const Store> store_;
};

/// A set of labelled images in its usual two parts.
struct ImageDataset {
  std::string name;
  std::vector<std::string> class_names;
  ImageSplit train, test;

  std::int64_t classes() const { return static_cast<std::int64_t>(class_names.size()); }
};

/// 1,797 handwritten digits of 8 x 8 pixels, part of the library (E. Alpaydin and C. Kaynak, UCI, 1998).
/// 1,437 to train and 360 to test, drawn once by a fixed permutation, every digit in proportion.
ImageDataset load_digits();

/// Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 60,000 and 10,000 images of 28 x 28 pixels, as IDX files,
/// plain or gzip. Throws FileError saying which file is missing or wrong, and how to get it.
ImageDataset load_fashion_mnist(const std::string& folder = "/usr/share/datasets/fashion-mnist");

/// MNIST (LeCun, Cortes and Burges 1998): as load_fashion_mnist.
ImageDataset load_mnist(const std::string& folder = "data/mnist");

/// The data set called digits, fashion-mnist or mnist; `folder` empty: where it usually is. Throws ValueError
/// for another name, FileError as above.
ImageDataset load_images(std::string_view name, const std::string& folder = {});

}  // namespace banach::nn
