#include <banach/nn/adaptive_softmax.hpp>
#include <banach/nn/init.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/index.hpp>
#include <banach/ops/loss.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/ops/softmax.hpp>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace banach::nn {
namespace {

constexpr std::string_view op = "adaptive_softmax";

void check_options(std::int64_t features, std::int64_t classes, const AdaptiveSoftmaxOptions& o) {
  if (features < 1 || classes < 1)
    fail<ValueError>(
        op, fmt::format("features and classes must be at least 1: got {} and {}", features, classes));
  std::int64_t last = 0;
  for (const std::int64_t cutoff : o.cutoffs) {
    if (cutoff <= last || cutoff >= classes)
      fail<ValueError>(op, fmt::format("cutoffs must ascend within [1, {}): got {}", classes, o.cutoffs));
    last = cutoff;
  }
  if (!(o.divide >= 1)) fail<ValueError>(op, fmt::format("divide must be at least 1: got {}", o.divide));
  if ((o.tied || !o.project) && o.divide != 1 && !o.cutoffs.empty())
    fail<ValueError>(
        op, fmt::format("divide must be 1 where weights are tied or nothing is projected: got {}", o.divide));
}

}  // namespace

AdaptiveSoftmax::AdaptiveSoftmax(std::int64_t features_in, std::int64_t classes_in, Random& random,
                                 const AdaptiveSoftmaxOptions& options)
    : tied(options.tied), features(features_in), classes(classes_in) {
  check_options(features, classes, options);
  const auto clusters = static_cast<std::int64_t>(options.cutoffs.size());
  std::int64_t begin = 0;
  for (std::int64_t i = 0; i <= clusters; ++i) {
    const std::int64_t end = i < clusters ? options.cutoffs[static_cast<std::size_t>(i)] : classes;
    const auto width = std::max<std::int64_t>(
        1, std::llround(static_cast<double>(features) / std::pow(options.divide, static_cast<double>(i))));
    Part part{.begin = begin,
              .end = end,
              .project = {},
              .weight = {},
              .bias = Parameter(init::zeros({end - begin}, options.dtype))};
    if (i > 0 && options.project)
      part.project.emplace(features, width, random, LinearOptions{.bias = false, .dtype = options.dtype});
    const double bound = 1 / std::sqrt(static_cast<double>(width));
    if (!tied) part.weight.emplace(init::uniform({end - begin, width}, -bound, bound, random, options.dtype));
    parts.push_back(std::move(part));
    begin = end;
  }
  if (clusters > 0) gates.emplace(features, clusters, random, LinearOptions{.dtype = options.dtype});
}

void AdaptiveSoftmax::check(const Var& h, const Var& table) const {
  if (h.shape().rank() != 2 || h.size(1) != features)
    fail<ShapeError>(op, fmt::format("h must be (n, {}): got {}", features, h.shape().to_string()));
  if (tied != table.defined())
    fail<ValueError>(op, tied ? "a table must be given: the weights are tied to it"
                              : "no table must be given: the weights are not tied");
  if (tied && table.shape() != Shape{classes, features})
    fail<ShapeError>(
        op, fmt::format("the table must be ({}, {}): got {}", classes, features, table.shape().to_string()));
}

Var AdaptiveSoftmax::logits(const Part& part, const Var& h, const Var& table) const {
  const Var x = part.project ? (*part.project)(h) : h;
  return linear(x, part.weight ? part.weight->var() : slice(table, 0, part.begin, part.end), part.bias);
}

Var AdaptiveSoftmax::head_logits(const Var& h, const Var& table) const {
  const Var words = logits(parts.front(), h, table);
  return gates ? concat({words, (*gates)(h)}, 1) : words;
}

Var AdaptiveSoftmax::loss(const Var& h, const Tensor& targets, const Var& table) const {
  check(h, table);
  if (targets.rank() != 1 || targets.size() != h.size(0) || targets.size() == 0)
    fail<ShapeError>(op, fmt::format("targets must be (n), one for each row of h, n >= 1: got {} for {}",
                                     targets.shape().to_string(), h.shape().to_string()));
  struct Chosen {
    std::vector<std::int64_t> rows, labels;
  };
  std::vector<Chosen> chosen(parts.size());
  std::vector<std::int64_t> head;
  for (const std::int64_t target : targets.values<std::int64_t>()) {
    if (target < 0 || target >= classes)
      fail<ValueError>(
          op, fmt::format("targets must lie in [0, {}): entry {} is {}", classes, head.size(), target));
    std::size_t i = 0;
    while (target >= parts[i].end) ++i;
    if (i > 0) {
      chosen[i].rows.push_back(static_cast<std::int64_t>(head.size()));
      chosen[i].labels.push_back(target - parts[i].begin);
    }
    head.push_back(i == 0 ? target : parts.front().end + static_cast<std::int64_t>(i) - 1);
  }
  const auto indices = [](const std::vector<std::int64_t>& v) {
    return Var(tensor(v, {static_cast<std::int64_t>(v.size())}));
  };
  Var loss = cross_entropy(head_logits(h, table), indices(head));
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (chosen[i].rows.empty()) continue;
    const double share = static_cast<double>(chosen[i].rows.size()) / static_cast<double>(head.size());
    const Var inner = logits(parts[i], take(h, 0, indices(chosen[i].rows)), table);
    loss = loss + share * cross_entropy(inner, indices(chosen[i].labels));
  }
  return loss;
}

Var AdaptiveSoftmax::log_probabilities(const Var& h, const Var& table) const {
  check(h, table);
  const Var head = log_softmax(head_logits(h, table));
  if (!gates) return head;
  const std::int64_t words = parts.front().end;
  std::vector<Var> found{slice(head, 1, 0, words)};
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::int64_t gate = words + static_cast<std::int64_t>(i) - 1;
    found.push_back(log_softmax(logits(parts[i], h, table)) + slice(head, 1, gate, gate + 1));
  }
  return concat(found, 1);
}

}  // namespace banach::nn
