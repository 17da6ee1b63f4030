#pragma once

#include <banach/nn/conv.hpp>
#include <banach/nn/dropout.hpp>
#include <banach/nn/norm.hpp>

#include <functional>
#include <vector>

namespace banach::nn {

struct MultiscaleOptions {
  /// Of the state at each scale, the finest first; every scale has half the rows and columns of the one
  /// before, rounded up.
  std::vector<std::int64_t> channels = {16, 32};
  std::int64_t groups = 4;  ///< of the group norms; divides all channels
  double dropout = 0.0;     ///< of what the residual blocks add: one mask a solve
  DType dtype = DType::f32;
};

/// The multiscale equilibrium block for images: Bai, Koltun, Kolter 2020, "Multiscale deep equilibrium
/// models", section 3.2. A state has one image a scale, (n, channels, h, w). With z the state of a scale and
/// u the injection of x (n, channels[0], h, w), a residual block
///     a = norm(conv(relu(norm(conv(z)))) + u),   b = norm(relu(a + z))
/// and then fusion: the b of finer scales come by strided 3x3 convolutions, one for each halving, those of
/// coarser ones by a 1x1 convolution and bilinear interpolation; their sum goes through relu, a 1x1
/// convolution and a norm. All norms are group norms, so samples are apart and the state is bounded.
///
/// In the paper x enters at the finest scale alone. Here it goes down to all of them, by strided convolutions
/// computed once; second convolutions start at a tenth, and the scale of the last norms at 1/4. So f is a
/// contraction at the start: for two scales of 8 and 16 channels and random x of 8 x 8 pixels the spectral
/// radius of J at the equilibrium is 0.4 to 0.6, and Anderson takes 10 evaluations to 1e-4; without all this
/// it is 1.6 to 2.2, and 60 evaluations do not reach 1e-2.
///
///   const FixedPoints solved = fixed_point(block.bind(x), block.start(x), options);
class MultiscaleBlock {
 public:
  using Body = std::function<Vars(const Vars& z)>;

  /// Throws ValueError unless there is a scale and `groups` divides all channels.
  MultiscaleBlock(const MultiscaleOptions& options, Random& random);

  /// f for these images; the block must outlive it. Throws ShapeError unless x is (n, channels[0], h, w).
  Body bind(const Var& x) const;
  /// z0: zeros.
  Vars start(const Var& x) const;
  void visit(Visitor& visitor) {
    visitor("blocks", blocks_)("paths", paths_)("inject", inject_)("merge", merge_)("dropout", dropout_);
  }

 private:
  struct NormedConv {
    Conv2d conv;
    GroupNorm norm;
    NormedConv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
               const MultiscaleOptions& options, Random& random);
    Var operator()(const Var& x) const { return norm(conv(x)); }
    void visit(Visitor& visitor) { visitor("conv", conv)("norm", norm); }
  };
  struct ResidualBlock {
    NormedConv first;
    Conv2d second;
    GroupNorm inner, outer;
    void visit(Visitor& visitor) {
      visitor("first", first)("second", second)("inner", inner)("outer", outer);
    }
  };
  /// From one scale to another: several steps down, one up, none to itself.
  struct Path {
    std::vector<NormedConv> steps;
    void visit(Visitor& visitor) { visitor("steps", steps); }
  };

  std::int64_t scales() const { return static_cast<std::int64_t>(channels_.size()); }
  const Path& path(std::int64_t from, std::int64_t to) const {
    return paths_[static_cast<std::size_t>(from * scales() + to)];
  }

  std::vector<std::int64_t> channels_;
  DType dtype_;
  std::vector<ResidualBlock> blocks_;
  std::vector<Path> paths_;         ///< row-major (from, to)
  std::vector<NormedConv> inject_;  ///< from a scale to the next
  std::vector<NormedConv> merge_;
  Dropout dropout_;
};

}  // namespace banach::nn
