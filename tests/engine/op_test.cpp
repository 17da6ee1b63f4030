#include <banach/engine/op.hpp>

#include <catch2/catch.hpp>

using namespace banach;

namespace {

struct Width {
  int value;
};
struct Height {
  int value;
};

}  // namespace

TEST_CASE("attributes come back as what they are, and as nothing else", "[op]") {
  const Attrs width = Width{3};
  REQUIRE(width);
  CHECK(width.as<Width>().value == 3);
  CHECK_THROWS_AS(width.as<Height>(), ValueError);
  CHECK_THROWS_AS(width.as<int>(), ValueError);

  const Attrs copy = width;
  CHECK(copy.as<Width>().value == 3);
  const Attrs none;
  CHECK_FALSE(none);
  CHECK_THROWS_AS(none.as<Width>(), ValueError);
}
