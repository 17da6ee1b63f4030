#include <banach/solvers/check.hpp>
#include <banach/solvers/linear.hpp>
#include <banach/solvers/linear_status.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

// One sample's solve: it names a vector, is given M times that vector, and names the next. Whether it is
// building its Krylov space or checking an iterate is its own affair, so that samples never wait for each
// other.
template <class T>
class GmresSample {
 public:
  GmresSample(const Gmres& options, std::int64_t n, int columns)
      : options_(&options),
        n_(n),
        columns_(columns),
        tiny_(4.0 * std::sqrt(static_cast<double>(n)) * epsilon),
        r_(static_cast<std::size_t>(columns * columns)),
        givens_(static_cast<std::size_t>(columns)),
        rhs_(static_cast<std::size_t>(columns + 1)) {}

  /// `basis` holds columns + 1 rows; `x` the answer; the first vector goes to `argument`.
  void start(const T* b, T* basis, T* x, T* argument) {
    b_ = b;
    basis_ = basis;
    x_ = x;
    b_norm_ = best_ = vec::norm(b, n_);
    if (!std::isfinite(b_norm_)) return stop(Status::non_finite, argument);
    if (b_norm_ == 0.0) return stop(Status::converged, argument);
    if (options_->max_steps < 2) return stop(Status::max_steps, argument);
    begin_cycle(b, b_norm_, argument);
  }

  /// Takes M argument and writes the next argument.
  void advance(const T* product, T* argument) {
    ++steps_;
    if (!vec::all_finite(product, n_)) return stop(Status::non_finite, argument);
    if (checking_)
      check(product, argument);
    else
      extend(product, argument);
  }

  bool running() const { return running_; }
  Status status() const { return status_; }
  double residual() const { return b_norm_ == 0.0 ? 0.0 : best_ / b_norm_; }

 private:
  struct Rotation {
    double c, s;
  };

  T* row(int j) { return basis_ + j * n_; }
  double& r(int i, int j) { return r_[static_cast<std::size_t>(j * columns_ + i)]; }

  void stop(Status status, T* argument) {
    status_ = status;
    running_ = false;
    std::fill_n(argument, n_, T{0});
  }

  void divide(const T* v, double norm, T* out) const {
    for (std::int64_t i = 0; i < n_; ++i) out[i] = static_cast<T>(static_cast<double>(v[i]) / norm);
  }

  void begin_cycle(const T* residual, double norm, T* argument) {
    checking_ = false;
    size_ = 0;
    rhs_[0] = norm;
    divide(residual, norm, row(0));
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
    if (exhausted || size_ == columns_ || steps_ + 1 >= options_->max_steps ||
        estimate <= options_->tolerance * b_norm_)
      return end_cycle(argument);
    divide(w, after, w);
    vec::copy(w, argument, n_);
  }

  // Modified Gram and Schmidt, twice: once is not enough (Giraud, Langou, Rozloznik and van den Eshof 2005).
  double orthogonalise(T* w, int j) {
    for (int i = 0; i <= j; ++i) r(i, j) = 0.0;
    for (int pass = 0; pass < 2; ++pass) {
      for (int i = 0; i <= j; ++i) {
        const double overlap = vec::dot(row(i), w, n_);
        vec::axpy(-overlap, row(i), w, n_);
        r(i, j) += overlap;
      }
    }
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
  }

  void check(const T* product, T* argument) {
    T* image = row(0);  // M x + b, then the residual: the basis is not needed any more
    simd::kernels<T>().add.vv(product, b_, image, n_);
    const double image_norm = vec::norm(image, n_);
    vec::subtract(image, argument, image, n_);
    const double residual = vec::norm(image, n_), previous = best_;
    if (!std::isfinite(residual)) return stop(Status::non_finite, argument);
    if (residual < best_) {
      best_ = residual;
      vec::copy(argument, x_, n_);
    }
    if (solved(residual, image_norm, b_norm_, options_->tolerance, epsilon))
      stop(Status::converged, argument);
    else if (residual > 0.999 * previous)
      stop(degenerate_ ? Status::singular : Status::stagnated, argument);
    else if (steps_ + 2 > options_->max_steps)
      stop(Status::max_steps, argument);
    else
      begin_cycle(image, residual, argument);
  }

  static constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

  const Gmres* options_;
  std::int64_t n_;
  int columns_;
  double tiny_;
  const T* b_ = nullptr;
  T *basis_ = nullptr, *x_ = nullptr;
  PoolVector<double> r_;  // by columns
  PoolVector<Rotation> givens_;
  PoolVector<double> rhs_;  // of the triangular system, then its solution
  double b_norm_ = 0.0, best_ = 0.0, largest_pivot_ = 0.0;
  int size_ = 0, steps_ = 0;
  bool checking_ = false, degenerate_ = false, running_ = true;
  Status status_ = Status::max_steps;
};

void check_options(const Gmres& o) {
  if (o.restart < 1)
    fail<ValueError>(Gmres::name, fmt::format("restart must be at least 1: got {}", o.restart));
  check_budget(Gmres::name, o.max_steps, o.tolerance);
}

template <class T>
LinearSolution solve(const Gmres& options, const StateMap& apply, const Tensor& b) {
  const std::int64_t batch = b.shape()[0], n = b.shape()[1];
  const int columns = static_cast<int>(std::min<std::int64_t>({options.restart, n, options.max_steps}));
  LinearSolution solution{Tensor::zeros(b.shape(), b.dtype()), {}, {}, 0};
  Tensor argument = Tensor::empty(b.shape(), b.dtype());
  Tensor basis = Tensor::empty({batch, columns + 1, n}, b.dtype());
  PoolVector<GmresSample<T>> samples(static_cast<std::size_t>(batch), GmresSample<T>(options, n, columns));
  PoolVector<char> active(static_cast<std::size_t>(batch), 1);

  const auto for_running = [&](auto step) {
    T* argument_data = argument.mutable_data<T>();
    vec::for_active(active, n * columns, [&](std::int64_t s) { step(s, argument_data + s * n); });
    for (std::size_t s = 0; s < samples.size(); ++s) active[s] = samples[s].running();
    return std::find(active.begin(), active.end(), 1) != active.end();
  };
  bool running = for_running([&, b_data = b.data<T>(), basis_data = basis.mutable_data<T>(),
                              x_data = solution.x.mutable_data<T>()](std::int64_t s, T* row) {
    samples[static_cast<std::size_t>(s)].start(b_data + s * n, basis_data + s * (columns + 1) * n,
                                               x_data + s * n, row);
  });
  while (running) {
    const Tensor product = apply(argument);
    check_map(Gmres::name, argument, product);
    ++solution.evaluations;
    running = for_running([&, data = product.data<T>()](std::int64_t s, T* row) {
      samples[static_cast<std::size_t>(s)].advance(data + s * n, row);
    });
  }
  for (const auto& sample : samples) {
    solution.status.push_back(sample.status());
    solution.residual.push_back(sample.residual());
  }
  return solution;
}

}  // namespace

LinearSolution solve_linear(const Gmres& solver, const StateMap& apply, const Tensor& b) {
  check_options(solver);
  check_state(Gmres::name, "b", b);
  return dispatch_floating(b.dtype(), [&](auto zero) { return solve<decltype(zero)>(solver, apply, b); });
}

}  // namespace banach
