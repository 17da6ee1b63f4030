#include <banach/engine/op.hpp>

#include <catch2/catch.hpp>

#include <memory>
#include <string>

using namespace banach;

namespace {

struct Width {
  int value;
};
struct Height {
  int value;
};
struct Name {
  std::string text;
  std::shared_ptr<int> watch;
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

TEST_CASE("attributes that own something are copied, assigned and destroyed", "[op]") {
  const auto watch = std::make_shared<int>(0);
  {
    const Attrs name = Name{"a name too long to be held in place by a string", watch};
    Attrs other = Width{3};
    other = name;
    CHECK(other.as<Name>().text == name.as<Name>().text);
    CHECK(&other.as<Name>() == &name.as<Name>());  // shared, not copied
    other = Width{4};
    CHECK(other.as<Width>().value == 4);
    const Attrs& same = other;
    other = same;
    CHECK(other.as<Width>().value == 4);
    Attrs third = name;
    other = std::move(third);
    CHECK(other.as<Name>().watch == watch);
    CHECK(watch.use_count() == 2);
  }
  CHECK(watch.use_count() == 1);
}
