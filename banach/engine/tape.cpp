#include <banach/engine/keep_values.hpp>
#include <banach/engine/tape.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_set>

namespace banach {
namespace {

constinit thread_local Tape* innermost = nullptr;
constinit thread_local int no_grad_depth = 0, keep_values = 0;

// All live tapes, so that a Var of another thread's tape can be told from one whose tape has closed.
class LiveTapes {
 public:
  void insert(std::uint64_t serial) {
    const std::lock_guard lock(mutex_);
    serials_.insert(serial);
  }
  void erase(std::uint64_t serial) {
    const std::lock_guard lock(mutex_);
    serials_.erase(serial);
  }
  bool contains(std::uint64_t serial) {
    const std::lock_guard lock(mutex_);
    return serials_.count(serial) > 0;
  }

 private:
  std::mutex mutex_;
  std::unordered_set<std::uint64_t, std::hash<std::uint64_t>, std::equal_to<>,
                     memory::PoolAllocator<std::uint64_t>>
      serials_;
};

LiveTapes& live_tapes() {
  static auto* tapes = new LiveTapes;  // never destroyed: a tape may outlive static destruction
  return *tapes;
}

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> serial{0};
  return ++serial;
}

}  // namespace

Tape::Tape(bool captures, Purpose purpose)
    : serial_(next_serial()),
      enclosing_(innermost),
      captures_(captures),
      replays_(purpose != Purpose::differentiate),
      outlines_(purpose == Purpose::outline),
      graph_(serial_) {
  live_tapes().insert(serial_);
  innermost = this;
}

Tape::Tape() : Tape(false, Purpose::differentiate) {}

Tape::Tape(Captures captures) : Tape(true, captures.purpose) {}

Tape::~Tape() {
  live_tapes().erase(serial_);
  // Tapes on the heap may end out of order: take this one out of the chain wherever it is.
  for (Tape** link = &innermost; *link; link = &(*link)->enclosing_)
    if (*link == this) {
      *link = enclosing_;
      break;
    }
}

Tape* Tape::current() { return innermost; }

Tape* Tape::recorder() { return no_grad_depth == 0 ? innermost : nullptr; }

Tape* Tape::find(std::uint64_t serial) {
  Tape* tape = innermost;
  while (tape && tape->serial_ != serial) tape = tape->enclosing_;
  return tape;
}

bool Tape::on_other_thread(std::uint64_t serial) { return !find(serial) && live_tapes().contains(serial); }

void Tape::refuse(const Var& x, std::string_view op, int index) {
  const std::string what = fmt::format("input {}, {}, ", index,
                                       x.op() ? fmt::format("the result of {}", x.op()->name()) : "a leaf");
  if (find(x.tape()))
    fail<TapeError>(
        op, what +
                "must be on the tape that records: it is on an outer Tape (close the inner one first, or "
                "detach() the value)");
  if (on_other_thread(x.tape()))
    fail<TapeError>(op, what + "must be on a tape of this thread: its tape is used by another thread");
  fail<TapeError>(
      op, what +
              "must be on the tape that records: its tape has closed (detach() it to use the value as a "
              "constant)");
}

bool Tape::may_capture_from(std::uint64_t serial) const {
  for (const Tape* tape = this; tape->captures_ && tape->enclosing_; tape = tape->enclosing_)
    if (tape->enclosing_->serial_ == serial) return true;
  return false;
}

Tape* Tape::outermost() {
  Tape* tape = this;
  while (tape->captures_ && tape->enclosing_) tape = tape->enclosing_;
  return tape;
}

Var Tape::leaf(const Tensor& value) {
  if (find(serial_) != this) fail<TapeError>("leaf", "must be called on the thread that the tape belongs to");
  if (!is_floating(value.dtype()))
    fail<DTypeError>("leaf", "expects f32 or f64: got i64, which has no derivatives");
  return add_leaf(value, false);
}

Var Tape::input(const Tensor& value) {
  return add_leaf(outlines_ ? Tensor::placeholder(value.shape(), value.dtype()) : value, true);
}

