#include <banach/nn/dropout.hpp>

#include <fmt/format.h>

#include <bit>

namespace banach::nn {

Dropout::Dropout(double probability, Random& random)
    : p(probability), generator{tensor({std::bit_cast<std::int64_t>(random.bits()), std::int64_t{0}})} {
  if (!(p >= 0.0 && p < 1.0)) fail<ValueError>("dropout", fmt::format("p must lie in [0, 1): got {}", p));
}

DropoutMask Dropout::mask() const {
  if (!mode.training) return {0.0, {}};
  std::int64_t* state = generator.value.mutable_data<std::int64_t>();
  const auto drawn = static_cast<std::uint64_t>(state[1]++);
  return {p, {std::bit_cast<std::uint64_t>(state[0]), drawn, 0}};
}

}  // namespace banach::nn
