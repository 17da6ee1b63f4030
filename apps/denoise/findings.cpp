#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <apps/denoise/models.hpp>
#include <apps/denoise/results.hpp>
#include <apps/denoise/signals.hpp>
#include <apps/report/format.hpp>
#include <apps/training/tally.hpp>

namespace banach::denoise {
namespace {

using report::format_count;
using report::format_percent;
using training::count_of, training::total;

std::string about_tuned(const Results& results) {
  const MethodResult *tuned = results.find("tuned"), *tv = results.find("tv");
  if (!tuned || !tv) return {};
  const double over = gain(results, "tuned");
  const double paper = 1.0 - error_in_paper("tuned") / error_in_paper("tv");
  return fmt::format(
      "The tuned program's test error is {:.2f}, total variation's {:.2f} at its best lambda: {} {} (in the "
      "paper {:.1f} and {:.1f}, {} less).",
      tuned->error(), tv->error(), format_percent(std::abs(over)), over >= 0.0 ? "less" : "more",
      error_in_paper("tuned"), error_in_paper("tv"), format_percent(paper));
}

std::string about_order(const Results& results) {
  std::vector<const MethodResult*> order;
  for (const MethodResult& method : results.methods)
    if (!method.epochs.empty()) order.push_back(&method);
  if (order.size() < 2) return {};
  std::stable_sort(order.begin(), order.end(),
                   [](const MethodResult* a, const MethodResult* b) { return a->error() < b->error(); });
  std::string text;
  for (const MethodResult* method : order)
    text += fmt::format("{}{} ({:.2f})", text.empty() ? "" : ", ", method->name, method->error());
  text = fmt::format("From the best to the worst: {}.", text);
  const std::size_t all = order.size();
  std::erase_if(order, [](const MethodResult* m) { return std::isnan(error_in_paper(m->name)); });
  if (order.size() < 2) return text;
  const bool as_in_paper =
      std::is_sorted(order.begin(), order.end(), [](const MethodResult* a, const MethodResult* b) {
        return error_in_paper(a->name) < error_in_paper(b->name);
      });
  return fmt::format("{} The paper's table has {} in {}.", text,
                     order.size() == all ? "them" : "those of them that it knows",
                     as_in_paper ? "that order too" : "another order");
}

std::string about_overfitting(const Results& results) {
  std::string text;
  for (const MethodResult& method : results.methods) {
    if (method.epochs.size() < 2) continue;
    const Epoch& last = method.epochs.back();
    const auto best =
        std::min_element(method.epochs.begin(), method.epochs.end(),
                         [](const Epoch& a, const Epoch& b) { return a.test_error < b.test_error; });
    text += fmt::format("{}{} {:.2f} and {:.2f}", text.empty() ? "" : "; ", method.name, last.train_error,
                        last.test_error);
    if (best->epoch != last.epoch)
      text += fmt::format(" (lowest {:.2f}, after epoch {})", best->test_error, best->epoch);
  }
  return text.empty() ? text
                      : "Errors at the end, on the signals trained on and on the test's: " + text + ".";
}

std::string about_D(const Results& results) {
  const MethodResult* tuned = results.find("tuned");
  if (!tuned || !tuned->learned.contains("D")) return {};
  const Tensor& D = tuned->learned.at("D");
  const std::int64_t rows = D.size(0);
  constexpr std::int64_t near = 5;
  double change = 0.0, change_near = 0.0;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < length; ++j) {
      const double moved = D.at(i * length + j) - (j == i ? -1.0 : j == i + 1 ? 1.0 : 0.0);
      change += moved * moved;
      if (j > i - near && j <= i + near) change_near += moved * moved;
    }
  if (change == 0.0) return {};
  std::string text = fmt::format(
      "The learned D is {} of its length away from first differences; {} of the change (of its sum of "
      "squares) "
      "lies in the {} columns around each difference.",
      format_percent(std::sqrt(change / (2.0 * static_cast<double>(rows)))),
      format_percent(change_near / change, 0), 2 * near);
  if (const MethodResult* only = results.find("tuned-d"); only && results.find("tv"))
    text += fmt::format(
        " Learned without the map of the signal, D and lambda alone end at {:.2f}, {:+.1f} % beside "
        "total variation.",
        only->error(), -100.0 * gain(results, "tuned-d"));
  return text;
}

std::string about_solves(const Results& results) {
  std::int64_t solves = 0, solved = 0, gradients = 0, exact = 0;
  for (const MethodResult& method : results.methods) {
    solves += total(method.solve_statuses) + total(method.test_statuses);
    solved += count_of(method.solve_statuses, "solved") + count_of(method.test_statuses, "solved");
    gradients += total(method.gradient_kinds);
    exact += count_of(method.gradient_kinds, "exact");
  }
  if (solves == 0) return {};
  std::string text =
      fmt::format("{} of {} quadratic programs were solved", format_count(solved), format_count(solves));
  if (gradients > 0)
    text += fmt::format("; {} of {} gradients are exact", format_count(exact), format_count(gradients));
  return text + ".";
}

}  // namespace

std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> texts;
  for (const std::string& text : {about_tuned(results), about_order(results), about_overfitting(results),
                                  about_D(results), about_solves(results)})
    if (!text.empty()) texts.push_back(text);
  texts.push_back(fmt::format(
      "The noisy signals themselves have an error of {:.1f}; who knew every breakpoint and took means "
      "between "
      "them would be left with {:.2f}. {} test signals, one seed: small differences are no ranking.",
      results.noisy_error, results.known_breakpoints_error, format_count(results.test_signals)));
  return texts;
}

std::vector<std::string> warnings(const Results& results) {
  std::vector<std::string> texts;
  for (const MethodResult& method : results.methods) {
    if (!method.failure.empty()) texts.push_back(fmt::format("{}: {}.", method.name, method.failure));
    for (const auto& [tally, where] : {std::pair(&method.solve_statuses, "in training"),
                                       std::pair(&method.test_statuses, "in the last test")})
      if (const std::int64_t all = total(*tally), bad = all - count_of(*tally, "solved"); bad > 0)
        texts.push_back(fmt::format("{}: {} of {} quadratic programs {} were not solved.", method.name,
                                    format_count(bad), format_count(all), where));
  }
  if (results.candidates.size() > 1 && (results.lambda == results.candidates.front().lambda ||
                                        results.lambda == results.candidates.back().lambda))
    texts.push_back(fmt::format("The best lambda, {:.1f}, is at the end of those tried.", results.lambda));
  return texts;
}

}  // namespace banach::denoise
