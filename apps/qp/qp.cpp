#include <apps/qp/qp.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/common.hpp>
#include <apps/cli/output.hpp>
#include <apps/qp/file.hpp>
#include <banach/engine/blas.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/safetensors.hpp>
#include <banach/solvers/qp.hpp>

namespace banach::qp_command {
namespace {

struct Options {
  std::string file;
  std::optional<std::string> out;
  double tolerance = QpOptions().tolerance;
  std::uint64_t max_steps = static_cast<std::uint64_t>(QpOptions().max_steps);
  int threads = 0;
};

constexpr const char* names[] = {"Q", "p", "G", "h", "A", "b"};

// The first entry that is not finite (in h: that is NaN) of one problem, as "p[3] is nan" or, of a matrix,
// "Q[row 0, column 1] is nan", from 0; empty if there is none.
std::string not_finite(const QpData& data, std::int64_t problem) {
  const Tensor* parts[] = {&data.Q, &data.p, &data.G, &data.h, &data.A, &data.b};
  for (int i = 0; i < 6; ++i) {
    if (!parts[i]->defined()) continue;
    const int axes = i % 2 == 0 ? 2 : 1;
    const bool batched = parts[i]->rank() > axes;
    const std::int64_t size = batched ? parts[i]->size() / parts[i]->shape()[0] : parts[i]->size(),
                       columns = parts[i]->shape()[parts[i]->rank() - 1];
    for (std::int64_t k = 0; k < size; ++k) {
      const double value = parts[i]->at((batched ? problem * size : 0) + k);
      if (i == 3 ? !std::isnan(value) : std::isfinite(value)) continue;
      const std::string place =
          axes == 2 ? fmt::format("row {}, column {}", k / columns, k % columns) : std::to_string(k);
      return fmt::format("{}[{}] is {}: {} was expected", names[i], place, value,
                         i == 3 ? "a number or an infinity" : "a finite number");
    }
  }
  return "";
}

// How far Q of one problem is from convex.
std::string not_convex(const QpData& data, std::int64_t problem) {
  const std::int64_t n = data.Q.shape()[data.Q.rank() - 1], from = data.Q.rank() == 3 ? problem * n * n : 0;
  PoolVector<double> matrix(static_cast<std::size_t>(n * n)), values(static_cast<std::size_t>(n));
  double most = 0.0;
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t c = 0; c < n; ++c) {
      const double entry = 0.5 * (data.Q.at(from + r * n + c) + data.Q.at(from + c * n + r));
      matrix[static_cast<std::size_t>(r * n + c)] = entry;
      most = std::max(most, std::abs(entry));
    }
  if (blas::symmetric_eigen(n, matrix.data(), values.data(), false) != 0)
    return "Q must be positive semidefinite";
  return fmt::format(
      "Q must be positive semidefinite, to 1e-8 of its largest entry {:.3g}: its smallest eigenvalue is "
      "{:.3g}",
      most, values[0]);
}

std::string_view gradient_status(const QpSampleReport& report, const QpRegularity& regularity, bool unique) {
  if (report.status != QpStatus::solved) return "not_converged";
  if (regularity.weak > 0 || !regularity.factored || !unique) return "non_differentiable";
  return regularity.singular ? "least_squares" : "exact";
}

void solve(const Options& o) {
  cli::use_threads(o.threads);
  // A file, or a folder for one; found out before the work.
  std::optional<std::string> written;
  if (o.out) {
    const std::filesystem::path path(*o.out);
    const bool file = path.extension() == ".safetensors";
    const std::string name = file ? path.filename().string() : "solution.safetensors";
    const std::string folder = !file ? *o.out : path.has_parent_path() ? path.parent_path().string() : ".";
    std::error_code ignored;
    if (std::filesystem::equivalent(folder + "/" + name, o.file, ignored))
      throw cli::UsageError(fmt::format("--out {} would overwrite the problems", *o.out));
    written = cli::OutputFolder(folder, {name}).file(name);
  }
  const QpData data = read_problems(o.file);
  if (!data.Q.defined())
    cli::note(fmt::format("{}: tensor 'Q', (n,n), is absent: zero, a linear program", o.file));
  if (!data.p.defined()) cli::note(fmt::format("{}: tensor 'p', (n), is absent: zero", o.file));
  const QpSolution solution = [&] {
    try {
      return solve_qp(
          data, {.tolerance = o.tolerance, .max_steps = static_cast<int>(o.max_steps), .derivative = true});
    } catch (const Error& error) {
      throw FileError(fmt::format("{}: {}", o.file, error.what()));
    }
  }();
  const PoolVector<char> unique = solution.derivative->unique();
  for (std::size_t i = 0; i < solution.report.samples.size(); ++i) {
    const QpSampleReport& r = solution.report.samples[i];
    nlohmann::ordered_json line{
        {"problem", i},
        {"status", name(r.status)},
        {"objective", r.objective},
        {"steps", r.steps},
        {"residuals", {{"primal", r.primal}, {"dual", r.dual}, {"gap", r.gap}}},
        {"gradient_status", gradient_status(r, solution.derivative->problems()[i], unique[i])}};
    if (r.status == QpStatus::non_finite || r.status == QpStatus::non_convex) {
      const auto problem = static_cast<std::int64_t>(i);
      const std::string reason =
          r.status == QpStatus::non_finite ? not_finite(data, problem) : not_convex(data, problem);
      line["reason"] = reason;
      cli::note(fmt::format("{}: problem {}: {}", o.file, i, reason));
    }
    fmt::print("{}\n", line.dump());
  }
  if (written)
    nn::save_safetensors(
        *written,
        {{"z", solution.z}, {"nu", solution.nu}, {"lambda", solution.lambda}, {"slack", solution.slack}});
}

}  // namespace

cli::Subcommand add_qp(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "qp",
      "Solve the quadratic programs of a file: min 1/2 z'Qz + p'z with Gz <= h and Az = b;\n"
      "one line of JSON for each");
  command->footer(
      "Exit codes: 0, also where nothing was solved (see 'status' in each line); 1 for a file that cannot\n"
      "be read, does not fit together or cannot be written; 2 for bad usage.");
  command->get_formatter()->column_width(24);
  const auto o = std::make_shared<Options>();
  command
      ->add_option("FILE", o->file,
                   "Safetensors: Q (n,n), p (n), and G (m,n) with h (m), A (e,n) with b (e);\n"
                   "each may have a batch axis in front; Q or p may be absent (zero)")
      ->required()
      ->option_text(" ");
  command
      ->add_option("--out", o->out,
                   "Where z, nu, lambda and slack are written: a .safetensors file,\nor a folder for "
                   "solution.safetensors")
      ->option_text("PATH")
      ->check(cli::path());
  command->add_option("--tolerance", o->tolerance, "On residuals and gap for 'solved' (default: 1e-6)")
      ->option_text("X")
      ->check(cli::number(true));
  command->add_option("--max-steps", o->max_steps, "Of the interior point (default: 250)")
      ->option_text("N")
      ->check(cli::whole_number(1, 100000));
  command->add_option("--threads", o->threads, "Threads, 0 for all cores (default)")
      ->option_text("N")
      ->check(cli::whole_number(0, 1024));
  return {command, [o] { solve(*o); }};
}

}  // namespace banach::qp_command
