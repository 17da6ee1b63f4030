#include <banach/engine/program/code.hpp>

#include <algorithm>
#include <limits>

namespace banach::program {
namespace {

// Stretches of memory that nobody uses now, by first fit; neighbours are joined.
class Gaps {
 public:
  std::int64_t take(std::int64_t bytes) {
    for (std::size_t i = 0; i < gaps_.size(); ++i) {
      Gap& gap = gaps_[i];
      if (gap.end - gap.begin < bytes) continue;
      const std::int64_t at = gap.begin;
      gap.begin += bytes;
      if (gap.begin == gap.end) gaps_.erase(gaps_.begin() + static_cast<std::ptrdiff_t>(i));
      return at;
    }
    const std::int64_t at = end_;
    end_ += bytes;
    return at;
  }
  void give_back(std::int64_t at, std::int64_t bytes) {
    const auto next =
        std::find_if(gaps_.begin(), gaps_.end(), [&](const Gap& gap) { return gap.begin >= at + bytes; });
    auto here = gaps_.insert(next, {at, at + bytes});
    if (here + 1 != gaps_.end() && (here + 1)->begin == here->end) {
      here->end = (here + 1)->end;
      gaps_.erase(here + 1);
    }
    if (here != gaps_.begin() && (here - 1)->end == here->begin) {
      (here - 1)->end = here->end;
      gaps_.erase(here);
    }
  }
  std::int64_t end() const { return end_; }

 private:
  struct Gap {
    std::int64_t begin, end;
  };
  PoolVector<Gap> gaps_;
  std::int64_t end_ = 0;
};

}  // namespace

Plan plan(const Code& code, std::int64_t part, std::int64_t rows) {
  const auto bytes_of = [&](std::int32_t i, const Blocks& blocks) {
    const Value& value = code.value(i);
    if (value.local) return blocks.lanes * Plan::aligned(blocks.block * blocks.row_elements, value.dtype);
    return Plan::aligned(part == rows ? value.shape.size() : value.shape.size() / rows * part, value.dtype);
  };
  const auto slot = [](auto& vector, std::int32_t i) -> auto& { return vector[static_cast<std::size_t>(i)]; };
  const std::int32_t output = code.storage(code.output), input = code.storage(code.input);
  const auto planned = [&](std::int32_t storage) {
    return code.varies(storage) && storage != output && storage != input;
  };

  constexpr auto never = std::numeric_limits<std::int32_t>::max();
  PoolVector<std::int32_t> last_use(code.values.size(), -1);
  slot(last_use, output) = never;
  for (std::size_t i = 0; i < code.instructions.size(); ++i) {
    for (const std::int32_t in : code.instructions[i].inputs)
      if (slot(last_use, code.storage(in)) != never)
        slot(last_use, code.storage(in)) = static_cast<std::int32_t>(i);
    for (const std::int32_t out : code.instructions[i].outputs)  // nobody may ever read it
      slot(last_use, out) = std::max(slot(last_use, out), static_cast<std::int32_t>(i));
  }

  Plan result;
  result.offset.assign(code.values.size(), -1);
  Gaps gaps;
  struct Dead {
    std::int32_t storage;
    std::int64_t bytes;
  };
  PoolVector<Dead> dead;  // given back when their chain ends: its next block needs them again
  Blocks cut{};
  for (std::size_t i = 0; i < code.instructions.size(); ++i) {
    const Instruction& instruction = code.instructions[i];
    const auto dies = [&](std::int32_t storage) {
      return planned(storage) && slot(result.offset, storage) >= 0 &&
             slot(last_use, storage) == static_cast<std::int32_t>(i);
    };
    const auto inherit = [&](std::int32_t out) {  // elementwise kernels may run in place
      if (instruction.op->def().kind != OpKind::elementwise || instruction.outputs.size() != 1) return false;
      for (const std::int32_t in : instruction.inputs) {
        const std::int32_t storage = code.storage(in);
        if (!dies(storage) || !(code.value(in).shape == code.value(out).shape) ||
            code.value(in).dtype != code.value(out).dtype ||
            code.value(storage).local != code.value(out).local)
          continue;
        slot(result.offset, out) = slot(result.offset, storage);
        slot(last_use, storage) = -1;  // its memory has a new owner
        return true;
      }
      return false;
    };
    const auto bury = [&](std::int32_t storage) {
      if (!dies(storage)) return;
      dead.push_back({storage, bytes_of(storage, cut)});
      slot(last_use, storage) = -1;
    };
    const Chain* chain =
        instruction.chain < 0 ? nullptr : &code.chains[static_cast<std::size_t>(instruction.chain)];
    if (chain && chain->begin == static_cast<std::int32_t>(i)) cut = blocks(code, *chain, part, rows);
    for (const std::int32_t out : instruction.outputs)
      if (planned(out) && !inherit(out)) slot(result.offset, out) = gaps.take(bytes_of(out, cut));
    for (const std::int32_t in : instruction.inputs) bury(code.storage(in));
    for (const std::int32_t out : instruction.outputs) bury(out);
    if (chain && static_cast<std::int32_t>(i) + 1 < chain->end) continue;
    for (const auto& [storage, bytes] : dead) gaps.give_back(slot(result.offset, storage), bytes);
    dead.clear();
  }
  result.bytes = gaps.end();
  return result;
}

}  // namespace banach::program
