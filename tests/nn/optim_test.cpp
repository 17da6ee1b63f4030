// Optimisers against scalar recursions written here, step by step in long double.
#include <banach/nn/clip.hpp>
#include <banach/nn/linear.hpp>
#include <banach/nn/optim.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

#include <functional>
#include <limits>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

using Number = long double;

// The state of one scalar parameter under the reference rules.
struct Reference {
  Number p, first = 0, second = 0;
  int t = 0;
};

void sgd(Reference& r, Number g, const SgdOptions& o) {
  g += static_cast<Number>(o.weight_decay) * r.p;
  if (o.momentum != 0.0) {
    r.first = static_cast<Number>(o.momentum) * r.first + g;
    g = o.nesterov ? g + static_cast<Number>(o.momentum) * r.first : r.first;
  }
  r.p -= static_cast<Number>(o.learning_rate) * g;
}

void adam(Reference& r, Number g, const AdamOptions& o, bool decoupled) {
  const Number b1 = o.beta1, b2 = o.beta2, rate = o.learning_rate, decay = o.weight_decay;
  ++r.t;
  if (decoupled)
    r.p -= rate * decay * r.p;
  else
    g += decay * r.p;
  r.first = b1 * r.first + (1 - b1) * g;
  r.second = b2 * r.second + (1 - b2) * g * g;
  const Number m = r.first / (1 - std::pow(b1, static_cast<Number>(r.t))),
               v = r.second / (1 - std::pow(b2, static_cast<Number>(r.t)));
  r.p -= rate * m / (std::sqrt(v) + static_cast<Number>(o.epsilon));
}

// Steps of `optimizer` on a parameter of 700 elements, along gradients that change sign and size, beside the
// reference.
void compare(DType dtype, const std::function<std::unique_ptr<Optimizer>(const ParameterList&)>& make,
             const std::function<void(Reference&, Number)>& reference) {
  Parameter parameter(normal({7, 100}, 1).to(dtype));
  const auto optimizer = make({{"w", &parameter}});
  std::vector<Reference> expected;
  for (std::int64_t i = 0; i < 700; ++i) expected.push_back({.p = parameter.value().at(i)});
  for (std::uint64_t step = 0; step < 7; ++step) {
    const Tensor g = normal({7, 100}, 10 + step).to(dtype);
    optimizer->step({Var(g)});
    for (std::size_t i = 0; i < 700; ++i) reference(expected[i], g.at(static_cast<std::int64_t>(i)));
  }
  const double tolerance = dtype == DType::f32 ? 2e-6 : 1e-14;
  double worst = 0.0;
  for (std::size_t i = 0; i < 700; ++i)
    worst = std::max(worst, std::abs(static_cast<double>(expected[i].p) -
                                     parameter.value().at(static_cast<std::int64_t>(i))));
  CHECK(worst < tolerance * 5.0);
  CHECK(optimizer->steps() == 7);
}

}  // namespace

TEST_CASE("Sgd follows its recursion", "[optim]") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const SgdOptions options =
      GENERATE(SgdOptions{.learning_rate = 0.1}, SgdOptions{.learning_rate = 0.1, .weight_decay = 0.3},
               SgdOptions{.learning_rate = 0.1, .momentum = 0.9},
               SgdOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.1},
               SgdOptions{.learning_rate = 0.05, .momentum = 0.8, .nesterov = true, .weight_decay = 0.1});
  compare(
      dtype, [&](const ParameterList& list) { return std::make_unique<Sgd>(list, options); },
      [&](Reference& r, Number g) { sgd(r, g, options); });
}

