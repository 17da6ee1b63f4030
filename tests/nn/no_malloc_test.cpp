// A steady training step takes all its memory from the pool: the system allocator is called not once. Counted
// by standing in for malloc in this program, which needs glibc and no sanitizer (they stand in for it
// themselves).
#include <banach/nn/clip.hpp>
#include <banach/nn/conv.hpp>
#include <banach/nn/dropout.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/norm.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/spectral.hpp>
#include <banach/ops/implicit/fixed_point.hpp>

#include <tests/sanitizers.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if defined(__GLIBC__) && !BANACH_SANITIZED
#define BANACH_COUNTS_MALLOC 1
#else
#define BANACH_COUNTS_MALLOC 0
#endif

namespace {
std::atomic<std::int64_t> calls{0};
std::atomic<bool> counting{false};
[[maybe_unused]] void count() {
  if (counting.load(std::memory_order_relaxed)) calls.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

#if BANACH_COUNTS_MALLOC
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) noexcept {
  count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) noexcept {
  count();
  return __libc_calloc(n, bytes);
}
void* realloc(void* block, std::size_t bytes) noexcept {
  count();
  return __libc_realloc(block, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  count();
  return __libc_memalign(alignment, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  count();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) noexcept {
  count();
  *out = __libc_memalign(alignment, bytes);
  return *out || bytes == 0 ? 0 : ENOMEM;
}
}
#endif

using namespace banach;
using namespace banach::nn;
using namespace banach::test;

namespace {

// Calls of the system allocator during steps 100 to 120; where malloc cannot be counted, those of the pool
// alone.
template <class Step>
std::int64_t allocations_of(Step step) {
  for (int i = 0; i < 100; ++i) step();
  const std::int64_t pool = memory::stats().system_allocations;
  calls = 0;
  counting = true;
  for (int i = 0; i < 20; ++i) step();
  counting = false;
  return BANACH_COUNTS_MALLOC ? calls.load() : memory::stats().system_allocations - pool;
}

struct Mlp {
  Linear first, second;
  explicit Mlp(Random random) : first(20, 32, random), second(32, 10, random) {}
  Var operator()(const Var& x) const { return second(relu(first(x))); }
  void visit(Visitor& v) { v("first", first)("second", second); }
};

struct Convolutional {
  Conv2d conv;
  BatchNorm norm;
  Linear head;
  explicit Convolutional(Random random)
      : conv(1, 4, 3, random, {.padding = 1}), norm(4), head(64, 10, random) {}
  Var operator()(const Var& x) const { return head(flatten(relu(norm(conv(x))))); }
  void visit(Visitor& v) { v("conv", conv)("norm", norm)("head", head); }
};

// Attention between the pixels of a pooled image, and all that goes with it.
struct Attentive {
  Conv2d conv;
  ConvTranspose2d up;
  GroupNorm norm;
  Dropout dropout;
  Conv1d mix;
  Parameter bias;
  Linear head;
  explicit Attentive(Random random)
      : conv(1, 4, 3, random, {.padding = 1}),
        up(4, 4, 2, random, {.stride = 2}),
        norm(2, 4),
        dropout(0.1, random),
        mix(4, 4, 3, random, {.causal = true}),
        bias(Tensor::zeros({16, 16})),
        head(16, 10, random) {}
  Var operator()(const Var& x) const {
    const Var images = norm(up(avg_pool2d(dropout(conv(x)))));
    const Var tokens = transpose(mix(reshape(images, {x.size(0), 4, 16})));
    const Var y = scaled_dot_product_attention(tokens, tokens, tokens, bias, {.causal = true});
    const Var large = upsample_bilinear(reshape(transpose(y), {x.size(0), 4, 4, 4}), 6);
    return head(flatten(adaptive_avg_pool2d(upsample_nearest(large, 2), 2) + adaptive_max_pool2d(large, 2)));
  }
  void visit(Visitor& v) {
    v("conv", conv)("up", up)("norm", norm)("dropout", dropout)("mix", mix)("bias", bias)("head", head);
  }
};

struct Equilibrium {
  SpectralLinear recur;
  Linear inject, head;
  LayerNorm norm;
  FixedPointOptions options;
  Equilibrium(Random random, FixedPointOptions o)
      : recur(16, 16, random, {.bound = 0.8}),
        inject(20, 16, random),
        head(16, 10, random),
        norm(16),
        options(std::move(o)) {}
  Var operator()(const Var& x) const {
    const Var u = norm(inject(x)), w = recur.weight();
    const auto body = [&](const Var& z) { return tanh(linear(z, w, recur.bias->var()) + u); };
    return head(fixed_point(body, Var(Tensor::zeros(u.shape())), options).z);
  }
  void visit(Visitor& v) { v("recur", recur)("inject", inject)("head", head)("norm", norm); }
};

Tensor labels(std::int64_t n) {
  Tensor t = Tensor::arange(n);
  std::int64_t* out = t.mutable_data<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) out[i] %= 10;
  return t;
}

template <class Net>
std::int64_t allocations_of_training(Net& net, const Tensor& x) {
  const ParameterList all = parameters(net);
  Adam adam(all);
  const Var y(labels(x.size(0))), input(x);
  return allocations_of([&] {
    Tape tape;
    const Var loss = cross_entropy(net(input), y);
    Vars g = grad(loss, all);
    clip_by_global_norm(g, 1.0);
    adam.step(g);
  });
}

}  // namespace

TEST_CASE("the counter counts", "[no_malloc]") {
  if (!BANACH_COUNTS_MALLOC) {
    WARN("SKIPPED: malloc cannot be counted here");
    return;
  }
  calls = 0;
  counting = true;
  void* volatile first = std::malloc(100);
  void* volatile second = ::operator new(100);
  counting = false;
  CHECK(calls == 2);
  std::free(first);
  ::operator delete(second);
}

TEST_CASE("step 100 of an MLP's training calls malloc not once", "[no_malloc]") {
  Mlp net(Random(1));
  CHECK(allocations_of_training(net, normal({16, 20}, 1).to(DType::f32)) == 0);
}

TEST_CASE("step 100 of a convolutional net's training calls malloc not once", "[no_malloc]") {
  Convolutional net(Random(1));
  CHECK(allocations_of_training(net, normal({8, 1, 4, 4}, 1).to(DType::f32)) == 0);
}

TEST_CASE("step 100 of a net with attention calls malloc not once", "[no_malloc]") {
  Attentive net(Random(1));
  CHECK(allocations_of_training(net, normal({8, 1, 4, 4}, 1).to(DType::f32)) == 0);
}

TEST_CASE("step 100 of an equilibrium model's training calls malloc not once", "[no_malloc]") {
  const auto [solver, rule] = GENERATE(
      std::pair<Solver, BackwardRule>{Picard{}, JacobianFree{}},
      std::pair<Solver, BackwardRule>{Anderson{}, Neumann{}},
      std::pair<Solver, BackwardRule>{Anderson{}, Phantom{}},
      std::pair<Solver, BackwardRule>{Anderson{}, Phantom{.form = Phantom::Form::neumann, .guarded = true}},
      std::pair<Solver, BackwardRule>{Anderson{}, Implicit{}},
      std::pair<Solver, BackwardRule>{Broyden{}, Implicit{Dense{}}},
      std::pair<Solver, BackwardRule>{Broyden{}, Implicit{Iterative{Anderson{}}}},
      std::pair<Solver, BackwardRule>{Picard{}, Unrolled{}},
      std::pair<Solver, BackwardRule>{Picard{}, Unrolled{.checkpoint_every = 3}},
      std::pair<Solver, BackwardRule>{Picard{}, TruncatedUnroll{3}},
      std::pair<Solver, BackwardRule>{Picard{}, Reversible{0.5}},
      std::pair<Solver, BackwardRule>{Picard{}, RandomNeumann{.survival = 0.8}},
      std::pair<Solver, BackwardRule>{Broyden{}, Shine{}},
      std::pair<Solver, BackwardRule>{Broyden{}, Shine{.fallback = 3.0, .refinements = 1}});
  INFO(solver.name() << " with " << rule.name());
  Equilibrium net(Random(1), {.solver = solver, .backward = rule});
  CHECK(allocations_of_training(net, normal({16, 20}, 1).to(DType::f32)) == 0);
}

TEST_CASE("a loader in its steady state calls malloc not once", "[no_malloc]") {
  const int prefetch = GENERATE(0, 2);
  Loader loader(load_digits().train, {.batch_size = 64, .drop_last = true, .prefetch = prefetch});
  double total = 0.0;
  CHECK(allocations_of([&] { total += loader.next().x.at(0); }) == 0);
}
