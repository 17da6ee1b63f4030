#include <banach/nn/parameter.hpp>

#include <fmt/format.h>

#include <atomic>

namespace banach::nn {
namespace {

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> id{0};
  return ++id;
}

thread_local const Substitution* innermost = nullptr;

}  // namespace

Parameter::Parameter(Tensor value) : value_(std::move(value)), id_(next_id()) {}

Parameter::Parameter(const Parameter& other)
    : value_(other.value_), id_(next_id()), version_(other.version_), trainable_(other.trainable_) {}

Parameter& Parameter::operator=(const Parameter& other) {
  value_ = other.value_;
  trainable_ = other.trainable_;
  ++version_;
  return *this;
}

Var Parameter::var() const {
  if (innermost)
    if (const Var* stand_in = Substitution::find(id_)) return *stand_in;
  if (!value_.defined())
    fail<ValueError>("parameter", "must have a value: it was default-constructed and never set");
  if (!trainable_ || !recording()) return Var(value_);
  return Tape::current()->keyed_leaf(id_, value_);
}

void Parameter::set(Tensor value) {
  if (value_.defined() && !(value.shape() == value_.shape()))
    fail<ShapeError>("parameter", "the new value must have the shape " + value_.shape().to_string() +
                                      ": got " + value.shape().to_string());
  value_ = std::move(value);
  ++version_;
}

void Parameter::to(DType dtype) {
  if (!value_.defined() || value_.dtype() == dtype) return;
  value_ = value_.to(dtype);
  ++version_;
}

Vars grad(const Var& loss, const ParameterList& parameters, const GradOptions& options) {
  // A parameter updated while the tape lives has several leaves: its gradient is the sum over them.
  Vars leaves;
  PoolVector<std::size_t> owner;
  const Tape* tape = loss.recorded() ? Tape::find(loss.tape()) : nullptr;
  for (std::size_t i = 0; tape && i < parameters.size(); ++i) {
    const Var* stand_in = Substitution::find(parameters[i].parameter->id());
    for (const Var& leaf : stand_in && stand_in->recorded()
                               ? Vars{*stand_in}
                               : tape->keyed_leaves(parameters[i].parameter->id())) {
      leaves.push_back(leaf);
      owner.push_back(i);
    }
  }
  const Vars parts = banach::grad(loss, leaves, options);
  Vars result(parameters.size());
  for (std::size_t k = 0; k < parts.size(); ++k)
    result[owner[k]] = result[owner[k]].defined() ? add_cotangents(result[owner[k]], parts[k]) : parts[k];
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (!result[i].defined())
      result[i] = Var(Tensor::zeros(parameters[i].parameter->shape(), parameters[i].parameter->dtype()));
  return result;
}

std::int64_t count(const ParameterList& parameters) {
  std::int64_t total = 0;
  for (const NamedParameter& entry : parameters) total += entry.parameter->size();
  return total;
}

Substitution::Substitution(const ParameterList& parameters, const Vars& values) : enclosing_(innermost) {
  if (values.size() != parameters.size())
    fail<ShapeError>("substitution", fmt::format("expects one value a parameter: {} for {}", values.size(),
                                                 parameters.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Parameter& parameter = *parameters[i].parameter;
    if (!(values[i].shape() == parameter.shape()) || values[i].dtype() != parameter.dtype())
      fail<ShapeError>("substitution", fmt::format("{} must be {}{}: got {}{}", parameters[i].name,
                                                   name(parameter.dtype()), parameter.shape().to_string(),
                                                   name(values[i].dtype()), values[i].shape().to_string()));
    values_.emplace_back(parameter.id(), values[i]);
  }
  innermost = this;
}

Substitution::~Substitution() { innermost = enclosing_; }

const Var* Substitution::find(std::uint64_t id) {
  for (const Substitution* scope = innermost; scope; scope = scope->enclosing_)
    for (const auto& [key, value] : scope->values_)
      if (key == id) return &value;
  return nullptr;
}

}  // namespace banach::nn
