#pragma once
// All that a resume needs, in one safetensors file: parameters and buffers ("model."), the optimiser
// ("optimizer."), where the training stands ("progress."), tensors of the caller's own ("extra.") and notes
// (the metadata).

#include <banach/engine/random.hpp>
#include <banach/nn/loader.hpp>
#include <banach/nn/module.hpp>
#include <banach/nn/optim.hpp>
#include <banach/nn/safetensors.hpp>

#include <string>

namespace banach::nn {

/// Where a training stands.
struct Progress {
  std::int64_t step = 0;
  LoaderPosition position = {};  ///< of the loader: the batch that comes next
  std::uint64_t loader_seed = 0;
  RandomState random = {};
  NamedTensors extra = {};  ///< any tensors
  Metadata notes = {};      ///< any texts
};

namespace detail {
using State = std::map<std::string, Tensor>;

void write_checkpoint(const std::string& path, const State& model, const State& optimizer,
                      const Progress& progress);

/// A checkpoint that was read; its parts are checked as they are taken out.
class CheckpointFile {
 public:
  explicit CheckpointFile(const std::string& path);
  /// The entries below `prefix`, which must be those of `like`: the same names, shapes and dtypes. Throws
  /// FileError naming the file and the entry.
  State part(std::string_view prefix, const State& like) const;
  Progress progress() const;

 private:
  const Tensor& entry(const std::string& name, const Shape& shape, DType dtype) const;
  Safetensors file_;
};
}  // namespace detail

/// Writes a checkpoint, atomically: a crash leaves the old file or the new one. Throws FileError.
template <Module M>
void save_checkpoint(const std::string& path, M& model, const Optimizer& optimizer,
                     const Progress& progress) {
  detail::write_checkpoint(path, state(model), optimizer.state(), progress);
}

/// Reads a checkpoint into a model and an optimiser made like those that were saved. A training that goes on
/// from here does bit for bit what the uninterrupted one does. Throws FileError naming the file, and the
/// entry that is missing, left over, or of another shape or dtype; then nothing has changed.
template <Module M>
Progress load_checkpoint(const std::string& path, M& model, Optimizer& optimizer) {
  const detail::CheckpointFile file(path);
  detail::State weights = file.part("model.", state(model)),
                moments = file.part("optimizer.", optimizer.state());
  Progress progress = file.progress();
  load_state(model, std::move(weights));
  optimizer.load_state(std::move(moments));
  return progress;
}

/// Reads the model alone, for use without further training.
template <Module M>
Progress load_checkpoint(const std::string& path, M& model) {
  const detail::CheckpointFile file(path);
  detail::State weights = file.part("model.", state(model));
  Progress progress = file.progress();
  load_state(model, std::move(weights));
  return progress;
}

/// Reads all but the model and the optimiser.
inline Progress load_progress(const std::string& path) { return detail::CheckpointFile(path).progress(); }

}  // namespace banach::nn
