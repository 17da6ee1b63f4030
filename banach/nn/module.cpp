#include <banach/nn/module.hpp>

#include <fmt/format.h>

namespace banach::nn {
namespace {

class CallbackVisitor final : public Visitor {
 public:
  explicit CallbackVisitor(const detail::Callbacks& callbacks) : callbacks_(callbacks) {}

 protected:
  void parameter(const std::string& path, Parameter& p) override {
    if (callbacks_.parameter) callbacks_.parameter(path, p);
  }
  void buffer(const std::string& path, Buffer& b) override {
    if (callbacks_.buffer) callbacks_.buffer(path, b);
  }
  void mode(const std::string& path, Mode& m) override {
    if (callbacks_.mode) callbacks_.mode(path, m);
  }

 private:
  const detail::Callbacks& callbacks_;
};

// Whether `text` matches a pattern in which * stands for any run of characters.
bool matches(std::string_view text, std::string_view pattern) {
  std::size_t t = 0, p = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

Visitor& Visitor::operator()(std::string_view name, Parameter& p) {
  parameter(path(name), p);
  return *this;
}

Visitor& Visitor::operator()(std::string_view name, Buffer& b) {
  buffer(path(name), b);
  return *this;
}

Visitor& Visitor::operator()(std::string_view name, Mode& m) {
  mode(path(name), m);
  return *this;
}

void Visitor::enter(std::string_view name) { path_.emplace_back(name); }
void Visitor::leave() { path_.pop_back(); }

std::string Visitor::path(std::string_view name) const {
  std::string full;
  for (const std::string& part : path_) full += part + ".";
  return full.append(name);
}

void detail::walk(const std::function<void(Visitor&)>& visit, const Callbacks& callbacks) {
  CallbackVisitor visitor(callbacks);
  visit(visitor);
}

ParameterList select(const ParameterList& parameters, std::string_view pattern) {
  ParameterList chosen;
  for (const NamedParameter& entry : parameters)
    if (matches(entry.name, pattern)) chosen.push_back(entry);
  return chosen;
}

ParameterList trainable(const ParameterList& parameters) {
  ParameterList chosen;
  for (const NamedParameter& entry : parameters)
    if (entry.parameter->trainable()) chosen.push_back(entry);
  return chosen;
}

void freeze(const ParameterList& parameters, std::string_view pattern, bool frozen) {
  const ParameterList chosen = select(parameters, pattern);
  if (chosen.empty()) fail<ValueError>("freeze", fmt::format("no parameter's name matches '{}'", pattern));
  for (const NamedParameter& entry : chosen) entry.parameter->set_trainable(!frozen);
}

Tensor detail::take(std::map<std::string, Tensor>& values, const std::string& name, const Tensor& like) {
  const auto at = values.find(name);
  if (at == values.end()) fail<ValueError>("load_state", "the state must hold '" + name + "': it is missing");
  Tensor value = std::move(at->second);
  values.erase(at);
  if (!like.defined()) return value;
  if (!(value.shape() == like.shape()))
    fail<ShapeError>("load_state", fmt::format("'{}' must have the shape {}: got {}", name,
                                               like.shape().to_string(), value.shape().to_string()));
  if (value.dtype() != like.dtype())
    fail<DTypeError>("load_state", fmt::format("'{}' must be {}: got {}", name, banach::name(like.dtype()),
                                               banach::name(value.dtype())));
  return value;
}

void detail::check_all_taken(const std::map<std::string, Tensor>& values) {
  if (!values.empty())
    fail<ValueError>("load_state", fmt::format("the model has no '{}' ({} entries are left over)",
                                               values.begin()->first, values.size()));
}

}  // namespace banach::nn
