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
#include <banach/nn/file.hpp>

namespace banach::denoise {
namespace {

void compare(const Options& options) {
  const std::string out = options.common.out.value_or("out/denoise");
  const Settings settings = resolve(options);
  const cli::OutputFolder folder(out,
                                 {"metrics.csv", "summary.json", "report.html", "checkpoint.safetensors"});
  const std::string checkpoint = folder.file("checkpoint.safetensors");
  if (!options.common.resume && !options.common.overwrite) check_replaceable(checkpoint, settings);

  Results results;
  results.environment = cli::environment();
  const cli::Interrupt interrupt;
  train(
      settings, checkpoint, options.common.resume, [&] { return interrupt.requested(); }, results);

  nn::write_atomically(folder.file("metrics.csv"), metrics_csv(results));
  nn::write_atomically(folder.file("summary.json"), summary_json(results));
  nn::write_atomically(folder.file("report.html"), report::render(make_page(results)));
  fmt::print("{}", cli::text_table(summary_table(results)));
  fmt::print("\n");
  for (const std::string& text : findings(results)) fmt::print("{}\n", text);
  for (const std::string& text : warnings(results)) fmt::print("{}\n", text);
  fmt::print("{}/report.html, summary.json, metrics.csv, checkpoint.safetensors\n", out);
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
