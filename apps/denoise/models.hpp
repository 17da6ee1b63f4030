#pragma once
// What takes the noise off. All see and give signals in the paper's units; inside, levels are counted from
// the middle one in units of the noise.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <banach/nn/module.hpp>
#include <banach/nn/optim.hpp>
#include <banach/ops/implicit/qp.hpp>

namespace banach::denoise {

struct Estimate {
  Var z;                                ///< (batch, length)
  std::optional<QpReport> report = {};  ///< how the problems were solved, if there were any
  AdjointLog adjoint = {};
};

class Denoiser {
 public:
  virtual ~Denoiser() = default;
  virtual void visit(nn::Visitor& visitor) = 0;
  /// Noisy signals (batch, length), f64.
  virtual Estimate operator()(const Var& y) const = 0;
  /// What is trained, with peaks of the learning rate that suit it; nothing for total variation.
  virtual nn::ParameterGroups groups() = 0;
  /// Matrices and vectors for the page, by name.
  virtual std::map<std::string, Tensor> shown() const { return {}; }
};

/// fc, optnet, tv, tuned, tuned-d.
const std::vector<std::string>& method_names();
/// What a method is, in one sentence.
std::string description(const std::string& method);
/// The test error that the paper prints for it; NaN if it does not.
double error_in_paper(const std::string& method);

/// `lambda` is that of total variation, where tuned starts. The same parameters at every call. Throws
/// ValueError for another name.
std::unique_ptr<Denoiser> make_denoiser(const std::string& method, std::uint64_t seed, double lambda);

}  // namespace banach::denoise
