#pragma once
// What commands that train note of a model, on its way into a checkpoint and back.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <banach/engine/error.hpp>
#include <banach/nn/checkpoint.hpp>

namespace banach::training {

struct Step {
  double loss = 0, seconds = 0;
};

/// How often each status was met.
using Tally = std::map<std::string, std::int64_t>;

/// Adds those of all samples: count(tally, report.samples, &QpSampleReport::status).
template <class Samples, class Sample, class Status>
void count(Tally& tally, const Samples& samples, Status Sample::*status) {
  for (const Sample& sample : samples) ++tally[std::string(name(sample.*status))];
}

/// Of training: probes are not counted.
template <class Row>
double total_seconds(const std::vector<Row>& steps) {
  double total = 0.0;
  for (const Row& step : steps) total += step.seconds;
  return total;
}

/// Rows that hold doubles and nothing else, as an f64 tensor (rows, fields).
template <class Row>
Tensor to_tensor(const std::vector<Row>& rows) {
  static_assert(std::is_trivially_copyable_v<Row> && sizeof(Row) % sizeof(double) == 0);
  Tensor tensor =
      Tensor::empty({static_cast<std::int64_t>(rows.size()), sizeof(Row) / sizeof(double)}, DType::f64);
  if (!rows.empty()) std::memcpy(tensor.mutable_data<double>(), rows.data(), rows.size() * sizeof(Row));
  return tensor;
}

/// Back again. Throws FileError for any other tensor.
template <class Row>
std::vector<Row> from_tensor(const Tensor& tensor) {
  constexpr std::int64_t fields = sizeof(Row) / sizeof(double);
  if (tensor.dtype() != DType::f64 || tensor.rank() != 2 || tensor.size(1) != fields)
    fail<FileError>("resume", "the steps must be f64 (steps, " + std::to_string(fields) + "): got " +
                                  std::string(name(tensor.dtype())) + tensor.shape().to_string());
  std::vector<Row> rows(static_cast<std::size_t>(tensor.size(0)));
  if (!rows.empty())
    std::memcpy(static_cast<void*>(rows.data()), tensor.data<double>(), rows.size() * sizeof(Row));
  return rows;
}

namespace detail {
inline std::string key(const char* what, std::size_t model) { return what + ("." + std::to_string(model)); }
}  // namespace detail

/// Puts all results into a checkpoint: the text of each, its `steps` and, where it has those, the tensors of
/// its `learned`, by name.
template <class Result>
void put(nn::Progress& progress, const std::vector<Result>& results) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Result& result = results[i];
    progress.notes[detail::key("result", i)] = to_text(result);
    if (!result.steps.empty()) progress.extra[detail::key("steps", i)] = to_tensor(result.steps);
    if constexpr (requires { result.learned; })
      for (const auto& [name, values] : result.learned)
        progress.extra[detail::key("learned", i) + "." + name] = values;
  }
}

/// Takes them out again; there must be as many. Throws FileError if one is missing or damaged.
template <class Result>
void take(const nn::Progress& progress, std::vector<Result>& results,
          Result (*from_text)(const std::string&)) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    Result& result = results[i];
    const auto text = progress.notes.find(detail::key("result", i));
    if (text == progress.notes.end())
      fail<FileError>("resume", "the checkpoint lacks the results of its model " + std::to_string(i + 1));
    result = from_text(text->second);
    if (const auto steps = progress.extra.find(detail::key("steps", i)); steps != progress.extra.end())
      result.steps = from_tensor<typename decltype(result.steps)::value_type>(steps->second);
    if constexpr (requires { result.learned; }) {
      const std::string prefix = detail::key("learned", i) + ".";
      for (const auto& [name, values] : progress.extra)
        if (name.starts_with(prefix)) result.learned[name.substr(prefix.size())] = values;
    }
  }
}

/// How results get into a checkpoint and back.
struct Kept {
  std::function<void(nn::Progress&)> save;
  std::function<void(const nn::Progress&)> load;
};

template <class Result>
Kept kept(std::vector<Result>& results, Result (*from_text)(const std::string&)) {
  return {[&results](nn::Progress& progress) { put(progress, results); },
          [&results, from_text](const nn::Progress& progress) { take(progress, results, from_text); }};
}

}  // namespace banach::training
