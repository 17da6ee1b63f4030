#include <banach/ops/implicit/probe.hpp>

namespace banach {

Tensor draw(Random& random, Probe probe, const Shape& shape, DType dtype) {
  Tensor v = Tensor::empty(shape, dtype);
  dispatch_floating(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* out = v.mutable_data<T>();
    random.fill_normal(out, v.size());
    if (probe == Probe::rademacher)
      for (std::int64_t i = 0; i < v.size(); ++i) out[i] = out[i] < 0 ? T(-1) : T(1);
  });
  return v;
}

}  // namespace banach
