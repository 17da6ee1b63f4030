#include <banach/engine/memory.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <utility>

#include <sys/mman.h>

// GCC says by a macro that AddressSanitizer watches, Clang by __has_feature.
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
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

SizeClass large_class(std::size_t bytes) {
  const int log2 = static_cast<int>(std::bit_width(bytes - 1)) - 1;  // 2^log2 < bytes <= 2^(log2+1)
  const std::size_t base = std::size_t{1} << log2, quarter = base / 4;
  const std::size_t part = (bytes - base + quarter - 1) / quarter;  // 1..4
  const std::size_t index = small_classes + static_cast<std::size_t>(log2 - 10) * 4 + (part - 1);
  if (index >= classes) throw std::bad_alloc();
  return {index, base + part * quarter};
}

inline SizeClass size_class(std::size_t bytes) {
  if (bytes > small_limit) return large_class(bytes);
  const std::size_t index = bytes == 0 ? 0 : (bytes - 1) / small_step;
  return {index, (index + 1) * small_step};
}

// A free block holds the link to the next one of its list in its own first bytes. The first block of a list
// in the shared store also holds the link to the next list, and the length of its own.
struct FreeBlock {
  FreeBlock *next, *next_list;
  std::size_t count;
};

class FreeList {
 public:
  FreeList() = default;
  explicit FreeList(FreeBlock* head) : head_(head), count_(head ? head->count : 0) {}

  std::size_t count() const { return count_; }
  void push(void* block, std::size_t bytes) {
    auto* free_block = static_cast<FreeBlock*>(block);
    free_block->next = head_;
    head_ = free_block;
    ++count_;
    // All but the links, which the leak checker must be able to follow.
    ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(block) + sizeof(FreeBlock), bytes - sizeof(FreeBlock));
    static_cast<void>(bytes);
  }
  void* pop(std::size_t bytes) {
    FreeBlock* block = head_;
    if (!block) return nullptr;
    ASAN_UNPOISON_MEMORY_REGION(block, bytes);
    static_cast<void>(bytes);
    head_ = block->next;
    --count_;
    return block;
  }
  /// Its first block, which holds the length; the list is empty then.
  FreeBlock* take_all() {
    if (head_) head_->count = std::exchange(count_, 0);
    return std::exchange(head_, nullptr);
  }

 private:
  FreeBlock* head_ = nullptr;
  std::size_t count_ = 0;
};

void free_all(FreeList& list, std::size_t bytes) {
  while (void* block = list.pop(bytes)) std::free(block);
}

std::size_t bytes_of_class(std::size_t index) {
  if (index < small_classes) return (index + 1) * small_step;
  const std::size_t large = index - small_classes;
  return (std::size_t{1} << (10 + large / 4)) / 4 * (5 + large % 4);
}

class ThreadCache;

// What threads have no room for, in whole lists: a thread that frees what others allocate, or a tape larger
// than its room, takes the lock once a list.
class SharedStore {
 public:
  FreeList pop(SizeClass c) {
    const std::lock_guard lock(mutex_);
    FreeBlock* head = lists_[c.index];
    if (head) lists_[c.index] = head->next_list;
    return FreeList(head);
  }
  void push(FreeList& list, SizeClass c) {
    FreeBlock* head = list.take_all();
    if (!head) return;
    const std::lock_guard lock(mutex_);
    head->next_list = lists_[c.index];
    lists_[c.index] = head;
  }
  void trim() {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < classes; ++i)
      while (FreeBlock* head = lists_[i]) {
        lists_[i] = head->next_list;
        FreeList list(head);
        free_all(list, bytes_of_class(i));
      }
  }

  // Bytes in use are those counted here, and what each thread has not told yet.
  void join(ThreadCache& cache);
  void leave(ThreadCache& cache);
  /// Adds `bytes`, while there were up to `most` more on the way.
  void count(std::int64_t bytes, std::int64_t most);
  Stats stats();
  void reset_peak();

 private:
  std::int64_t live_bytes() const;

  std::mutex mutex_;
  std::array<FreeBlock*, classes> lists_{};
  ThreadCache* caches_ = nullptr;
  std::int64_t live_ = 0, peak_ = 0;
};

SharedStore& shared_store() {
  static auto* store = new SharedStore;  // never destroyed: tensors may outlive static destruction
  return *store;
}

// What a thread keeps of one class. Little, so that blocks made on one thread and freed on another come back.
constexpr std::size_t thread_bytes_per_class = std::size_t{1} << 18;
// A thread tells the others of changes in its use of memory only when they are large: atomic additions would
// cost more than all the rest.
constexpr std::int64_t told_from = 1 << 16;

// One thread's free blocks, and its count of bytes in use since it last told the shared store.
class ThreadCache {
 public:
  ThreadCache();
  ~ThreadCache();

  void* pop(SizeClass c) {
    FreeList& list = lists_[c.index];
    if (list.count() == 0) list = shared_store().pop(c);
    return list.pop(c.bytes);
  }
  void push(void* block, SizeClass c) {
    FreeList& list = lists_[c.index];
    if ((list.count() + 1) * c.bytes > thread_bytes_per_class) shared_store().push(list, c);
    list.push(block, c.bytes);
    if (c.bytes > thread_bytes_per_class) shared_store().push(list, c);
  }
  void count(std::int64_t bytes) {
    const std::int64_t now = untold() + bytes;
    untold_.store(now, std::memory_order_relaxed);
    most_ = std::max(most_, now);
    if (!small_change(now)) tell();
  }

