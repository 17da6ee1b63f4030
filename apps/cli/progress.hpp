#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace banach::cli {

/// How far a job is, on stderr: a bar with rate and time left on a terminal, elsewhere a line now and then.
/// cli::note takes the bar's place, and the bar comes again below.
class Progress {
 public:
  /// `done` of `total` steps were done by an earlier run.
  Progress(std::int64_t total, std::int64_t done = 0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` says what is being done now.
  void update(std::int64_t done, std::string_view note);
  /// So many steps will not be done.
  void leave_out(std::int64_t steps);

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(std::int64_t done, std::string_view note) const;

  std::int64_t total_, start_done_;
  bool terminal_;
  Clock::time_point start_, last_shown_;
  std::string last_note_;
  bool shown_ = false;
};

}  // namespace banach::cli
