#include <apps/denoise/denoise.hpp>

#include <apps/denoise/options.hpp>
#include <apps/denoise/page.hpp>
#include <apps/denoise/results.hpp>
#include <apps/denoise/train.hpp>
#include <apps/training/command.hpp>

namespace banach::denoise {
namespace {

cli::Outcome tell(const Results& results) {
  cli::Outcome told = training::outcome(results);
  for (const std::string& text : warnings(results)) told.sentences.push_back(text);
  return told;
}

void compare(const Options& options) {
  const Settings settings = resolve(options);
  training::carry_out(
      options.common, "out/denoise", &Results::methods,
      [&](const training::Place& place, Results& results) { train(settings, place, results); }, tell);
}

}  // namespace

cli::Subcommand add_denoise(CLI::App& app) {
  return cli::command<Options>(app, "denoise",
                               "Take the noise off piecewise constant signals: a learned quadratic program\n"
                               "beside total variation, a network and a program without a start",
                               add_options, compare);
}

}  // namespace banach::denoise
