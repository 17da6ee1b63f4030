#include <apps/cli/progress.hpp>

#include <apps/report/format.hpp>

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace banach::cli {
namespace {

constexpr std::chrono::milliseconds bar_interval{100};
constexpr std::chrono::seconds line_interval{15};
constexpr std::size_t bar_width = 24;

}  // namespace

Progress::Progress(std::int64_t total, std::int64_t done)
    : total_(std::max<std::int64_t>(total, 1)),
      start_done_(done),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_shown_(start_ - line_interval) {}

Progress::~Progress() {
  if (terminal_ && shown_) std::fputs("\n", stderr);
}

void Progress::update(std::int64_t done, std::string_view note) {
  const auto now = Clock::now();
  const bool news = note != last_note_ || done >= total_;
  if (!news &&
      now - last_shown_ < (terminal_ ? Clock::duration(bar_interval) : Clock::duration(line_interval)))
    return;
  last_shown_ = now;
  last_note_ = note;
  shown_ = true;
  // "\033[K" wipes what a longer line left behind.
  if (terminal_)
    std::fputs(("\r" + line(done, note) + "\033[K").c_str(), stderr);
  else
    std::fputs((line(done, note) + "\n").c_str(), stderr);
  std::fflush(stderr);
}

void Progress::leave_out(std::int64_t steps) { total_ = std::max<std::int64_t>(total_ - steps, 1); }

std::string Progress::line(std::int64_t done, std::string_view note) const {
  const double part = static_cast<double>(done) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done - start_done_) / std::max(seconds, 1e-9);
  std::string text;
  if (terminal_) {
    const auto filled = std::min(bar_width, static_cast<std::size_t>(part * static_cast<double>(bar_width)));
    text = fmt::format("[{}{}] ", std::string(filled, '#'), std::string(bar_width - filled, '.'));
  }
  text += fmt::format("{:3.0f} %  {}", 100.0 * part, note);
  constexpr std::int64_t settled = 50;  // steps before a rate means anything
  if (done - start_done_ < settled) return text;
  text += fmt::format("  {} steps/s", report::format_number(rate));
  if (done < total_)
    text += fmt::format("  {} left", report::format_duration(static_cast<double>(total_ - done) / rate));
  return text;
}

}  // namespace banach::cli
