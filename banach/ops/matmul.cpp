#include <banach/engine/blas.hpp>
#include <banach/engine/packed.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/matrices.hpp>
#include <banach/ops/shape_ops.hpp>

#include <algorithm>
#include <limits>
#include <string>

namespace banach {
namespace {

// C[i] = op(A[i]) op(B[i]) of (m,k) and (k,n); `a` and `b` tell, for each matrix of C, which one of A and B
// it takes.
struct Problem {
  MatmulOptions options;
  std::int64_t m, n, k, count;
  Shape lead, lead_a, lead_b;

  Problem(const Shape& a, const Shape& b, const MatmulOptions& o)
      : options(o),
        m(o.transpose_a ? columns(a) : rows(a)),
        n(o.transpose_b ? rows(b) : columns(b)),
        k(o.transpose_a ? rows(a) : columns(a)),
        lead_a(leading(a)),
        lead_b(leading(b)) {
    lead = broadcast(lead_a, lead_b, "matmul");
    count = lead.size();
  }
};

// c = beta c + a b, beta being 0 or 1.
template <class T>
void multiply(const T* a, const T* b, T* c, const Problem& p, T beta) {
  const bool ta = p.options.transpose_a, tb = p.options.transpose_b;
  const std::int64_t lda = ta ? p.m : p.k, ldb = tb ? p.k : p.n;
  if (p.lead_b.size() == 1 && !ta) {  // one right operand for all: the rows of all left ones form one matrix
    blas::matmul(false, tb, p.count * p.m, p.n, p.k, T{1}, a, lda, b, ldb, beta, c, p.n);
    return;
  }
  const auto product = [&](auto gemm, std::int64_t i) {
    gemm(ta, tb, p.m, p.n, p.k, T{1}, a + matrix_index(p.lead, p.lead_a, i) * p.m * p.k, lda,
         b + matrix_index(p.lead, p.lead_b, i) * p.k * p.n, ldb, beta, c + i * p.m * p.n, p.n);
  };
  // Few large products are cut up inside, many small ones are shared out whole. In doubles: sizes may
  // overflow.
  const double work = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  constexpr double large = 1 << 22, piece = 1 << 17;
  if (p.count == 1 || work > large) {
    for (std::int64_t i = 0; i < p.count; ++i)
      product([](auto... arguments) { blas::matmul(arguments...); }, i);
  } else {
    const auto grain = std::max<std::int64_t>(1, static_cast<std::int64_t>(piece / work));
    parallel_for(p.count, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        product([](auto... arguments) { blas::gemm(arguments...); }, i);
    });
  }
}

// A right operand shared by all, which stays the same while the left one changes, is packed once.
bool packs(const Problem& p) {
  return p.lead_b.size() == 1 && p.lead_a.size() == p.count && (!p.options.transpose_a || p.count == 1) &&
         p.k > 0;
}

Prepared pack(std::span<const Var> inputs, std::uint64_t constant, const Attrs& attrs) {
  const Tensor& b = inputs[1].value();
  const Problem p(inputs[0].shape(), b.shape(), attrs.as<MatmulOptions>());
  if ((constant & 2) == 0 || !packs(p)) return nullptr;
  return dispatch_floating(b.dtype(), [&](auto zero) -> Prepared {
    using T = decltype(zero);
    return std::allocate_shared<const PackedMatrix<T>>(memory::PoolAllocator<T>(), p.options.transpose_b, p.k,
                                                       p.n, b.data<T>(), p.options.transpose_b ? p.k : p.n);
  });
}

// A third input is what the sums start with: one row for all, or as many as the product has.
void multiply_packed(const KernelContext& c, const void* prepared) {
  const Problem p(c.in(0).shape(), c.in(1).shape(), c.attrs.as<MatmulOptions>());
  dispatch_floating(c.out().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto& b = *static_cast<const PackedMatrix<T>*>(prepared);
    const T *a = c.in(0).data<T>(), *start = c.inputs.size() > 2 ? c.in(2).data<T>() : nullptr;
    const std::int64_t ld_start = start && c.in(2).size() == c.out().size() ? p.n : 0;
    T* out = c.out().mutable_data<T>();
    const bool ta = p.options.transpose_a;
    const std::int64_t lda = ta ? p.m : p.k;
    constexpr std::int64_t rows_a_piece = 64;  // any number gives the same bits
    parallel_for(p.count * p.m, rows_a_piece, [&](std::int64_t begin, std::int64_t end) {
      const T* rows = a + begin * (ta ? 1 : p.k);
      T* to = out + begin * p.n;
      if (start)
        b.multiply_add(end - begin, rows, lda, start + begin * ld_start, ld_start, to, p.n, ta);
      else
        b.multiply(end - begin, rows, lda, to, p.n, ta);
    });
  });
}

