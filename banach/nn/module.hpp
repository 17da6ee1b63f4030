#pragma once
// A module is any struct with a `void visit(Visitor&)` that names its parts; there is no base class.
// Everything that concerns all parameters of a model (lists, dtype, freezing, train and eval, checkpoints) is
// a walk of a Visitor.

#include <banach/nn/parameter.hpp>

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace banach::nn {

/// State that is saved but not trained: running statistics, power-iteration vectors.
struct Buffer {
  Tensor value;
};

/// Training or evaluation; a module that behaves differently in the two holds one and visits it.
struct Mode {
  bool training = true;
};

class Visitor;

template <class M>
concept Module = requires(M& module, Visitor& visitor) {
  module.visit(visitor);
};

/// Walks a model; a part is named by the path to it ("blocks.0.conv.weight").
class Visitor {
 public:
  virtual ~Visitor() = default;

  Visitor& operator()(std::string_view name, Parameter& parameter);
  Visitor& operator()(std::string_view name, Buffer& buffer);
  Visitor& operator()(std::string_view name, Mode& mode);

  template <Module M>
  Visitor& operator()(std::string_view name, M& module) {
    enter(name);
    module.visit(*this);
    leave();
    return *this;
  }
  template <class T>
  Visitor& operator()(std::string_view name, std::vector<T>& parts) {
    enter(name);
    for (std::size_t i = 0; i < parts.size(); ++i) (*this)(std::to_string(i), parts[i]);
    leave();
    return *this;
  }
  template <class T, std::size_t N>
  Visitor& operator()(std::string_view name, std::array<T, N>& parts) {
    enter(name);
    for (std::size_t i = 0; i < N; ++i) (*this)(std::to_string(i), parts[i]);
    leave();
    return *this;
  }
  template <class T>
  Visitor& operator()(std::string_view name, std::optional<T>& part) {
    if (part) (*this)(name, *part);
    return *this;
  }
  template <class T>
  Visitor& operator()(std::string_view name, std::unique_ptr<T>& part) {
    if (part) (*this)(name, *part);
    return *this;
  }

 protected:
  virtual void parameter(const std::string&, Parameter&) {}
  virtual void buffer(const std::string&, Buffer&) {}
  virtual void mode(const std::string&, Mode&) {}

 private:
  void enter(std::string_view name);
  void leave();
  std::string path(std::string_view name) const;

  std::vector<std::string> path_;
};

namespace detail {
struct Callbacks {
  std::function<void(const std::string&, Parameter&)> parameter;
  std::function<void(const std::string&, Buffer&)> buffer;
  std::function<void(const std::string&, Mode&)> mode;
};
void walk(const std::function<void(Visitor&)>& visit, const Callbacks& callbacks);

template <Module M>
void walk(M& module, const Callbacks& callbacks) {
  walk([&](Visitor& visitor) { module.visit(visitor); }, callbacks);
}
}  // namespace detail

/// All parameters, frozen ones included.
template <Module M>
ParameterList parameters(M& module) {
  ParameterList list;
  detail::walk(module, {.parameter =
                            [&](const std::string& name, Parameter& p) {
                              list.push_back({name, &p});
                            },
                        .buffer = {},
                        .mode = {}});
  return list;
}

/// Those whose name matches the pattern, in which * stands for any run of characters.
ParameterList select(const ParameterList& parameters, std::string_view pattern);
/// Those that are trainable.
ParameterList trainable(const ParameterList& parameters);

template <Module M>
void set_training(M& module, bool training) {
  detail::walk(module, {.parameter = {}, .buffer = {}, .mode = [&](const std::string&, Mode& mode) {
                          mode.training = training;
                        }});
}
template <Module M>
void train(M& module) {
  set_training(module, true);
}
template <Module M>
void eval(M& module) {
  set_training(module, false);
}

/// Freezes (or, with false, unfreezes) the parameters whose names match. Throws ValueError if none does.
void freeze(const ParameterList& parameters, std::string_view pattern = "*", bool frozen = true);

/// Converts parameters and floating buffers.
template <Module M>
void to(M& module, DType dtype) {
  detail::walk(module, {.parameter = [&](const std::string&, Parameter& p) { p.to(dtype); },
                        .buffer =
                            [&](const std::string&, Buffer& b) {
                              if (b.value.defined() && is_floating(b.value.dtype()))
                                b.value = b.value.to(dtype);
                            },
                        .mode = {}});
}

/// Values of all parameters and buffers by name.
template <Module M>
std::map<std::string, Tensor> state(M& module) {
  std::map<std::string, Tensor> values;
  detail::walk(module, {.parameter = [&](const std::string& name, Parameter& p) { values[name] = p.value(); },
                        .buffer = [&](const std::string& name, Buffer& b) { values[name] = b.value; },
                        .mode = {}});
  return values;
}

namespace detail {
/// values[name], removed from it; throws ValueError (missing) or ShapeError / DTypeError naming the entry.
Tensor take(std::map<std::string, Tensor>& values, const std::string& name, const Tensor& like);
void check_all_taken(const std::map<std::string, Tensor>& values);
}  // namespace detail

/// Sets all parameters and buffers. Throws ValueError naming what is missing or left over, ShapeError what
/// does not fit.
template <Module M>
void load_state(M& module, std::map<std::string, Tensor> values) {
  detail::walk(module, {.parameter = [&](const std::string& name,
                                         Parameter& p) { p.set(detail::take(values, name, p.value())); },
                        .buffer = [&](const std::string& name,
                                      Buffer& b) { b.value = detail::take(values, name, b.value); },
                        .mode = {}});
  detail::check_all_taken(values);
}

}  // namespace banach::nn
