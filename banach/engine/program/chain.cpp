#include <banach/engine/program/chain.hpp>

#include <algorithm>

namespace banach::program {

void Step::run() const {
  const OpDef& def = op->def();
  const KernelContext context{inputs, outputs, *attrs};
  if (prepared)
    def.prepared_kernel(context, prepared);
  else
    def.kernel(context);
}

std::byte* elements(const Tensor& t) {
  return dispatch_any(t.dtype(), [&](auto zero) {
    return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(t.data<decltype(zero)>()));
  });
}

namespace {

// The last axes of a shape, under one of `rows`.
Shape block_shape(const Shape& shape, int axis, std::int64_t rows) {
  Ints extents{rows};
  for (int i = axis; i < shape.rank(); ++i) extents.push_back(shape[i]);
  return Shape(extents);
}

// What is left of a shape that all rows share.
Shape shared_shape(const Shape& shape, int rank) {
  Ints extents;
  for (int i = std::max(0, shape.rank() - rank); i < shape.rank(); ++i) extents.push_back(shape[i]);
  return Shape(extents);
}

}  // namespace

ChainRunner::ChainRunner(const Code& code, const Chain& chain, std::span<const Step> steps,
                         const Blocks& blocks)
    : begin_(static_cast<std::size_t>(chain.begin)),
      steps_(steps.subspan(begin_, static_cast<std::size_t>(chain.end) - begin_)),
      blocks_(blocks) {
  for (std::int64_t l = 0; l < blocks.lanes; ++l) {
    const std::int64_t rows = std::min(blocks.rows, (l + 1) * blocks.lane_rows()) - l * blocks.lane_rows();
    full_.push_back(lane(code, chain, l, blocks.block));
    rest_.push_back(lane(code, chain, l, std::max<std::int64_t>(0, rows) % blocks.block));
  }
}

ChainRunner::Lane ChainRunner::lane(const Code& code, const Chain& chain, std::int64_t index,
                                    std::int64_t rows) const {
  Lane lane;
  if (rows == 0) return lane;
  const Shape& shape = code.value(steps_.front().values.front()).shape;
  const auto operand = [&](std::int32_t value, const Tensor& whole) {
    const bool cut = code.value(value).shape == shape, local = code.value(code.storage(value)).local;
    const auto row =
        cut && !local ? blocks_.row_elements * static_cast<std::int64_t>(size_of(whole.dtype())) : 0;
    const auto offset =
        local ? index * Plan::aligned(blocks_.block * blocks_.row_elements, whole.dtype()) : 0;
    const Shape part =
        cut ? block_shape(shape, chain.axis, rows) : shared_shape(whole.shape(), shape.rank() - chain.axis);
    lane.operands.push_back({&whole, Tensor::over(nullptr, part, whole.dtype()), row, offset});
    return lane.operands.back().block;
  };
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Instruction& instruction = code.instructions[begin_ + i];
    for (std::size_t k = 0; k < instruction.inputs.size(); ++k)
      lane.inputs.push_back(Var(operand(instruction.inputs[k], steps_[i].inputs[k].value())));
    lane.outputs.push_back(operand(instruction.outputs.front(), steps_[i].outputs.front()));
  }
  std::size_t input = 0;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const std::size_t count = steps_[i].inputs.size();
    lane.steps.push_back(steps_[i]);
    lane.steps.back().inputs = std::span<const Var>(lane.inputs).subspan(input, count);
    lane.steps.back().outputs = std::span<Tensor>(lane.outputs).subspan(i, 1);
    input += count;
  }
  return lane;
}

void ChainRunner::Lane::start() {
  for (Operand& o : operands) o.base = elements(*o.whole) + o.offset;
}

void ChainRunner::Lane::run(std::int64_t row) {
  for (Operand& o : operands) o.block.move_to(o.base + row * o.row_bytes);
  for (const Step& step : steps) step.run();
}

void ChainRunner::run() {
  parallel_for(blocks_.lanes, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t l = first; l < last; ++l) {
      Lane &full = full_[static_cast<std::size_t>(l)], &rest = rest_[static_cast<std::size_t>(l)];
      full.start();
      rest.start();
      std::int64_t row = l * blocks_.lane_rows();
      const std::int64_t end = std::min(blocks_.rows, row + blocks_.lane_rows());
      for (; row + blocks_.block <= end; row += blocks_.block) full.run(row);
      if (row < end) rest.run(row);
    }
  });
}

}  // namespace banach::program
