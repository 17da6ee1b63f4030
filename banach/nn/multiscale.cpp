#include <banach/nn/multiscale.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/upsample.hpp>

#include <fmt/format.h>

namespace banach::nn {
namespace {

constexpr std::string_view layer_name = "multiscale_block";

ConvOptions geometry(std::int64_t kernel, std::int64_t stride, DType dtype) {
  return {.stride = stride, .padding = kernel / 2, .bias = false, .dtype = dtype};
}

void scale(Parameter& parameter, double factor) {
  const NoGrad off;
  parameter.set((parameter.var() * factor).value());
}

}  // namespace

MultiscaleBlock::NormedConv::NormedConv(std::int64_t in, std::int64_t out, std::int64_t kernel,
                                        std::int64_t stride, const MultiscaleOptions& options, Random& random)
    : conv(in, out, kernel, random, geometry(kernel, stride, options.dtype)),
      norm(options.groups, out, {.dtype = options.dtype}) {}

MultiscaleBlock::MultiscaleBlock(const MultiscaleOptions& options, Random& random)
    : channels_(options.channels), dtype_(options.dtype), dropout_(options.dropout, random) {
  if (channels_.empty()) fail<ValueError>(layer_name, "expects the channels of at least one scale");
  for (const std::int64_t c : channels_) {
    const GroupNorm norm(options.groups, c, {.dtype = dtype_});
    blocks_.push_back({NormedConv(c, c, 3, 1, options, random),
                       Conv2d(c, c, 3, random, geometry(3, 1, dtype_)), norm, norm});
  }
  for (std::size_t from = 0; from < channels_.size(); ++from)
    for (std::size_t to = 0; to < channels_.size(); ++to) {
      Path path;
      if (from > to) path.steps.emplace_back(channels_[from], channels_[to], 1, 1, options, random);
      for (std::size_t k = from; k < to; ++k)
        path.steps.emplace_back(channels_[from], channels_[k + 1 == to ? to : from], 3, 2, options, random);
      paths_.push_back(std::move(path));
    }
  for (std::size_t i = 1; i < channels_.size(); ++i)
    inject_.emplace_back(channels_[i - 1], channels_[i], 3, 2, options, random);
  for (const std::int64_t c : channels_) merge_.emplace_back(c, c, 1, 1, options, random);
  for (ResidualBlock& block : blocks_) scale(block.second.weight, 0.1);
  for (NormedConv& merge : merge_) scale(*merge.norm.weight, 0.25);
}

MultiscaleBlock::Body MultiscaleBlock::bind(const Var& x) const {
  if (x.rank() != 4 || x.size(1) != channels_.front())
    fail<ShapeError>(layer_name,
                     fmt::format("x must be (n,{},h,w): got {}", channels_.front(), x.shape().to_string()));
  std::vector<DropoutMask> drop;
  for (std::size_t i = 0; i < channels_.size(); ++i) drop.push_back(dropout_.mask());

  Vars injected{x};
  for (const NormedConv& down : inject_) injected.push_back(down(injected.back()));

  return [this, injected, drop = std::move(drop)](const Vars& z) {
    Vars b;
    for (std::size_t i = 0; i < z.size(); ++i) {
      const ResidualBlock& block = blocks_[i];
      const Var added = drop[i](block.second(relu(block.first(z[i]))));
      const Var a = block.inner(added + injected[i]);
      b.push_back(block.outer(relu(a + z[i])));
    }
    Vars next;
    for (std::int64_t to = 0; to < scales(); ++to) {
      const auto target = static_cast<std::size_t>(to);
      Var sum = b[target];
      for (std::int64_t from = 0; from < scales(); ++from) {
        Var moved = b[static_cast<std::size_t>(from)];
        const std::vector<NormedConv>& steps = path(from, to).steps;
        for (std::size_t k = 0; k < steps.size(); ++k) moved = steps[k](k == 0 ? moved : relu(moved));
        if (from > to) moved = upsample_bilinear(moved, {z[target].size(2), z[target].size(3)});
        if (from != to) sum = sum + moved;
      }
      next.push_back(merge_[target](relu(sum)));
    }
    return next;
  };
}

Vars MultiscaleBlock::start(const Var& x) const {
  Vars z;
  std::int64_t h = x.size(2), w = x.size(3);
  for (const std::int64_t c : channels_) {
    z.push_back(Var(Tensor::zeros({x.size(0), c, h, w}, dtype_)));
    h = (h + 1) / 2;
    w = (w + 1) / 2;
  }
  return z;
}

}  // namespace banach::nn
