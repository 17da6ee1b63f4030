#include <bench/table/report.hpp>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace bench {
namespace {

using Rows = std::vector<std::vector<std::string>>;

/// The first row is the header; the first column aligned left, the others right.
std::string markdown(Rows rows) {
  std::vector<std::size_t> widths(rows[0].size(), 3);
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += i ? fmt::format(" {:>{}} |", rows[r][i], widths[i])
                : fmt::format("| {:<{}} |", rows[r][i], widths[i]);
    text += '\n';
    if (r > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i)
      text += (i ? "" : "|") + std::string(widths[i] + 1, '-') + (i ? ":|" : "-|");
    text += '\n';
  }
  return text;
}

double scale(Unit unit) { return unit == Unit::milliseconds ? 1e3 : unit == Unit::microseconds ? 1e6 : 1e9; }
const char* name(Unit unit) {
  return unit == Unit::milliseconds ? "ms" : unit == Unit::microseconds ? "us" : "ns";
}

/// Three significant digits.
std::string number(double x) {
  const double size = std::abs(x);
  return fmt::format("{:.{}f}", x, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
std::string time(const Seconds& seconds, Unit unit) {
  return seconds ? number(*seconds * scale(unit)) : "not measured";
}
std::string ratio(const Seconds& value) { return value ? fmt::format("{:.2f}", *value) : "-"; }
std::string counts(const Counts& c) {
  return c.vjp ? fmt::format("{} + {}", c.f, c.vjp) : c.f ? std::to_string(c.f) : "";
}

std::string goal(const Goal& g, const Result& r, Unit unit) {
  if (g.of == Goal::none) return "";
  const auto told = [&](const std::string& limit, const Seconds& value) {
    return fmt::format("{}{}", limit, !value ? "" : *value <= g.most ? ": met" : ": missed");
  };
  if (g.of == Goal::seconds) return told(number(g.most * scale(unit)) + " " + name(unit), r.ours[0]);
  const bool of_floor = g.of == Goal::floor;
  return told(fmt::format("{:.2f} {}", g.most, of_floor ? "floor" : "peer"),
              of_floor ? r.ours_to_floor : r.ours_to_peer[0]);
}

std::string mebibytes(std::int64_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) / (1 << 20));
}

nlohmann::json json(const Seconds& value) { return value ? nlohmann::json(*value) : nlohmann::json(nullptr); }

std::string key(const MeasuredSection& section, const Line& line) { return section.title + ": " + line.name; }

}  // namespace

std::string machine(const Peers& peers) {
  std::string processor = "unknown processor", word;
  bool avx512 = false;
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) processor = line.substr(line.find(':') + 2);
    if (line.starts_with("flags")) avx512 = line.find("avx512f") != std::string::npos;
  }
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return fmt::format("{}; {}{}, {} cores; peer: {}", date, processor, avx512 ? " (AVX-512)" : "",
                     std::thread::hardware_concurrency(), peers.name.empty() ? "not installed" : peers.name);
}

std::string table(const MeasuredSection& section, const Peers& peers) {
  const std::string theirs = peers.name.empty() ? "peer" : peers.name.substr(0, peers.name.find(' '));
  const bool goals = std::any_of(section.lines.begin(), section.lines.end(),
                                 [](const auto& l) { return l.first.goal.of != Goal::none; });
  Rows rows{{"case", "unit", "floor", "ours", theirs, "ours/" + theirs, "ours/floor", "ours, 2 threads",
             theirs + ", 2 threads", "ours/" + theirs + ", 2 threads", "1 to 2 threads", "f + vjp",
             theirs + "'s f + vjp", "MiB"}};
  const bool peer_bytes = std::any_of(section.lines.begin(), section.lines.end(),
                                      [](const auto& l) { return l.second.peer_bytes > 0; });
  if (peer_bytes) rows[0].insert(rows[0].end(), {theirs + "'s MiB", "ours/" + theirs + ", MiB"});
  if (goals) rows[0].push_back("goal");
  for (const auto& [line, r] : section.lines) {
    const auto cell = [unit = line.unit](const Seconds& seconds) { return time(seconds, unit); };
    rows.push_back({line.name, name(line.unit), cell(r.floor), cell(r.ours[0]), cell(r.peer[0]),
                    ratio(r.ours_to_peer[0]), ratio(r.ours_to_floor), cell(r.ours[1]), cell(r.peer[1]),
                    ratio(r.ours_to_peer[1]), ratio(r.speedup), counts(r.counts), counts(r.peer_counts),
                    mebibytes(r.bytes)});
    if (peer_bytes && r.peer_bytes == 0) rows.back().insert(rows.back().end(), {"not measured", "-"});
    if (r.peer_bytes > 0)
      rows.back().insert(
          rows.back().end(),
          {mebibytes(r.peer_bytes), ratio(static_cast<double>(r.bytes) / static_cast<double>(r.peer_bytes))});
    if (goals) rows.back().push_back(goal(line.goal, r, line.unit));
  }
  return fmt::format("### {}\n\n{}", section.title, markdown(std::move(rows)));
}

