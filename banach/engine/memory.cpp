#include <banach/engine/memory.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, size) static_cast<void>(0)
#endif

namespace banach::memory {
namespace {

// Size classes: multiples of 64 up to 1 KiB, then four to each power of two (at most a quarter is wasted).
constexpr std::size_t small_limit = 1024, small_step = 64, small_classes = small_limit / small_step;
constexpr std::size_t classes = small_classes + 4 * 44;

struct SizeClass {
  std::size_t index, bytes;
};

SizeClass size_class(std::size_t bytes) {
  if (bytes <= small_limit) {
    const std::size_t index = bytes == 0 ? 0 : (bytes - 1) / small_step;
    return {index, (index + 1) * small_step};
  }
  const int log2 = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^log2 < bytes <= 2^(log2+1)
  const std::size_t base = std::size_t{1} << log2, quarter = base / 4;
  const std::size_t part = (bytes - base + quarter - 1) / quarter;  // 1..4
  const std::size_t index = small_classes + static_cast<std::size_t>(log2 - 10) * 4 + (part - 1);
  if (index >= classes) throw std::bad_alloc();
  return {index, base + part * quarter};
}

// A free block holds the link to the next free one in its own first bytes.
struct FreeBlock {
  FreeBlock* next;
};

struct FreeList {
  FreeBlock* head = nullptr;
  std::size_t count = 0;

  void push(void* block, std::size_t bytes) {
    auto* free_block = static_cast<FreeBlock*>(block);
    free_block->next = head;
    head = free_block;
    ++count;
    // All but the link, which the leak checker must be able to follow.
    ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(block) + sizeof(FreeBlock), bytes - sizeof(FreeBlock));
    static_cast<void>(bytes);
  }
  void* pop(std::size_t bytes) {
    FreeBlock* block = head;
    if (!block) return nullptr;
    ASAN_UNPOISON_MEMORY_REGION(block, bytes);
    static_cast<void>(bytes);
    head = block->next;
    --count;
    return block;
  }
};

std::atomic<std::int64_t> live{0}, peak{0}, system_calls{0};

void count_live(std::int64_t bytes) {
  const std::int64_t now = live.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t top = peak.load(std::memory_order_relaxed);
  while (now > top && !peak.compare_exchange_weak(top, now, std::memory_order_relaxed)) {
  }
}

// What one thread keeps for itself is bounded; the rest goes to the shared
// store.
class SharedStore {
 public:
  void* pop(SizeClass c) {
    const std::lock_guard lock(mutex_);
    return lists_[c.index].pop(c.bytes);
  }
  void push(void* block, SizeClass c) {
    const std::lock_guard lock(mutex_);
    lists_[c.index].push(block, c.bytes);
  }
  void trim();

 private:
  std::mutex mutex_;
  std::array<FreeList, classes> lists_;
};

SharedStore& shared_store() {
  static auto* store = new SharedStore;  // never destroyed: tensors may outlive static destruction
  return *store;
}

template <class Lists>
void free_all(Lists& lists) {
  for (std::size_t i = 0; i < classes; ++i) {
    // The byte count only matters for the sanitizer; recompute it from the index.
    const std::size_t bytes = i < small_classes ? (i + 1) * small_step
                                                : (std::size_t{1} << (10 + (i - small_classes) / 4)) / 4 *
                                                      (5 + (i - small_classes) % 4);
    while (void* block = lists[i].pop(bytes)) std::free(block);
  }
}

void SharedStore::trim() {
  const std::lock_guard lock(mutex_);
  free_all(lists_);
}

// What a thread keeps of one class. Little, so that blocks made on one thread and freed on another come back.
constexpr std::size_t thread_bytes_per_class = std::size_t{1} << 18;

class ThreadCache {
 public:
  ~ThreadCache();
  void* pop(SizeClass c) { return lists_[c.index].pop(c.bytes); }
  bool push(void* block, SizeClass c) {
    if ((lists_[c.index].count + 1) * c.bytes > thread_bytes_per_class) return false;
    lists_[c.index].push(block, c.bytes);
    return true;
  }
  void trim() { free_all(lists_); }

 private:
  std::array<FreeList, classes> lists_;
};

// Trivial type: readable even after the cache of a dying thread is gone.
thread_local bool cache_gone = false;

ThreadCache::~ThreadCache() {
  cache_gone = true;
  trim();
}

ThreadCache* thread_cache() {
  if (cache_gone) return nullptr;
  thread_local ThreadCache cache;
  return &cache;
}

}  // namespace

void* allocate(std::size_t bytes) {
  const SizeClass c = size_class(bytes);
  ThreadCache* cache = thread_cache();
  void* block = cache ? cache->pop(c) : nullptr;
  if (!block) block = shared_store().pop(c);
  if (!block) {
    block = std::aligned_alloc(64, c.bytes);
    if (!block) {
      trim();
      block = std::aligned_alloc(64, c.bytes);
      if (!block) throw std::bad_alloc();
    }
    system_calls.fetch_add(1, std::memory_order_relaxed);
  }
  count_live(static_cast<std::int64_t>(c.bytes));
  return block;
}

void release(void* block, std::size_t bytes) noexcept {
  if (!block) return;
  const SizeClass c = size_class(bytes);
  live.fetch_sub(static_cast<std::int64_t>(c.bytes), std::memory_order_relaxed);
  ThreadCache* cache = thread_cache();
  if (!cache || !cache->push(block, c)) shared_store().push(block, c);
}

Stats stats() {
  return {live.load(std::memory_order_relaxed), peak.load(std::memory_order_relaxed),
          system_calls.load(std::memory_order_relaxed)};
}

void reset_peak() { peak.store(live.load(std::memory_order_relaxed), std::memory_order_relaxed); }

void trim() {
  if (ThreadCache* cache = thread_cache()) cache->trim();
  shared_store().trim();
}

}  // namespace banach::memory
