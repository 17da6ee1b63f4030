#include <apps/qp/file.hpp>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <vector>

#include <fmt/format.h>

#include <apps/cli/run.hpp>
#include <banach/engine/error.hpp>
#include <banach/nn/safetensors.hpp>

namespace banach::qp_command {
namespace {

struct Part {
  char name;
  const char* shape;
};
constexpr Part parts[] = {{'Q', "(n,n), or (batch,n,n)"}, {'p', "(n), or (batch,n)"},
                          {'G', "(m,n), or (batch,m,n)"}, {'h', "(m), or (batch,m)"},
                          {'A', "(e,n), or (batch,e,n)"}, {'b', "(e), or (batch,e)"}};

// The tensors of one file, and what it says about those that it lacks.
class ProblemFile {
 public:
  explicit ProblemFile(const std::string& path) : path_(path), tensors_(nn::load_safetensors(path).tensors) {
    for (const auto& [name, tensor] : tensors_)
      if (std::none_of(std::begin(parts), std::end(parts),
                       [&name = name](const Part& part) { return name == std::string{part.name}; }))
        unknown_.push_back(name);
  }

  QpData problems() const {
    for (const Part& part : parts)
      if (!has(part) && spelled_otherwise(part)) missing(part);
    const auto& [Q, p, G, h, A, b] = parts;
    if (!has(Q) && !has(p))
      missing(Q, fmt::format(", and so is '{}': {}; one of them must be there", p.name, p.shape));
    // Absent, one of them is zero; but beside unknown names it may have another one.
    if (!has(Q) && !unknown_.empty()) missing(Q);
    if (!has(p) && !unknown_.empty()) missing(p);
    check_both(G, h), check_both(A, b);
    if (!has(G) || !has(A)) check_no_constraints();
    if (!unknown_.empty())
      cli::note(fmt::format("{}: {} {} no part of a quadratic program (Q, p, G, h, A, b)", path_, others(),
                            unknown_.size() == 1 ? "is" : "are"));
    return {find(Q), find(p), find(G), find(h), find(A), find(b)};
  }

 private:
  Tensor find(const Part& part) const {
    const auto found = tensors_.find(std::string{part.name});
    return found == tensors_.end() ? Tensor() : found->second;
  }
  bool has(const Part& part) const { return find(part).defined(); }
  // As an upper-case letter, say.
  bool spelled_otherwise(const Part& part) const {
    const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    return std::any_of(unknown_.begin(), unknown_.end(), [&](const std::string& name) {
      return name.size() == 1 && lower(name[0]) == lower(part.name);
    });
  }
  std::string others() const { return fmt::format("'{}'", fmt::join(unknown_, "', '")); }
  [[noreturn]] void missing(const Part& part, const std::string& why = "") const {
    fail<FileError>("qp", fmt::format("{}: tensor '{}' is missing: {}, was expected{}{}", path_, part.name,
                                      part.shape, why, unknown_.empty() ? "" : "; there is " + others()));
  }
  void check_both(const Part& matrix, const Part& vector) const {
    if (has(matrix) && !has(vector)) missing(vector, fmt::format(": {} comes with it", matrix.name));
    if (!has(matrix) && has(vector)) missing(matrix, fmt::format(": {} comes with it", vector.name));
  }
  // A matrix with a column for each variable may be constraints by another name, without which the answer
  // would be one to another question.
  void check_no_constraints() const {
    const auto& [Q, p, G, h, A, b] = parts;
    const Shape& known = find(has(Q) ? Q : p).shape();
    const std::string absent = has(G) ? "A, which is" : has(A) ? "G, which is" : "G or A, which are";
    for (const std::string& name : unknown_) {
      const Shape& shape = tensors_.at(name).shape();
      if (known.rank() > 0 && (shape.rank() == 2 || shape.rank() == 3) &&
          shape[shape.rank() - 1] == known[known.rank() - 1])
        fail<FileError>("qp", fmt::format("{}: tensor '{}' {} may be {} missing: rename it, or leave it out",
                                          path_, name, shape.to_string(), absent));
    }
  }

  std::string path_;
  nn::NamedTensors tensors_;
  std::vector<std::string> unknown_;
};

}  // namespace

QpData read_problems(const std::string& path) { return ProblemFile(path).problems(); }

}  // namespace banach::qp_command
