#pragma once
// For the peers: LibTorch with as many threads as Banach has.

#include <banach/engine/parallel.hpp>

#include <torch/torch.h>

extern "C" void openblas_set_num_threads(int);

/// LibTorch takes one thread a physical core unless told otherwise. Both libraries call the same OpenBLAS:
/// Banach holds it at one thread, because it cuts a product into pieces itself; LibTorch leaves that to
/// OpenBLAS, which has all its threads while one of these lives.
struct TorchThreads {
  TorchThreads() {
    torch::set_num_threads(banach::threads());
    openblas_set_num_threads(banach::threads());
  }
  ~TorchThreads() { openblas_set_num_threads(1); }
};
