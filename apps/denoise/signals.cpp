#include <apps/denoise/signals.hpp>

#include <algorithm>

namespace banach::denoise {

Signals make_signals(std::int64_t count, const Random& random) {
  Signals signals{Tensor::empty({count, length}, DType::f64), Tensor::empty({count, length}, DType::f64)};
  double* clean = signals.clean.mutable_data<double>();
  double* noisy = signals.noisy.mutable_data<double>();
  for (std::int64_t i = 0; i < count; ++i, clean += length, noisy += length) {
    Random draw = random.split(static_cast<std::uint64_t>(i));
    const std::int64_t pieces = fewest_pieces + draw.below(most_pieces - fewest_pieces + 1);
    std::vector<std::int64_t> places = draw.permutation(length - 1);
    places.resize(static_cast<std::size_t>(pieces - 1));
    double level = highest_level * draw.uniform();
    for (std::int64_t t = 0; t < length; ++t) {
      if (std::find(places.begin(), places.end(), t - 1) != places.end())
        level = highest_level * draw.uniform();
      clean[t] = level;
    }
    draw.fill_normal(noisy, length, 0.0, noise);
    for (std::int64_t t = 0; t < length; ++t) noisy[t] += clean[t];
  }
  return signals;
}

Signals turn_over(const Signals& signals, Random random) {
  const std::int64_t count = signals.size();
  Signals turned{Tensor::empty({count, length}, DType::f64), Tensor::empty({count, length}, DType::f64)};
  for (std::int64_t i = 0; i < count; ++i) {
    const bool reverse = random.below(2) == 1, mirror = random.below(2) == 1;
    const auto turn = [&](const Tensor& from, Tensor& to) {
      const double* in = from.data<double>() + i * length;
      double* out = to.mutable_data<double>() + i * length;
      for (std::int64_t t = 0; t < length; ++t) {
        const double value = in[reverse ? length - 1 - t : t];
        out[t] = mirror ? 2.0 * middle_level - value : value;
      }
    };
    turn(signals.noisy, turned.noisy);
    turn(signals.clean, turned.clean);
  }
  return turned;
}

double squared_error(const double* estimate, const double* clean) {
  double sum = 0.0;
  for (std::int64_t t = 0; t < length; ++t) sum += (estimate[t] - clean[t]) * (estimate[t] - clean[t]);
  return sum / static_cast<double>(length);
}

double error_with_known_breakpoints(const Signals& signals) {
  double total = 0.0;
  for (std::int64_t i = 0; i < signals.size(); ++i) {
    const double* clean = signals.clean.data<double>() + i * length;
    const double* noisy = signals.noisy.data<double>() + i * length;
    std::vector<double> means(length);
    for (std::int64_t begin = 0, end = 0; begin < length; begin = end) {
      double sum = 0.0;
      for (; end < length && clean[end] == clean[begin]; ++end) sum += noisy[end];
      std::fill(means.begin() + begin, means.begin() + end, sum / static_cast<double>(end - begin));
    }
    total += squared_error(means.data(), clean);
  }
  return total / static_cast<double>(signals.size());
}

}  // namespace banach::denoise
