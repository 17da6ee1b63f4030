#pragma once
// Internal: runs a chain of elementwise instructions, block by block.

#include <banach/engine/program/code.hpp>

namespace banach::program {

/// An instruction with its operands in place.
struct Step {
  const Op* op;
  const Attrs* attrs;
  const void* prepared;
  std::span<const Var> inputs;
  std::span<Tensor> outputs;
  std::span<const std::int32_t> values;  // of the outputs

  void run() const;
};

/// The elements of a tensor; written only where they belong to a frame.
std::byte* elements(const Tensor& t);

class ChainRunner {
 public:
  /// `steps`: those of the code on whole values. They must outlive the runner.
  ChainRunner(const Code& code, const Chain& chain, std::span<const Step> steps, const Blocks& blocks);

  /// The steps in whose place it runs.
  std::size_t begin() const { return begin_; }
  std::size_t end() const { return begin_ + steps_.size(); }
  void run();

 private:
  // An operand of a step on whole values, and the block of it at hand.
  struct Operand {
    const Tensor* whole;
    Tensor block;
    std::int64_t row_bytes, offset;
    std::byte* base = nullptr;  // of lane and run
  };
  // The steps on blocks of some number of rows.
  struct Lane {
    PoolVector<Operand> operands;
    Vars inputs;
    Tensors outputs;
    PoolVector<Step> steps;

    void start();
    void run(std::int64_t row);
  };

  Lane lane(const Code& code, const Chain& chain, std::int64_t index, std::int64_t rows) const;

  std::size_t begin_;
  std::span<const Step> steps_;
  Blocks blocks_;
  PoolVector<Lane> full_, rest_;  // of each lane: for its blocks, and for the rows that are left
};

}  // namespace banach::program