// Products that are worth packing for one use.
bool packs_once(const Problem& p) {
  constexpr std::int64_t least_rows = 4, least_columns = 8;  // as in blas::gemm
  return packs(p) && p.count * p.m >= least_rows && p.n >= least_columns &&
         simd::active() == simd::Isa::avx512;
}

std::string describe(const Shape& a, const Shape& b, const MatmulOptions& options) {
  return a.to_string() + (options.transpose_a ? "^T x " : " x ") + b.to_string() +
         (options.transpose_b ? "^T" : "");
}

Spec matmul_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  const Shape &a = c.shape(0), &b = c.shape(1);
  const auto& options = c.attrs.as<MatmulOptions>();
  if (a.rank() < 2 || b.rank() < 2)
    fail<ShapeError>(c.op, "operands must have rank 2 or more: " + describe(a, b, options) +
                               " (reshape a vector of n to a row (1,n) or a column (n,1))");
  if ((options.transpose_a ? rows(a) : columns(a)) != (options.transpose_b ? columns(b) : rows(b)))
    fail<ShapeError>(c.op, "inner dimensions must agree: " + describe(a, b, options));
  for (int i = 3; i <= std::min(a.rank(), b.rank()); ++i) {
    const std::int64_t ea = a[a.rank() - i], eb = b[b.rank() - i];
    if (ea != eb && ea != 1 && eb != 1)
      fail<ShapeError>(c.op, "leading axes must broadcast (equal extents, or 1): " + describe(a, b, options));
  }
  const Problem p(a, b, options);
  return {extended(p.lead, {p.m, p.n}), dtype};
}

// The matrices of x side by side, (r, count * c), or one below the other, (count * r, c), transposed first if
// asked.
Var beside(const Var& x, bool transposed) {
  const std::int64_t count = leading(x.shape()).size(), r = rows(x.shape()), c = columns(x.shape());
  const Var flat = reshape(x, {count, r, c});
  return transposed ? reshape(permute(flat, {2, 0, 1}), {c, count * r})
                    : reshape(permute(flat, {1, 0, 2}), {r, count * c});
}
Var below(const Var& x, bool transposed) {
  const Var y = transposed ? transpose(x) : x;
  return reshape(y, {leading(y.shape()).size() * rows(y.shape()), columns(y.shape())});
}

// A shared operand collects from all matrices: their sum is one product of longer matrices, without
// temporaries of the batch's size. Only operands broadcast along some leading axes are left to sum_to.
Var gradient_a(const Var& a, const Var& b, const Var& g, const MatmulOptions& o) {
  const bool shared = leading(a.shape()).size() == 1 && leading(b.shape()).size() > 1;
  const Var x = shared ? beside(b, o.transpose_b) : b, y = shared ? beside(g, false) : g;
  const bool tb = !shared && o.transpose_b;
  const Var result = o.transpose_a ? matmul(x, y, {.transpose_a = tb, .transpose_b = true})
                                   : matmul(y, x, {.transpose_b = !tb});
  return shared ? reshape(result, a.shape()) : sum_to(result, a.shape());
}
Var gradient_b(const Var& a, const Var& b, const Var& g, const MatmulOptions& o) {
  const bool shared = leading(b.shape()).size() == 1 && leading(a.shape()).size() > 1;
  const Var x = shared ? below(a, o.transpose_a) : a, y = shared ? below(g, false) : g;
  const bool ta = !shared && o.transpose_a;
  const Var result = o.transpose_b ? matmul(y, x, {.transpose_a = true, .transpose_b = ta})
                                   : matmul(x, y, {.transpose_a = !ta});
  return shared ? reshape(result, b.shape()) : sum_to(result, b.shape());
}

