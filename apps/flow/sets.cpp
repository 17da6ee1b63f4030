#include <apps/flow/sets.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <fmt/format.h>

#include <banach/engine/error.hpp>
#include <banach/engine/random.hpp>

namespace banach::flow {
namespace {

constexpr double pi = std::numbers::pi;

struct Point {
  double x = 0, y = 0;
  std::int64_t label = 0;
};

// Standard deviation and distance from the origin of the eight gaussians.
constexpr double spread = 0.5 / std::numbers::sqrt2, radius = 4.0 / std::numbers::sqrt2;

Point centre(std::int64_t k) {
  const double angle = pi * static_cast<double>(k) / 4.0;
  return {radius * std::cos(angle), radius * std::sin(angle), k};
}

Point gaussians(Random& random) {
  const Point c = centre(random.below(8));
  return {c.x + spread * random.normal(), c.y + spread * random.normal(), c.label};
}

// Every other one of the squares of side 2 in [-4, 4]^2, uniformly: those whose row and column are both even
// or both odd.
Point checkerboard(Random& random) {
  const std::int64_t square = random.below(8), column = square / 2, row = 2 * (square % 2) + column % 2;
  return {-4.0 + 2.0 * (static_cast<double>(column) + random.uniform()),
          -4.0 + 2.0 * (static_cast<double>(row) + random.uniform()), square};
}

Point spirals(Random& random) {
  const std::int64_t arm = random.below(2);
  const double angle = 3.0 * pi * std::sqrt(random.uniform()), side = arm == 0 ? 1.0 : -1.0;
  const double x = -std::cos(angle) * angle + 0.5 * random.uniform(),
               y = std::sin(angle) * angle + 0.5 * random.uniform();
  return {side * x / 3.0 + 0.1 * random.normal(), side * y / 3.0 + 0.1 * random.normal(), arm};
}

Point pinwheel(Random& random) {
  const std::int64_t arm = random.below(5);
  const double along = 1.0 + 0.3 * random.normal(), across = 0.1 * random.normal();
  const double angle = 2.0 * pi * static_cast<double>(arm) / 5.0 + 0.25 * std::exp(along);
  return {2.0 * (along * std::cos(angle) + across * std::sin(angle)),
          2.0 * (across * std::cos(angle) - along * std::sin(angle)), arm};
}

Point moons(Random& random) {
  const std::int64_t moon = random.below(2);
  const double angle = pi * random.uniform();
  const double x = moon == 0 ? std::cos(angle) : 1.0 - std::cos(angle),
               y = moon == 0 ? std::sin(angle) : 0.5 - std::sin(angle);
  return {2.0 * (x + 0.1 * random.normal()) - 1.0, 2.0 * (y + 0.1 * random.normal()) - 0.2, moon};
}

struct Set {
  std::string name;
  std::int64_t classes;
  Point (*draw)(Random&);
};

const std::vector<Set>& sets() {
  static const std::vector<Set> all{{"8-gaussians", 8, gaussians},
                                    {"checkerboard", 8, checkerboard},
                                    {"two-spirals", 2, spirals},
                                    {"pinwheel", 5, pinwheel},
                                    {"moons", 2, moons}};
  return all;
}

const Set& set_of(const std::string& name) {
  for (const Set& set : sets())
    if (set.name == name) return set;
  fail<ValueError>("flow", fmt::format("there is no set '{}'", name));
}

double log_of_gaussians(double x, double y) {
  double sum = 0.0;
  for (std::int64_t k = 0; k < 8; ++k) {
    const Point c = centre(k);
    sum += std::exp(-0.5 * ((x - c.x) * (x - c.x) + (y - c.y) * (y - c.y)) / (spread * spread));
  }
  return std::log(sum / 8.0 / (2.0 * pi * spread * spread));
}

double log_of_checkerboard(double x, double y) {
  const double column = std::floor(x / 2.0), row = std::floor(y / 2.0);
  const bool inside = std::max(std::abs(x), std::abs(y)) <= 4.0 && std::fmod(column + row, 2.0) == 0.0;
  return inside ? -std::log(8.0 * 4.0) : -std::numeric_limits<double>::infinity();
}

}  // namespace

const std::vector<std::string>& set_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Set& set : sets()) all.push_back(set.name);
    return all;
  }();
  return names;
}

std::int64_t classes_of(const std::string& set) { return set_of(set).classes; }

Points draw_points(const std::string& name, std::int64_t count, std::uint64_t seed, std::uint64_t stream) {
  const Set& set = set_of(name);
  Random random(seed, stream);
  Points points{Tensor::empty({count, 2}, DType::f64), Tensor::empty({count}, DType::i64)};
  auto* x = points.x.mutable_data<double>();
  auto* label = points.labels.mutable_data<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const Point p = set.draw(random);
    x[2 * i] = p.x;
    x[2 * i + 1] = p.y;
    label[i] = p.label;
  }
  return points;
}

std::optional<Tensor> true_log_density(const std::string& set, const Tensor& x) {
  if (set != "8-gaussians" && set != "checkerboard") return {};
  const auto log_p = set == "8-gaussians" ? log_of_gaussians : log_of_checkerboard;
  const std::int64_t n = x.size(0);
  Tensor result = Tensor::empty({n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) result.mutable_data<double>()[i] = log_p(x.at(2 * i), x.at(2 * i + 1));
  return result;
}

}  // namespace banach::flow
