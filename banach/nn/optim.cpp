#include <banach/engine/parallel.hpp>
#include <banach/engine/simd.hpp>
#include <banach/nn/optim.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace banach::nn {
namespace {

constexpr std::int64_t grain = 1 << 15;  // elements a piece of parallel work

void check_at_least_zero(std::string_view optimizer, std::string_view what, double value) {
  if (!(value >= 0.0) || !std::isfinite(value))
    fail<ValueError>(optimizer, fmt::format("{} must be at least 0 and finite: got {}", what, value));
}

void check_decay_rate(std::string_view optimizer, std::string_view what, double value) {
  if (!(value >= 0.0 && value < 1.0))
    fail<ValueError>(optimizer, fmt::format("{} must lie in [0, 1): got {}", what, value));
}

template <class Options>
const Options& checked(std::string_view optimizer, const Options& options) {
  check_decay_rate(optimizer, "beta1", options.beta1);
  check_decay_rate(optimizer, "beta2", options.beta2);
  check_at_least_zero(optimizer, "epsilon", options.epsilon);
  return options;
}

const SgdOptions& checked(const SgdOptions& options) {
  check_decay_rate("sgd", "momentum", options.momentum);
  if (options.nesterov && options.momentum == 0.0)
    fail<ValueError>("sgd", "nesterov needs a momentum above 0: got 0");
  return options;
}

/// write(old, out, begin, end) over the elements, in parallel. In place, or into a buffer of its own where a
/// tape (or anyone else) still looks at the old value: one pass either way.
template <class T, class Write>
void rewrite(Parameter& parameter, Write write) {
  parameter.update([&](Tensor& value) {
    const bool in_place = value.unique();
    Tensor next = in_place ? Tensor() : Tensor::empty(value.shape(), value.dtype());
    T* out = in_place ? value.mutable_data<T>() : next.mutable_data<T>();
    const T* old = in_place ? out : value.data<T>();
    parallel_for(value.size(), grain,
                 [&](std::int64_t begin, std::int64_t end) { write(old, out, begin, end); });
    if (!in_place) value = std::move(next);
  });
}

// What one step of one parameter needs to know. `coupled` decay joins the gradient, `decoupled` shrinks the
// parameter.
struct AdamStep {
  double rate, beta1, beta2, epsilon, coupled, decoupled;
  std::int64_t t;
};

void adam(Parameter& parameter, std::vector<Tensor>& state, const Tensor& gradient, const AdamStep& step) {
  dispatch_floating(parameter.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const double correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(step.t));
    const double correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(step.t));
    const T rate = static_cast<T>(step.rate / correction1),
            scale = static_cast<T>(1.0 / std::sqrt(correction2));
    const T coupled = static_cast<T>(step.coupled), shrink = static_cast<T>(1.0 - step.rate * step.decoupled);
    const T beta1 = static_cast<T>(step.beta1), rest1 = static_cast<T>(1.0 - step.beta1);
    const T beta2 = static_cast<T>(step.beta2), rest2 = static_cast<T>(1.0 - step.beta2);
    const T epsilon = static_cast<T>(step.epsilon);
    const T* g = gradient.data<T>();
    T *m = state[0].mutable_data<T>(), *v = state[1].mutable_data<T>();
    rewrite<T>(parameter, [&](const T* p, T* out, std::int64_t begin, std::int64_t end) {
      // Blocks that stay in the first cache, since the root is a kernel of its own.
      constexpr std::int64_t block = 256;
      T root[block];
      for (std::int64_t from = begin; from < end; from += block) {
        const std::int64_t n = std::min(block, end - from);
        for (std::int64_t k = 0; k < n; ++k) {
          const std::int64_t i = from + k;
          const T d = g[i] + coupled * p[i];
          m[i] = beta1 * m[i] + rest1 * d;
          root[k] = v[i] = beta2 * v[i] + rest2 * d * d;
        }
        simd::kernels<T>().sqrt(root, root, n);
        for (std::int64_t k = 0; k < n; ++k) {
          const std::int64_t i = from + k;
          out[i] = shrink * p[i] - rate * m[i] / (root[k] * scale + epsilon);
        }
      }
    });
  });
}

}  // namespace

