#include <bench/table/torch/peers.hpp>

extern "C" void openblas_set_num_threads(int);

namespace bench {
namespace {

/// Bytes of tensors on this thread, as c10's allocator reports them; what oneDNN and OpenBLAS allocate for
/// themselves is not among them.
struct Meter final : c10::MemoryReportingInfoBase {
  std::int64_t held = 0, most = 0;

  void reportMemoryUsage(void*, std::int64_t change, std::int64_t, std::int64_t, c10::Device) override {
    held += change;
    most = std::max(most, held);
  }
  bool memoryProfilingEnabled() const override { return true; }
};

}  // namespace

Peers torch_peers() {
  Peers peers{.name = "LibTorch " TORCH_VERSION};
  peer::add_deq(peers.work);
  peer::add_transformer(peers.work);
  peer::add_residual(peers.work);
  peer::add_operations(peers.work);
  // Banach holds OpenBLAS at one thread, because it cuts a product into pieces itself; LibTorch leaves that
  // to OpenBLAS.
  peers.enter = [](int threads) {
    torch::set_num_threads(threads);
    openblas_set_num_threads(threads);
  };
  peers.peak_bytes = [](const std::function<void()>& run) {
    const auto meter = std::make_shared<Meter>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
    run();
    return meter->most;
  };
  peers.leave = [] { openblas_set_num_threads(1); };
  return peers;
}

}  // namespace bench
