#include <banach/engine/random.hpp>
#include <banach/nn/csv.hpp>
#include <banach/nn/dataset.hpp>
#include <banach/nn/idx.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

namespace banach::embedded {
extern const unsigned char digits_csv_gz[];
extern const std::size_t digits_csv_gz_size;
}  // namespace banach::embedded

namespace banach::nn {

ImageSplit::ImageSplit(std::string name, const Shape& image, Bytes pixels, Bytes labels, std::int64_t classes,
                       std::uint8_t white)
    : name_(std::move(name)),
      image_(image),
      size_(static_cast<std::int64_t>(labels.size())),
      classes_(classes),
      white_(white) {
  if (image.rank() != 3 || image.size() == 0)
    fail<ValueError>(name_, "images must have the shape (C,H,W): got " + image.to_string());
  if (classes < 1 || classes > 256)
    fail<ValueError>(name_, fmt::format("number of classes must lie in [1, 256]: got {}", classes));
  if (white == 0) fail<ValueError>(name_, "the pixel value that stands for 1 must not be 0");
  const auto image_bytes = static_cast<std::size_t>(image.size());
  if (pixels.size() % image_bytes != 0 || pixels.size() / image_bytes != labels.size())
    fail<ValueError>(name_,
                     fmt::format("must have as many labels as images of shape {}: {} labels, {} pixels",
                                 image.to_string(), labels.size(), pixels.size()));
  const auto wrong = std::find_if(labels.begin(), labels.end(), [&](std::uint8_t l) { return l >= classes; });
  if (wrong != labels.end())
    fail<ValueError>(name_, fmt::format("labels must be below {}: label {} is {}", classes,
                                        wrong - labels.begin(), *wrong));
  store_ = std::make_shared<const Store>(Store{std::move(pixels), std::move(labels)});
}

void ImageSplit::check_row(std::int64_t row) const {
  if (row < 0 || row >= size_)
    fail<ValueError>(name_, fmt::format("row must lie in [0, {}): got {}", size_, row));
}

std::int64_t ImageSplit::label(std::int64_t row) const {
  check_row(row);
  return store_->labels[static_cast<std::size_t>(row)];
}

void ImageSplit::fill(std::span<const std::int64_t> rows, DType dtype, Minibatch& batch) const {
  for (const std::int64_t row : rows) check_row(row);
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto prepare = [](Tensor& tensor, const Shape& shape, DType type) {
    if (!tensor.unique() || tensor.shape() != shape || tensor.dtype() != type)
      tensor = Tensor::empty(shape, type);
  };
  prepare(batch.x, {count, image_[0], image_[1], image_[2]}, dtype);
  prepare(batch.labels, {count}, DType::i64);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    std::array<T, 256> value;
    for (std::size_t p = 0; p < value.size(); ++p)
      value[p] =
          static_cast<T>((static_cast<double>(p) / white_ - normalization.mean) / normalization.deviation);
    T* x = batch.x.template mutable_data<T>();
    std::int64_t* labels = batch.labels.template mutable_data<std::int64_t>();
    const std::int64_t pixels = image_.size();
    for (const std::int64_t row : rows) {
      const std::uint8_t* in = store_->pixels.data() + row * pixels;
      for (std::int64_t i = 0; i < pixels; ++i) x[i] = value[in[i]];
      x += pixels;
      *labels++ = store_->labels[static_cast<std::size_t>(row)];
    }
  });
}

Minibatch ImageSplit::batch(std::span<const std::int64_t> rows, DType dtype) const {
  Minibatch result;
  fill(rows, dtype, result);
  return result;
}

