#include <banach/engine/random.hpp>
#include <banach/nn/loader.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

namespace banach::nn {

/// What decides every batch.
struct Loader::Plan {
  std::int64_t rows;
  Fill fill;
  LoaderOptions options;
  std::int64_t batches;

  LoaderPosition after(LoaderPosition at) const {
    return at.batch + 1 < batches ? LoaderPosition{at.epoch, at.batch + 1} : LoaderPosition{at.epoch + 1, 0};
  }
};

/// Makes the batches in turn, from a position on.
class Loader::Sequence {
 public:
  Sequence(const Plan& plan, LoaderPosition position)
      : plan_(plan), position_(position), order_(static_cast<std::size_t>(plan.rows)) {}

  void next(Minibatch& batch) {
    if (ordered_epoch_ != position_.epoch) order_epoch();
    const std::int64_t begin = position_.batch * plan_.options.batch_size;
    const std::int64_t end = std::min(begin + plan_.options.batch_size, plan_.rows);
    plan_.fill(
        std::span(order_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
        batch);
    position_ = plan_.after(position_);
  }

 private:
  /// Shuffles in place (Fisher and Yates), so that epochs after the first need no memory.
  void order_epoch() {
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    ordered_epoch_ = position_.epoch;
    if (!plan_.options.shuffle) return;
    constexpr std::uint64_t purpose = 0x6c6f61646572;  // keeps clear of other draws from the same seed
    Random random = Random(plan_.options.seed, purpose).split(static_cast<std::uint64_t>(position_.epoch));
    for (std::int64_t i = plan_.rows - 1; i > 0; --i)
      std::swap(order_[static_cast<std::size_t>(i)], order_[static_cast<std::size_t>(random.below(i + 1))]);
  }

  const Plan& plan_;
  LoaderPosition position_;
  std::vector<std::int64_t> order_;
  std::int64_t ordered_epoch_ = -1;  // the epoch that order_ is for
};

/// Runs a sequence on a thread, a few batches ahead of the consumer.
class Loader::Prefetcher {
 public:
  Prefetcher(Sequence& sequence, int ahead)
      : sequence_(sequence), slots_(static_cast<std::size_t>(ahead)), thread_([this] { run(); }) {}

  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  Minibatch next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return filled_ > 0 || error_; });
    if (filled_ == 0) std::rethrow_exception(error_);
    Slot& slot = slots_[first_];
    Minibatch batch = std::move(slot);
    // The next tensors of this slot are taken from the pool here, where those of earlier batches are given
    // back: were they taken on the other thread, this one's cache would fill up and that one's run dry.
    slot = {blank_like(batch.x), blank_like(batch.labels)};
    first_ = (first_ + 1) % slots_.size();
    --filled_;
    lock.unlock();
    changed_.notify_one();
    return batch;
  }

 private:
  using Slot = Minibatch;

  static Tensor blank_like(const Tensor& tensor) {
    return tensor.defined() ? Tensor::empty(tensor.shape(), tensor.dtype()) : Tensor();
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (filled_ == slots_.size()) {
        changed_.wait(lock);
        continue;
      }
      Slot& slot =
          slots_[(first_ + filled_) % slots_.size()];  // not the consumer's until it counts as filled
      lock.unlock();
      std::exception_ptr error;
      try {
        sequence_.next(slot);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error) {
        error_ = error;
        changed_.notify_one();
        return;
      }
      ++filled_;
      changed_.notify_one();
    }
  }

  Sequence& sequence_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;  // a ring: `filled_` batches from `first_` on
  std::size_t first_ = 0, filled_ = 0;
  std::exception_ptr error_;
  bool stopping_ = false;
  std::thread thread_;
};

Loader::Loader(std::int64_t rows, Fill fill, const LoaderOptions& options) {
  if (rows < 1) fail<ValueError>("loader", fmt::format("data must have at least one row: got {}", rows));
  if (options.batch_size < 1)
    fail<ValueError>("loader", fmt::format("batch_size must be at least 1: got {}", options.batch_size));
  if (options.prefetch < 0 || options.prefetch > 1024)
    fail<ValueError>("loader", fmt::format("prefetch must lie in [0, 1024]: got {}", options.prefetch));
  const std::int64_t whole = rows / options.batch_size;
  const std::int64_t batches = whole + (!options.drop_last && rows % options.batch_size != 0);
  if (batches == 0)
    fail<ValueError>(
        "loader", fmt::format("an epoch must have a batch: {} rows, batch_size {} and drop_last leave none",
                              rows, options.batch_size));
  plan_ = std::make_unique<const Plan>(Plan{rows, std::move(fill), options, batches});
}

Loader::Loader(ImageSplit images, const LoaderOptions& options)
    : Loader(
          images.size(),
          [images, dtype = options.dtype](std::span<const std::int64_t> rows, Minibatch& batch) {
            images.fill(rows, dtype, batch);
          },
          options) {
  if (!is_floating(options.dtype)) fail<DTypeError>("loader", "dtype must be f32 or f64: got i64");
}

Loader::Loader(Loader&&) noexcept = default;
Loader::~Loader() = default;

Loader& Loader::operator=(Loader&& other) noexcept {
  prefetcher_.reset();  // first, since its thread uses the members that are replaced
  sequence_ = std::move(other.sequence_);
  plan_ = std::move(other.plan_);
  position_ = other.position_;
  prefetcher_ = std::move(other.prefetcher_);
  return *this;
}

std::int64_t Loader::batches() const { return plan_->batches; }

void Loader::seek(LoaderPosition position) {
  if (position.epoch < 0 || position.batch < 0 || position.batch >= batches())
    fail<ValueError>("loader",
                     fmt::format("position must have epoch >= 0 and batch in [0, {}): got epoch {}, batch {}",
                                 batches(), position.epoch, position.batch));
  if (position == position_) return;
  prefetcher_.reset();
  sequence_.reset();
  position_ = position;
}

Minibatch Loader::next() {
  if (!sequence_) sequence_ = std::make_unique<Sequence>(*plan_, position_);
  if (plan_->options.prefetch > 0 && !prefetcher_)
    prefetcher_ = std::make_unique<Prefetcher>(*sequence_, plan_->options.prefetch);
  Minibatch batch;
  try {
    if (prefetcher_)
      batch = prefetcher_->next();
    else
      sequence_->next(batch);
  } catch (...) {
    prefetcher_.reset();
    sequence_.reset();
    throw;
  }
  position_ = plan_->after(position_);
  return batch;
}

}  // namespace banach::nn
