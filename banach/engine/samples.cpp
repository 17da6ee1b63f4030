#include <banach/engine/samples.hpp>

namespace banach {

Tensor SampleGen::normal(const Shape& shape, double mean, double deviation) {
  Tensor result = Tensor::empty(shape, DType::f64);
  random_.fill_normal(result.mutable_data<double>(), result.size(), mean, deviation);
  return result;
}

Tensor SampleGen::uniform(const Shape& shape, double low, double high) {
  Tensor result = Tensor::empty(shape, DType::f64);
  random_.fill_uniform(result.mutable_data<double>(), result.size(), low, high);
  return result;
}

Tensor SampleGen::away_from_zero(const Shape& shape, double gap, double spread) {
  Tensor result = uniform(shape, gap, gap + spread);
  double* values = result.mutable_data<double>();
  for (std::int64_t i = 0; i < result.size(); ++i)
    if (random_.below(2) == 0) values[i] = -values[i];
  return result;
}

Tensor SampleGen::distinct(const Shape& shape, double gap) {
  Tensor result = Tensor::empty(shape, DType::f64);
  double* values = result.mutable_data<double>();
  const std::vector<std::int64_t> order = random_.permutation(result.size());
  const double middle = 0.5 * static_cast<double>(result.size() - 1);
  // Steps of 1.5 gap, each value moved by less than gap / 4: neighbours stay a gap apart.
  for (std::int64_t i = 0; i < result.size(); ++i) {
    const double place = static_cast<double>(order[static_cast<std::size_t>(i)]) - middle;
    values[i] = 1.5 * gap * place + 0.25 * gap * (2.0 * random_.uniform() - 1.0);
  }
  return result;
}

Tensor SampleGen::indices(const Shape& shape, std::int64_t below) {
  Tensor result = Tensor::empty(shape, DType::i64);
  std::int64_t* values = result.mutable_data<std::int64_t>();
  for (std::int64_t i = 0; i < result.size(); ++i) values[i] = random_.below(below);
  return result;
}

std::int64_t SampleGen::integer(std::int64_t low, std::int64_t high) {
  return low + random_.below(high - low + 1);
}

Shape SampleGen::shape(int largest_rank) {
  Ints extents;
  for (std::int64_t rank = integer(0, largest_rank); rank > 0; --rank) extents.push_back(integer(1, 4));
  return Shape(extents);
}

std::pair<Shape, Shape> SampleGen::broadcasting_shapes() {
  const Shape common = shape();
  const auto operand = [&] {
    Ints extents;
    for (int axis = static_cast<int>(integer(0, common.rank() / 2)); axis < common.rank(); ++axis)
      extents.push_back(integer(0, 2) == 0 ? 1 : common[axis]);
    return Shape(extents);
  };
  Shape first = operand();
  return {first, operand()};
}

Tensor numbers(std::initializer_list<double> values) {
  return Tensor::from(std::span<const double>(values.begin(), values.size()),
                      {static_cast<std::int64_t>(values.size())});
}

namespace {

// One member of every point, as a vector.
template <class Point>
Tensor column(std::initializer_list<Point> points, double Point::*member) {
  Tensor result = Tensor::empty({static_cast<std::int64_t>(points.size())}, DType::f64);
  double* out = result.mutable_data<double>();
  for (const Point& point : points) *out++ = point.*member;
  return result;
}

}  // namespace

Edges edge_points(std::initializer_list<EdgePoint> points, const Attrs& attrs) {
  using P = EdgePoint;
  const Tensor none = numbers({});
  return {{{column(points, &P::x)}, attrs, {column(points, &P::y)}, {column(points, &P::dy)}},
          {{none}, attrs, {none}, {none}}};
}

Edges edge_pairs(std::initializer_list<EdgePair> points, const Attrs& attrs) {
  using P = EdgePair;
  const Tensor none = Tensor::empty({0, 3}, DType::f64), row = numbers({1.0, 2.0, 3.0});
  return {{{column(points, &P::a), column(points, &P::b)},
           attrs,
           {column(points, &P::y)},
           {column(points, &P::da), column(points, &P::db)}},
          {{none, row}, attrs, {none}, {none, Tensor::zeros({3}, DType::f64)}}};
}

Edges operator+(Edges a, const Edges& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace banach
