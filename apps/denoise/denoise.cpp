#include <apps/denoise/denoise.hpp>

#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/denoise/options.hpp>
#include <apps/denoise/page.hpp>
#include <apps/denoise/results.hpp>
#include <apps/denoise/train.hpp>

namespace banach::denoise {
namespace {

void compare(const Options& options) {
  const Settings settings = resolve(options);
  const cli::OutputFolder folder = training::folder_of(options.common, "out/denoise");
  const cli::Interrupt interrupt;
  Results results;
  results.environment = cli::environment();
  train(settings, training::place_of(folder, options.common, interrupt), results);
  std::vector<std::string> sentences = findings(results);
  for (const std::string& text : warnings(results)) sentences.push_back(text);
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = sentences});
}

}  // namespace

cli::Subcommand add_denoise(CLI::App& app) {
  return cli::command<Options>(app, "denoise",
                               "Take the noise off piecewise constant signals: a learned quadratic program\n"
                               "beside total variation, a network and a program without a start",
                               add_options, compare);
}

}  // namespace banach::denoise
