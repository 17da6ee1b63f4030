#pragma once

#include <banach/engine/memory.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace banach {

/// A growing sequence in chunks: elements never move, and the memory comes from and goes back to the pool in
/// whole chunks. `extend` gives contiguous runs.
template <class T>
class Slab {
 public:
  Slab() = default;
  Slab(Slab&& other) noexcept { *this = std::move(other); }
  Slab& operator=(Slab&& other) noexcept {
    std::swap(chunks_, other.chunks_);
    std::swap(next_, other.next_);
    std::swap(limit_, other.limit_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Slab() { clear(); }

  std::size_t size() const { return size_; }

  /// Appends one element. Only for slabs never extended by runs: operator[] relies on full chunks.
  T& push_back(T value) {
    T* at = extend(1);
    *at = std::move(value);
    return *at;
  }
  T& operator[](std::size_t i) { return chunks_[i / chunk_size].data[i % chunk_size]; }
  const T& operator[](std::size_t i) const { return chunks_[i / chunk_size].data[i % chunk_size]; }

  /// Appends `count` default elements that lie side by side, and returns the first.
  T* extend(std::size_t count) {
    if (static_cast<std::size_t>(limit_ - next_) < count) add_chunk(count);
    T* first = next_;
    std::uninitialized_value_construct_n(first, count);
    next_ += count;
    size_ += count;
    return first;
  }

  void clear() {
    close_chunk();
    for (const Chunk& chunk : chunks_) {
      std::destroy_n(chunk.data, chunk.used);
      memory::release(chunk.data, chunk.capacity * sizeof(T));
    }
    chunks_.clear();
    next_ = limit_ = nullptr;
    size_ = 0;
  }

 private:
  static constexpr std::size_t chunk_size = 256;
  struct Chunk {
    T* data;
    std::size_t used, capacity;  // `used` is known once another chunk follows
  };

  void close_chunk() {
    if (!chunks_.empty()) chunks_.back().used = static_cast<std::size_t>(next_ - chunks_.back().data);
  }
  void add_chunk(std::size_t at_least) {
    close_chunk();
    const std::size_t capacity = at_least > chunk_size ? at_least : chunk_size;
    chunks_.push_back({static_cast<T*>(memory::allocate(capacity * sizeof(T))), 0, capacity});
    next_ = chunks_.back().data;
    limit_ = next_ + capacity;
  }

  PoolVector<Chunk> chunks_;
  T *next_ = nullptr, *limit_ = nullptr;  // what is free in the last chunk
  std::size_t size_ = 0;
};

}  // namespace banach