std::string table(const std::vector<TrainedBody>& bodies) {
  const std::string title =
      "### Bodies trained by the lab: evaluations of f for 128 images, Picard / Anderson(6)\n\n";
  if (bodies.empty()) return title + "not measured\n";
  Rows rows{{"seed"}};
  const auto two = [](double picard, double anderson, int digits) {
    return fmt::format("{:.{}f} / {:.{}f}", picard, digits, anderson, digits);
  };
  for (const TrainedBody& b : bodies) {
    if (rows.size() == 1 || rows.back()[0] != std::to_string(b.seed))
      rows.push_back({std::to_string(b.seed)});
    if (rows.size() == 2)
      for (const char* column :
           {"all images to {:g}", "ratio, all to {:g}", "mean image to {:g}", "ratio, mean to {:g}"})
        rows[0].push_back(fmt::format(fmt::runtime(column), b.tolerance));
    for (const std::string& cell :
         {two(b.picard, b.anderson, 0), ratio(1.0 * b.anderson / b.picard),
          two(b.picard_mean, b.anderson_mean, 1), ratio(b.anderson_mean / b.picard_mean)})
      rows.back().push_back(cell);
  }
  return title + markdown(std::move(rows));
}

void write_json(const std::string& file, const std::string& machine,
                const std::vector<MeasuredSection>& sections, const std::vector<TrainedBody>& bodies) {
  nlohmann::json lines = nlohmann::json::object(), trained = nlohmann::json::array();
  for (const MeasuredSection& section : sections)
    for (const auto& [line, r] : section.lines)
      lines[key(section, line)] = {{"floor", json(r.floor)},
                                   {"ours", {json(r.ours[0]), json(r.ours[1])}},
                                   {"peer", {json(r.peer[0]), json(r.peer[1])}},
                                   {"ours_to_peer", {json(r.ours_to_peer[0]), json(r.ours_to_peer[1])}},
                                   {"ours_to_floor", json(r.ours_to_floor)},
                                   {"speedup", json(r.speedup)},
                                   {"evaluations", {r.counts.f, r.counts.vjp}},
                                   {"peer_evaluations", {r.peer_counts.f, r.peer_counts.vjp}},
                                   {"bytes", r.bytes},
                                   {"peer_bytes", r.peer_bytes},
                                   {"turns", r.turns}};
  for (const TrainedBody& b : bodies)
    trained.push_back({{"seed", b.seed},
                       {"tolerance", b.tolerance},
                       {"picard", b.picard},
                       {"anderson", b.anderson},
                       {"picard_mean", b.picard_mean},
                       {"anderson_mean", b.anderson_mean}});
  std::ofstream out(file);
  out << nlohmann::json{{"machine", machine}, {"unit", "s"}, {"lines", lines}, {"trained_bodies", trained}}
             .dump(1)
      << '\n';
  if (!out) throw std::runtime_error(file + ": cannot be written");
}

std::string comparison(const std::string& file, const std::vector<MeasuredSection>& sections) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file + ": cannot be read");
  const nlohmann::json before = nlohmann::json::parse(in);
  Rows rows{{"case", "unit", "ours before", "ours now", "ours, now/before", "ours/floor before",
             "ours/floor now", "ours/floor, now/before"}};
  const auto change = [](double was, double is) { return fmt::format("{:.2f}", is / was); };
  for (const MeasuredSection& section : sections)
    for (const auto& [line, r] : section.lines) {
      const auto found = before.at("lines").find(key(section, line));
      if (found == before.at("lines").end()) continue;
      const double time_before = found->at("ours").at(0), floor_before = found->at("ours_to_floor");
      rows.push_back({line.name, name(line.unit), time(time_before, line.unit), time(r.ours[0], line.unit),
                      change(time_before, *r.ours[0]), ratio(floor_before), ratio(r.ours_to_floor),
                      change(floor_before, *r.ours_to_floor)});
    }
  return fmt::format("### Compared with {} ({}), one thread\n\n{}", file,
                     before.at("machine").get<std::string>(), markdown(std::move(rows)));
}

}  // namespace bench
