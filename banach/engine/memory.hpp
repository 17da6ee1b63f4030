#pragma once
// The buffer pool. Every tensor, and every container of the engine that lives in a training step, takes its
// memory here: a released block is kept by size class and handed out again, so that a steady loop never calls
// malloc.

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace banach::memory {

/// A block of at least `bytes` bytes, aligned to 64. Throws std::bad_alloc.
void* allocate(std::size_t bytes);

/// Gives a block back; `bytes` as it was asked for. Any thread may do so.
void release(void* block, std::size_t bytes) noexcept;

struct Stats {
  std::int64_t live_bytes = 0;          ///< handed out now
  std::int64_t peak_bytes = 0;          ///< largest live_bytes since the last reset_peak()
  std::int64_t system_allocations = 0;  ///< calls to the system allocator since the start
};

Stats stats();
void reset_peak();

/// Returns the blocks that nobody uses (of this thread and of the shared store) to the system.
void trim();

/// Standard allocator on top of the pool, for the engine's vectors and maps.
template <class T>
struct PoolAllocator {
  using value_type = T;
  PoolAllocator() = default;
  template <class U>
  PoolAllocator(const PoolAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(memory::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { memory::release(p, n * sizeof(T)); }
  bool operator==(const PoolAllocator&) const { return true; }
};

}  // namespace banach::memory

namespace banach {
template <class T>
using PoolVector = std::vector<T, memory::PoolAllocator<T>>;
}  // namespace banach
