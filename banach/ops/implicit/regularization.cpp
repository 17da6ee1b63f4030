#include <banach/engine/random.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/reduce.hpp>

#include <string>

namespace banach {
namespace {

constexpr std::string_view op_name = "jacobian_regularization";

Tensor drawn(Random& random, Probe probe, const Var& like) {
  Tensor v = Tensor::empty(like.shape(), like.dtype());
  dispatch_floating(v.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = v.mutable_data<T>();
    random.fill_normal(out, v.size());
    if (probe == Probe::rademacher)
      for (std::int64_t i = 0; i < v.size(); ++i) out[i] = out[i] < 0 ? T(-1) : T(1);
  });
  return v;
}

}  // namespace

Var jacobian_regularization(FunctionRef<Var(const Var&)> f, const Var& z,
                            const JacobianRegularizationOptions& options) {
  check_start(op_name, z);
  if (options.probes < 1)
    fail<ValueError>(op_name, "probes must be at least 1: got " + std::to_string(options.probes));
  if (z.size() == 0) return Var(Tensor::zeros({}, z.dtype()));
  const auto body = [&](const Vars& at) {
    const Var value = f(at.front());
    check_body(op_name, z, value);
    return Vars{value};
  };
  const Differential at(op_name, body, {z});
  Random random(options.seed);
  Var total;
  for (int i = 0; i < options.probes; ++i) {
    const Var pulled = at.pull({Var(drawn(random, options.probe, z))}).front();
    const Var one = mean(square(pulled));
    total = total.defined() ? total + one : one;
  }
  return total / static_cast<double>(options.probes);
}

}  // namespace banach
