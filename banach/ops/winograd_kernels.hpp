#pragma once
// Internal: the transforms of winograd_transforms.hpp, templated on the xsimd architecture; included only by
// the sources built per instruction set, after <xsimd/xsimd.hpp> in a namespace of their own. All in an
// anonymous namespace, see simd_math.hpp.
//
// F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, at the points
// 0, +-a, +-b, infinity. Y = A' [(G g G') * (B' d B)] A. With x ranging over the finite points, row x of B'
// has the coefficients of prod_{z != x} (t - z), that of G is (1, x, x^2) / prod_{z != x} (x - z), and column
// x of A' is (1, x, x^2, x^3); infinity's have those of prod (t - z), (0, 0, 1) and (0, 0, 0, 1). Theirs are
// a = 1 and b = 2, whose powers grow: errors are 4 times those of sums one after another. With a = 5/8 and
// b = 3/2 they are 1.9 times as large, the least among eighths, and all of A and B is exact.

#include <banach/engine/packed_kernels.hpp>
#include <banach/ops/winograd_transforms.hpp>

namespace banach::simd {
namespace {

namespace at {
constexpr float a = 0.625f, a2 = a * a, a3 = a2 * a, b = 1.5f, b2 = b * b, b3 = b2 * b;
constexpr float sum = a2 + b2, product = a2 * b2;
// Of G: one over the products of differences.
constexpr float g0 = 1.0f / product, ga = 1.0f / (2 * a2 * (a2 - b2)), gb = 1.0f / (2 * b2 * (b2 - a2));
}  // namespace at

/// v = B' d.
template <class B>
void at_points(const B (&d)[6], B (&v)[6]) {
  const B even_a = multiply_add(B(-at::b2), d[2], d[4]), odd_a = multiply_add(B(-at::b2), d[1], d[3]);
  const B even_b = multiply_add(B(-at::a2), d[2], d[4]), odd_b = multiply_add(B(-at::a2), d[1], d[3]);
  v[0] = multiply_add(B(at::product), d[0], multiply_add(B(-at::sum), d[2], d[4]));
  v[1] = multiply_add(B(at::a), odd_a, even_a);
  v[2] = multiply_add(B(-at::a), odd_a, even_a);
  v[3] = multiply_add(B(at::b), odd_b, even_b);
  v[4] = multiply_add(B(-at::b), odd_b, even_b);
  v[5] = multiply_add(B(at::product), d[1], multiply_add(B(-at::sum), d[3], d[5]));
}

/// u = G g.
template <class B>
void at_points(const B (&g)[3], B (&u)[6]) {
  const B even_a = multiply_add(B(at::a2 * at::ga), g[2], B(at::ga) * g[0]), odd_a = B(at::a * at::ga) * g[1];
  const B even_b = multiply_add(B(at::b2 * at::gb), g[2], B(at::gb) * g[0]), odd_b = B(at::b * at::gb) * g[1];
  u[0] = B(at::g0) * g[0];
  u[1] = even_a + odd_a;
  u[2] = even_a - odd_a;
  u[3] = even_b + odd_b;
  u[4] = even_b - odd_b;
  u[5] = g[2];
}

/// m = A y.
template <class B>
void at_points(const B (&y)[4], B (&m)[6]) {
  const B even_a = multiply_add(B(at::a2), y[2], y[0]), odd_a = multiply_add(B(at::a2), y[3], y[1]);
  const B even_b = multiply_add(B(at::b2), y[2], y[0]), odd_b = multiply_add(B(at::b2), y[3], y[1]);
  m[0] = y[0];
  m[1] = multiply_add(B(at::a), odd_a, even_a);
  m[2] = multiply_add(B(-at::a), odd_a, even_a);
  m[3] = multiply_add(B(at::b), odd_b, even_b);
  m[4] = multiply_add(B(-at::b), odd_b, even_b);
  m[5] = y[3];
}

/// y = A' m.
template <class B>
void from_points(const B (&m)[6], B (&y)[4]) {
  const B even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
  y[0] = m[0] + (even_a + even_b);
  y[1] = multiply_add(B(at::a), odd_a, B(at::b) * odd_b);
  y[2] = multiply_add(B(at::a2), even_a, B(at::b2) * even_b);
  y[3] = multiply_add(B(at::a3), odd_a, multiply_add(B(at::b3), odd_b, m[5]));
}

/// g = G' u.
template <class B>
void from_points(const B (&u)[6], B (&g)[3]) {
  const B even_a = u[1] + u[2], odd_a = u[1] - u[2], even_b = u[3] + u[4], odd_b = u[3] - u[4];
  g[0] = multiply_add(B(at::ga), even_a, multiply_add(B(at::gb), even_b, B(at::g0) * u[0]));
  g[1] = multiply_add(B(at::a * at::ga), odd_a, B(at::b * at::gb) * odd_b);
  g[2] = multiply_add(B(at::a2 * at::ga), even_a, multiply_add(B(at::b2 * at::gb), even_b, u[5]));
}

/// A square of n x n becomes one of m x m, columns first; entries are read by load(i, j) and written by
/// store(i, j, entry).
template <class B, int n, int m, class Load, class Change, class Store>
void change_square(const Load& load, const Change& change, const Store& store) {
  B half[m][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    B from[n], to[m];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) from[i] = load(i, j);
    change(from, to);
#pragma GCC unroll 6
    for (int i = 0; i < m; ++i) half[i][j] = to[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < m; ++i) {
    B to[m];
    change(half[i], to);
#pragma GCC unroll 6
    for (int j = 0; j < m; ++j) store(i, j, to[j]);
  }
}

constexpr auto to_points = [](const auto& from, auto& to) { at_points(from, to); };
constexpr auto off_points = [](const auto& from, auto& to) { from_points(from, to); };

/// Tells whether all that it has seen is finite: a product with 0 is then 0.
template <class B>
class Finite {
 public:
  void see(B x) { sum_ = multiply_add(x, B(0.0f), sum_); }
  bool all() const {
    return across_lanes(sum_, [](auto x, auto y) { return x + y; }) == 0.0f;
  }

