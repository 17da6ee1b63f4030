#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/ops/implicit/regularization.hpp>
#include <banach/ops/reduce.hpp>

#include <string>

namespace banach {
namespace {

constexpr std::string_view op_name = "jacobian_regularization";

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
    const Var pulled = at.pull({Var(draw(random, options.probe, z.shape(), z.dtype()))}).front();
    const Var one = mean(square(pulled));
    total = total.defined() ? total + one : one;
  }
  return total / static_cast<double>(options.probes);
}

}  // namespace banach
