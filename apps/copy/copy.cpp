#include <apps/copy/copy.hpp>

#include <memory>

#include <CLI/CLI.hpp>

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
  const std::string out = options.common.out.value_or("out/copy");
  const cli::OutputFolder folder(out,
                                 {"report.html", "summary.json", "metrics.csv", "checkpoint.safetensors"});
  const std::string checkpoint = folder.file("checkpoint.safetensors");
  if (!options.common.resume && !options.common.overwrite) check_replaceable(checkpoint, settings);

  Results results;
  results.environment = cli::environment();
  const cli::Interrupt interrupt;
  const auto stop = [&] { return interrupt.requested(); };
  train(settings, checkpoint, options.common.resume, stop, results);

  cli::conclude(folder, {.summary_json = summary_json(results),
                         .metrics_csv = metrics_csv(results),
                         .page = make_page(results),
                         .table = cli::text_table(summary_table(results)),
                         .sentences = findings(results)});
}

}  // namespace

cli::Subcommand add_copy(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("copy",
                         "Remember symbols over a long delay: equilibria of a trellis network\n"
                         "and of a transformer, beside an LSTM");
  command->get_formatter()->column_width(24);
  const auto options = std::make_shared<Options>();
  add_options(*command, *options);
  const auto job = [options] {
    cli::use_threads(options->common.threads);
    learn(*options);
  };
  return {command, job};
}

}  // namespace banach::copy_task
