#pragma once
// What commands that train have in common around their training: a folder, Ctrl-C, and the end.

#include <string>
#include <vector>

#include <apps/cli/environment.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/training/training.hpp>

namespace banach::training {

/// What a command found, by the functions that each has for its Results.
template <class Results>
cli::Outcome outcome(const Results& results) {
  return {.summary_json = summary_json(results),
          .metrics_csv = metrics_csv(results),
          .page = make_page(results),
          .table = cli::text_table(summary_table(results)),
          .sentences = findings(results)};
}

/// Where no model came to its end, why the first did not; else empty.
template <class Model>
std::string none_finished(const std::vector<Model>& models) {
  for (const Model& model : models)
    if (model.failure.empty()) return {};
  return "all that was trained diverged: " + models.front().failure;
}

/// A run from its folder to its end: `train` is given a Place and the Results to fill, `tell` makes files,
/// page and words of them. Throws Error, all written, if none of the models came to its end: what diverges
/// beside others is a finding.
template <class Results, class Model, class Train>
void carry_out(const cli::CommonOptions& options, const std::string& default_out,
               std::vector<Model> Results::*models, const Train& train,
               cli::Outcome (*tell)(const Results&) = outcome<Results>) {
  const cli::OutputFolder folder = folder_of(options, default_out);
  const cli::Interrupt interrupt;
  Results results;
  results.environment = cli::environment();
  train(place_of(folder, options, interrupt), results);
  cli::conclude(folder, tell(results));
  if (const std::string why = none_finished(results.*models); !why.empty()) throw Error(why);
}

}  // namespace banach::training
