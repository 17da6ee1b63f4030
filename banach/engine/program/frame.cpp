#include <banach/engine/program/program.hpp>

#include <cstring>

namespace banach::program {
namespace {

std::size_t bytes_of(const Tensor& t) { return static_cast<std::size_t>(t.size()) * size_of(t.dtype()); }

}  // namespace

Tensor Part::of(const Tensor& constant) const {
  const std::int64_t factor = constant.shape()[0] / rows;
  if (whole()) return constant;
  if (chosen.empty()) return constant.rows(begin * factor, end * factor);
  Shape shape = constant.shape();
  shape[0] = count() * factor;
  Tensor result = Tensor::empty(shape, constant.dtype());
  const std::size_t bytes = bytes_of(result) / chosen.size();
  std::byte* out = elements(result);
  for (const std::int64_t row : chosen) {
    std::memcpy(out, elements(constant) + static_cast<std::size_t>(begin + row) * bytes, bytes);
    out += bytes;
  }
  return result;
}

Frame::Frame(const Code& code, const Part& part)
    : code_(code),
      plan_(plan(code, part.count(), part.rows)),
      memory_(static_cast<std::byte*>(memory::allocate(static_cast<std::size_t>(plan_.bytes)))) {
  values_.resize(code.values.size());
  std::size_t inputs = 0, outputs = 0;
  for (const Instruction& i : code.instructions) {
    inputs += i.inputs.size();
    outputs += i.outputs.size();
  }
  for (std::size_t i = 0; i < code.values.size(); ++i) bind(static_cast<std::int32_t>(i), part);

  inputs_.reserve(inputs);
  outputs_.reserve(outputs);
  for (const Instruction& i : code.instructions) {
    const std::size_t first_input = inputs_.size(), first_output = outputs_.size();
    for (std::size_t k = 0; k < i.inputs.size(); ++k) {
      const Tensor& value = values_[static_cast<std::size_t>(i.inputs[k])];
      const bool cut = (i.by_rows >> k & 1) != 0 && !code.varies(i.inputs[k]);
      inputs_.push_back(Var(cut ? part.of(value) : value));
    }
    for (const std::int32_t out : i.outputs) outputs_.push_back(values_[static_cast<std::size_t>(out)]);
    const std::span<const Var> in = std::span<const Var>(inputs_).subspan(first_input);
    const void* prepared = i.prepared.get();
    if (const Prepared rows_prepared = prepare_rows(code, i, in))
      prepared = prepared_.emplace_back(rows_prepared).get();
    steps_.push_back(
        {i.op, &i.attrs, prepared, in, std::span<Tensor>(outputs_).subspan(first_output), i.outputs});
  }
  for (const Chain& chain : code.chains) {
    const Blocks cut = blocks(code, chain, part.count(), part.rows);
    if (cut.block == cut.rows) continue;  // steps on whole values do the same
    chains_.emplace_back(code, chain, steps_, cut);
  }

  const bool output_computed = code.varies(code.output) && code.storage(code.output) != code.input;
  for (std::size_t i = 0; i < code.values.size(); ++i) {
    const auto value = static_cast<std::int32_t>(i);
    if (code.storage(value) == code.input) input_views_.push_back(value);
    if (output_computed && code.storage(value) == code.storage(code.output)) output_views_.push_back(value);
  }
}

Frame::~Frame() { memory::release(memory_, static_cast<std::size_t>(plan_.bytes)); }

void Frame::bind(std::int32_t i, const Part& part) {
  const Value& value = code_.value(i);
  Tensor& slot = values_[static_cast<std::size_t>(i)];
  if (!code_.varies(i)) {
    slot = i == code_.output && !part.whole() ? part.of(value.constant) : value.constant;
    return;
  }
  Shape shape = value.shape;
  if (!part.whole()) shape[0] = shape[0] / part.rows * part.count();
  const std::int64_t offset = plan_.offset[static_cast<std::size_t>(value.storage)];
  slot = Tensor::over(offset >= 0 ? memory_ + offset : nullptr, shape, value.dtype);
}

Tensor Frame::run(const Tensor& x) {
  for (const std::int32_t i : input_views_) values_[static_cast<std::size_t>(i)].move_to(elements(x));
  Tensor result = Tensor::empty(x.shape(), x.dtype());
  for (const std::int32_t i : output_views_) values_[static_cast<std::size_t>(i)].move_to(elements(result));
  auto chain = chains_.begin();
  for (std::size_t i = 0; i < steps_.size();) {
    if (chain != chains_.end() && chain->begin() == i) {
      chain->run();
      i = chain++->end();
      continue;
    }
    const Step& step = steps_[i++];
    step.run();
    if (step.op->def().view) adopt(step);
  }
  if (output_views_.empty())
    std::memcpy(elements(result), elements(values_[static_cast<std::size_t>(code_.output)]),
                bytes_of(result));
  return result;
}

// A kernel that made its outputs itself: their elements go where the plan has them.
void Frame::adopt(const Step& step) {
  for (std::size_t k = 0; k < step.outputs.size(); ++k) {
    const Tensor& planned = values_[static_cast<std::size_t>(step.values[k])];
    if (step.outputs[k].same_storage(planned)) continue;
    std::memcpy(elements(planned), elements(step.outputs[k]), bytes_of(planned));
    step.outputs[k] = planned;
  }
}

}  // namespace banach::program