 private:
  B sum_ = B(0.0f);
};

template <class B>
void winograd_to_lanes(std::int64_t rows, std::int64_t columns, const float* from, std::int64_t ld,
                       std::int64_t ahead, float* to) {
  constexpr std::int64_t width = B::size;
  static constexpr float zeros[width] = {};
  for (std::int64_t j = 0; j < columns; j += width, from += width) {
    typename Lanes<float, B::size>::Type block[width];
    const auto read = [&](const auto& load) {
      if (rows == width) {
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < width; ++r) {
          __builtin_prefetch(from + r * ld + ahead);
          block[r] = load(from + r * ld).data;
        }
      } else {
#pragma GCC unroll 16
        for (std::int64_t r = 0; r < width; ++r) block[r] = load(r < rows ? from + r * ld : zeros).data;
      }
    };
    if (j + width <= columns)
      read([](const float* x) { return B::load_unaligned(x); });
    else
      read([n = columns - j](const float* x) { return load_first<B>(x, n, 0.0f); });
    transpose<float, B::size>(block);
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < width; ++r) B(block[r]).store_aligned(to + (j + r) * width);
  }
}

template <class B>
void winograd_from_lanes(std::int64_t rows, std::int64_t columns, const float* from, float* to,
                         std::int64_t ld, const float* bias) {
  constexpr std::int64_t width = B::size;
  for (std::int64_t j = 0; j < columns; j += width) {
    typename Lanes<float, B::size>::Type block[width];
#pragma GCC unroll 16
    for (std::int64_t r = 0; r < width; ++r) block[r] = B::load_aligned(from + (j + r) * width).data;
    transpose<float, B::size>(block);
    const auto write = [&](const auto& store) {
#pragma GCC unroll 16
      for (std::int64_t r = 0; r < width; ++r)
        if (r < rows) store(bias == nullptr ? B(block[r]) : B(block[r]) + B(bias[r]), to + r * ld + j);
    };
    if (j + width <= columns)
      write([](B x, float* y) { x.store_unaligned(y); });
    else
      write([n = columns - j](B x, float* y) { store_first<B>(x, y, n); });
  }
}

