// The table of bench/README.md: each line in Banach, in LibTorch where it is installed, and as a floor.
//   bench_table [--json FILE] [--compare FILE] [--quick] [FILTER]
#include <bench/table/report.hpp>

#include <malloc.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <regex>
#include <string>

#include <fmt/format.h>

namespace {

using namespace bench;

struct Options {
  std::string filter = ".", json = {}, compare = {};
  bool quick = false;
};

constexpr const char* usage =
    "usage: bench_table [--json FILE] [--compare FILE] [--quick] [FILTER]\n"
    "  --json FILE     writes the results, to be compared with later\n"
    "  --compare FILE  says what has changed since\n"
    "  --quick         every line once, nothing warmed up: only that they run\n"
    "  FILTER          a regular expression on titles and names of lines; none matches: exit code 2\n";

/// False for what cannot be understood.
bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool takes_file = argument == "--json" || argument == "--compare";
    if (takes_file && i + 1 == argc) return false;
    if (takes_file)
      (argument == "--json" ? options.json : options.compare) = argv[++i];
    else if (argument == "--quick")
      options.quick = true;
    else if (argument.starts_with("-"))
      return false;
    else
      options.filter = argument;
  }
  return true;
}

/// Blocks go back to the allocator, not to the system: without this the peer pays for fresh pages at every
/// large tensor. Banach keeps a pool of its own.
void keep_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

/// Before minutes are spent on what cannot be written or compared.
void check_files(const Options& options) {
  if (!options.compare.empty() && !std::ifstream(options.compare))
    throw std::runtime_error(options.compare + ": cannot be read");
  if (!options.json.empty() && !std::ofstream(options.json, std::ios::app))
    throw std::runtime_error(options.json + ": cannot be written");
}

int run(const Options& options) {
  const Peers torch = torch_peers();
  const std::regex filter(options.filter);
  const auto wanted = [&](const std::string& text) { return std::regex_search(text, filter); };

  std::vector<Section> sections{deq_section()};
  for (Section& section : transformer_sections()) sections.push_back(std::move(section));
  sections.push_back(residual_section());
  sections.push_back(operations_section());
  const Effort headline = options.quick ? Effort{0.0, 1, 1} : Effort{};
  const Effort others = options.quick ? headline : Effort{.seconds = 1.2};
  const std::size_t headlines = sections.size();
  for (Section& section : growth_sections()) sections.push_back(std::move(section));
  sections.push_back(quadratic_section());

  const bool bodies_wanted = wanted("trained bodies");
  bool any = bodies_wanted;
  for (Section& section : sections) {
    std::erase_if(section.lines, [&](const Line& line) { return !wanted(section.title + ": " + line.name); });
    any = any || !section.lines.empty();
  }
  if (!any) {
    fmt::print(stderr, "bench_table: FILTER must match a title or the name of a line: '{}' matches none\n",
               options.filter);
    return 2;
  }
  check_files(options);
  const std::string where = machine(torch);
  fmt::print("{}\n", where);
  std::vector<MeasuredSection> measured;
  for (std::size_t i = 0; i < sections.size(); ++i) {
    MeasuredSection section{sections[i].title, {}};
    const std::vector<Line>& lines = sections[i].lines;
    if (lines.empty()) continue;
    fmt::print(stderr, "{}\n", section.title);
    const Peers& peers = sections[i].peers.work.empty() ? torch : sections[i].peers;
    const std::vector<Result> results = measure(lines, peers, i < headlines ? headline : others);
    for (std::size_t k = 0; k < lines.size(); ++k) section.lines.emplace_back(lines[k], results[k]);
    fmt::print("\n{}", table(section, peers));
    std::fflush(stdout);
    measured.push_back(std::move(section));
  }
  std::vector<TrainedBody> bodies;
  if (bodies_wanted) {
    fmt::print(stderr, "trained bodies\n");
    bodies = trained_bodies(options.quick ? 1 : 10);
    fmt::print("\n{}", table(bodies));
  }
  if (!options.compare.empty()) fmt::print("\n{}", comparison(options.compare, measured));
  if (!options.json.empty()) write_json(options.json, where, measured, bodies);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs(usage, stderr);
    return 2;
  }
  keep_memory();
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_table: {}\n", error.what());
    return 1;
  }
}
