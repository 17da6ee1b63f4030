#pragma once
// Optimisers: they turn gradients into steps of the parameters.

#include <banach/nn/module.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace banach::nn {

/// Parameters with settings of their own; what is left out is the optimiser's.
struct ParameterGroup {
  ParameterList parameters;
  std::optional<double> learning_rate = {};
  std::optional<double> weight_decay = {};
};
using ParameterGroups = std::vector<ParameterGroup>;

/// What optimisers share. They hold pointers into the model, which must outlive them and stay where it is.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One step along gradients given in the order of the list (of the groups, one after another). Frozen
  /// parameters are left alone. A live tape keeps the values that it has seen. Throws ValueError or
  /// ShapeError naming the parameter, before anything has changed, if a gradient is missing, of another shape
  /// or dtype, or (unless check_finite is off) has a NaN or an infinity.
  void step(const Vars& gradients);

  double learning_rate() const { return learning_rate_; }
  /// Sets the rate, >= 0; those of groups change in proportion.
  void set_learning_rate(double rate);
  /// Steps done.
  std::int64_t steps() const { return steps_; }

  /// All that a resume needs, by name: "steps", "learning_rate", and for each parameter the state with its
  /// name before it.
  std::map<std::string, Tensor> state() const;
  /// Throws as nn::load_state does, before anything has changed.
  void load_state(std::map<std::string, Tensor> state);

 protected:
  struct Settings {
    std::string_view name;
    double learning_rate, weight_decay;
    bool check_finite;
  };
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::optional<double> learning_rate;  // of its group
    double weight_decay;
    std::int64_t steps = 0;     // of this parameter: it may have been frozen at times
    std::vector<Tensor> state;  // like the parameter, zero at first
  };
  /// `state` names what is kept of each parameter.
  Optimizer(const Settings& settings, const ParameterGroups& groups, std::vector<std::string_view> state);

 private:
  /// One step of one parameter; slot.steps counts it already.
  virtual void update(Slot& slot, const Tensor& gradient, double learning_rate) = 0;

  void check(const Slot& slot, const Var& gradient) const;
  double rate_of(const Slot& slot) const;

  Settings settings_;
  std::vector<std::string_view> state_names_;
  std::vector<Slot> slots_;
  double learning_rate_;
  std::int64_t steps_ = 0;
};

struct SgdOptions {
  double learning_rate = 0.01;
  double momentum = 0.0;
  bool nesterov = false;
  double weight_decay = 0.0;  ///< times the parameter, added to its gradient
  bool check_finite = true;
};

/// v <- momentum v + g, p <- p - rate v; with nesterov p <- p - rate (g + momentum v). Sutskever, Martens,
/// Dahl and Hinton 2013, "On the importance of initialization and momentum in deep learning", in the form
/// whose v is free of the rate.
class Sgd final : public Optimizer {
 public:
  explicit Sgd(const ParameterList& parameters, const SgdOptions& options = {});
  explicit Sgd(const ParameterGroups& groups, const SgdOptions& options = {});

 private:
  void update(Slot& slot, const Tensor& gradient, double learning_rate) override;
  SgdOptions options_;
};

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  ///< times the parameter, added to its gradient
  bool check_finite = true;
};

/// m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2,
/// p <- p - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
/// Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.
class Adam final : public Optimizer {
 public:
  explicit Adam(const ParameterList& parameters, const AdamOptions& options = {});
  explicit Adam(const ParameterGroups& groups, const AdamOptions& options = {});

 private:
  void update(Slot& slot, const Tensor& gradient, double learning_rate) override;
  AdamOptions options_;
};

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  ///< decoupled
  bool check_finite = true;
};

/// Adam with decoupled decay: the parameter also shrinks by rate * weight_decay * p. Loshchilov and Hutter
/// 2019, "Decoupled weight decay regularization", algorithm 2, with the rate as the schedule.
class AdamW final : public Optimizer {
 public:
  explicit AdamW(const ParameterList& parameters, const AdamWOptions& options = {});
  explicit AdamW(const ParameterGroups& groups, const AdamWOptions& options = {});

 private:
  void update(Slot& slot, const Tensor& gradient, double learning_rate) override;
  AdamWOptions options_;
};

}  // namespace banach::nn