const Op matmul_op{{
    .name = "matmul",
    .doc =
        "Matrix product over the last two axes, either operand transposed on demand; leading axes broadcast.",
    .shape = matmul_shape,
    .kernel =
        [](const KernelContext& c) {
          const Problem problem(c.in(0).shape(), c.in(1).shape(), c.attrs.as<MatmulOptions>());
          if (c.out().size() == 0) return;
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            if (problem.k == 0)
              std::fill_n(out, c.out().size(), T{0});
            else
              multiply(c.in(0).data<T>(), c.in(1).data<T>(), out, problem, T{0});
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& options = c.attrs.as<MatmulOptions>();
          Vars cotangents(2);
          if (c.needs(0)) cotangents[0] = gradient_a(c.in(0), c.in(1), c.cotangent, options);
          if (c.needs(1)) cotangents[1] = gradient_b(c.in(0), c.in(1), c.cotangent, options);
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          for (const bool ta : {false, true})
            for (const bool tb : {false, true}) {
              const MatmulOptions options{ta, tb};
              const auto a = [&](Ints lead, std::int64_t m, std::int64_t k) {
                lead.push_back(ta ? k : m);
                lead.push_back(ta ? m : k);
                return g.normal(Shape(lead));
              };
              const auto b = [&](Ints lead, std::int64_t k, std::int64_t n) {
                lead.push_back(tb ? n : k);
                lead.push_back(tb ? k : n);
                return g.normal(Shape(lead));
              };
              samples.push_back({{a({}, 3, 4), b({}, 4, 2)}, options});
              samples.push_back({{a({}, 3, 3), b({}, 3, 3)}, options});
              samples.push_back({{a({2}, 3, 4), b({}, 4, 5)}, options});         // shared right operand
              samples.push_back({{a({1}, 3, 2), b({3}, 2, 2)}, options});        // shared left operand
              samples.push_back({{a({2, 1}, 2, 3), b({1, 3}, 3, 2)}, options});  // both partly broadcast
              samples.push_back({{a({2}, 2, 0), b({2}, 0, 3)}, options});
            }
          samples.push_back({{g.normal({0, 3}), g.normal({3, 2})}, MatmulOptions{}});
          samples.push_back({{g.normal({0, 2, 3}), g.normal({3, 2})}, MatmulOptions{}});
          samples.push_back({{g.normal({1, 1}), g.normal({1, 1})}, MatmulOptions{}});
          return samples;
        },
    .errors =
        [] {
          const auto zeros = [](const Shape& shape) { return Tensor::zeros(shape); };
          return ErrorSamples{
              {{zeros({2, 3}), zeros({4, 5})},
               MatmulOptions{},
               "[matmul] inner dimensions must agree: (2,3) x (4,5)"},
              {{zeros({2, 3}), zeros({3, 5})},
               MatmulOptions{.transpose_a = true},
               "[matmul] inner dimensions must agree: (2,3)^T x (3,5)"},
              {{zeros({3}), zeros({3, 4})},
               MatmulOptions{},
               "[matmul] operands must have rank 2 or more: (3) x (3,4)"},
              {{zeros({2, 3, 4}), zeros({3, 4, 5})},
               MatmulOptions{},
               "[matmul] leading axes must broadcast (equal extents, or 1): (2,3,4) x (3,4,5)"}};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          // 0 * inf is NaN; sums of nothing are 0.
          return Edges{
              {{tensor({nan, 1.0, 1.0, 2.0, 1.0, 0.0}, {3, 2}), tensor({1.0, 0.0, 2.0, inf}, {2, 2})},
               MatmulOptions{},
               {tensor({nan, nan, 5.0, inf, 1.0, nan}, {3, 2})},
               {tensor({1.0, inf, 1.0, inf, 1.0, inf}, {3, 2}), tensor({nan, nan, 3.0, 3.0}, {2, 2})}},
              {{Tensor::zeros({2, 0}, DType::f64), Tensor::zeros({0, 3}, DType::f64)},
               MatmulOptions{},
               {Tensor::zeros({2, 3}, DType::f64)},
               {Tensor::zeros({2, 0}, DType::f64), Tensor::zeros({0, 3}, DType::f64)}},
              {{Tensor::zeros({0, 2}, DType::f64), tensor({1.0, nan}, {2, 1})},
               MatmulOptions{},
               {Tensor::zeros({0, 1}, DType::f64)},
               {Tensor::zeros({0, 2}, DType::f64), Tensor::zeros({2, 1}, DType::f64)}}};
        },
    .nan = NanRule::somewhere,
    .rows =
        [](const RowsContext& c) {
          const bool rows_of_a = c.out().rank() == 2 && !c.attrs.as<MatmulOptions>().transpose_a;
          return rows_of_a ? first_by_rows(c) : broadcast_stack_rows(c);
        },
    .prepare = pack,
    .prepared_kernel = multiply_packed,
}};

Shape row_of(const Shape& product) { return {columns(product)}; }

