#include <banach/solvers/check.hpp>
#include <banach/solvers/fixed_point.hpp>
#include <banach/solvers/vector.hpp>

namespace banach {
namespace {

class PicardStepper final : public Stepper {
 public:
  PicardStepper(std::int64_t n, double damping) : n_(n), damping_(damping) {}

  void propose(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) override {
    dispatch_floating(z.dtype(), [&](auto zero) { step<decltype(zero)>(z, fz, active, next); });
  }

 private:
  template <class T>
  void step(const Tensor& z, const Tensor& fz, std::span<const char> active, Tensor& next) const {
    T* out = next.mutable_data<T>();
    vec::for_active(active, n_, [&, z_data = z.data<T>(), f_data = fz.data<T>()](std::int64_t s) {
      vec::damped_step(z_data + s * n_, f_data + s * n_, damping_, out + s * n_, n_);
    });
  }

  std::int64_t n_;
  double damping_;
};

}  // namespace

std::unique_ptr<Stepper> Picard::start(std::int64_t, std::int64_t n, DType) const {
  check_positive(name, "damping", damping);
  return std::make_unique<PicardStepper>(n, damping);
}

}  // namespace banach
