#pragma once

#include <banach/nn/dataset.hpp>

#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <span>

namespace banach::nn {

struct LoaderOptions {
  std::int64_t batch_size = 64;
  bool shuffle = true;
  std::uint64_t seed = 0;    ///< with the number of the epoch, all that decides its order
  bool drop_last = false;    ///< leave out a last batch that is smaller than the others
  int prefetch = 2;          ///< batches made ahead on a thread of the loader; 0: made when asked for
  DType dtype = DType::f32;  ///< of the inputs
};

/// Which batch comes next; with the loader's data and options, all that a checkpoint needs.
struct LoaderPosition {
  std::int64_t epoch = 0;
  std::int64_t batch = 0;
  friend bool operator==(const LoaderPosition&, const LoaderPosition&) = default;
};

/// Gives out the rows of a data set in batches, epoch after epoch:
///
///     while (loader.position().epoch < epochs)
///       for (auto [x, labels] : loader) ...
///
/// One `for` runs to the end of the epoch that position() is in; after a `break` the next one goes on with
/// the batch that would have followed. Inside the loop, position() is already that of the next batch: store
/// it after the step. An exception met while a batch is made comes out where the batch is asked for; asking
/// again tries again. Used from one thread at a time.
class Loader {
 public:
  /// Makes the batch of the given rows. `batch` comes undefined, or with tensors of an earlier batch's shapes
  /// that may be overwritten. Called on the loader's thread, one call at a time.
  using Fill = std::function<void(std::span<const std::int64_t> rows, Minibatch& batch)>;

  /// Throws ValueError if an option is outside its domain or an epoch would have no batch.
  explicit Loader(ImageSplit images, const LoaderOptions& options = {});
  /// Batches of any kind of data with so many rows; options.dtype is not used.
  Loader(std::int64_t rows, Fill fill, const LoaderOptions& options = {});
  Loader(Loader&&) noexcept;
  Loader& operator=(Loader&&) noexcept;
  /// Waits for the batch being made, if any, and drops what was made ahead.
  ~Loader();

  /// Batches an epoch.
  std::int64_t batches() const;
  LoaderPosition position() const { return position_; }
  /// Goes to any position; what follows is the same as if it had been reached batch by batch. Throws
  /// ValueError unless epoch >= 0 and batch lies in [0, batches()).
  void seek(LoaderPosition position);
  /// The next batch, for loops of another form.
  Minibatch next();

  class Iterator {
   public:
    using value_type = Minibatch;
    using difference_type = std::ptrdiff_t;
    Minibatch operator*() const { return loader_->next(); }
    Iterator& operator++() { return *this; }
    void operator++(int) {}
    bool operator==(std::default_sentinel_t) const { return loader_->position().epoch != epoch_; }

   private:
    friend class Loader;
    Iterator(Loader* loader, std::int64_t epoch) : loader_(loader), epoch_(epoch) {}
    Loader* loader_;
    std::int64_t epoch_;
  };
  Iterator begin() { return {this, position_.epoch}; }
  std::default_sentinel_t end() const { return {}; }

 private:
  struct Plan;
  class Sequence;
  class Prefetcher;

  std::unique_ptr<const Plan> plan_;
  LoaderPosition position_;
  std::unique_ptr<Sequence> sequence_;  // what makes the batches from position_ on; none: to be started
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace banach::nn