TEST_CASE("Adam and AdamW follow their recursions", "[optim]") {
  const DType dtype = GENERATE(DType::f32, DType::f64);
  const AdamOptions options = GENERATE(
      AdamOptions{}, AdamOptions{.learning_rate = 0.1},
      AdamOptions{.learning_rate = 0.1, .weight_decay = 0.2},
      AdamOptions{.learning_rate = 0.02, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1});
  compare(
      dtype, [&](const ParameterList& list) { return std::make_unique<Adam>(list, options); },
      [&](Reference& r, Number g) { adam(r, g, options, false); });
  const auto& [rate, beta1, beta2, epsilon, decay, check_finite] = options;
  const AdamWOptions same{rate, beta1, beta2, epsilon, decay, check_finite};
  compare(
      dtype, [&](const ParameterList& list) { return std::make_unique<AdamW>(list, same); },
      [&](Reference& r, Number g) { adam(r, g, options, true); });
}

TEST_CASE("first steps in closed form", "[optim]") {
  // With bias correction Adam's first step is rate * sign(g), whatever the size of g.
  Parameter p(tensor({1.0, 1.0, 1.0}));
  Adam adam_rule(ParameterList{{"p", &p}}, {.learning_rate = 0.1, .epsilon = 0.0});
  adam_rule.step({Var(tensor({1e-6, -3.0, 1e6}))});
  CHECK(p.value().at(0) == Approx(0.9).epsilon(1e-12));
  CHECK(p.value().at(1) == Approx(1.1).epsilon(1e-12));
  CHECK(p.value().at(2) == Approx(0.9).epsilon(1e-12));
  // Momentum under a constant gradient: v_t = (1 - mu^t) / (1 - mu).
  Parameter q(tensor({0.0}));
  Sgd sgd_rule(ParameterList{{"q", &q}}, {.learning_rate = 1.0, .momentum = 0.5});
  for (int t = 0; t < 4; ++t) sgd_rule.step({Var(tensor({1.0}))});
  CHECK(q.value().item() == Approx(-(1.0 + 1.5 + 1.75 + 1.875)).epsilon(1e-14));
  // Decoupled decay does not pass through the moments: with g = 0 the parameter shrinks by the plain factor.
  Parameter r(tensor({2.0}));
  AdamW adamw_rule(ParameterList{{"r", &r}}, {.learning_rate = 0.1, .weight_decay = 0.5});
  adamw_rule.step({Var(tensor({0.0}))});
  CHECK(r.value().item() == Approx(2.0 * 0.95).epsilon(1e-14));
}

TEST_CASE("a step while a tape lives leaves what the tape has seen", "[optim]") {
  Random random(1);
  Linear layer(3, 2, random);
  const ParameterList list = parameters(layer);
  Adam optimizer(list, {.learning_rate = 0.1});
  const Var x(normal({4, 3}, 2).to(DType::f32));
  Tape tape;
  const Var loss = sum(square(layer(x)));
  const Vars before = grad(loss, list);
  const Tensor kept = before[0].value().clone();
  optimizer.step(before);
  CHECK(same_bits(grad(loss, list)[0].value(), kept));  // the old weight is still the tape's
  CHECK(same_bits(before[0].value(), kept));
  const Var again = sum(square(layer(x)));
  CHECK(again.item() < loss.item());
}

TEST_CASE("the same steps whether a tape shares the values or not, for large parameters too", "[optim]") {
  const Shape shape{300, 301};  // several pieces of parallel work
  Parameter alone(normal(shape, 1).to(DType::f32)), shared(normal(shape, 1).to(DType::f32));
  Adam a(ParameterList{{"p", &alone}}), b(ParameterList{{"p", &shared}});
  for (std::uint64_t step = 0; step < 3; ++step) {
    const Vars g{Var(normal(shape, 10 + step).to(DType::f32))};
    a.step(g);
    const Tensor holder = shared.value();
    b.step(g);
    CHECK_FALSE(shared.value().same_storage(holder));
  }
  CHECK(same_bits(alone.value(), shared.value()));
}