const Op matmul_add_op{{
    .name = "matmul_add",
    .doc = "Matrix product plus c, which has its shape, or is one row for all.",
    .shape =
        [](const ShapeContext& c) {
          const Spec product = matmul_shape(c);
          if (!(c.shape(2) == product.shape) && !(c.shape(2) == row_of(product.shape)))
            fail<ShapeError>(c.op, "c must be like the product, or one row of it: " + c.shape(2).to_string() +
                                       " for " + product.shape.to_string());
          return product;
        },
    .kernel =
        [](const KernelContext& c) {
          const Problem p(c.in(0).shape(), c.in(1).shape(), c.attrs.as<MatmulOptions>());
          if (c.out().size() == 0) return;
          if (packs_once(p)) return multiply_packed(c, pack(c.inputs, 2, c.attrs).get());
          dispatch_floating(c.out().dtype(), [&](auto zero) {
            using T = decltype(zero);
            T* out = c.out().mutable_data<T>();
            const T* start = c.in(2).data<T>();
            const std::int64_t n = c.in(2).size();
            for (std::int64_t i = 0; i < c.out().size(); i += n) std::copy_n(start, n, out + i);
            if (p.k > 0) multiply(c.in(0).data<T>(), c.in(1).data<T>(), out, p, T{1});
          });
        },
    .saves = Saves::inputs,
    .vjp =
        [](const VjpContext& c) {
          const auto& options = c.attrs.as<MatmulOptions>();
          Vars cotangents(3);
          if (c.needs(0)) cotangents[0] = gradient_a(c.in(0), c.in(1), c.cotangent, options);
          if (c.needs(1)) cotangents[1] = gradient_b(c.in(0), c.in(1), c.cotangent, options);
          if (c.needs(2)) cotangents[2] = sum_to(c.cotangent, c.in(2).shape());
          return cotangents;
        },
    .samples =
        [](SampleGen& g) {
          Samples samples;
          const auto add = [&](const Shape& a, const Shape& b, const MatmulOptions& options,
                               const Shape& product) {
            samples.push_back({{g.normal(a), g.normal(b), g.normal(product)}, options});
            samples.push_back({{g.normal(a), g.normal(b), g.normal(row_of(product))}, options});
          };
          add({3, 4}, {4, 2}, {}, {3, 2});
          add({4, 3}, {2, 4}, {true, true}, {3, 2});
          add({17, 3}, {3, 9}, {}, {17, 9});
          add({9, 2, 3}, {9, 3}, {false, true}, {9, 2, 9});
          add({2, 1, 2, 3}, {1, 3, 3, 2}, {}, {2, 3, 2, 2});
          add({2, 0}, {0, 3}, {}, {2, 3});
          add({0, 3}, {3, 2}, {}, {0, 2});
          add({2, 3}, {3, 0}, {}, {2, 0});
          add({1, 1}, {1, 1}, {}, {1, 1});
          return samples;
        },
    .errors =
        [] {
          const Tensor x = Tensor::zeros({2, 2});
          return ErrorSamples{
              {{x, x, Tensor::zeros({2, 1})},
               MatmulOptions{},
               "[matmul_add] c must be like the product, or one row of it: (2,1) for (2,2)"},
              {{x, Tensor::zeros({3, 2}), x}, MatmulOptions{}, "inner dimensions must agree"}};
        },
    .edges =
        [] {
          constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                           inf = std::numeric_limits<double>::infinity();
          return Edges{
              {{tensor({nan, 1.0, 1.0, 2.0}, {2, 2}), tensor({1.0, 2.0}, {2, 1}), tensor({inf}, {1})},
               MatmulOptions{},
               {tensor({nan, inf}, {2, 1})},
               {tensor({1.0, 2.0, 1.0, 2.0}, {2, 2}), tensor({nan, 3.0}, {2, 1}), tensor({2.0}, {1})}},
              {{Tensor::zeros({2, 0}, DType::f64), Tensor::zeros({0, 1}, DType::f64),
                tensor({1.0, nan}, {2, 1})},
               MatmulOptions{},
               {tensor({1.0, nan}, {2, 1})},
               {Tensor::zeros({2, 0}, DType::f64), Tensor::zeros({0, 1}, DType::f64),
                tensor({1.0, 1.0}, {2, 1})}}};
        },
    .nan = NanRule::somewhere,
    .rows = [](const RowsContext& c) -> RowInputs {
      if (c.out().rank() > 2) return broadcast_stack_rows(c);
      if (c.attrs.as<MatmulOptions>().transpose_a || c.shape(0)[0] != c.out()[0]) return {};
      return c.shape(2) == c.out() ? 0b101 : 0b001;
    },
    .prepare = pack,
    .prepared_kernel = multiply_packed,
}};

}  // namespace

Var matmul_add(const Var& a, const Var& b, const Var& c, const MatmulOptions& options) {
  const auto fits = [&] {
    if (a.rank() < 2 || b.rank() < 2 || a.dtype() != b.dtype() || a.dtype() != c.dtype()) return false;
    const std::int64_t n = options.transpose_b ? rows(b.shape()) : columns(b.shape()),
                       m = options.transpose_a ? columns(a.shape()) : rows(a.shape());
    if (c.shape() == Shape{n}) return true;
    return c.rank() == std::max(a.rank(), b.rank()) && columns(c.shape()) == n && rows(c.shape()) == m &&
           leading(c.shape()) == broadcast(leading(a.shape()), leading(b.shape()), "matmul_add");
  };
  return fits() ? apply(matmul_add_op, {a, b, c}, options) : matmul(a, b, options) + c;
}

Var matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  return apply(matmul_op, {a, b}, options);
}

}  // namespace banach
