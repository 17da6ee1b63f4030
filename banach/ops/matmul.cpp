#include <banach/engine/blas.hpp>
#include <banach/engine/packed.hpp>
#include <banach/engine/parallel.hpp>
#include <banach/engine/samples.hpp>
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

template <class T>
void multiply(const T* a, const T* b, T* c, const Problem& p) {
  const bool ta = p.options.transpose_a, tb = p.options.transpose_b;
  const std::int64_t lda = ta ? p.m : p.k, ldb = tb ? p.k : p.n;
  if (p.lead_b.size() == 1 && !ta) {  // one right operand for all: the rows of all left ones form one matrix
    blas::matmul(false, tb, p.count * p.m, p.n, p.k, T{1}, a, lda, b, ldb, T{0}, c, p.n);
    return;
  }
  const auto product = [&](auto gemm, std::int64_t i) {
    gemm(ta, tb, p.m, p.n, p.k, T{1}, a + matrix_index(p.lead, p.lead_a, i) * p.m * p.k, lda,
         b + matrix_index(p.lead, p.lead_b, i) * p.k * p.n, ldb, T{0}, c + i * p.m * p.n, p.n);
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

void multiply_packed(const KernelContext& c, const void* prepared) {
  const Problem p(c.in(0).shape(), c.in(1).shape(), c.attrs.as<MatmulOptions>());
  dispatch_floating(c.out().dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto& b = *static_cast<const PackedMatrix<T>*>(prepared);
    const T* a = c.in(0).data<T>();
    T* out = c.out().mutable_data<T>();
    const bool ta = p.options.transpose_a;
    constexpr std::int64_t rows_a_piece = 64;  // any number gives the same bits
    parallel_for(p.count * p.m, rows_a_piece, [&](std::int64_t begin, std::int64_t end) {
      b.multiply(end - begin, a + begin * (ta ? 1 : p.k), ta ? p.m : p.k, out + begin * p.n, p.n, ta);
    });
  });
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
              multiply(c.in(0).data<T>(), c.in(1).data<T>(), out, problem);
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

}  // namespace

Var matmul(const Var& a, const Var& b, const MatmulOptions& options) {
  return apply(matmul_op, {a, b}, options);
}

}  // namespace banach