TEST_CASE("groups have settings of their own and follow the schedule in proportion", "[optim]") {
  Parameter a(tensor({1.0})), b(tensor({1.0})), c(tensor({1.0}));
  Sgd optimizer(ParameterGroups{{.parameters = {{"a", &a}}},
                                {.parameters = {{"b", &b}}, .learning_rate = 0.01},
                                {.parameters = {{"c", &c}}, .weight_decay = 0.0}},
                {.learning_rate = 0.1, .weight_decay = 1.0});
  const Vars g{Var(tensor({1.0})), Var(tensor({1.0})), Var(tensor({1.0}))};
  optimizer.step(g);
  CHECK(a.value().item() == Approx(1.0 - 0.1 * 2.0));
  CHECK(b.value().item() == Approx(1.0 - 0.01 * 2.0));
  CHECK(c.value().item() == Approx(1.0 - 0.1));
  optimizer.set_learning_rate(0.05);
  optimizer.step(g);
  CHECK(b.value().item() == Approx(0.98 - 0.005 * 1.98));
  CHECK(c.value().item() == Approx(0.9 - 0.05));
}

TEST_CASE("frozen parameters are left alone, and go on where they were", "[optim]") {
  Parameter a(tensor({1.0})), b(tensor({1.0}));
  Adam optimizer(ParameterList{{"a", &a}, {"b", &b}},
                 {.learning_rate = 0.1, .epsilon = 0.0, .weight_decay = 0.5});
  b.set_trainable(false);
  for (int i = 0; i < 3; ++i)
    optimizer.step({Var(tensor({1.0})), Var(tensor({std::numeric_limits<double>::quiet_NaN()}))});
  CHECK(b.value().item() == 1.0);
  CHECK(a.value().item() < 0.8);
  b.set_trainable(true);  // its first step has its own bias correction
  optimizer.step({Var(tensor({1.0})), Var(tensor({1.0}))});
  CHECK(b.value().item() == Approx(0.9).epsilon(1e-12));
}

TEST_CASE("gradients that do not fit are refused before anything changes", "[optim]") {
  Parameter a(tensor({1.0, 2.0})), b(tensor({3.0}));
  Adam optimizer(ParameterList{{"net.a", &a}, {"net.b", &b}});
  const Var good(tensor({1.0, 1.0}));
  CHECK_THROWS_WITH(optimizer.step({good}), Contains("[adam] expects one gradient a parameter: 1 for 2"));
  CHECK_THROWS_WITH(optimizer.step({good, Var(tensor({1.0, 2.0}))}),
                    Contains("'net.b'") && Contains("f64(1)") && Contains("f64(2)"));
  CHECK_THROWS_WITH(optimizer.step({good, Var(tensor({1.0f}))}), Contains("'net.b'") && Contains("f32(1)"));
  CHECK_THROWS_WITH(optimizer.step({good, Var()}), Contains("'net.b' has none"));
  const double bad =
      GENERATE(std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN());
  CHECK_THROWS_AS(optimizer.step({good, Var(tensor({bad}))}), ValueError);
  CHECK_THROWS_WITH(optimizer.step({good, Var(tensor({bad}))}),
                    Contains("[adam]") && Contains("'net.b'") && Contains("step 1"));
  CHECK(a.value().at(0) == 1.0);
  CHECK(optimizer.steps() == 0);

  Sgd unchecked(ParameterList{{"b", &b}}, {.check_finite = false});
  CHECK_NOTHROW(unchecked.step({Var(tensor({bad}))}));
  CHECK_FALSE(std::isfinite(b.value().item()));
}

