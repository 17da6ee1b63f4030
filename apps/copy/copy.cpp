#include <apps/copy/copy.hpp>

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <apps/cli/environment.hpp>
#include <apps/cli/interrupt.hpp>
#include <apps/cli/output.hpp>
#include <apps/cli/text_table.hpp>
#include <apps/copy/options.hpp>
#include <apps/copy/page.hpp>
#include <apps/copy/train.hpp>
#include <banach/nn/file.hpp>

namespace banach::copy_task {
namespace {

void learn(const Options& options) {
  const Settings settings = resolve(options);
  const std::string out = options.common.out.value_or("out/copy");
  const cli::OutputFolder folder(out,
                                 {"metrics.csv", "summary.json", "report.html", "checkpoint.safetensors"});
  const std::string checkpoint = folder.file("checkpoint.safetensors");
  if (!options.common.resume && !options.common.overwrite) check_replaceable(checkpoint, settings);

  Results results;
  results.environment = cli::environment();
  const cli::Interrupt interrupt;
  const auto stop = [&] { return interrupt.requested(); };
  train(settings, checkpoint, options.common.resume, stop, results);

  nn::write_atomically(folder.file("metrics.csv"), metrics_csv(results));
  nn::write_atomically(folder.file("summary.json"), summary_json(results));
  nn::write_atomically(folder.file("report.html"), report::render(make_page(results)));
  fmt::print("{}\n", cli::text_table(summary_table(results)));
  for (const std::string& text : findings(results)) fmt::print("{}\n", text);
  fmt::print("{}/report.html, summary.json, metrics.csv, checkpoint.safetensors\n", out);
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
