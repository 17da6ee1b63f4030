#include <apps/copy/task.hpp>

#include <algorithm>
#include <cmath>

#include <banach/engine/random.hpp>

namespace banach::copy_task {

Sequences make_sequences(std::int64_t batch, std::int64_t delay, std::uint64_t seed, std::uint64_t stream) {
  const std::int64_t positions = length(delay);
  Sequences made{Tensor::full({batch, positions}, blank, DType::i64),
                 Tensor::full({batch, positions}, blank, DType::i64)};
  Random random(seed, stream);
  auto *in = made.inputs.mutable_data<std::int64_t>(), *out = made.targets.mutable_data<std::int64_t>();
  for (std::int64_t b = 0; b < batch; ++b, in += positions, out += positions) {
    for (std::int64_t k = 0; k < remembered; ++k)
      in[k] = out[positions - remembered + k] = random.below(symbols);
    std::fill_n(in + positions - remembered, remembered, go);
  }
  return made;
}

double memoryless_loss(std::int64_t delay) {
  return static_cast<double>(remembered) * std::log(static_cast<double>(symbols)) /
         static_cast<double>(length(delay));
}

}  // namespace banach::copy_task
