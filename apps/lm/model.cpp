#include <apps/lm/model.hpp>

#include <cmath>

#include <fmt/format.h>

#include <banach/engine/error.hpp>
#include <banach/nn/init.hpp>
#include <banach/nn/transformer_cell.hpp>
#include <banach/nn/trellis_cell.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/shape_ops.hpp>

namespace banach::lm {
namespace {

nn::AnyCell make_cell(const Architecture& a, Random& random) {
  if (a.cell == "trellis")
    return nn::TrellisCell({.input = a.d,
                            .hidden = a.d,
                            .dilations = a.dilations,
                            .weight_norm = a.weight_norm,
                            .dropout = a.dropout},
                           random);
  if (a.cell == "transformer")
    return nn::TransformerCell({.d_model = a.d,
                                .heads = a.heads,
                                .hidden = a.hidden,
                                .memory = a.memory,
                                .pre_norm = a.pre_norm,
                                .weight_norm = a.weight_norm,
                                .dropout = a.dropout},
                               random);
  fail<ValueError>("lm", fmt::format("the cell must be transformer or trellis: got '{}'", a.cell));
}

}  // namespace

LanguageModel::LanguageModel(const Architecture& a, std::int64_t vocabulary, std::uint64_t seed)
    : random_(seed),
      tied_(a.tied),
      scale_(std::sqrt(static_cast<double>(a.d))),
      embedding_(nn::init::normal({vocabulary, a.d}, 0.0, 1 / scale_, random_)),
      cell_(make_cell(a, random_)),
      norm_(a.d),
      dropout_(a.dropout, random_),
      softmax_(a.d, vocabulary, random_,
               {.cutoffs = a.cutoffs, .divide = a.tied ? 1.0 : 4.0, .tied = a.tied}) {}

void LanguageModel::visit(nn::Visitor& visitor) {
  visitor("embedding", embedding_)("cell", cell_)("norm", norm_)("dropout", dropout_)("softmax", softmax_);
}

Var LanguageModel::embed(const Tensor& tokens) const {
  return dropout_(scale_ * embedding(embedding_, Var(tokens)));
}

LanguageModel::Reading LanguageModel::read(const Var& x, const nn::SegmentMemory& memory,
                                           const nn::Depth& depth, const Var& start) const {
  nn::SequenceBody body = cell_.bind(x, memory);
  ImplicitSolution solution = nn::run(body, start.defined() ? start : cell_.start(x), depth);
  nn::SegmentMemory next = cell_.remember(memory, solution.z.value(), x.value());
  Var found = features(solution.z);
  return {std::move(body), std::move(next), std::move(solution), std::move(found)};
}

Var LanguageModel::features(const Var& z) const {
  const Var out = dropout_(norm_(cell_.output(z)));
  return reshape(out, {out.size(0) * out.size(1), out.size(2)});
}

Var LanguageModel::loss(const Var& features, const Tensor& targets) const {
  return softmax_.loss(features, targets.reshape({targets.size()}), table());
}

Var LanguageModel::log_probabilities(const Var& features) const {
  return softmax_.log_probabilities(features, table());
}

}  // namespace banach::lm
