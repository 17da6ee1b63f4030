#include <bench/table/torch/peers.hpp>

extern "C" void openblas_set_num_threads(int);

namespace bench {

Peers torch_peers() {
  Peers peers{.name = "LibTorch " TORCH_VERSION};
  peer::add_deq(peers.work);
  peer::add_transformer(peers.work);
  peer::add_operations(peers.work);
  // Banach holds OpenBLAS at one thread, because it cuts a product into pieces itself; LibTorch leaves that
  // to OpenBLAS.
  peers.enter = [](int threads) {
    torch::set_num_threads(threads);
    openblas_set_num_threads(threads);
  };
  peers.leave = [] { openblas_set_num_threads(1); };
  return peers;
}

}  // namespace bench
