#include <apps/lab/frontier.hpp>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace banach::lab {

std::vector<Offer> pareto_front(std::vector<Offer> offers) {
  std::erase_if(offers, [](const Offer& o) { return !std::isfinite(o.cost) || !std::isfinite(o.loss); });
  std::stable_sort(offers.begin(), offers.end(), [](const Offer& a, const Offer& b) {
    return std::tie(a.cost, a.loss) < std::tie(b.cost, b.loss);
  });
  std::vector<Offer> front;
  for (const Offer& offer : offers)
    if (front.empty() || offer.loss < 0.99 * front.back().loss) front.push_back(offer);
  return front;
}

std::vector<Offer> gradient_offers(const Results& results) {
  std::vector<Offer> offers;
  for (const RuleResult& rule : results.rules) {
    std::vector<double> errors;
    for (const SamePoint& point : rule.same_point) errors.push_back(point.quality.error);
    if (!errors.empty())
      offers.push_back({rule.spec, rule.median_cost().backward_seconds, median(std::move(errors))});
  }
  return offers;
}

std::vector<Offer> accuracy_offers(const Results& results) {
  std::vector<Offer> offers;
  for (const RuleResult& rule : results.rules)
    if (rule.failure.empty() && !rule.steps.empty())
      offers.push_back({rule.spec, rule.seconds(), 1.0 - rule.accuracy});
  return offers;
}

}  // namespace banach::lab
