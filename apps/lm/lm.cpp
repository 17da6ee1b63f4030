#include <apps/lm/lm.hpp>

#include <CLI/CLI.hpp>

#include <apps/cli/common.hpp>
#include <apps/lm/learn.hpp>
#include <apps/lm/use.hpp>

namespace banach::lm {

cli::Subcommand add_lm(CLI::App& app) {
  CLI::App& lm = cli::new_command(app, "lm",
                                  "Language models as equilibria: train one, measure it, let it write,\n"
                                  "or compare it with explicit networks");
  lm.require_subcommand(1);
  return {&lm, [] {}, {add_train(lm), add_eval(lm), add_sample(lm), add_compare(lm)}};
}

}  // namespace banach::lm
