#pragma once

#include <csignal>

namespace banach::cli {

/// While alive, Ctrl-C, a termination signal or the end of the terminal (unless that is ignored, as under
/// nohup) only asks to stop, so that work can be saved first; a second one ends the program as usual. One at
/// a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool requested() const;

 private:
  struct sigaction previous_int_, previous_term_, previous_hup_;
};

}  // namespace banach::cli