Var Tape::add_leaf(const Tensor& value, bool varies) {
  if (replays_) varies_.push_back(varies);
  return Var(value, serial_, graph_.add_leaf(value), nullptr);
}

Var Tape::place(const Var& x, std::string_view op, int index) {
  if (!x.recorded() || x.tape() == serial_) return x;
  if (!may_capture_from(x.tape())) {
    if (replays_) return x.detach();
    refuse(x, op, index);
  }
  const auto [at, fresh] = imports_.try_emplace({x.tape(), x.node()}, graph_.size());
  if (fresh) {
    add_leaf(x.value(), false);
    captured_.push_back(x);
    captured_leaves_.push_back(at->second);
  }
  return Var(x.value(), serial_, at->second, x.op());
}

std::int32_t Tape::append(const Op& op, const Attrs& attrs, std::span<const Var> inputs,
                          std::span<const Tensor> outputs) {
  bool tracked = false, foreign = false;
  for (const Var& x : inputs) {
    tracked = tracked || x.recorded();
    foreign = foreign || (x.recorded() && x.tape() != serial_);
  }
  Vars placed;
  if (foreign) {
    for (const Var& x : inputs) placed.push_back(place(x, op.name(), static_cast<int>(placed.size())));
    inputs = placed;
    tracked = std::any_of(inputs.begin(), inputs.end(), [](const Var& x) { return x.recorded(); });
  }
  // A child tape is replayed on other inputs, so it also keeps what has no derivative.
  if (!tracked || !(op.def().vjp || captures_)) return -1;
  const auto saves = static_cast<unsigned>(op.def().saves);
  Graph::Keep keep{.inputs = (saves & static_cast<unsigned>(Saves::inputs)) != 0,
                   .outputs = (saves & static_cast<unsigned>(Saves::outputs)) != 0,
                   .constants = captures_};
  if (replays_) {
    const bool depends = std::any_of(inputs.begin(), inputs.end(),
                                     [&](const Var& in) { return in.recorded() && varies(in.node()); });
    varies_.insert(varies_.end(), outputs.size(), depends);
    keep.inputs = keep.inputs && keep_values > 0;
    keep.outputs = !depends || (keep.outputs && keep_values > 0);
  }
  return graph_.add(op, attrs, inputs, outputs, keep);
}

Var Tape::keyed_leaf(std::uint64_t key, const Tensor& value) {
  Tape& tape = *outermost();
  const auto [at, fresh] = tape.newest_keyed_.try_emplace(key, -1);
  if (!fresh) {
    const Var& newest = tape.keyed_[static_cast<std::size_t>(at->second)].leaf;
    if (newest.value().same_storage(value)) return newest;
  }
  tape.keyed_.push_back({tape.leaf(value), at->second});
  at->second = static_cast<std::int32_t>(tape.keyed_.size()) - 1;
  return tape.keyed_.back().leaf;
}

Vars Tape::keyed_leaves(std::uint64_t key) const {
  const Tape* tape = this;
  while (tape->captures_ && tape->enclosing_) tape = tape->enclosing_;
  Vars leaves;
  const auto at = tape->newest_keyed_.find(key);
  if (at == tape->newest_keyed_.end()) return leaves;
  for (std::int32_t i = at->second; i >= 0; i = tape->keyed_[static_cast<std::size_t>(i)].previous)
    leaves.push_back(tape->keyed_[static_cast<std::size_t>(i)].leaf);
  return leaves;
}

KeepValues::KeepValues() { ++keep_values; }
KeepValues::~KeepValues() { --keep_values; }

NoGrad::NoGrad() : saved_(no_grad_depth) { no_grad_depth = saved_ + 1; }
NoGrad::~NoGrad() { no_grad_depth = saved_; }
EnableGrad::EnableGrad() : saved_(no_grad_depth) { no_grad_depth = 0; }
EnableGrad::~EnableGrad() { no_grad_depth = saved_; }

bool recording() { return Tape::recorder() != nullptr; }

Var leaf(const Tensor& value) {
  Tape* tape = Tape::current();
  if (!tape) fail<TapeError>("leaf", "a Tape must be alive on this thread: open one with `Tape tape;`");
  return tape->leaf(value);
}

}  // namespace banach
