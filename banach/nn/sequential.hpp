#pragma once

#include <banach/nn/module.hpp>

#include <tuple>
#include <type_traits>
#include <utility>

namespace banach::nn {

/// Layers and plain functions applied one after another: `Sequential net(Linear(4, 8, random), relu,
/// Linear(8, 1, random))`. Its parts are named 0, 1, ... by their place.
template <class... Layers>
struct Sequential {
  std::tuple<Layers...> layers;

  explicit Sequential(Layers... parts) : layers(std::move(parts)...) {}

  Var operator()(const Var& x) const {
    Var y = x;
    std::apply([&](const auto&... layer) { ((y = layer(y)), ...); }, layers);
    return y;
  }

  void visit(Visitor& visitor) {
    std::apply([&, i = 0](auto&... layer) mutable { (visit_one(visitor, i++, layer), ...); }, layers);
  }

 private:
  template <class Layer>
  static void visit_one(Visitor& visitor, int place, Layer& layer) {
    if constexpr (Module<Layer>) visitor(std::to_string(place), layer);
  }
};

}  // namespace banach::nn
