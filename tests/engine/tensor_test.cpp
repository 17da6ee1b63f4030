#include <banach/engine/tensor.hpp>

#include <catch2/catch.hpp>

#include <cstdint>
#include <limits>
#include <thread>

using namespace banach;
using Catch::Matchers::Contains;

TEST_CASE("a tensor is a value: a copy never sees a change made through another", "[tensor]") {
  Tensor a = tensor({1.0, 2.0, 3.0});
  Tensor b = a;
  CHECK(b.same_storage(a));
  b.mutable_data<double>()[0] = 9.0;
  CHECK(a.at(0) == 1.0);
  CHECK(b.at(0) == 9.0);

  Tensor view = a.reshape({3, 1});
  CHECK(view.same_storage(a));
  view.mutable_data<double>()[1] = 7.0;
  CHECK(a.at(1) == 2.0);

  Tensor rows = tensor({1.0, 2.0, 3.0, 4.0}, {2, 2});
  Tensor last = rows.rows(1, 2);
  CHECK(last.shape() == Shape{1, 2});
  CHECK(last.at(1) == 4.0);
  rows.mutable_data<double>()[3] = 5.0;
  CHECK(last.at(1) == 4.0);
}

TEST_CASE("a view keeps its owner alive", "[tensor]") {
  Tensor view;
  {
    const Tensor owner = Tensor::full({4, 4}, 2.5, DType::f64);
    view = owner.rows(1, 3).reshape({8});
  }
  CHECK(view.at(7) == 2.5);
  CHECK(view.unique());
}

TEST_CASE("writing in place keeps the buffer when nobody shares it", "[tensor]") {
  Tensor a = Tensor::zeros({8}, DType::f32);
  const float* before = a.data<float>();
  CHECK(a.mutable_data<float>() == before);
  const Tensor b = a;
  CHECK(a.mutable_data<float>() != before);
}

TEST_CASE("tensor errors say what must hold", "[tensor]") {
  CHECK_THROWS_WITH(tensor({1.0, 2.0}, {3}), Contains("(3)") && Contains("2"));
  CHECK_THROWS_AS(tensor({1.0, 2.0}).data<float>(), DTypeError);
  CHECK_THROWS_WITH(tensor({1.0, 2.0}).item(), Contains("one element") && Contains("(2)"));
  CHECK_THROWS_WITH(Tensor().shape(), Contains("must be defined"));
  CHECK_THROWS_AS(tensor({1.0, 2.0}).reshape({3}), ShapeError);
  CHECK_THROWS_AS(tensor({1.0, 2.0}).rows(1, 3), ShapeError);
  CHECK_THROWS_AS(tensor({1.0, 2.0}).at(2), ShapeError);
  CHECK_THROWS_AS((Shape{-1}), ShapeError);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
  CHECK_THROWS_AS((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}), ShapeError);
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 60}, DType::f32), ShapeError);
  CHECK_THROWS_AS(Tensor::placeholder({2}, DType::f64).data<double>(), ValueError);
}

TEST_CASE("empty and scalar tensors", "[tensor]") {
  const Tensor none = Tensor::zeros({0, 3}, DType::f64);
  CHECK(none.size() == 0);
  CHECK(none.reshape({3, 0}).shape() == Shape{3, 0});
  CHECK(none.to(DType::f32).size() == 0);
  CHECK(scalar(2.5, DType::f64).item() == 2.5);
  CHECK(scalar(2.5, DType::f64).rank() == 0);
}

TEST_CASE("conversion and printing", "[tensor]") {
  CHECK(tensor({1.9, -1.9}).to(DType::i64).at(1) == -1.0);
  CHECK(tensor({0.1}).to(DType::f32).to(DType::f64).item() == static_cast<double>(0.1f));
  CHECK(tensor({1.0, 2.0, 3.0, 4.0}, {2, 2}).to_string() == "[[1, 2],\n [3, 4]] f64(2,2)");
  CHECK(Tensor::arange(12).to_string() == "[0, 1, 2, 3, ..., 9, 10, 11] i64(12)");
  CHECK(Tensor::zeros({0}).to_string() == "[] f32(0)");
}

TEST_CASE("shapes broadcast as NumPy's do", "[shape]") {
  CHECK(broadcast(Shape{2, 1, 3}, Shape{4, 1}, "add") == Shape{2, 4, 3});
  CHECK(broadcast(Shape{}, Shape{0, 2}, "add") == Shape{0, 2});
  CHECK_THROWS_WITH(broadcast(Shape{2, 3}, Shape{4}, "add"),
                    Contains("[add]") && Contains("(2,3)") && Contains("(4)"));
  CHECK(normalize_axes({-1, 0}, 3, "sum") == Axes{0, 2});
  CHECK_THROWS_AS(normalize_axes({0, -3}, 3, "sum"), ShapeError);
  CHECK_THROWS_WITH(normalize_axis(3, 3, "sum"), Contains("[sum]") && Contains("3"));
}

TEST_CASE("tensors can be made, shared and freed on several threads", "[tensor][threads]") {
  const Tensor shared = Tensor::full({1000}, 1.0, DType::f64);
  std::vector<Tensor> results(4);
  std::vector<std::thread> workers;
  for (std::size_t t = 0; t < results.size(); ++t)
    workers.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) {
        Tensor copy = shared;
        copy.mutable_data<double>()[0] = static_cast<double>(t);
        results[t] = copy;
      }
    });
  for (std::thread& worker : workers) worker.join();
  for (std::size_t t = 0; t < results.size(); ++t) CHECK(results[t].at(0) == static_cast<double>(t));
  CHECK(shared.at(0) == 1.0);
}

