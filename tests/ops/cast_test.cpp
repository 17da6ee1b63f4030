#include <banach/engine/grad.hpp>
#include <banach/ops/cast.hpp>

#include <catch2/catch.hpp>

using namespace banach;

TEST_CASE("cast converts, and casts the gradient back", "[cast]") {
  Tape tape;
  const Var x = leaf(tensor({0.1, 1e300, -2.0}));
  const Var y = cast(x, DType::f32);
  REQUIRE(y.dtype() == DType::f32);
  CHECK(y.value().data<float>()[0] == 0.1f);
  CHECK(std::isinf(y.value().data<float>()[1]));
  const Var g = grad(y, {x}, {.cotangent = Var(tensor({1.f, 0.1f, 3.f}))})[0];
  REQUIRE(g.dtype() == DType::f64);
  CHECK(g.value().data<double>()[1] == static_cast<double>(0.1f));

  CHECK(cast(x, DType::f64).value().same_storage(x.value()));
  CHECK(cast(Tensor::arange(3), DType::f32).value().data<float>()[2] == 2.f);
  CHECK_THROWS_AS(cast(x, DType::i64), DTypeError);
}
