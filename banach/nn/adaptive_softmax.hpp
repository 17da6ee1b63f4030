#pragma once
// Grave, Joulin, Cisse, Grangier and Jegou 2017, "Efficient softmax approximation for GPUs": classes sorted
// by falling frequency are cut into a head, looked at always, and clusters, looked at where a target lies in
// them, each behind one entry of the head.

#include <banach/nn/linear.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace banach::nn {

struct AdaptiveSoftmaxOptions {
  std::vector<std::int64_t> cutoffs =
      {};  ///< where clusters begin, ascending in [1, classes); none: all in the head
  /// Cluster i = 1, 2, ... reads features / divide^i numbers, by a projection of its own (section 4.3 there).
  double divide = 4.0;
  /// The rows of a table (classes, features) given at each call, the embedding's, are the weights (Press and
  /// Wolf 2017, "Using the output embedding to improve language models"). divide must then be 1.
  bool tied = false;
  bool project = true;  ///< false: clusters read the features themselves; divide must then be 1
  DType dtype = DType::f32;
};

/// Distributions over many classes. p(c) = head(c) for c below the first cutoff, else head(cluster of c)
/// times p(c | cluster); they sum to one. Without cutoffs it is a linear layer and a softmax.
struct AdaptiveSoftmax {
  /// A linear map to the classes [begin, end).
  struct Part {
    std::int64_t begin, end;
    std::optional<Linear> project;
    std::optional<Parameter> weight;  ///< (classes, features of it) unless tied
    Parameter bias;
    void visit(Visitor& visitor) { visitor("project", project)("weight", weight)("bias", bias); }
  };
  std::vector<Part> parts;      ///< the head, then the clusters
  std::optional<Linear> gates;  ///< features -> clusters: their entries in the head
  bool tied;
  std::int64_t features, classes;

  /// Throws ValueError for options outside their domain.
  AdaptiveSoftmax(std::int64_t features, std::int64_t classes, Random& random,
                  const AdaptiveSoftmaxOptions& options = {});

  /// Mean of -log p(target): h (n, features), n >= 1, targets i64 (n) in [0, classes). Looks only at clusters
  /// that a target lies in. Throws ShapeError where these do not fit, ValueError for a target outside.
  Var loss(const Var& h, const Tensor& targets, const Var& table = {}) const;
  /// log p (n, classes), all of them.
  Var log_probabilities(const Var& h, const Var& table = {}) const;

  void visit(Visitor& visitor) { visitor("parts", parts)("gates", gates); }

 private:
  Var logits(const Part& part, const Var& h, const Var& table) const;
  Var head_logits(const Var& h, const Var& table) const;
  void check(const Var& h, const Var& table) const;
};

}  // namespace banach::nn
