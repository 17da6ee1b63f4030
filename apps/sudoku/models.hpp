#pragma once
// What learns Sudoku: a quadratic program, and two networks to compare it with.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <banach/nn/module.hpp>
#include <banach/ops/implicit/qp.hpp>

namespace banach::sudoku {

struct Prediction {
  Var boards;                           ///< (batch, 64)
  std::optional<QpReport> report = {};  ///< how the problems were solved, if there were any
  AdjointLog adjoint = {};
};

class Model {
 public:
  virtual ~Model() = default;
  virtual void visit(nn::Visitor& visitor) = 0;
  /// What it is, in one sentence.
  virtual std::string description() const = 0;
  /// One-hot puzzles (batch, 64) to boards.
  virtual Prediction operator()(const Var& puzzles) const = 0;
};

/// optnet, conv, mlp.
const std::vector<std::string>& model_names();
/// Throws ValueError for another name.
std::unique_ptr<Model> make_model(const std::string& name, std::uint64_t seed);

/// Constraints Az = b, as A (40, 64) and a positive z0 (64) with b = A z0.
struct Equalities {
  Tensor A, z0;
};
/// Those of a model that is an OptNet.
std::optional<Equalities> equalities(Model& model);
/// The OptNet with these.
std::unique_ptr<Model> make_optnet(const Equalities& given);

}  // namespace banach::sudoku