  // The usual cases, which call nothing; null or false, and nothing is done, where this is not one.
  void* pop_at_once(SizeClass c) {
    FreeList& list = lists_[c.index];
    const std::int64_t now = untold() + static_cast<std::int64_t>(c.bytes);
    if (list.count() == 0 || !small_change(now)) return nullptr;
    untold_.store(now, std::memory_order_relaxed);
    most_ = std::max(most_, now);
    return list.pop(c.bytes);
  }
  bool push_at_once(void* block, SizeClass c) {
    FreeList& list = lists_[c.index];
    const std::int64_t now = untold() - static_cast<std::int64_t>(c.bytes);
    if ((list.count() + 1) * c.bytes > thread_bytes_per_class || !small_change(now)) return false;
    untold_.store(now, std::memory_order_relaxed);
    list.push(block, c.bytes);
    return true;
  }
  void tell() {
    const std::int64_t bytes = untold();
    untold_.store(0, std::memory_order_relaxed);
    shared_store().count(bytes, std::exchange(most_, 0));
  }
  std::int64_t untold() const { return untold_.load(std::memory_order_relaxed); }
  ThreadCache*& next() { return next_; }
  void trim() {
    for (std::size_t i = 0; i < classes; ++i) free_all(lists_[i], bytes_of_class(i));
  }

 private:
  static bool small_change(std::int64_t bytes) { return -told_from < bytes && bytes < told_from; }

  std::array<FreeList, classes> lists_;
  std::atomic<std::int64_t> untold_{0};  // written by this thread alone
  std::int64_t most_ = 0;                // largest value of untold_
  ThreadCache* next_ = nullptr;          // in the shared store's chain
};

void SharedStore::join(ThreadCache& cache) {
  const std::lock_guard lock(mutex_);
  cache.next() = std::exchange(caches_, &cache);
}

void SharedStore::leave(ThreadCache& cache) {
  const std::lock_guard lock(mutex_);
  ThreadCache** link = &caches_;
  while (*link != &cache) link = &(*link)->next();
  *link = cache.next();
}

std::int64_t SharedStore::live_bytes() const {
  std::int64_t bytes = live_;
  for (ThreadCache* cache = caches_; cache; cache = cache->next()) bytes += cache->untold();
  return bytes;
}

void SharedStore::count(std::int64_t bytes, std::int64_t most) {
  const std::lock_guard lock(mutex_);
  peak_ = std::max(peak_, live_bytes() + most);
  live_ += bytes;
}

Stats SharedStore::stats() {
  const std::lock_guard lock(mutex_);
  const std::int64_t live = live_bytes();
  return {live, std::max(peak_, live), 0};
}

void SharedStore::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = live_bytes();
}

// Trivial types: readable even after the cache of a dying thread is gone.
constinit thread_local ThreadCache* own_cache = nullptr;
constinit thread_local bool cache_gone = false;

ThreadCache::ThreadCache() {
  shared_store().join(*this);
  own_cache = this;
}

ThreadCache::~ThreadCache() {
  own_cache = nullptr;
  cache_gone = true;
  tell();
  shared_store().leave(*this);
  trim();
}

// Null on a thread that is ending.
ThreadCache* thread_cache() {
  if (own_cache || cache_gone) return own_cache;
  thread_local ThreadCache cache;
  return &cache;
}

std::atomic<std::int64_t> system_calls{0};

// Large blocks ask for huge pages, where there are any: what walks across planes of a tensor leaves a small
// page at every step. Only whole ones, so that no more becomes resident than before.
void* aligned_block(std::size_t bytes) {
  constexpr std::size_t huge_page = std::size_t{1} << 21;
  void* block = nullptr;
  if (posix_memalign(&block, bytes < huge_page ? 64 : huge_page, bytes) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  if (bytes >= huge_page) madvise(block, bytes / huge_page * huge_page, MADV_HUGEPAGE);  // a wish, no more
#endif
  return block;
}

void* from_system(std::size_t bytes) {
  void* block = aligned_block(bytes);
  if (!block) {
    trim();
    block = aligned_block(bytes);
    if (!block) throw std::bad_alloc();
  }
  system_calls.fetch_add(1, std::memory_order_relaxed);
  return block;
}

[[gnu::noinline]] void* allocate_any(std::size_t bytes) {
  const SizeClass c = size_class(bytes);
  ThreadCache* cache = thread_cache();
  void* block = cache ? cache->pop(c) : nullptr;
  if (!block) block = from_system(c.bytes);
  const auto used = static_cast<std::int64_t>(c.bytes);
  if (cache)
    cache->count(used);
  else
    shared_store().count(used, used);
  return block;
}

[[gnu::noinline]] void release_any(void* block, std::size_t bytes) {
  const SizeClass c = size_class(bytes);
  const auto used = static_cast<std::int64_t>(c.bytes);
  if (ThreadCache* cache = thread_cache()) {
    cache->count(-used);
    cache->push(block, c);
  } else {
    shared_store().count(-used, 0);
    std::free(block);
  }
}

}  // namespace

void* allocate(std::size_t bytes) {
  if (own_cache && bytes <= small_limit)
    if (void* block = own_cache->pop_at_once(size_class(bytes))) return block;
  return allocate_any(bytes);
}

void release(void* block, std::size_t bytes) noexcept {
  if (!block || (own_cache && bytes <= small_limit && own_cache->push_at_once(block, size_class(bytes))))
    return;
  release_any(block, bytes);
}

Stats stats() {
  if (ThreadCache* cache = thread_cache()) cache->tell();
  Stats stats = shared_store().stats();
  stats.system_allocations = system_calls.load(std::memory_order_relaxed);
  return stats;
}

void reset_peak() {
  if (ThreadCache* cache = thread_cache()) cache->tell();
  shared_store().reset_peak();
}

void trim() {
  if (ThreadCache* cache = thread_cache()) cache->trim();
  shared_store().trim();
}

}  // namespace banach::memory
