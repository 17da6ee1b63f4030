#pragma once
// The exceptions of Banach. Every message reads `[name] what must hold: what was given`, with a hint where
// the likely cause is known. Failures of a numerical solve are data (see status.hpp), not exceptions, unless
// asked for.

#include <stdexcept>
#include <string>
#include <string_view>

namespace banach {

/// Base of everything the library throws on purpose.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Shapes, axes or indices that do not fit together.
struct ShapeError : Error {
  using Error::Error;
};

/// A dtype the operation does not take, or two dtypes mixed without a cast.
struct DTypeError : Error {
  using Error::Error;
};

/// An option or argument outside its domain.
struct ValueError : Error {
  using Error::Error;
};

/// A Var used with a tape it does not belong to, or after its tape has closed.
struct TapeError : Error {
  using Error::Error;
};

/// A file that is missing, damaged, or cannot be written; names the file, and the field and offset where
/// known.
struct FileError : Error {
  using Error::Error;
};

/// A solve that did not end well, where the caller asked for an exception (Policy::raise).
struct SolveError : Error {
  using Error::Error;
};

/// Throws E with the message `[name] text`.
template <class E>
[[noreturn]] void fail(std::string_view name, std::string_view text) {
  throw E("[" + std::string(name) + "] " + std::string(text));
}

}  // namespace banach