TEST_CASE("the elements of a tensor are given out under their own type only", "[tensor]") {
  Tensor x = Tensor::ones({2});
  const Tensor& fixed = x;
  CHECK_NOTHROW(fixed.data<float>());
  CHECK_NOTHROW(x.mutable_data<float>());
  CHECK_THROWS_AS(fixed.data<double>(), DTypeError);
  CHECK_THROWS_AS(x.mutable_data<double>(), DTypeError);
  CHECK_THROWS_AS(fixed.values<std::int64_t>(), DTypeError);
}

TEST_CASE("tensors of more axes are printed with their brackets, long axes shortened", "[tensor]") {
  CHECK(Tensor::arange(8).reshape({2, 2, 2}).to_string() ==
        "[[[0, 1],\n  [2, 3]],\n [[4, 5],\n  [6, 7]]] i64(2,2,2)");
  CHECK(Tensor::arange(20).reshape({10, 2}).to_string() ==
        "[[0, 1],\n [2, 3],\n [4, 5],\n [6, 7],\n ...,\n [14, 15],\n [16, 17],\n [18, 19]] i64(10,2)");
  CHECK(Tensor::arange(8).to_string() == "[0, 1, 2, 3, 4, 5, 6, 7] i64(8)");
  CHECK(scalar(-1.5).to_string() == "-1.5 f32()");
  CHECK(Tensor().to_string() == "undefined");
}

TEST_CASE("identity matrices, rows of rows, and what of them is refused", "[tensor]") {
  const Tensor eye = Tensor::eye(3, DType::i64);
  for (int i = 0; i < 9; ++i) CHECK(eye.at(i) == (i % 4 == 0 ? 1.0 : 0.0));
  const Tensor x = Tensor::arange(24).reshape({4, 3, 2});
  CHECK(x.rows(1, 4).rows(1, 2).at(0) == 12.0);
  CHECK(x.rows(1, 4).rows(1, 2).at(5) == 17.0);
  CHECK(x.rows(2, 2).size() == 0);
  CHECK(x.rows(4, 4).size() == 0);
  CHECK(x.size(-1) == 2);
  CHECK(x.size(0) == 4);
  CHECK_THROWS_AS(x.rows(-1, 2), ShapeError);
  CHECK_THROWS_AS(x.rows(3, 2), ShapeError);
  CHECK_THROWS_AS(x.rows(0, 5), ShapeError);
  CHECK_THROWS_AS(scalar(1.0).rows(0, 0), ShapeError);
  CHECK_THROWS_AS(x.at(-1), ShapeError);
  CHECK_THROWS_AS(x.at(24), ShapeError);
  CHECK_FALSE(tensor({1.0, std::numeric_limits<double>::infinity()}).all_finite());
  CHECK(x.all_finite());
}

TEST_CASE("shapes: products of ranges, what is left of a reduction, eight axes", "[shape]") {
  const Shape shape{2, 3, 4, 5};
  CHECK(shape.size(1, 3) == 12);
  CHECK(shape.size(2, 2) == 1);
  CHECK(reduced(shape, {1, 3}, false) == Shape{2, 4});
  CHECK(reduced(shape, {1, 3}, true) == Shape{2, 1, 4, 1});
  CHECK(reduced(shape, {0, 1, 2, 3}, false) == Shape{});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK(shape.contains(4));
  CHECK_FALSE(shape.contains(6));
  CHECK(normalize_axis(-4, 4, "sum") == 0);
  CHECK_THROWS_AS(normalize_axis(-5, 4, "sum"), ShapeError);
  CHECK(normalize_axes({}, 3, "sum") == Axes{0, 1, 2});
  CHECK(Shape{1, 1, 1, 1, 1, 1, 1, 2}.rank() == 8);
  Ints eight{1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(eight[7] == 8);
  CHECK_THROWS_AS(eight.push_back(9), ShapeError);
  const std::int64_t half = std::int64_t{1} << 31;
  CHECK(Shape{half, half}.size() == half * half);
  CHECK_THROWS_AS((Shape{half, half, 2}), ShapeError);
  CHECK(Shape{half, 0}.size() == 0);
  CHECK_THROWS_AS((Shape{half, half, half, 0}), ShapeError);  // no strides either
}

TEST_CASE("a tensor over somebody else's memory writes there, whoever shares it", "[tensor]") {
  double memory[6] = {0, 1, 2, 3, 4, 5}, other[6] = {};
  Tensor x = Tensor::over(memory, {2, 3}, DType::f64);
  const Tensor shared = x;
  CHECK_FALSE(x.unique());
  x.mutable_data<double>()[4] = 7.0;
  CHECK(memory[4] == 7.0);
  CHECK(shared.at(4) == 7.0);
  // What is derived from it is a value like any other.
  Tensor view = x.reshape({6});
  view.mutable_data<double>()[0] = 9.0;
  CHECK(memory[0] == 0.0);
  Tensor row = x.rows(1, 2);
  row.mutable_data<double>()[0] = 9.0;
  CHECK(memory[3] == 3.0);

  x.move_to(other);
  x.mutable_data<double>()[1] = 1.5;
  CHECK(other[1] == 1.5);
  CHECK(shared.at(1) == 1.5);
  Tensor own = Tensor::zeros({2});
  CHECK_THROWS_AS(own.move_to(other), ValueError);
}