Optimizer::Optimizer(const Settings& settings, const ParameterGroups& groups,
                     std::vector<std::string_view> state)
    : settings_(settings), state_names_(std::move(state)), learning_rate_(settings.learning_rate) {
  if (!(learning_rate_ > 0.0) || !std::isfinite(learning_rate_))
    fail<ValueError>(settings_.name,
                     fmt::format("learning_rate must be above 0 and finite: got {}", learning_rate_));
  std::set<std::string> names;
  std::set<std::uint64_t> ids;
  for (const ParameterGroup& group : groups) {
    const double decay = group.weight_decay.value_or(settings_.weight_decay);
    check_at_least_zero(settings_.name, "weight_decay", decay);
    if (group.learning_rate) check_at_least_zero(settings_.name, "learning_rate", *group.learning_rate);
    for (const auto& [name, parameter] : group.parameters) {
      if (!ids.insert(parameter->id()).second || !names.insert(name).second)
        fail<ValueError>(settings_.name,
                         fmt::format("parameters and their names must be distinct: '{}' comes twice", name));
      if (!is_floating(parameter->dtype()))
        fail<DTypeError>(settings_.name, fmt::format("parameters must be f32 or f64: '{}' is i64", name));
      slots_.push_back({name, parameter, group.learning_rate, decay, 0, {}});
      for (std::size_t i = 0; i < state_names_.size(); ++i)
        slots_.back().state.push_back(Tensor::zeros(parameter->shape(), parameter->dtype()));
    }
  }
}

void Optimizer::check(const Slot& slot, const Var& gradient) const {
  const Parameter& parameter = *slot.parameter;
  if (!gradient.defined())
    fail<ValueError>(settings_.name,
                     fmt::format("every parameter needs a gradient: '{}' has none", slot.name));
  if (!(gradient.shape() == parameter.shape()) || gradient.dtype() != parameter.dtype())
    fail<ShapeError>(settings_.name, fmt::format("the gradient of '{}' must be {}{}: got {}{}", slot.name,
                                                 name(parameter.dtype()), parameter.shape().to_string(),
                                                 name(gradient.dtype()), gradient.shape().to_string()));
  for (const Tensor& kept : slot.state)
    if (kept.dtype() != parameter.dtype())
      fail<DTypeError>(
          settings_.name,
          fmt::format("'{}' must stay {}: it is {} now (convert a model before its optimiser is made)",
                      slot.name, name(kept.dtype()), name(parameter.dtype())));
  if (!settings_.check_finite) return;
  const bool finite = dispatch_floating(gradient.dtype(), [&](auto zero) {
    return vec::all_finite(gradient.value().data<decltype(zero)>(), gradient.size());
  });
  if (!finite)
    fail<ValueError>(settings_.name,
                     fmt::format("gradients must be finite: that of '{}' has a NaN or an infinity at step {} "
                                 "(no parameter was changed)",
                                 slot.name, steps_ + 1));
}

double Optimizer::rate_of(const Slot& slot) const {
  return slot.learning_rate ? *slot.learning_rate * (learning_rate_ / settings_.learning_rate)
                            : learning_rate_;
}

void Optimizer::step(const Vars& gradients) {
  if (gradients.size() != slots_.size())
    fail<ShapeError>(settings_.name, fmt::format("expects one gradient a parameter: {} for {}",
                                                 gradients.size(), slots_.size()));
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].parameter->trainable()) check(slots_[i], gradients[i]);
  ++steps_;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (!slot.parameter->trainable()) continue;
    ++slot.steps;
    update(slot, gradients[i].value(), rate_of(slot));
  }
}

void Optimizer::set_learning_rate(double rate) {
  check_at_least_zero(settings_.name, "learning_rate", rate);
  learning_rate_ = rate;
}

