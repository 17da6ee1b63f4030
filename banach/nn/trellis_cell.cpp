#include <banach/nn/trellis_cell.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/shape_ops.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace banach::nn {
namespace {

constexpr std::string_view layer_name = "trellis_cell";

// v, `distance` positions later; before the first of v stand the last ones of `before`, and before those
// zeros.
struct Lag {
  std::int64_t distance;
  Var front;  // what moves in, (batch, min(distance, length), width); a constant

  Lag(const Var& like, const Tensor& before, std::int64_t width, std::int64_t positions)
      : distance(positions) {
    const std::int64_t length = like.size(1), entering = std::min(distance, length);
    const Tensor seen = before.defined() ? last_positions({}, before, distance) : Tensor();
    const std::int64_t zeros = std::min(entering, distance - (seen.defined() ? seen.shape()[1] : 0));
    const NoGrad off;
    front = Var(Tensor::zeros({like.size(0), zeros, width}, like.dtype()));
    if (zeros < entering) front = concat({front, slice(Var(seen), 1, 0, entering - zeros)}, 1);
  }
  Var operator()(const Var& v) const {
    const std::int64_t staying = v.size(1) - front.size(1);
    return staying == 0 ? front : concat({front, slice(v, 1, 0, staying)}, 1);
  }
};

// One share of the channels, with all that does not depend on z at hand.
struct BoundLevel {
  Var weight, injected;
  Lag lag_h, lag_c;
  std::int64_t begin, channels;  // of its part of c

  struct State {
    Var h, c;
  };
  // `h` is what the convolution sees of it, `c` the level's own part.
  State operator()(const Var& h, const Var& c) const {
    const Var gates = linear(concat({lag_h(h), h}, 2), weight) + injected;
    const auto gate = [&](int k) { return slice(gates, 2, k * channels, (k + 1) * channels); };
    const Var next = sigmoid(gate(1)) * lag_c(c) + sigmoid(gate(0)) * tanh(gate(3));
    return {sigmoid(gate(2)) * tanh(next), next};
  }
};

Tensor part(const Tensor& z, std::int64_t begin, std::int64_t end) {
  const NoGrad off;
  return z.defined() ? slice(Var(z), 2, begin, end).value() : Tensor();
}

void check_memory(const Tensor& memory, const Var& x, std::int64_t width, std::string_view of) {
  if (!memory.defined()) return;
  if (memory.shape().rank() != 3 || memory.shape()[0] != x.size(0) || memory.shape()[2] != width)
    fail<ShapeError>(layer_name, fmt::format("the memory of {} must be ({},m,{}): got {}", of, x.size(0),
                                             width, memory.shape().to_string()));
}

}  // namespace

TrellisCell::TrellisCell(const TrellisCellOptions& options, Random& random)
    : input_(options.input), hidden_(options.hidden), dropout_(options.dropout, random) {
  const auto levels = static_cast<std::int64_t>(options.dilations.size());
  if (input_ < 1 || hidden_ < 1)
    fail<ValueError>(layer_name,
                     fmt::format("input and hidden must be at least 1: got {} and {}", input_, hidden_));
  if (levels == 0 || hidden_ % levels != 0)
    fail<ValueError>(layer_name,
                     fmt::format("the number of dilations must divide hidden: {} for {}", levels, hidden_));
  const std::int64_t gates = 4 * hidden_ / levels;
  for (const std::int64_t dilation : options.dilations) {
    if (dilation < 1)
      fail<ValueError>(layer_name, fmt::format("dilations must be at least 1: got {}", dilation));
    levels_.push_back(
        {dilation,
         {2 * hidden_, gates, random, {.bias = false, .dtype = options.dtype}, options.weight_norm},
         {2 * input_, gates, random, {.dtype = options.dtype}, options.weight_norm}});
  }
}

SequenceBody TrellisCell::bind(const Var& x, const SegmentMemory& memory) const {
  check_sequence(layer_name, x, input_);
  check_dtype(layer_name, levels_.front().recur.direction, x, memory);
  check_memory(memory.z, x, 2 * hidden_, "z");
  check_memory(memory.x, x, input_, "x");
  const DropoutMask drop = dropout_.mask();
  Var mask;  // the same at all positions
  if (drop.p > 0.0) mask = drop(Var(Tensor::ones({x.size(0), 1, hidden_}, x.dtype())));
  const auto seen = [mask](const Var& h) { return mask.defined() ? h * mask : h; };
  const Tensor h_before = part(memory.z, 0, hidden_);

  std::vector<BoundLevel> levels;
  std::int64_t begin = hidden_;
  const std::int64_t channels = hidden_ / static_cast<std::int64_t>(levels_.size());
  for (const Level& level : levels_) {
    const Lag lag_x(x, memory.x, input_, level.dilation);
    const Tensor seen_before = h_before.defined() ? seen(Var(h_before)).detach().value() : Tensor();
    levels.push_back({level.recur.weight(), level.inject(concat({lag_x(x), x}, 2)),
                      Lag(x, seen_before, hidden_, level.dilation),
                      Lag(x, part(memory.z, begin, begin + channels), channels, level.dilation), begin,
                      channels});
    begin += channels;
  }
  return [levels = std::move(levels), seen, hidden = hidden_](const Var& z) {
    const Var h = seen(slice(z, 2, 0, hidden));
    Vars parts(2 * levels.size());
    for (std::size_t k = 0; k < levels.size(); ++k) {
      const BoundLevel& level = levels[k];
      auto [next_h, next_c] = level(h, slice(z, 2, level.begin, level.begin + level.channels));
      parts[k] = std::move(next_h);
      parts[levels.size() + k] = std::move(next_c);
    }
    return concat(parts, 2);
  };
}

Var TrellisCell::start(const Var& x) const {
  return Var(Tensor::zeros({x.size(0), x.size(1), 2 * hidden_}, x.dtype()));
}

Var TrellisCell::output(const Var& z) const { return slice(z, 2, 0, hidden_); }

SegmentMemory TrellisCell::remember(const SegmentMemory& old, const Tensor& z, const Tensor& x) const {
  std::int64_t furthest = 0;
  for (const Level& level : levels_) furthest = std::max(furthest, level.dilation);
  return nn::remember(old, z, x, furthest);
}

}  // namespace banach::nn
