// Parameters, visitors, state, freezing, substitution.
#include <banach/banach.hpp>

#include "layers.hpp"

#include <catch2/catch.hpp>

using namespace banach;
using namespace banach::nn;
using namespace banach::test;
using Catch::Matchers::Contains;

namespace {

struct Block {
  Linear linear;
  BatchNorm norm;
  explicit Block(Random& random) : linear(3, 3, random), norm(3) {}
  Var operator()(const Var& x) const { return norm(linear(x)); }
  void visit(Visitor& v) { v("linear", linear)("norm", norm); }
};

struct Net {
  std::vector<Block> blocks;
  std::unique_ptr<Linear> head;
  std::optional<Linear> absent;
  explicit Net(std::uint64_t seed) {
    Random random(seed);
    blocks.emplace_back(random);
    blocks.emplace_back(random);
    head = std::make_unique<Linear>(3, 2, random);
  }
  void visit(Visitor& v) { v("blocks", blocks)("head", head)("absent", absent); }
};

std::vector<std::string> names(const ParameterList& list) {
  std::vector<std::string> result;
  for (const auto& entry : list) result.push_back(entry.name);
  return result;
}

}  // namespace

TEST_CASE("parameters are named by their path", "[module]") {
  Net net(1);
  const ParameterList all = parameters(net);
  CHECK(names(all) ==
        std::vector<std::string>{"blocks.0.linear.weight", "blocks.0.linear.bias", "blocks.0.norm.weight",
                                 "blocks.0.norm.bias", "blocks.1.linear.weight", "blocks.1.linear.bias",
                                 "blocks.1.norm.weight", "blocks.1.norm.bias", "head.weight", "head.bias"});
  CHECK(count(all) == 2 * (9 + 3 + 3 + 3) + 8);
  CHECK(names(select(all, "*.1.*.bias")) ==
        std::vector<std::string>{"blocks.1.linear.bias", "blocks.1.norm.bias"});
  CHECK(names(select(all, "head.weight")) == std::vector<std::string>{"head.weight"});
  CHECK(select(all, "head").empty());
}

TEST_CASE("freezing", "[module]") {
  Net net(1);
  const ParameterList all = parameters(net);
  freeze(all, "blocks.*");
  CHECK(names(trainable(all)) == std::vector<std::string>{"head.weight", "head.bias"});
  freeze(all, "*.norm.*", false);
  CHECK(trainable(all).size() == 6);
  CHECK_THROWS_WITH(freeze(all, "body.*"), Contains("[freeze]") && Contains("body.*"));

  SECTION("a frozen parameter is a constant with gradient zero") {
    freeze(all);
    net.head->weight.set_trainable(true);
    Tape tape;
    const Var loss = sum(square((*net.head)(Var(normal({4, 3}, 2).to(DType::f32)))));
    const Vars g = grad(loss, all);
    CHECK(largest_difference(g[8].value(), Tensor::zeros({2, 3})) > 0.0);
    CHECK(largest_difference(g[9].value(), Tensor::zeros({2})) == 0.0);
  }
}

TEST_CASE("train and eval reach every mode", "[module]") {
  Net net(1);
  eval(net);
  for (const Block& block : net.blocks) CHECK_FALSE(block.norm.mode.training);
  train(net);
  for (const Block& block : net.blocks) CHECK(block.norm.mode.training);
}

TEST_CASE("conversion of dtype takes parameters and buffers", "[module]") {
  Net net(1);
  to(net, DType::f64);
  for (const auto& [name, value] : state(net)) CHECK(value.dtype() == DType::f64);
  CHECK((*net.head)(Var(normal({4, 3}, 2))).dtype() == DType::f64);
}

