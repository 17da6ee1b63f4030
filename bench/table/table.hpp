#pragma once
// What the table is made of: lines, each timed in Banach, in a peer and as a floor.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace bench {

/// Evaluations of f and products with its transposed Jacobian, as the solver counts them.
struct Counts {
  int f = 0, vjp = 0;
};

/// Something to be timed. Its time is that of `run`, less that of `less`, divided by `per`.
struct Work {
  std::function<void()> run;
  std::function<void()> less = {};
  double per = 1.0;
  std::function<Counts()> counts = {};  ///< of the last run
  bool per_evaluation = false;          ///< divided by f + vjp, too
};

/// Makes the work, data included: called once, when its line's turn has come.
using Make = std::function<Work()>;

enum class Unit : std::uint8_t { milliseconds, microseconds, nanoseconds };

/// What a line should cost by one thread, at most.
struct Goal {
  enum Of : std::uint8_t { none, floor, peer, seconds } of = none;
  double most = 0.0;
};

struct Line {
  std::string name;
  Unit unit = Unit::milliseconds;
  Make ours;
  Make floor;
  /// How many runs of the floor the line's arithmetic amounts to, given the evaluations that ours took.
  std::function<double(const Counts&)> floors = {};
  Goal goal = {};
};

/// The same work in another library, by the names of the lines.
struct Peers {
  std::string name;
  std::map<std::string, Make> work = {};
  int threads = 2;                                      ///< the most that it can use
  std::function<void(int threads)> enter = [](int) {};  ///< before a peer runs
  std::function<void()> leave = [] {};                  ///< and after
  /// The most bytes that a run holds at once, above what lived before.
  std::function<std::int64_t(const std::function<void()>& run)> peak_bytes = {};
};

struct Section {
  std::string title;
  std::vector<Line> lines;
  Peers peers = {};  ///< beside this section in LibTorch's place, if there are any
};

/// None, unless LibTorch was there when this was built.
Peers torch_peers();

Section deq_section();
Section operations_section();
std::vector<Section> transformer_sections();
Section residual_section();
Section quadratic_section();
std::vector<Section> growth_sections();

/// Evaluations of f that a body of the lab takes, on samples that it was not trained on.
struct TrainedBody {
  std::uint64_t seed = 0;
  double tolerance = 0.0;
  int picard = 0, anderson = 0;  ///< of the slowest sample
  double picard_mean = 0.0, anderson_mean = 0.0;
};

/// Empty if the lab was not built.
std::vector<TrainedBody> trained_bodies(int models);

}  // namespace bench