std::map<std::string, Tensor> Optimizer::state() const {
  const auto count = [](std::int64_t n) { return tensor<std::int64_t>({n}, {}); };
  std::map<std::string, Tensor> values{{"steps", count(steps_)},
                                       {"learning_rate", scalar(learning_rate_, DType::f64)}};
  for (const Slot& slot : slots_) {
    values[slot.name + ".steps"] = count(slot.steps);
    for (std::size_t i = 0; i < state_names_.size(); ++i)
      values[fmt::format("{}.{}", slot.name, state_names_[i])] = slot.state[i];
  }
  return values;
}

void Optimizer::load_state(std::map<std::string, Tensor> values) {
  const std::map<std::string, Tensor> like = state();
  const auto take = [&](const std::string& name) { return detail::take(values, name, like.at(name)); };
  const Tensor steps = take("steps"), rate = take("learning_rate");
  std::vector<Slot> slots = slots_;
  for (Slot& slot : slots) {
    slot.steps = *take(slot.name + ".steps").data<std::int64_t>();
    for (std::size_t i = 0; i < state_names_.size(); ++i)
      slot.state[i] = take(fmt::format("{}.{}", slot.name, state_names_[i]));
  }
  detail::check_all_taken(values);
  set_learning_rate(rate.item());
  steps_ = *steps.data<std::int64_t>();
  slots_ = std::move(slots);
}

Sgd::Sgd(const ParameterList& parameters, const SgdOptions& options)
    : Sgd(ParameterGroups{{parameters}}, options) {}

Sgd::Sgd(const ParameterGroups& groups, const SgdOptions& options)
    : Optimizer({"sgd", options.learning_rate, options.weight_decay, options.check_finite}, groups,
                options.momentum > 0.0 ? std::vector<std::string_view>{"velocity"}
                                       : std::vector<std::string_view>{}),
      options_(checked(options)) {}

void Sgd::update(Slot& slot, const Tensor& gradient, double learning_rate) {
  dispatch_floating(gradient.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T rate = static_cast<T>(learning_rate), decay = static_cast<T>(slot.weight_decay);
    const T momentum = static_cast<T>(options_.momentum);
    const T* g = gradient.data<T>();
    if (slot.state.empty())
      return rewrite<T>(*slot.parameter, [&](const T* p, T* out, std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = p[i] - rate * (g[i] + decay * p[i]);
      });
    T* v = slot.state[0].mutable_data<T>();
    const T of_gradient = options_.nesterov ? T{1} : T{0}, of_velocity = options_.nesterov ? momentum : T{1};
    rewrite<T>(*slot.parameter, [&](const T* p, T* out, std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T d = g[i] + decay * p[i];
        v[i] = momentum * v[i] + d;
        out[i] = p[i] - rate * (of_gradient * d + of_velocity * v[i]);
      }
    });
  });
}

Adam::Adam(const ParameterList& parameters, const AdamOptions& options)
    : Adam(ParameterGroups{{parameters}}, options) {}

Adam::Adam(const ParameterGroups& groups, const AdamOptions& options)
    : Optimizer({"adam", options.learning_rate, options.weight_decay, options.check_finite}, groups,
                {"first_moment", "second_moment"}),
      options_(checked("adam", options)) {}

void Adam::update(Slot& slot, const Tensor& gradient, double learning_rate) {
  adam(*slot.parameter, slot.state, gradient,
       {learning_rate, options_.beta1, options_.beta2, options_.epsilon, slot.weight_decay, 0.0, slot.steps});
}

AdamW::AdamW(const ParameterList& parameters, const AdamWOptions& options)
    : AdamW(ParameterGroups{{parameters}}, options) {}

AdamW::AdamW(const ParameterGroups& groups, const AdamWOptions& options)
    : Optimizer({"adamw", options.learning_rate, options.weight_decay, options.check_finite}, groups,
                {"first_moment", "second_moment"}),
      options_(checked("adamw", options)) {}

void AdamW::update(Slot& slot, const Tensor& gradient, double learning_rate) {
  adam(*slot.parameter, slot.state, gradient,
       {learning_rate, options_.beta1, options_.beta2, options_.epsilon, 0.0, slot.weight_decay, slot.steps});
}

}  // namespace banach::nn
