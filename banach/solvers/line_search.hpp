#pragma once
// Internal: a line search spread over the evaluations of the loop: each evaluation of f is a trial point of
// each sample.

#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {

/// With g = f(z) - z, goes along a direction d from the iterate z to a point where
///   ||g(z + t d)|| <= ||g(z)|| + 1e-4 t slope,   slope = the derivative of ||g|| along d.
/// What d is, its subclass says.
template <class T>
class LineSearchStepper : public Stepper {
 public:
  /// Unless `search`, any point where f is finite is accepted.
  LineSearchStepper(std::int64_t batch, std::int64_t n, DType dtype, bool search)
      : batch_(batch),
        n_(n),
        search_(search),
        z_(Tensor::zeros({batch, n}, dtype)),
        fz_(Tensor::zeros({batch, n}, dtype)),
        direction_(static_cast<std::size_t>(batch * n)),
        lines_(static_cast<std::size_t>(batch)),
        wanted_(static_cast<std::size_t>(batch)) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) final {
    const T *z_data = z.data<T>(), *f_data = fz.data<T>();
    T *base_z = z_.mutable_data<T>(), *base_f = fz_.mutable_data<T>();
    std::fill(wanted_.begin(), wanted_.end(), 0);
    vec::for_active(active, n_, [&](std::int64_t s) {
      const std::int64_t row = s * n_;
      wanted_[static_cast<std::size_t>(s)] = accepts(s, z_data + row, f_data + row);
      if (!wanted_[static_cast<std::size_t>(s)]) return;
      vec::copy(z_data + row, base_z + row, n_);
      vec::copy(f_data + row, base_f + row, n_);
    });
    if (std::find(wanted_.begin(), wanted_.end(), 1) != wanted_.end()) find_directions(z_, fz_, wanted_);
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_, [&](std::int64_t s) { move(s, base_z + s * n_, out + s * n_); });
  }

  StepInfo info(std::int64_t s) const final { return lines_[static_cast<std::size_t>(s)].info; }

  std::int64_t history_bytes() const override {
    return 2 * z_.size() * static_cast<std::int64_t>(sizeof(T)) +
           static_cast<std::int64_t>(direction_.size() * sizeof(double));
  }

 protected:
  /// For every wanted sample, at the iterate z with f = fz: writes direction(s) and calls set_slope(s, ...).
  virtual void find_directions(const Tensor& z, const Tensor& fz, std::span<const char> wanted) = 0;

  double* direction(std::int64_t s) { return direction_.data() + s * n_; }
  double residual(std::int64_t s) const { return lines_[static_cast<std::size_t>(s)].residual; }
  void set_slope(std::int64_t s, double slope) { lines_[static_cast<std::size_t>(s)].slope = slope; }
  StepInfo& info_of(std::int64_t s) { return lines_[static_cast<std::size_t>(s)].info; }

  std::int64_t batch_, n_;

 private:
  struct Line {
    double residual = 0.0;  // ||g|| at the iterate, and its slope along the direction
    double slope = 0.0;
    double t = 1.0;
    double trial = 0.0;  // ||g|| at the last trial point; infinite where f was not finite
    bool started = false;
    StepInfo info;
  };

  // Takes in the point last proposed. True if it is the iterate from now on.
  bool accepts(std::int64_t s, const T* z, const T* f) {
    Line& line = lines_[static_cast<std::size_t>(s)];
    line.trial = vec::all_finite(f, n_) ? vec::distance(f, z, n_) : infinity;
    if (line.started && !(line.trial <= line.info.limit && line.trial < infinity)) return false;
    line.started = true;
    line.residual = line.trial;
    line.t = 1.0;
    return true;
  }

  void move(std::int64_t s, const T* base, T* out) {
    Line& line = lines_[static_cast<std::size_t>(s)];
    if (!wanted_[static_cast<std::size_t>(s)]) line.t *= reduction(line);
    const double* d = direction(s);
    for (std::int64_t i = 0; i < n_; ++i)
      out[i] = static_cast<T>(static_cast<double>(base[i]) + line.t * d[i]);
    line.info.trial = true;
    line.info.step_length = vec::distance(out, base, n_);
    line.info.limit = search_ ? line.residual + 1e-4 * line.t * line.slope : infinity;
    // NaN, of a derivative that is not finite, compares false.
    const bool descends = line.slope < -epsilon * line.residual;
    if (line.info.step_length > 0.0 && line.t > 1e-10 && (descends || !search_)) return;
    line.info.end = line.trial < infinity && !std::isnan(line.slope) ? Status::stagnated : Status::non_finite;
    vec::copy(base, out, n_);
  }

  // The minimum of the parabola through ||g||^2 at 0 and t with the slope at 0, kept within 0.1 ... 0.5.
  static double reduction(const Line& line) {
    if (!(line.trial < infinity)) return 0.25;
    const double growth = line.trial / line.residual, fall = -2.0 * line.t * line.slope / line.residual;
    const double minimum = 0.5 * fall / (growth * growth - 1.0 + fall);
    return minimum > 0.1 ? std::min(minimum, 0.5) : 0.1;
  }

  static constexpr double infinity = std::numeric_limits<double>::infinity();
  static constexpr double epsilon = std::numeric_limits<double>::epsilon();

  bool search_;
  Tensor z_, fz_;  // the iterates
  PoolVector<double> direction_;
  PoolVector<Line> lines_;
  PoolVector<char> wanted_;
};

}  // namespace banach
