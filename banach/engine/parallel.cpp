#include <banach/engine/loop_state.hpp>
#include <banach/engine/parallel.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <banach/engine/error.hpp>

#ifdef BANACH_TSAN
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace banach {
namespace {

/// Tells ThreadSanitizer, which cannot see into TBB, that what was released at `point` happens before it is
/// acquired.
void acquire([[maybe_unused]] void* point) {
#ifdef BANACH_TSAN
  __tsan_acquire(point);
#endif
}
void release([[maybe_unused]] void* point) {
#ifdef BANACH_TSAN
  __tsan_release(point);
#endif
}

/// Orders what a scope does after what was released at `before`, and before what is acquired at `after`;
/// exceptions leave the scope in the same order.
struct Ordered {
  Ordered(void* before, void* after) : after_(after) { acquire(before); }
  ~Ordered() { release(after_); }
  void* after_;
};

/// The threads that loops run on. The global control lets TBB start more workers than there are cores.
struct Team {
  explicit Team(int n)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(n)), arena(n) {}

  tbb::global_control limit;
  tbb::task_arena arena;
};

thread_local bool serial_loops = false;

/// 0 until set or first asked for.
constinit std::atomic<int> thread_count = 0;

struct SharedTeam {
  std::mutex mutex;
  std::shared_ptr<Team> team;
};

SharedTeam& shared_team() {
  // Never destroyed: a loop may still run in another static object's destructor.
  static SharedTeam& shared = *new SharedTeam;
  return shared;
}

/// The current team; a loop holds on to the one it started with.
std::shared_ptr<Team> current_team() {
  SharedTeam& shared = shared_team();
  const std::lock_guard lock(shared.mutex);
  if (!shared.team) shared.team = std::make_shared<Team>(threads());
  return shared.team;
}

}  // namespace

void set_threads(int n) {
  if (n < 0)
    fail<ValueError>("set_threads",
                     "the number of threads must be at least 1, or 0 for all cores: " + std::to_string(n));
  SharedTeam& shared = shared_team();
  const std::lock_guard lock(shared.mutex);
  shared.team.reset();
  thread_count = n == 0 ? tbb::info::default_concurrency() : n;
}

int threads() {
  int count = thread_count.load(std::memory_order_relaxed);
  if (count == 0) {
    const int all = tbb::info::default_concurrency();
    count = thread_count.compare_exchange_strong(count, all) ? all : count;
  }
  return count;
}

SerialLoops::SerialLoops() : saved_(serial_loops) { serial_loops = true; }
SerialLoops::~SerialLoops() { serial_loops = saved_; }

bool loops_are_serial() { return serial_loops || threads() == 1; }

void parallel_pieces(std::int64_t count, std::int64_t grain,
                     FunctionRef<void(std::int64_t begin, std::int64_t end)> body) {
  if (count < 0 || grain < 1)
    fail<ValueError>("parallel_for", "count must be at least 0 and grain at least 1: count " +
                                         std::to_string(count) + ", grain " + std::to_string(grain));
  const std::int64_t pieces = count / grain + (count % grain != 0);
  const auto run_pieces = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t piece = first; piece < last; ++piece) {
      const std::int64_t begin = piece * grain;
      body(begin, count - begin < grain ? count : begin + grain);
    }
  };
  if (pieces <= 1 || loops_are_serial()) return run_pieces(0, pieces);

  char started = 0, ended = 0;
  release(&started);
  const auto team = current_team();
  struct AtEnd {
    void* point;
    ~AtEnd() { acquire(point); }
  } const at_end{&ended};
  // Isolated: a thread that waits here takes up no piece of another loop, whose body could see the waiter's
  // thread-local state. TBB may group neighbouring pieces, but never cuts or joins them.
  team->arena.execute([&] {
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(tbb::blocked_range<std::int64_t>(0, pieces),
                        [&](const tbb::blocked_range<std::int64_t>& range) {
                          const Ordered order(&started, &ended);
                          run_pieces(range.begin(), range.end());
                        });
    });
  });
}

}  // namespace banach
