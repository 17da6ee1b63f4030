#pragma once
// Runs the built command, for the tests of what a user sees.

#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include <tests/nn/files.hpp>

namespace command {

struct Outcome {
  int code = -1;  ///< exit code; -1 if it ended by a signal
  std::string out, err;
};

/// `banach ARGUMENTS`, the arguments as a shell reads them.
inline Outcome run(const std::string& arguments) {
  const files::Folder folder;
  const std::string line = std::string("'") + BANACH_COMMAND + "' " + arguments + " >'" + (folder / "out") +
                           "' 2>'" + (folder / "err") + "' </dev/null";
  const int status = std::system(line.c_str());
  const auto text = [&](const char* name) {
    const banach::nn::Bytes bytes = banach::nn::read_file(folder / name);
    return std::string(bytes.begin(), bytes.end());
  };
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text("out"), text("err")};
}

}  // namespace command
