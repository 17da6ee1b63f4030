#pragma once

#include <banach/engine/grad.hpp>

#include <string>
#include <vector>

namespace banach::nn {

/// A tensor that is trained. Used as a Var it is a leaf of the tape that records (made at its first use,
/// captured by implicit nodes like any Var), or a constant if it is frozen or nothing records. A copy is a
/// parameter of its own with the same value; an update never changes what a live tape has seen.
class Parameter {
 public:
  Parameter() : Parameter(Tensor()) {}
  explicit Parameter(Tensor value);
  Parameter(const Parameter& other);
  Parameter(Parameter&&) noexcept = default;
  Parameter& operator=(const Parameter& other);
  Parameter& operator=(Parameter&&) noexcept = default;

  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  std::int64_t size() const { return value_.size(); }

  Var var() const;
  operator Var() const { return var(); }  // NOLINT: implicit, so that layers read matmul(x, weight)

  /// Replaces the value. Throws ShapeError if the shape differs (a defined value keeps its shape).
  void set(Tensor value);
  /// Changes the value in place where nobody shares it: `change` gets the Tensor.
  template <class F>
  void update(F change) {
    change(value_);
    ++version_;
  }
  void to(DType dtype);

  bool trainable() const { return trainable_; }
  void set_trainable(bool trainable) { trainable_ = trainable; }
  /// Identity: distinct for all parameters of the program, copies included.
  std::uint64_t id() const { return id_; }
  /// Grows with every change of the value.
  std::uint64_t version() const { return version_; }

 private:
  Tensor value_;
  std::uint64_t id_;
  std::uint64_t version_ = 0;
  bool trainable_ = true;
};

struct NamedParameter {
  std::string name;  ///< path in the model: "blocks.0.conv.weight"
  Parameter* parameter;
};

/// Parameters of a model, in the order of its visit(). Points into the model: do not keep it longer.
using ParameterList = std::vector<NamedParameter>;

/// d loss / d parameter, one for each entry; zeros for a parameter the loss does not depend on (a frozen one
/// always).
Vars grad(const Var& loss, const ParameterList& parameters, const GradOptions& options = {});

/// Total number of elements.
std::int64_t count(const ParameterList& parameters);

/// While alive, these parameters stand for the given Vars on this thread: a model can be called with
/// parameters passed in (meta-learning, gradients of gradients with respect to an update). Throws ShapeError
/// on a mismatch.
class Substitution {
 public:
  Substitution(const ParameterList& parameters, const Vars& values);
  ~Substitution();
  Substitution(const Substitution&) = delete;
  Substitution& operator=(const Substitution&) = delete;

  /// The Var that stands for this parameter now, or null.
  static const Var* find(std::uint64_t id);

 private:
  std::vector<std::pair<std::uint64_t, Var>> values_;
  const Substitution* enclosing_;
};

}  // namespace banach::nn
