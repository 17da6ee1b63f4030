#include <banach/solvers/check.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/safeguard.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// Solves (A + ridge diag(A)) x = b for a symmetric A of m x m (row-major, stride `lda`) by Cholesky's
// factorisation of the matrix scaled to a unit diagonal: the columns of a fast solve differ in size by many
// orders of magnitude, and their share must not. A column of zeros gets x = 0. False if the matrix is not
// positive definite.
bool solve_ridge(const double* a, int lda, int m, double ridge, double* work, double* b) {
  double *l = work, *scale = work + m * m;
  for (int i = 0; i < m; ++i) scale[i] = a[i * lda + i] > 0.0 ? 1.0 / std::sqrt(a[i * lda + i]) : 0.0;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j <= i; ++j) {
      double sum = i == j ? 1.0 + ridge : a[i * lda + j] * scale[i] * scale[j];
      for (int k = 0; k < j; ++k) sum -= l[i * m + k] * l[j * m + k];
      if (i != j)
        l[i * m + j] = sum / l[j * m + j];
      else if (sum > 0.0)
        l[i * m + i] = std::sqrt(sum);
      else
        return false;
    }
  }
  for (int i = 0; i < m; ++i) {
    b[i] *= scale[i];
    for (int k = 0; k < i; ++k) b[i] -= l[i * m + k] * b[k];
    b[i] /= l[i * m + i];
  }
  for (int i = m - 1; i >= 0; --i) {
    for (int k = i + 1; k < m; ++k) b[i] -= l[k * m + i] * b[k];
    b[i] /= l[i * m + i];
  }
  for (int i = 0; i < m; ++i) b[i] *= scale[i];
  return true;
}

// With g = f(z) - z and the differences dg, df of successive g and f as columns:
//   gamma = argmin ||g - dg gamma||,  next = z + damping g - (df - (1 - damping) dg) gamma.
template <class T>
class AndersonStepper final : public Stepper {
 public:
  AndersonStepper(const Anderson& options, std::int64_t batch, std::int64_t n, DType dtype)
      : options_(options),
        memory_(options.memory),
        n_(n),
        states_(static_cast<std::size_t>(batch)),
        gram_(static_cast<std::size_t>(batch) * memory_ * memory_),
        dg_(Tensor::empty({batch, memory_, n}, dtype)),
        df_(Tensor::empty({batch, memory_, n}, dtype)),
        dg_data_(dg_.mutable_data<T>()),
        df_data_(df_.mutable_data<T>()),
        guard_(batch, n, dtype, {.growth = 10.0, .patience = 10, .restarts = 2}) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_ * memory_,
                    [&](std::int64_t s) { propose(s, z_data + s * n_, f_data + s * n_, out + s * n_); });
  }

  std::int64_t history_bytes() const override {
    const auto doubles = static_cast<std::int64_t>(gram_.size() * sizeof(double));
    return 2 * dg_.size() * static_cast<std::int64_t>(sizeof(T)) + doubles + guard_.bytes();
  }

 private:
  // The differences of one sample stand in slots 0 ... count - 1 of a ring. Slot `head` is the one to be
  // written next; once `pending`, it holds the last g and f, of which the next ones will make differences.
  struct State {
    int count = 0, head = 0;
    bool pending = false;
  };

  void propose(std::int64_t s, const T* z, const T* f, T* next) {
    State& state = states_[static_cast<std::size_t>(s)];
    T *dg = dg_data_ + s * memory_ * n_, *df = df_data_ + s * memory_ * n_;
    if (guard_.restart(s, z, f)) state = {};

    PoolVector<T> g(static_cast<std::size_t>(n_));
    vec::subtract(f, z, g.data(), n_);
    double* gram = gram_.data() + s * memory_ * memory_;
    if (state.pending && !add_difference(state, g.data(), f, dg, df, gram)) state = {};
    if (state.count > 0 && !accelerate(state, gram, z, f, g.data(), dg, df, next)) state = {};
    if (state.count == 0) vec::damped_step(z, f, options_.damping, next, n_);

    vec::copy(g.data(), dg + state.head * n_, n_);
    vec::copy(f, df + state.head * n_, n_);
    state.pending = true;
  }

  // False if the difference is lost in rounding.
  bool add_difference(State& state, const T* g, const T* f, T* dg, T* df, double* gram) const {
    const int slot = state.head;
    vec::subtract(g, dg + slot * n_, dg + slot * n_, n_);
    vec::subtract(f, df + slot * n_, df + slot * n_, n_);
    if (vec::is_rounding(dg + slot * n_, f, n_)) return false;
    state.count = std::min(state.count + 1, memory_);
    state.head = (slot + 1) % memory_;
    for (int i = 0; i < state.count; ++i)
      gram[slot * memory_ + i] = gram[i * memory_ + slot] = vec::dot(dg + i * n_, dg + slot * n_, n_);
    return true;
  }

  // False if the small system has no solution or the step is not finite.
  bool accelerate(const State& state, const double* gram, const T* z, const T* f, const T* g, const T* dg,
                  const T* df, T* next) const {
    const int m = state.count;
    PoolVector<double> gamma(static_cast<std::size_t>(m)), work(static_cast<std::size_t>(m * m + m));
    for (int i = 0; i < m; ++i) gamma[static_cast<std::size_t>(i)] = vec::dot(dg + i * n_, g, n_);
    if (!solve_ridge(gram, memory_, m, options_.ridge, work.data(), gamma.data())) return false;
    vec::damped_step(z, f, options_.damping, next, n_);
    for (int i = 0; i < m; ++i) {
      vec::axpy(-gamma[static_cast<std::size_t>(i)], df + i * n_, next, n_);
      if (options_.damping != 1.0)
        vec::axpy((1.0 - options_.damping) * gamma[static_cast<std::size_t>(i)], dg + i * n_, next, n_);
    }
    return vec::all_finite(next, n_);
  }

  Anderson options_;
  int memory_;
  std::int64_t n_;
  PoolVector<State> states_;
  PoolVector<double> gram_;
  Tensor dg_, df_;
  T *dg_data_, *df_data_;
  Safeguard<T> guard_;
};

}  // namespace

std::unique_ptr<Stepper> Anderson::start(std::int64_t batch, std::int64_t n, DType dtype) const {
  if (memory < 1) fail<ValueError>(name, fmt::format("memory must be at least 1: got {}", memory));
  check_positive(name, "damping", damping);
  if (!(ridge >= 0.0 && std::isfinite(ridge)))
    fail<ValueError>(name, fmt::format("ridge must be finite and not negative: got {}", ridge));
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<AndersonStepper<decltype(zero)>>(*this, batch, n, dtype);
  });
}

}  // namespace banach
