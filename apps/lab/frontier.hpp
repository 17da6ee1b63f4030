#pragma once
// Which rules no other rule beats in cost and in result at once.

#include <string>
#include <vector>

#include <apps/lab/results.hpp>

namespace banach::lab {

/// A rule by two figures of which less is better.
struct Offer {
  std::string rule;
  double cost = unknown, loss = unknown;
};

/// The Pareto front, by rising cost: each offer on it has a smaller loss, by a hundredth at least, than all
/// that cost no more. Offers that are not finite are out of the question.
std::vector<Offer> pareto_front(std::vector<Offer> offers);

/// Median time of a backward pass in training against the median relative error of the gradient, all rules at
/// the same points.
std::vector<Offer> gradient_offers(const Results& results);
/// Seconds of training against test errors at its end, 1 - accuracy.
std::vector<Offer> accuracy_offers(const Results& results);

}  // namespace banach::lab
