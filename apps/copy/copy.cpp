#include <apps/copy/copy.hpp>

#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/copy/options.hpp>
#include <apps/copy/page.hpp>
#include <apps/copy/train.hpp>

namespace banach::copy_task {
namespace {

void learn(const Options& options) {
  const Settings settings = resolve(options);
  const cli::OutputFolder folder = training::folder_of(options.common, "out/copy");
  const cli::Interrupt interrupt;
  Results results;
  results.environment = cli::environment();
  train(settings, training::place_of(folder, options.common, interrupt), results);
  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_copy(CLI::App& app) {
  return cli::command<Options>(app, "copy",
                               "Remember symbols over a long delay: equilibria of a trellis network\n"
                               "and of a transformer, beside an LSTM",
                               add_options, learn);
}

}  // namespace banach::copy_task
