#include <banach/solvers/krylov.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

template <class T>
class GmresSample : public KrylovSample<T> {
 public:
  /// Unless `checked`, there is one cycle, and its own word for the residual is taken.
  GmresSample(std::int64_t n, int columns, int max_steps, double tolerance, bool checked)
      : KrylovSample<T>(n, max_steps, tolerance),
        columns_(columns),
        checked_(checked),
        tiny_(4.0 * std::sqrt(static_cast<double>(n)) * epsilon),
        r_(static_cast<std::size_t>(columns * columns)),
        givens_(static_cast<std::size_t>(columns)),
        rhs_(static_cast<std::size_t>(columns + 1)) {}

  /// `basis` holds columns + 1 rows; `x` the answer; the first vector goes to `argument`.
  void start(const T* b, T* basis, T* x, T* argument) {
    basis_ = basis;
    if (open(b, x, argument)) begin_cycle(b, b_norm_, argument);
  }

  /// Takes M argument and writes the next argument.
  void advance(const T* product, T* argument) {
    if (!take(product, argument)) return;
    if (checking_)
      finish_cycle(product, argument);
    else
      extend(product, argument);
  }

 private:
  using Base = KrylovSample<T>;
  using Base::b_norm_, Base::best_, Base::check, Base::epsilon, Base::n_, Base::open, Base::steps_left,
      Base::stop, Base::take, Base::tolerance_, Base::x_;

  struct Rotation {
    double c, s;
  };

  T* row(int j) { return basis_ + j * n_; }
  double& r(int i, int j) { return r_[static_cast<std::size_t>(j * columns_ + i)]; }

  void begin_cycle(const T* residual, double norm, T* argument) {
    checking_ = false;
    size_ = 0;
    rhs_[0] = norm;
    vec::divide(residual, norm, row(0), n_);
    vec::copy(row(0), argument, n_);
  }

  // Arnoldi's step: one more column of the Hessenberg matrix, rotated to upper triangular form.
  void extend(const T* product, T* argument) {
    const int j = size_++;
    T* w = row(j + 1);
    vec::subtract(row(j), product, w, n_);
    const double before = vec::norm(w, n_);
    double after = orthogonalise(w, j);
    const bool exhausted = after <= tiny_ * before || size_ == n_;  // the Krylov space is invariant
    if (exhausted) after = 0.0;
    rotate(j, after);
    const double estimate = std::abs(rhs_[static_cast<std::size_t>(size_)]);
    if (exhausted || size_ == columns_ || steps_left() <= 1 || estimate <= tolerance_ * b_norm_)
      return end_cycle(argument);
    vec::divide(w, after, w, n_);
    vec::copy(w, argument, n_);
  }

  // Gram and Schmidt, twice: once is not enough (Giraud, Langou, Rozloznik and van den Eshof 2005).
  double orthogonalise(T* w, int j) {
    for (int i = 0; i <= j; ++i) r(i, j) = 0.0;
    for (int pass = 0; pass < 2; ++pass) vec::project_out(basis_, j + 1, w, n_, &r(0, j));
    return vec::norm(w, n_);
  }

  void rotate(int j, double below) {
    for (int i = 0; i < j; ++i) {
      const Rotation g = givens_[static_cast<std::size_t>(i)];
      const double upper = r(i, j), lower = r(i + 1, j);
      r(i, j) = g.c * upper + g.s * lower;
      r(i + 1, j) = g.c * lower - g.s * upper;
    }
    const double length = std::hypot(r(j, j), below);
    const Rotation g = length > 0.0 ? Rotation{r(j, j) / length, below / length} : Rotation{1.0, 0.0};
    givens_[static_cast<std::size_t>(j)] = g;
    r(j, j) = length;
    double& top = rhs_[static_cast<std::size_t>(j)];
    rhs_[static_cast<std::size_t>(j + 1)] = -g.s * top;
    top *= g.c;
    largest_pivot_ = std::max(largest_pivot_, length);
  }

  // The iterate of smallest residual in the space so far; its true residual is asked for. A pivot of zero
  // stands for a direction in which I - M does nothing: it is left out.
  void end_cycle(T* argument) {
    degenerate_ = r(size_ - 1, size_ - 1) <= tiny_ * largest_pivot_;
    const int used = degenerate_ ? size_ - 1 : size_;
    for (int i = used - 1; i >= 0; --i) {
      double& y = rhs_[static_cast<std::size_t>(i)];
      for (int j = i + 1; j < used; ++j) y -= r(i, j) * rhs_[static_cast<std::size_t>(j)];
      y /= r(i, i);
    }
    vec::copy(x_, argument, n_);
    for (int i = 0; i < used; ++i) vec::axpy(rhs_[static_cast<std::size_t>(i)], row(i), argument, n_);
    checking_ = true;
    if (checked_) return;
    vec::copy(argument, x_, n_);
    best_ = 0.0;
    for (int i = used; i <= size_; ++i) best_ = std::hypot(best_, rhs_[static_cast<std::size_t>(i)]);
    stop(best_ <= tolerance_ * b_norm_ ? Status::converged : Status::max_steps, argument);
  }

  void finish_cycle(const T* product, T* argument) {
    T* residual = row(0);  // the basis is not needed any more
    const bool better = check(product, argument, residual);
    if (!this->running()) return;
    if (!better)
      stop(degenerate_ ? Status::singular : Status::stagnated, argument);
    else if (steps_left() < 2)
      stop(Status::max_steps, argument);
    else
      begin_cycle(residual, vec::norm(residual, n_), argument);
  }

  int columns_;
  bool checked_;
  double tiny_;
  T* basis_ = nullptr;
  PoolVector<double> r_;  // by columns
  PoolVector<Rotation> givens_;
  PoolVector<double> rhs_;  // of the triangular system, then its solution
  double largest_pivot_ = 0.0;
  int size_ = 0;
  bool checking_ = false, degenerate_ = false;
};

template <class T>
LinearSolution solve(const Gmres& options, const StateMap& apply, const Tensor& b) {
  const std::int64_t batch = b.shape()[0], n = b.shape()[1];
  const int columns = static_cast<int>(std::min<std::int64_t>({options.restart, n, options.max_steps}));
  PoolVector<GmresSample<T>> samples(static_cast<std::size_t>(batch),
                                     GmresSample<T>(n, columns, options.max_steps, options.tolerance, true));
  return run_krylov<T>(Gmres::name, samples, columns + 1, apply, b);
}

}  // namespace

LinearSolution gmres_cycle(int columns, std::span<const double> tolerances, const StateMap& apply,
                           const Tensor& b) {
  return dispatch_floating(b.dtype(), [&](auto zero) {
    using Sample = GmresSample<decltype(zero)>;
    const std::int64_t n = b.shape()[1];
    columns = static_cast<int>(std::min<std::int64_t>(columns, n));
    PoolVector<Sample> samples;
    for (const double tolerance : tolerances)
      samples.emplace_back(n, columns, std::numeric_limits<int>::max(), tolerance, false);
    return run_krylov<decltype(zero)>(Gmres::name, samples, columns + 1, apply, b);
  });
}

void check(const Gmres& o) {
  if (o.restart < 1)
    fail<ValueError>(Gmres::name, fmt::format("restart must be at least 1: got {}", o.restart));
  check_budget(Gmres::name, o.max_steps, o.tolerance);
}

LinearSolution solve_linear(const Gmres& solver, const StateMap& apply, const Tensor& b) {
  check(solver);
  check_state(Gmres::name, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) { return solve<decltype(zero)>(solver, apply, b); });
}

}  // namespace banach