template <class B>
bool winograd_filters(std::int64_t lanes, std::int64_t sources, const float* w, std::int64_t lane_step,
                      std::int64_t source_step, bool flipped, float* u, std::int64_t point_step) {
  constexpr std::int64_t width = B::size;
  alignas(64) float taps[(9 + width) * width];
  Finite<B> finite;
  for (std::int64_t c = 0; c < sources; ++c, w += source_step, u += width) {
    winograd_to_lanes<B>(lanes, 9, w, lane_step, source_step, taps);
    B half[6][3];
    for (int j = 0; j < 3; ++j) {
      B g[3], column[6];
      for (int i = 0; i < 3; ++i)
        g[i] = B::load_aligned(taps + (flipped ? 8 - 3 * i - j : 3 * i + j) * width);
      at_points(g, column);
      for (int i = 0; i < 6; ++i) half[i][j] = column[i];
    }
    for (int i = 0; i < 6; ++i) {
      B row[6];
      at_points(half[i], row);
      for (int j = 0; j < 6; ++j) {
        finite.see(row[j]);
        row[j].store_aligned(u + (6 * i + j) * point_step);
      }
    }
  }
  return finite.all();
}

template <class B>
void winograd_sources(std::int64_t tiles, const float* const* rows, float* scratch, float* v,
                      std::int64_t tile_step, std::int64_t point_step) {
  constexpr std::int64_t width = B::size;
  // Columns of neighbours overlap, so all come first.
  for (std::int64_t j = 0; j < 4 * tiles + 2; ++j) {
    B d[6], column[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) d[i] = B::load_aligned(rows[i] + j * width);
    at_points(d, column);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) column[i].store_aligned(scratch + (6 * j + i) * width);
  }
  for (std::int64_t t = 0; t < tiles; ++t, scratch += 24 * width, v += tile_step)
    for (int i = 0; i < 6; ++i) {
      B d[6], at_point[6];
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) d[j] = B::load_aligned(scratch + (6 * j + i) * width);
      at_points(d, at_point);
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) at_point[j].store_aligned(v + (6 * i + j) * point_step);
    }
}

template <class B>
bool winograd_results(std::int64_t tiles, const float* m, std::int64_t tile_step, std::int64_t point_step,
                      float* const* rows) {
  constexpr std::int64_t width = B::size;
  Finite<B> finite;
  for (std::int64_t t = 0; t < tiles; ++t, m += tile_step)
    change_square<B, 6, 4>([&](int i, int j) { return B::load_aligned(m + (6 * i + j) * point_step); },
                           off_points,
                           [&](int i, int j, B y) {
                             finite.see(y);
                             y.store_aligned(rows[i] + (4 * t + j) * width);
                           });
  return finite.all();
}

template <class B>
void winograd_result_cotangents(std::int64_t tiles, const float* const* rows, float* m,
                                std::int64_t tile_step, std::int64_t point_step) {
  constexpr std::int64_t width = B::size;
  for (std::int64_t t = 0; t < tiles; ++t, m += tile_step)
    change_square<B, 4, 6>([&](int i, int j) { return B::load_aligned(rows[i] + (4 * t + j) * width); },
                           to_points,
                           [&](int i, int j, B x) { x.store_aligned(m + (6 * i + j) * point_step); });
}

template <class B>
void winograd_filter_cotangents(std::int64_t sources, const float* u, std::int64_t source_step,
                                std::int64_t point_step, float* taps) {
  constexpr std::int64_t width = B::size;
  for (std::int64_t c = 0; c < sources; ++c, u += source_step, taps += 9 * width)
    change_square<B, 6, 3>([&](int i, int j) { return B::load_aligned(u + (6 * i + j) * point_step); },
                           off_points,
                           [&](int i, int j, B g) { g.store_aligned(taps + (3 * i + j) * width); });
}

template <class Arch>
constexpr WinogradTransforms winograd_of() {
  using B = xsimd::batch<float, Arch>;
  return {.width = B::size,
          .to_lanes = winograd_to_lanes<B>,
          .from_lanes = winograd_from_lanes<B>,
          .filters = winograd_filters<B>,
          .sources = winograd_sources<B>,
          .results = winograd_results<B>,
          .result_cotangents = winograd_result_cotangents<B>,
          .filter_cotangents = winograd_filter_cotangents<B>};
}

}  // namespace
}  // namespace banach::simd
