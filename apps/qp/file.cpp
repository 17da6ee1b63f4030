#include <apps/qp/file.hpp>

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include <apps/cli/run.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/safetensors.hpp>

namespace banach::qp_command {
QpData read_problems(const std::string& path) {
  static constexpr std::string_view names[] = {"Q", "p", "G", "h", "A", "b"};
  const nn::Safetensors file = nn::load_safetensors(path);
  const auto find = [&](const char* name) {
    const auto found = file.tensors.find(name);
    return found == file.tensors.end() ? Tensor() : found->second;
  };
  std::string unknown;
  for (const auto& [name, tensor] : file.tensors)
    if (std::find(std::begin(names), std::end(names), name) == std::end(names))
      unknown += (unknown.empty() ? "'" : ", '") + name + "'";
  const auto missing = [&](const char* name, const char* why) {
    fail<FileError>("qp", fmt::format("{}: tensor '{}' is missing{}{}", path, name, why,
                                      unknown.empty() ? "" : "; there is " + unknown));
  };
  const QpData data{find("Q"), find("p"), find("G"), find("h"), find("A"), find("b")};
  if (!data.Q.defined()) missing("Q", ": (n,n), or (batch,n,n), was expected");
  if (!data.p.defined()) missing("p", ": (n), or (batch,n), was expected");
  const auto both = [&](const Tensor& matrix, const Tensor& vector, const char* m, const char* v) {
    if (matrix.defined() && !vector.defined()) missing(v, fmt::format(": {} comes with it", m).c_str());
    if (!matrix.defined() && vector.defined()) missing(m, fmt::format(": {} comes with it", v).c_str());
  };
  both(data.G, data.h, "G", "h");
  both(data.A, data.b, "A", "b");
  if (!unknown.empty())
    cli::note(fmt::format("{}: {} is no part of a quadratic program (Q, p, G, h, A, b)", path, unknown));
  return data;
}

}  // namespace banach::qp_command
