#include <banach/solvers/join.hpp>

#include <algorithm>
#include <cstring>

namespace banach {
namespace {

// Along axis 0.
template <class Part, class Member>
Tensor concatenated(std::span<const Part> parts, Member member) {
  const Tensor& like = member(parts.front());
  Shape shape = like.shape();
  shape[0] = 0;
  for (const Part& part : parts) shape[0] += member(part).shape()[0];
  Tensor result = Tensor::empty(shape, like.dtype());
  dispatch_floating(like.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* to = result.mutable_data<T>();
    for (const Part& part : parts) {
      const auto values = member(part).template values<T>();
      to = std::copy(values.begin(), values.end(), to);
    }
  });
  return result;
}

template <class Vector>
void append(Vector& to, const Vector& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Rows at the steps of the part that kept the fewest: strides are powers of two, so every other part has
// those steps too, as far as it went; from there on its samples keep their last values.
ResidualTrace joined_traces(std::span<const FixedPointSolution> parts) {
  const auto stride = [](const ResidualTrace& t) { return t.steps.size() < 2 ? 1 : t.steps[1] - t.steps[0]; };
  ResidualTrace result;
  int widest = 1, last = 0;
  for (const FixedPointSolution& part : parts) {
    const ResidualTrace& trace = part.report.trace;
    if (trace.steps.empty()) continue;
    widest = std::max(widest, stride(trace));
    last = std::max(last, trace.steps.back());
  }
  for (int step = 1; step <= last; step += widest) {
    result.steps.push_back(step);
    for (const FixedPointSolution& part : parts) {
      const ResidualTrace& trace = part.report.trace;
      const std::size_t samples = part.report.samples.size();
      const auto row = static_cast<std::size_t>(
          std::min<int>((step - 1) / stride(trace), static_cast<int>(trace.steps.size()) - 1));
      for (auto member : {&ResidualTrace::abs_trace, &ResidualTrace::rel_trace}) {
        const auto from = (trace.*member).begin() + static_cast<std::ptrdiff_t>(row * samples);
        (result.*member).insert((result.*member).end(), from, from + static_cast<std::ptrdiff_t>(samples));
      }
    }
  }
  return result;
}

}  // namespace

Tensor joined(std::span<const Tensor> parts) {
  if (parts.size() == 1) return parts.front();
  return concatenated(parts, [](const Tensor& part) -> const Tensor& { return part; });
}

FixedPointSolution joined(std::span<const FixedPointSolution> parts) {
  if (parts.size() == 1) return parts.front();
  FixedPointSolution result{
      concatenated(parts, [](const FixedPointSolution& p) -> const Tensor& { return p.z; }),
      concatenated(parts, [](const FixedPointSolution& p) -> const Tensor& { return p.fz; }),
      {}};
  result.report.solver = parts.front().report.solver;
  result.report.trace = joined_traces(parts);
  for (const FixedPointSolution& part : parts) {
    append(result.report.samples, part.report.samples);
    result.report.nstep = std::max(result.report.nstep, part.report.nstep);
    result.report.history_bytes += part.report.history_bytes;
  }
  if (parts.front().inverse)
    result.inverse = {
        concatenated(parts, [](const FixedPointSolution& p) -> const Tensor& { return p.inverse->u; }),
        concatenated(parts, [](const FixedPointSolution& p) -> const Tensor& { return p.inverse->v; })};
  return result;
}

LinearSolution joined(std::span<const LinearSolution> parts) {
  if (parts.size() == 1) return parts.front();
  LinearSolution result{
      concatenated(parts, [](const LinearSolution& p) -> const Tensor& { return p.x; }), {}, {}, 0, {}};
  for (const LinearSolution& part : parts) {
    append(result.status, part.status);
    append(result.residual, part.residual);
    append(result.applications, part.applications);
    result.evaluations = std::max(result.evaluations, part.evaluations);
  }
  return result;
}

}  // namespace banach
