#include <apps/training/training.hpp>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <apps/cli/progress.hpp>
#include <apps/cli/run.hpp>
#include <banach/engine/error.hpp>

namespace banach::training {
namespace {

const char* const checkpoint_name = "checkpoint.safetensors";

class Training {
 public:
  explicit Training(const Run& run) : run_(run), first_(take()), bar_(steps_of(run.models.size()), done_) {}

  void models() {
    for (std::size_t i = first_; i < run_.models.size(); ++i) train(i);
  }

 private:
  std::int64_t steps_of(std::size_t models) const {
    std::int64_t total = 0;
    for (std::size_t i = 0; i < models; ++i) total += run_.models[i].steps;
    return total;
  }

  /// The model to begin with; of a resumed run, reads where that one is and what was found so far.
  std::size_t take() {
    if (!run_.place.resume) return 0;
    auto [progress, place] = run_.notes.resume(run_.place.checkpoint);
    run_.results.load(progress);
    done_ = steps_of(place);
    const auto model = progress.notes.find(run_.notes.model_key());
    const bool begun = place < run_.models.size() && model != progress.notes.end() &&
                       model->second == run_.models[place].name;
    if (begun) {
      done_ += progress.step;
      begun_ = std::move(progress);
    }
    return place;
  }

  void train(std::size_t index) {
    const auto& [name, steps] = run_.models[index];
    const std::unique_ptr<Trainee> trainee = run_.make(index);
    std::int64_t step = 0;
    if (begun_) {
      nn::load_checkpoint(run_.place.checkpoint, *trainee, trainee->optimizer());
      trainee->go_on(*begun_);
      step = begun_->step;
      begun_.reset();
    } else {
      trainee->probe(0);
      save(*trainee, index, step);
    }
    std::int64_t probed = step - step % run_.probe_every;

    while (step < steps) {
      if (run_.place.stop()) {
        save(*trainee, index, step);
        throw Error(fmt::format("interrupted in step {} of {}; --resume goes on from {}", step + 1, name,
                                run_.place.checkpoint));
      }
      if (const std::string why = trainee->step(step); !why.empty()) {
        cli::note(fmt::format("{}: {}", name, why));
        bar_.leave_out(steps - step);
        break;
      }
      bar_.update(++done_, fmt::format("{} ({} of {})", name, index + 1, run_.models.size()));
      if (++step % run_.probe_every != 0) continue;
      trainee->probe(probed = step);
      save(*trainee, index, step);
    }
    if (probed != step) trainee->probe(step);
    save(*trainee, index, step, 1);
  }

  /// `ended`: 1 if this was the model's end, and the next one's turn comes.
  void save(Trainee& trainee, std::size_t index, std::int64_t step, std::size_t ended = 0) const {
    nn::Progress progress{.step = step};
    run_.notes.put(progress.notes, index + ended, run_.models[index].name);
    run_.results.save(progress);
    trainee.save(progress);
    nn::save_checkpoint(run_.place.checkpoint, trainee, trainee.optimizer(), progress);
  }

  const Run& run_;
  std::int64_t done_ = 0;              // steps, of all models
  std::optional<nn::Progress> begun_;  // where the first model is, if it was begun
  std::size_t first_;
  cli::Progress bar_;
};

}  // namespace

cli::OutputFolder folder_of(const cli::CommonOptions& options, const std::string& default_out) {
  return {options.out.value_or(default_out), {"report.html", "summary.json", "metrics.csv", checkpoint_name}};
}

Place place_of(const cli::OutputFolder& folder, const cli::CommonOptions& options,
               const cli::Interrupt& interrupt) {
  return {.checkpoint = folder.file(checkpoint_name),
          .resume = options.resume,
          .stop = [&interrupt] { return interrupt.requested(); },
          .overwrite = options.overwrite};
}

void check(const cli::RunNotes& notes, const Place& place) {
  if (place.resume)
    notes.resume(place.checkpoint);
  else if (!place.overwrite)
    notes.check_replaceable(place.checkpoint);
}

void seek(nn::Loader& loader, std::int64_t step) {
  loader.seek({step / loader.batches(), step % loader.batches()});
}

std::string fault(std::int64_t step, const Vars& gradients, double loss) {
  const bool finite_gradient =
      std::all_of(gradients.begin(), gradients.end(), [](const Var& g) { return g.value().all_finite(); });
  if (finite_gradient && std::isfinite(loss)) return {};
  return fmt::format("training stopped: the {} of step {} is not finite",
                     finite_gradient ? "loss" : "gradient", step + 1);
}

void train(const Run& run) { Training(run).models(); }

}  // namespace banach::training
