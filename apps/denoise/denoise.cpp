#include <apps/denoise/denoise.hpp>

#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

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
  const std::string out = options.common.out.value_or("out/denoise");
  const Settings settings = resolve(options);
  const cli::OutputFolder folder(out,
                                 {"report.html", "summary.json", "metrics.csv", "checkpoint.safetensors"});
  const std::string checkpoint = folder.file("checkpoint.safetensors");
  if (!options.common.resume && !options.common.overwrite) check_replaceable(checkpoint, settings);

  Results results;
  results.environment = cli::environment();
  const cli::Interrupt interrupt;
  train(
      settings, checkpoint, options.common.resume, [&] { return interrupt.requested(); }, results);

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
  CLI::App* command =
      app.add_subcommand("denoise",
                         "Take the noise off piecewise constant signals: a learned quadratic program\n"
                         "beside total variation, a network and a program without a start");
  command->get_formatter()->column_width(24);
  const auto options = std::make_shared<Options>();
  add_options(*command, *options);
  return {command, [options] {
            cli::use_threads(options->common.threads);
            compare(*options);
          }};
}

}  // namespace banach::denoise
