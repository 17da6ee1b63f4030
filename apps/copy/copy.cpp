#include <apps/copy/copy.hpp>

#include <apps/copy/options.hpp>
#include <apps/copy/page.hpp>
#include <apps/copy/train.hpp>
#include <apps/training/command.hpp>

namespace banach::copy_task {
namespace {

void learn(const Options& options) {
  const Settings settings = resolve(options);
  training::carry_out(
      options.common, "out/copy", &Results::models,
      [&](const training::Place& place, Results& results) { train(settings, place, results); });
}

}  // namespace

cli::Subcommand add_copy(CLI::App& app) {
  return cli::command<Options>(app, "copy",
                               "Remember symbols over a long delay: equilibria of a trellis network\n"
                               "and of a transformer, beside an LSTM",
                               add_options, learn);
}

}  // namespace banach::copy_task
