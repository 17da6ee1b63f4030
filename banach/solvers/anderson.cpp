#include <banach/solvers/check.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/safeguard.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// The small systems of the least-squares problems: (A + ridge diag(A)) x = b for a symmetric A, by
// elimination in the upper triangle. A positive definite matrix needs no pivots, and without them the answer
// does not depend on the units of the columns: those of a fast solve differ in size by many orders of
// magnitude.
class RidgeSystem {
 public:
  /// `a` is m x m with its rows `stride` apart; b becomes x, where a column of zeros gets x = 0. False if the
  /// matrix is not positive definite.
  bool solve(const double* a, int stride, int m, double ridge, double* b) {
    rows_.resize(std::max(rows_.size(), static_cast<std::size_t>(m) * (static_cast<std::size_t>(m) + 1)));
    for (int i = 0; i < m; ++i) {
      std::copy(a + i * stride + i, a + i * stride + m, row(m, i) + i);
      row(m, i)[i] *= 1.0 + ridge;
      row(m, i)[m] = b[i];
    }
    for (int k = 0; k < m; ++k) {
      double* const pivots = row(m, k);
      const bool empty = a[k * stride + k] == 0.0;
      if (!empty && !(pivots[k] > 0.0)) return false;
      const double inverse = empty ? 0.0 : 1.0 / pivots[k];
      for (int i = k + 1; i < m; ++i) {
        double* const below = row(m, i);
        const double factor = pivots[i] * inverse;
        for (int j = i; j <= m; ++j) below[j] -= factor * pivots[j];
      }
      pivots[k] = inverse;
    }
    for (int i = m - 1; i >= 0; --i) {
      const double* const right = row(m, i);
      double sum = right[m];
      for (int k = i + 1; k < m; ++k) sum -= right[k] * b[k];
      b[i] = sum * right[i];
    }
    return true;
  }

 private:
  double* row(int m, int i) { return rows_.data() + i * (m + 1); }

  PoolVector<double> rows_;  // of the matrix, each with its entry of b
};

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
    vec::for_active(
        active, n_ * memory_, [&] { return Work(memory_); },
        [&](std::int64_t s, Work& work) {
          propose(s, z_data + s * n_, f_data + s * n_, out + s * n_, work);
        });
  }

  std::int64_t history_bytes() const override {
    const auto doubles = static_cast<std::int64_t>(gram_.size() * sizeof(double));
    return 2 * dg_.size() * static_cast<std::int64_t>(sizeof(T)) + doubles + guard_.bytes();
  }

 private:
  // The differences of one sample stand in slots 0 ... count - 1 of a ring. Slot `head` is the one to be
  // written next; once `pending`, it holds the last g and f, of which the next ones will make differences.
  struct State {
    int count = 0, head = 0, newest = 0;
    bool pending = false;
  };

  struct Work {
    RidgeSystem system = {};
    PoolVector<double> gamma, overlaps;
    explicit Work(int memory)
        : gamma(static_cast<std::size_t>(memory)), overlaps(static_cast<std::size_t>(memory)) {}
  };

  void propose(std::int64_t s, const T* z, const T* f, T* next, Work& work) {
    State& state = states_[static_cast<std::size_t>(s)];
    T *dg = dg_data_ + s * memory_ * n_, *df = df_data_ + s * memory_ * n_;
    double* gram = gram_.data() + s * memory_ * memory_;
    if (guard_.restart(s, z, f)) state = {};

    T* const g = next;  // until the step is known
    vec::subtract(f, z, g, n_);
    if (state.pending && !add_difference(state, g, f, dg, df)) state = {};
    if (state.count > 0 &&
        !(find_mix(state, g, dg, gram, work) && accelerate(state, z, f, dg, df, work, next)))
      state = {};
    if (state.count == 0) vec::damped_step(z, f, options_.damping, next, n_);

    vec::subtract(f, z, dg + state.head * n_, n_);
    vec::copy(f, df + state.head * n_, n_);
    state.pending = true;
  }

  // False if the difference is lost in rounding.
  bool add_difference(State& state, const T* g, const T* f, T* dg, T* df) const {
    T *new_dg = dg + state.head * n_, *new_df = df + state.head * n_;
    vec::subtract(g, new_dg, new_dg, n_);
    vec::subtract(f, new_df, new_df, n_);
    if (vec::is_rounding(new_dg, f, n_)) return false;
    state.count = std::min(state.count + 1, memory_);
    state.newest = state.head;
    state.head = (state.head + 1) % memory_;
    return true;
  }

  // gamma, from the Gram matrix and its new row. False if the small system has no solution.
  bool find_mix(const State& state, const T* g, const T* dg, double* gram, Work& work) const {
    const int m = state.count, newest = state.newest;
    simd::history<T>().wide_dots_of_two(dg, m, dg + newest * n_, g, n_, work.overlaps.data(),
                                        work.gamma.data());
    for (int i = 0; i < m; ++i)
      gram[newest * memory_ + i] = gram[i * memory_ + newest] = work.overlaps[static_cast<std::size_t>(i)];
    return work.system.solve(gram, memory_, m, options_.ridge, work.gamma.data());
  }

  // False if the step is not finite.
  bool accelerate(const State& state, const T* z, const T* f, const T* dg, const T* df, Work& work,
                  T* next) const {
    const auto add = [&](const T* start, const T* rows, double factor) {
      for (int i = 0; i < state.count; ++i)
        work.overlaps[static_cast<std::size_t>(i)] = factor * work.gamma[static_cast<std::size_t>(i)];
      simd::history<T>().combine(start, rows, state.count, work.overlaps.data(), n_, next);
    };
    if (options_.damping == 1.0) {
      add(f, df, -1.0);
    } else {
      vec::damped_step(z, f, options_.damping, next, n_);
      add(next, df, -1.0);
      add(next, dg, 1.0 - options_.damping);
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
