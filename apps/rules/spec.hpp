#pragma once
// One "name:part:part" of the command line, read part by part.

#include <string>
#include <string_view>
#include <vector>

namespace banach::rules {

class Spec {
 public:
  /// `allowed` is what the option takes, for the messages.
  Spec(std::string_view option, const std::string& text, std::string_view allowed);

  const std::string& text() const { return text_; }
  const std::string& name() const { return parts_.front(); }
  bool has(std::size_t part) const { return part < parts_.size(); }

  /// All of these throw cli::UsageError, naming the part that is wrong and what is allowed.
  void expect_parts(std::size_t least, std::size_t most) const;
  int count(std::size_t part, std::string_view what) const;        ///< in [1, 10000]
  double fraction(std::size_t part, std::string_view what) const;  ///< in (0, 1]
  double number(std::size_t part, std::string_view what) const;    ///< any that is finite
  double positive(std::size_t part, std::string_view what) const;  ///< above 0, infinity included
  const std::string& choice(std::size_t part, const std::vector<std::string>& choices) const;
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  template <class T>
  T read(std::size_t part, std::string_view what) const;

  std::string_view option_;
  std::string text_;
  std::string_view allowed_;
  std::vector<std::string> parts_;
};

}  // namespace banach::rules
