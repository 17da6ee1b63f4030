#include <banach/solvers/derivatives.hpp>
#include <banach/solvers/krylov.hpp>
#include <banach/solvers/line_search.hpp>
#include <banach/solvers/newton.hpp>

#include <fmt/format.h>

namespace banach {
namespace {

template <class T>
class NewtonKrylovStepper final : public LineSearchStepper<T> {
 public:
  NewtonKrylovStepper(const NewtonKrylov& options, const FixedPointProblem& problem, std::int64_t batch,
                      std::int64_t n, DType dtype)
      : LineSearchStepper<T>(batch, n, dtype, true),
        options_(options),
        derivatives_(NewtonKrylov::name, problem),
        forcing_(static_cast<std::size_t>(batch), options.forcing),
        last_(static_cast<std::size_t>(batch), 0.0) {}

 private:
  using Base = LineSearchStepper<T>;
  using Base::n_;

  // A d = g, to a residual of eta ||g||; GMRES makes it orthogonal to A d, so the slope is -||A d||^2 /
  // ||g||.
  void find_directions(const Tensor& z, const Tensor& fz, std::span<const char> wanted) override {
    Tensor g = Tensor::zeros(z.shape(), z.dtype());  // a row of zeros asks for nothing
    T* rows = g.mutable_data<T>();
    vec::for_active(wanted, n_, [&](std::int64_t s) {
      vec::subtract(fz.data<T>() + s * n_, z.data<T>() + s * n_, rows + s * n_, n_);
      update_forcing(s);
    });
    const LinearSolution d = gmres_cycle(options_.krylov, forcing_, derivatives_.jvp_at(z, fz), g);
    vec::for_active(wanted, n_, [&](std::int64_t s) {
      const auto at = static_cast<std::size_t>(s);
      StepInfo& info = Base::info_of(s);
      info.products += d.applications[at];
      if (derivatives_.differences()) info.evaluations += d.applications[at];
      std::copy_n(d.x.data<T>() + s * n_, n_, Base::direction(s));
      const double left = d.residual[at];
      Base::set_slope(
          s, d.status[at] == Status::non_finite ? std::nan("") : -(1.0 - left * left) * Base::residual(s));
    });
  }

  void update_forcing(std::int64_t s) {
    const auto at = static_cast<std::size_t>(s);
    const double residual = Base::residual(s), ratio = residual / last_[at];
    if (last_[at] > 0.0) {
      const double before = 0.9 * forcing_[at] * forcing_[at];
      double eta = 0.9 * ratio * ratio;
      if (before > 0.1) eta = std::max(eta, before);
      forcing_[at] = std::clamp(eta, 10.0 * static_cast<double>(std::numeric_limits<T>::epsilon()), 0.9);
    }
    last_[at] = residual;
  }

  NewtonKrylov options_;
  Derivatives derivatives_;
  PoolVector<double> forcing_, last_;  // eta and ||g|| of each sample's last step
};

}  // namespace

std::unique_ptr<Stepper> NewtonKrylov::start(const FixedPointProblem& problem, std::int64_t batch,
                                             std::int64_t n, DType dtype) const {
  if (krylov < 1) fail<ValueError>(name, fmt::format("krylov must be at least 1: got {}", krylov));
  if (!(forcing >= 0.0 && forcing <= 0.9))
    fail<ValueError>(name, fmt::format("forcing must be in [0, 0.9]: got {}", forcing));
  return dispatch_floating(dtype, [&](auto zero) -> std::unique_ptr<Stepper> {
    return std::make_unique<NewtonKrylovStepper<decltype(zero)>>(*this, problem, batch, n, dtype);
  });
}

}  // namespace banach
