#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace banach {

template <class Signature>
class FunctionRef;

/// A reference to a callable: two pointers, no allocation, no ownership. The callable must outlive the call
/// it is passed to, which a lambda written in the argument list does.
template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
 public:
  template <class Callable>
  requires(!std::is_same_v<std::remove_cvref_t<Callable>, FunctionRef> &&
           std::is_object_v<std::remove_reference_t<Callable>> &&
           std::is_invocable_r_v<Result, Callable&, Arguments...>) FunctionRef(Callable&& callable)
  noexcept  // NOLINT: implicit on purpose, so that lambdas can be passed
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Arguments... arguments) -> Result {
          return (*static_cast<std::remove_reference_t<Callable>*>(object))(
              std::forward<Arguments>(arguments)...);
        }) {}

  Result operator()(Arguments... arguments) const {
    return call_(object_, std::forward<Arguments>(arguments)...);
  }

 private:
  void* object_;
  Result (*call_)(void*, Arguments...);
};

/// Sets how many threads later parallel loops may use: n >= 1, or 0 for all cores. Throws ValueError
/// otherwise. More threads than cores are allowed. Must not be called from inside a parallel loop.
void set_threads(int n);

/// How many threads a parallel loop may use now; all cores at start.
int threads();

/// While alive, loops of this thread run in order on it: for work that is itself a piece of a parallel loop.
class SerialLoops {
 public:
  SerialLoops();
  ~SerialLoops();
  SerialLoops(const SerialLoops&) = delete;
  SerialLoops& operator=(const SerialLoops&) = delete;

 private:
  bool saved_;
};

// For the engine: parallel_for of any number of pieces.
void parallel_pieces(std::int64_t count, std::int64_t grain,
                     FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

/// Calls body(begin, end) for consecutive pieces of [0, count), each of exactly `grain` indices (the last may
/// be shorter), possibly at the same time. The pieces do not depend on the number of threads, so results do
/// not either as long as pieces are independent. One piece, or one thread: runs in order on the calling
/// thread, without allocating. An exception of a piece is thrown on (one of them, if several) and the pieces
/// not started yet may be dropped. Loops may be nested. While a loop waits, its thread runs pieces of that
/// loop only, never of an unrelated one, so thread-local state of the caller is safe. Throws ValueError if
/// count < 0 or grain < 1.
template <class Body>
void parallel_for(std::int64_t count, std::int64_t grain, Body&& body) {
  if (0 < count && count <= grain)
    body(std::int64_t{0}, count);
  else
    parallel_pieces(count, grain, body);
}

}  // namespace banach