Minibatch ImageSplit::range(std::int64_t begin, std::int64_t end, DType dtype) const {
  if (begin < 0 || end < begin || end > size_)
    fail<ValueError>(name_, fmt::format("range must lie inside [0, {}): got [{}, {})", size_, begin, end));
  std::vector<std::int64_t> rows(static_cast<std::size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return batch(rows, dtype);
}

ImageSplit ImageSplit::first(std::int64_t n) const {
  if (n < 0) fail<ValueError>(name_, fmt::format("number of images must not be negative: got {}", n));
  ImageSplit part = *this;
  part.size_ = std::min(n, size_);
  return part;
}

namespace {

const std::vector<std::string> digit_names{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
const std::vector<std::string> fashion_names{"T-shirt", "Trouser", "Pullover", "Dress", "Coat",
                                             "Sandal",  "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

/// Which rows make the test part: every class gives its share of `total`, its first rows in a fixed random
/// order. Shares are rounded by the largest remainder.
std::vector<bool> stratified(const Bytes& labels, std::size_t classes, std::size_t total,
                             std::uint64_t seed) {
  std::vector<double> share(classes, 0.0);
  for (const std::uint8_t label : labels)
    share[label] += static_cast<double>(total) / static_cast<double>(labels.size());
  std::vector<std::size_t> quota(classes), by_remainder(classes);
  for (std::size_t c = 0; c < classes; ++c) quota[c] = static_cast<std::size_t>(share[c]);
  std::iota(by_remainder.begin(), by_remainder.end(), std::size_t{0});
  std::stable_sort(by_remainder.begin(), by_remainder.end(), [&](std::size_t a, std::size_t b) {
    return share[a] - std::floor(share[a]) > share[b] - std::floor(share[b]);
  });
  std::size_t missing = total - std::accumulate(quota.begin(), quota.end(), std::size_t{0});
  for (std::size_t i = 0; missing > 0; ++i, --missing) ++quota[by_remainder[i % classes]];

  std::vector<bool> chosen(labels.size());
  for (const std::int64_t row : Random(seed).permutation(static_cast<std::int64_t>(labels.size()))) {
    std::size_t& left = quota[labels[static_cast<std::size_t>(row)]];
    if (left == 0) continue;
    chosen[static_cast<std::size_t>(row)] = true;
    --left;
  }
  return chosen;
}

/// Where a data set lies, what it is, and how it is fetched.
struct Source {
  std::string name, folder, remedy;
  Normalization normalization;  ///< mean and deviation of the training pixels
  std::vector<std::string> class_names;
};

std::string find_file(const Source& source, const std::string& stem) {
  const std::string path = source.folder + "/" + stem;
  for (const std::string& candidate : {path, path + ".gz"})
    if (::access(candidate.c_str(), F_OK) == 0) return candidate;
  fail<FileError>(source.name, fmt::format("cannot find {} (nor .gz): get it by `{}`", path, source.remedy));
}

/// One part of a data set in the files of MNIST: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte.
ImageSplit load_part(const Source& source, const std::string& part, const std::string& prefix) {
  const std::string image_path = find_file(source, prefix + "-images-idx3-ubyte");
  const std::string label_path = find_file(source, prefix + "-labels-idx1-ubyte");
  IdxArray images = read_idx(image_path), labels = read_idx(label_path);
  if (images.type != IdxType::u8 || images.shape.rank() != 3 || images.shape.size() == 0)
    fail<FileError>(source.name,
                    fmt::format("{}: must hold bytes (N,H,W): got {}", image_path, images.shape.to_string()));
  if (labels.type != IdxType::u8 || labels.shape.rank() != 1)
    fail<FileError>(source.name,
                    fmt::format("{}: must hold bytes (N): got {}", label_path, labels.shape.to_string()));
  if (images.shape[0] != labels.shape[0])
    fail<FileError>(source.name, fmt::format("{}: must hold one label an image: {} labels, {} images",
                                             label_path, labels.shape[0], images.shape[0]));
  try {
    ImageSplit split(source.name + "/" + part, {1, images.shape[1], images.shape[2]}, std::move(images.bytes),
                     std::move(labels.bytes), static_cast<std::int64_t>(source.class_names.size()));
    split.normalization = source.normalization;
    return split;
  } catch (const ValueError& error) {
    throw FileError(fmt::format("{} (read from {})", error.what(), label_path));
  }
}

ImageDataset load(const Source& source) {
  ImageDataset data{source.name, source.class_names, load_part(source, "train", "train"),
                    load_part(source, "test", "t10k")};
  if (data.train.image_shape() != data.test.image_shape())
    fail<FileError>(source.name,
                    fmt::format("{}: training and test images must have one size: {} and {}", source.folder,
                                data.train.image_shape().to_string(), data.test.image_shape().to_string()));
  return data;
}

}  // namespace

ImageDataset load_digits() {
  constexpr std::int64_t pixels = 64, classes = 10;
  constexpr std::uint8_t white = 16;
  constexpr std::size_t test_size = 360;
  const Bytes text = gunzip({embedded::digits_csv_gz, embedded::digits_csv_gz_size}, "digits");
  const Csv table = parse_csv({reinterpret_cast<const char*>(text.data()), text.size()}, "digits",
                              {.header = CsvHeader::absent});
  const auto values = table.values.values<double>();
  if (table.values.size(1) != pixels + 1) fail<FileError>("digits", "must have 65 columns");
  Bytes labels;
  for (std::size_t i = pixels; i < values.size(); i += pixels + 1)
    labels.push_back(static_cast<std::uint8_t>(values[i]));
  const std::vector<bool> is_test = stratified(labels, classes, test_size, 1998);

  std::array<Bytes, 2> part_pixels, part_labels;
  for (std::size_t row = 0; row < labels.size(); ++row) {
    const std::size_t part = is_test[row];
    for (std::size_t i = 0; i < pixels; ++i)
      part_pixels[part].push_back(static_cast<std::uint8_t>(values[row * (pixels + 1) + i]));
    part_labels[part].push_back(labels[row]);
  }
  const auto make = [&](const char* name, std::size_t part) {
    ImageSplit split(name, {1, 8, 8}, std::move(part_pixels[part]), std::move(part_labels[part]), classes,
                     white);
    split.normalization = {.mean = 0.3053, .deviation = 0.3760};
    return split;
  };
  return {"digits", digit_names, make("digits/train", 0), make("digits/test", 1)};
}

ImageDataset load_fashion_mnist(const std::string& folder) {
  return load({.name = "fashion-mnist",
               .folder = folder,
               .remedy = "apt-get install dataset-fashion-mnist",
               .normalization = {.mean = 0.2860, .deviation = 0.3530},
               .class_names = fashion_names});
}

ImageDataset load_mnist(const std::string& folder) {
  return load({.name = "mnist",
               .folder = folder,
               .remedy = "scripts/get-mnist " + folder,
               .normalization = {.mean = 0.1307, .deviation = 0.3081},
               .class_names = digit_names});
}

ImageDataset load_images(std::string_view name, const std::string& folder) {
  if (name == "digits") return load_digits();
  if (name == "fashion-mnist") return folder.empty() ? load_fashion_mnist() : load_fashion_mnist(folder);
  if (name == "mnist") return folder.empty() ? load_mnist() : load_mnist(folder);
  fail<ValueError>("data", fmt::format("must be one of digits, fashion-mnist, mnist: got {}", name));
}

}  // namespace banach::nn