TEST_CASE("state moves from model to model", "[module]") {
  Net from(1), into(2);
  const auto values = state(from);
  CHECK(values.size() == 14);
  CHECK(values.count("blocks.1.norm.running_variance") == 1);
  load_state(into, values);
  for (const auto& [name, value] : state(into)) CHECK(same_bits(value, values.at(name)));

  auto less = values;
  less.erase("head.bias");
  CHECK_THROWS_WITH(load_state(into, less), Contains("[load_state]") && Contains("'head.bias'"));
  auto more = values;
  more["tail.bias"] = Tensor::zeros({1});
  CHECK_THROWS_WITH(load_state(into, more), Contains("'tail.bias'"));
  auto other = values;
  other["head.bias"] = Tensor::zeros({3});
  CHECK_THROWS_WITH(load_state(into, other), Contains("'head.bias'") && Contains("(2)") && Contains("(3)"));
  other["head.bias"] = Tensor::zeros({2}, DType::f64);
  CHECK_THROWS_WITH(load_state(into, other), Contains("'head.bias'") && Contains("f64"));
}

TEST_CASE("a live tape keeps the values that it has seen", "[module]") {
  Parameter w(tensor({2.0}));
  Tape tape;
  const Var y = w.var() * w.var();
  w.update([](Tensor& value) { value.mutable_data<double>()[0] = 5.0; });
  CHECK(y.item() == 4.0);
  const ParameterList list{{"w", &w}};
  CHECK(grad(y, list)[0].item() == 4.0);
  // The gradient of a parameter used before and after its update is the sum over both values.
  const Var both = y + w.var() * w.var();
  CHECK(grad(sum(both), list)[0].item() == 14.0);
}

TEST_CASE("copies of a parameter are parameters of their own", "[module]") {
  Parameter a(tensor({1.0, 2.0}));
  Parameter b = a;
  CHECK(a.id() != b.id());
  b.update([](Tensor& value) { value.mutable_data<double>()[0] = 9.0; });
  CHECK(a.value().at(0) == 1.0);
  CHECK(b.version() > a.version());
  CHECK_THROWS_WITH(a.set(tensor({1.0})), Contains("[parameter]") && Contains("(2)") && Contains("(1)"));
}

TEST_CASE("parameters may be passed in: a gradient through a gradient step", "[module]") {
  // L(w) = (w - 3)^2; w1 = w - 0.1 L'(w); d L(w1) / dw = 2 (w1 - 3) (1 - 0.1 * 2).
  Parameter w(tensor({1.0}));
  const ParameterList list{{"w", &w}};
  const auto loss = [&] { return sum(square(w.var() - 3.0)); };
  Tape tape;
  const Vars step = grad(loss(), list, {.create_graph = true});
  const Var moved = w.var() - 0.1 * step[0];
  Var outer;
  {
    const Substitution values(list, {moved});
    outer = loss();
  }
  const double w1 = 1.0 + 0.1 * 4.0;
  CHECK(outer.item() == Approx((w1 - 3.0) * (w1 - 3.0)));
  CHECK(grad(outer, list)[0].item() == Approx(2.0 * (w1 - 3.0) * 0.8));
  CHECK_THROWS_WITH(Substitution(list, {Var(tensor({1.0, 2.0}))}),
                    Contains("[substitution]") && Contains("w must be"));
}

TEST_CASE("a parameter first touched inside a fixed point gets its gradient", "[module]") {
  Parameter a(tensor({0.5})), b(tensor({1.0}));
  const ParameterList list{{"a", &a}, {"b", &b}};
  Tape tape;  // z = a z + b: z = 2, dz/da = z / (1 - a) = 4, dz/db = 2
  const auto solved =
      fixed_point([&](const Var& z) { return a * z + b; }, Var(tensor({0.0})), {.tolerance = 1e-12});
  const Vars g = grad(sum(solved.z), list);
  CHECK(g[0].item() == Approx(4.0).epsilon(1e-9));
  CHECK(g[1].item() == Approx(2.0).epsilon(1e-9));
}

TEST_CASE("Sequential chains layers and functions", "[module]") {
  Random random(3);
  Sequential net(Linear(3, 5, random), relu, Linear(5, 2, random));
  CHECK(names(parameters(net)) == std::vector<std::string>{"0.weight", "0.bias", "2.weight", "2.bias"});
  const Var x(normal({4, 3}, 1).to(DType::f32));
  const auto& [first, f, second] = net.layers;
  CHECK(same_bits(net(x).value(), second(relu(first(x))).value()));
}
