// The `banach` command. Each subcommand adds its options to the command line and names the job that they set
// up.

#include <apps/cli/run.hpp>
#include <apps/copy/copy.hpp>
#include <apps/denoise/denoise.hpp>
#include <apps/flow/flow.hpp>
#include <apps/lab/lab.hpp>
#include <apps/lm/lm.hpp>
#include <apps/qp/qp.hpp>
#include <apps/sudoku/sudoku.hpp>

#include <CLI/CLI.hpp>

#include <banach/version.hpp>

int main(int argc, char** argv) {
  CLI::App app("Derivatives through fixed points: experiments from the command line.", "banach");
  app.set_version_flag("--version", "banach " BANACH_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.footer("'banach SUBCOMMAND --help' lists the options of a subcommand.");

  const std::vector<banach::cli::Subcommand> subcommands{
      banach::lab::add_lab(app),       banach::qp_command::add_qp(app), banach::denoise::add_denoise(app),
      banach::sudoku::add_sudoku(app), banach::lm::add_lm(app),         banach::copy_task::add_copy(app),
      banach::flow::add_flow(app)};
  return banach::cli::run(app, subcommands, argc, argv);
}
