#include <bench/table/measure.hpp>

#include <banach/engine/memory.hpp>
#include <banach/engine/parallel.hpp>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace bench {
namespace {

/// By one thread, the time that it ran, which other programs do not add to; by two, the time that passed.
double now(int threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds(const std::function<void()>& run, int threads, int times = 1) {
  const double start = now(threads);
  for (int i = 0; i < times; ++i) run();
  return (now(threads) - start) / times;
}

double median(std::vector<double> values) {
  const std::size_t middle = values.size() / 2;
  std::sort(values.begin(), values.end());
  return values.size() % 2 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

Seconds median_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.empty() || b.empty()) return {};
  std::vector<double> ratios;
  for (std::size_t i = 0; i < a.size(); ++i) ratios.push_back(a[i] / b[i]);
  return median(std::move(ratios));
}

/// One library's work by so many threads, and its times.
struct Contender {
  Work work;
  int threads;
  std::function<void()> enter, leave;
  int times = 1;      // runs a sample
  double cost = 0.0;  // of a sample; 0: not calibrated
  std::vector<double> samples = {};

  /// A sample should take some milliseconds, and begin with warm caches where they matter. Two threads begin
  /// once both have run for a while: a scheduler may leave a thread that slept on its neighbour's core, and
  /// move it only when it has seen that both are busy.
  static constexpr double shortest = 4e-3, long_run = 20e-3, settling = 50e-3;

  double both() const { return seconds(work.run, threads) + (work.less ? seconds(work.less, threads) : 0.0); }

  void calibrate() {
    enter();
    both();
    const double once = both();
    times = std::max(1, static_cast<int>(std::ceil(shortest / once)));
    cost = once * (once < long_run ? times + 1 : 1) + (threads > 1 ? settling : 0.0);
    leave();
  }

  void settle() {
    if (cost == 0.0 || (threads == 1 && cost >= long_run)) return;
    const double ready = now(threads) + (threads > 1 ? settling : 0.0);
    do work.run();
    while (now(threads) < ready);
  }

  void sample() {
    enter();
    settle();
    double time = seconds(work.run, threads, times);
    if (work.less) time -= seconds(work.less, threads, times);
    const Counts counts = work.counts && work.per_evaluation ? work.counts() : Counts{1, 0};
    samples.push_back(time / work.per / std::max(1, counts.f + counts.vjp));
    leave();
  }

  Seconds median_time() const { return samples.empty() ? Seconds() : median(samples); }
};

std::int64_t peak_bytes(const Work& work) {
  work.run();  // what is made once, is there now
  banach::memory::reset_peak();
  const std::int64_t before = banach::memory::stats().live_bytes;
  work.run();
  return banach::memory::stats().peak_bytes - before;
}

/// One line's contenders, in turn.
class Race {
 public:
  Race(const Line& line, const Peers& peers, const Effort& effort)
      : work_(line.ours()), floors_(line.floors) {
    const auto ours = [&](const Work& work, int threads) {
      return Contender{work, threads, [=] { banach::set_threads(threads); }, [] {}};
    };
    all_ = {ours(line.floor(), 1), ours(work_, 1), ours(work_, 2)};
    if (const auto peer = peers.work.find(line.name); peer != peers.work.end()) {
      const Work theirs = peer->second();
      theirs.run();  // what is made once, is there now
      if (peers.peak_bytes) peer_bytes_ = peers.peak_bytes(theirs.run);
      for (int threads = 1; threads <= peers.threads; ++threads)
        all_.push_back({theirs, threads, [&, threads] { peers.enter(threads); }, peers.leave});
    }

    banach::set_threads(1);
    bytes_ = peak_bytes(work_);
    turns_ = 1;
    if (effort.most == 1) return;
    double turn = 0.0;
    for (Contender& c : all_) {
      c.calibrate();
      turn += c.cost;
    }
    turns_ = std::clamp(static_cast<int>(effort.seconds / turn), effort.fewest, effort.most);
  }

  int turns() const { return turns_; }

  void turn() {
    for (Contender& c : all_) c.sample();
  }

  Result result() {
    Result result;
    result.bytes = bytes_;
    result.peer_bytes = peer_bytes_;
    result.turns = turns_;
    if (work_.counts) result.counts = work_.counts();
    const double floors = floors_ ? floors_(result.counts) : 1.0;
    for (double& sample : all_[floor].samples) sample *= floors;
    result.floor = all_[floor].median_time();
    result.ours_to_floor = median_ratio(all_[ours_1].samples, all_[floor].samples);
    result.speedup = median_ratio(all_[ours_1].samples, all_[ours_2].samples);
    for (const std::size_t i : {0, 1}) result.ours[i] = all_[ours_1 + i].median_time();
    if (all_.size() > peer_1) {
      if (all_[peer_1].work.counts) result.peer_counts = all_[peer_1].work.counts();
      for (std::size_t i = 0; peer_1 + i < all_.size(); ++i) {
        result.peer[i] = all_[peer_1 + i].median_time();
        result.ours_to_peer[i] = median_ratio(all_[ours_1 + i].samples, all_[peer_1 + i].samples);
      }
    }
    return result;
  }

 private:
  enum : std::size_t { floor, ours_1, ours_2, peer_1, peer_2 };

  Work work_;
  std::function<double(const Counts&)> floors_;
  std::vector<Contender> all_;
  std::int64_t bytes_ = 0, peer_bytes_ = 0;
  int turns_ = 0;
};

}  // namespace

std::vector<Result> measure(const std::vector<Line>& lines, const Peers& peers, const Effort& effort) {
  std::vector<Race> races;
  for (const Line& line : lines) races.emplace_back(line, peers, effort);
  for (int round = 0; round < effort.most; ++round)
    for (Race& race : races)
      if ((round + 1) * race.turns() / effort.most > round * race.turns() / effort.most) race.turn();
  banach::set_threads(0);
  std::vector<Result> results;
  for (Race& race : races) results.push_back(race.result());
  return results;
}

}  // namespace bench
