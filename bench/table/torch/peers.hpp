#pragma once
#include <bench/table/problems.hpp>
#include <bench/table/table.hpp>

#include <torch/torch.h>

namespace bench::peer {

inline torch::Tensor tensor(const Floats& values, at::IntArrayRef shape) {
  return torch::from_blob(const_cast<float*>(values.data()), shape).clone();
}

void add_deq(std::map<std::string, Make>& work);
void add_transformer(std::map<std::string, Make>& work);
void add_residual(std::map<std::string, Make>& work);
void add_operations(std::map<std::string, Make>& work);

}  // namespace bench::peer
