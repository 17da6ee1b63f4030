#pragma once
// Internal: keeps a ResidualTrace: whole, or at most 64 evenly spaced rows of it.

#include <banach/engine/status.hpp>

namespace banach {

class TraceRecorder {
 public:
  static constexpr std::size_t row_limit = 64;

  TraceRecorder(std::size_t batch, bool whole) : batch_(batch), whole_(whole) {}

  /// Takes in evaluation `step` (1, 2, ...), with `absolute(s)` and `relative(s)` the residuals of sample s.
  template <class Absolute, class Relative>
  void record(int step, Absolute absolute, Relative relative) {
    if ((step - 1) % stride_ != 0) return;
    if (!whole_ && trace_.steps.size() == row_limit) {
      drop_every_second_row();
      if ((step - 1) % stride_ != 0) return;
    }
    trace_.steps.push_back(step);
    for (std::size_t s = 0; s < batch_; ++s) {
      trace_.abs_trace.push_back(absolute(s));
      trace_.rel_trace.push_back(relative(s));
    }
  }

  ResidualTrace take() { return std::move(trace_); }

 private:
  void drop_every_second_row();

  std::size_t batch_;
  bool whole_;
  int stride_ = 1;
  ResidualTrace trace_;
};

inline void TraceRecorder::drop_every_second_row() {
  const auto thin = [](auto& values, std::size_t width) {
    const std::size_t kept = (values.size() / width + 1) / 2;
    for (std::size_t row = 1; row < kept; ++row)
      for (std::size_t i = 0; i < width; ++i) values[row * width + i] = values[2 * row * width + i];
    values.resize(kept * width);
  };
  thin(trace_.steps, 1);
  thin(trace_.abs_trace, batch_);
  thin(trace_.rel_trace, batch_);
  stride_ *= 2;
}

}  // namespace banach