TEST_CASE("bad settings are refused", "[optim]") {
  Parameter a(tensor({1.0}));
  const ParameterList list{{"a", &a}};
  CHECK_THROWS_WITH(Sgd(list, {.learning_rate = 0.0}), Contains("[sgd] learning_rate"));
  CHECK_THROWS_WITH(Sgd(list, {.momentum = 1.0}), Contains("[sgd] momentum must lie in [0, 1)"));
  CHECK_THROWS_WITH(Sgd(list, {.nesterov = true}), Contains("[sgd] nesterov"));
  CHECK_THROWS_WITH(Adam(list, {.beta2 = 1.0}), Contains("[adam] beta2"));
  CHECK_THROWS_WITH(AdamW(list, {.weight_decay = -1.0}), Contains("[adamw] weight_decay"));
  CHECK_THROWS_WITH(Adam(ParameterList{{"a", &a}, {"b", &a}}),
                    Contains("[adam]") && Contains("'b' comes twice"));
  Adam adam_rule(list);
  CHECK_THROWS_WITH(adam_rule.set_learning_rate(NAN), Contains("[adam] learning_rate"));
  a.to(DType::f32);
  CHECK_THROWS_WITH(adam_rule.step({Var(tensor({1.0f}))}), Contains("'a' must stay f64"));
}

TEST_CASE("state of an optimiser moves to another", "[optim]") {
  Parameter a(tensor({1.0, 2.0})), b(tensor({1.0, 2.0}));
  Adam from(ParameterList{{"p", &a}}), into(ParameterList{{"p", &b}});
  const auto g = [](std::uint64_t i) { return Vars{Var(normal({2}, i))}; };
  for (std::uint64_t i = 0; i < 3; ++i) from.step(g(i));
  from.set_learning_rate(0.25);
  b.set(a.value());
  into.load_state(from.state());
  CHECK(into.steps() == 3);
  CHECK(into.learning_rate() == 0.25);
  for (std::uint64_t i = 3; i < 6; ++i) from.step(g(i)), into.step(g(i));
  CHECK(same_bits(a.value(), b.value()));

  auto values = from.state();
  values.erase("p.second_moment");
  CHECK_THROWS_WITH(into.load_state(values), Contains("'p.second_moment'"));
  values = from.state();
  values["q.first_moment"] = Tensor::zeros({2});
  CHECK_THROWS_WITH(into.load_state(values), Contains("'q.first_moment'"));
}

TEST_CASE("clipping by the global norm", "[clip]") {
  Vars g{Var(tensor({3.0, 0.0})), Var(tensor({4.0f}))};
  CHECK(clip_by_global_norm(g, 10.0) == 5.0);
  CHECK(g[0].value().at(0) == 3.0);
  CHECK(clip_by_global_norm(g, 1.0) == 5.0);
  CHECK(g[0].value().at(0) == Approx(0.6));
  CHECK(g[1].value().at(0) == Approx(0.8));
  CHECK(global_norm(g) == Approx(1.0));
  Vars huge{Var(tensor({3e200})), Var(tensor({4e200}))};
  CHECK(clip_by_global_norm(huge, 5.0) == Approx(5e200));
  CHECK(huge[1].value().item() == Approx(4.0));

  Vars bad{Var(tensor({1.0})), Var(tensor({std::numeric_limits<double>::quiet_NaN()}))};
  CHECK(std::isnan(clip_by_global_norm(bad, 0.5)));
  CHECK(bad[0].value().item() == 1.0);
  bad[1] = Var(tensor({std::numeric_limits<double>::infinity()}));
  CHECK(std::isinf(clip_by_global_norm(bad, 0.5)));
  CHECK(bad[0].value().item() == 1.0);
  CHECK_THROWS_WITH(clip_by_global_norm(g, 0.0), Contains("[clip_by_global_norm]"));
}

TEST_CASE("clipping by value", "[clip]") {
  Vars g{Var(tensor({3.0, -0.2, -7.0, std::numeric_limits<double>::quiet_NaN()}))};
  clip_by_value(g, 0.5);
  CHECK(g[0].value().at(0) == 0.5);
  CHECK(g[0].value().at(1) == -0.2);
  CHECK(g[0].value().at(2) == -0.5);
  CHECK(std::isnan(g[0].value().at(3)));
  CHECK_THROWS_WITH(clip_by_value(g, -1.0), Contains("[clip_by_value]"));
}
