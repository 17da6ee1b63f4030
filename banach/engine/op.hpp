#pragma once
// What an operation is: one entry with its name, shape rule, kernel, vjp and samples. The engine reaches
// every operation through this entry; adding one means adding one entry (see CONTRIBUTING.md).

#include <banach/engine/var.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <typeinfo>
#include <vector>

namespace banach {

class SampleGen;

/// The constant attributes of one use of an operation (axes, strides...): any copyable struct, as a value. A
/// small plain one is held in place, another one behind a counted pointer.
class Attrs {
 public:
  Attrs() = default;
  template <class T>
  requires(!std::is_same_v<std::decay_t<T>, Attrs>)
      Attrs(T value)  // NOLINT: implicit on purpose, so that a call reads apply(op, {x}, SliceAttrs{...})
      : type_(&type_of<T>) {
    if constexpr (in_place<T>)
      new (held_) T(value);
    else
      new (held_) Shared<T>(std::allocate_shared<const T>(memory::PoolAllocator<T>{}, std::move(value)));
  }
  Attrs(const Attrs& other) : type_(other.type_) {
    if (type_ && type_->copy)
      type_->copy(other.held_, held_);
    else
      std::memcpy(held_, other.held_, room);
  }
  Attrs& operator=(Attrs other) noexcept {
    std::swap(held_, other.held_);  // both forms may be moved as bytes
    std::swap(type_, other.type_);
    return *this;
  }
  ~Attrs() {
    if (type_ && type_->destroy) type_->destroy(held_);
  }

  template <class T>
  const T& as() const {
    if (type_ != &type_of<T> && (!type_ || type_->info != typeid(T)))
      fail<ValueError>("attributes", "of another type than the operation expects");
    if constexpr (in_place<T>)
      return *std::launder(reinterpret_cast<const T*>(held_));
    else
      return **std::launder(reinterpret_cast<const Shared<T>*>(held_));
  }
  explicit operator bool() const { return type_ != nullptr; }

 private:
  static constexpr std::size_t room = 16;
  template <class T>
  using Shared = std::shared_ptr<const T>;
  template <class T>
  static constexpr bool in_place = sizeof(T) <= room &&
                                   alignof(T) <= alignof(void*) && std::is_trivially_copyable_v<T>;
  struct Type {
    const std::type_info& info;
    void (*copy)(const std::byte* from, std::byte* to) = nullptr;  // null: as bytes
    void (*destroy)(std::byte* held) = nullptr;                    // null: nothing to do
  };
  template <class T>
  static Type make_type() {
    if constexpr (in_place<T>)
      return {typeid(T)};
    else
      return {typeid(T),
              [](const std::byte* from, std::byte* to) {
                new (to) Shared<T>(*std::launder(reinterpret_cast<const Shared<T>*>(from)));
              },
              [](std::byte* held) { std::destroy_at(std::launder(reinterpret_cast<Shared<T>*>(held))); }};
  }
  template <class T>
  static inline const Type type_of = make_type<T>();

  alignas(void*) std::byte held_[room] = {};
  const Type* type_ = nullptr;
};

/// Shape and dtype of an output.
struct Spec {
  Shape shape;
  DType dtype = DType::f32;
};
using Specs = std::vector<Spec, memory::PoolAllocator<Spec>>;

/// What a shape rule sees. It throws ShapeError, DTypeError or ValueError on what does not fit.
struct ShapeContext {
  std::string_view op;
  std::span<const Var> inputs;
  const Attrs& attrs;

  const Shape& shape(int i = 0) const { return inputs[static_cast<std::size_t>(i)].shape(); }
  DType dtype(int i = 0) const { return inputs[static_cast<std::size_t>(i)].dtype(); }
};

/// What a kernel sees: inputs that passed the shape rule, and outputs to be written, allocated by it.
struct KernelContext {
  std::span<const Var> inputs;
  std::span<Tensor> outputs;
  const Attrs& attrs;

  const Tensor& in(int i = 0) const { return inputs[static_cast<std::size_t>(i)].value(); }
  Tensor& out(int i = 0) const { return outputs[static_cast<std::size_t>(i)]; }
};

/// What a vjp sees. It returns one cotangent an input, of the input's shape; an undefined Var stands for
/// zero. It is written with operations, so that it can be recorded and differentiated again.
struct VjpContext {
  std::span<const Var> inputs;
  std::span<const Var> outputs;
  std::span<Var> cotangents;  ///< one an output; undefined where it is zero
  std::uint64_t needed;       ///< bit i: somebody wants the cotangent of input i
  const Attrs& attrs;
  const Var& out;        ///< the first output
  const Var& cotangent;  ///< the first output's cotangent

  const Var& in(int i = 0) const { return inputs[static_cast<std::size_t>(i)]; }
  /// Inputs beyond the 63rd are always wanted.
  bool needs(int i) const { return i >= 63 || (needed >> i & 1) != 0; }
  /// The first output's cotangent, given up at its last use, so that its buffer may be used again.
  Var take_cotangent() const { return std::move(cotangents[0]); }
};

/// How an operation treats its elements; the optimiser of recorded programs goes by it. The kernel of an
/// elementwise operation may find its output where an input of the same shape stands.
enum class OpKind : std::uint8_t { general, elementwise, reduction, movement, composite, implicit };

/// Which values the vjp looks at beyond shapes and dtypes; the tape frees the rest.
enum class Saves : std::uint8_t { nothing = 0, inputs = 1, outputs = 2, both = 3 };

/// Inputs and attributes for one test of an operation. Floating inputs are f64; the test also converts them.
struct Sample {
  Tensors inputs;
  Attrs attrs = {};
};
using Samples = std::vector<Sample>;

/// A use that must be refused, and words that the message must contain.
struct ErrorSample {
  Tensors inputs;
  Attrs attrs = {};
  const char* message = "";
};
using ErrorSamples = std::vector<ErrorSample>;

/// A use at special values (NaN, infinities, -0, ties, no elements), and what must come of it. Zeros of
/// outputs have their signs; other values may be rounded. Tensors are f64; the test also converts them.
struct Edge {
  Tensors inputs;
  Attrs attrs = {};
  Tensors outputs;
  /// If given: the cotangents of the floating inputs, in their order, when those of the outputs are ones.
  Tensors cotangents = {};
};
using Edges = std::vector<Edge>;

/// What a NaN in an input does to the output.
enum class NanRule : std::uint8_t {
  by_kind,             ///< elementwise operations: same_place; reductions: somewhere; others promise nothing
  same_place,          ///< NaN at its place and nowhere else
  same_place_or_none,  ///< there or not at all: an operation that chooses among its inputs
  somewhere,           ///< somewhere among the outputs
  compared,            ///< a comparison that fails (not_equal: holds)
};

/// What a rule about rows sees: the shapes of one use of an operation.
struct RowsContext {
  std::span<const Var> inputs;
  std::span<const Tensor> outputs;
  const Attrs& attrs;

  const Shape& shape(int i = 0) const { return inputs[static_cast<std::size_t>(i)].shape(); }
  const Shape& out(int i = 0) const { return outputs[static_cast<std::size_t>(i)].shape(); }
};

/// Bit i: input i is read row by row, a row being an index of axis 0; the other inputs are read whole.
/// Nothing: rows are mixed.
using RowInputs = std::optional<std::uint64_t>;

/// See OpDef::prepare.
using Prepared = std::shared_ptr<const void>;

struct OpDef {
  const char* name;
  const char* doc;
  /// Shape rule for operations with one output.
  Spec (*shape)(const ShapeContext&) = nullptr;
  void (*kernel)(const KernelContext&) = nullptr;
  OpKind kind = OpKind::general;
  Saves saves = Saves::both;
  /// Null: not differentiable; its outputs are constants for every derivative.
  Vars (*vjp)(const VjpContext&) = nullptr;
  Samples (*samples)(SampleGen&) = nullptr;
  ErrorSamples (*errors)() = nullptr;
  /// Shape rule for operations with several outputs, in place of `shape`.
  Specs (*shapes)(const ShapeContext&) = nullptr;
  /// For OpKind::composite: the function itself, written with other operations, in place of shape, kernel and
  /// vjp.
  Vars (*composite)(std::span<const Var>, const Attrs&) = nullptr;
  /// The kernel sets its output itself, sharing an input's elements; none is allocated for it.
  bool view = false;
  /// What happens at special values. Only operations that are parts of a vjp have none of their own: theirs
  /// are the cotangents in the edges of the operation they serve.
  Edges (*edges)() = nullptr;
  NanRule nan = NanRule::by_kind;
  /// Bit i: the output depends on floating input i by steps, which have no derivative.
  std::uint64_t steps = 0;
  /// Not defined without elements, a mean of nothing for example; its samples then have some.
  bool needs_elements = false;
  /// How a use treats axis 0, along which recorded programs are cut into tiles: row r of every output must
  /// depend on row r of the inputs named (and on the whole of the others), and the kernel must go by the
  /// shapes of its inputs and outputs, not by extents that its attributes hold. Null: rows are mixed; but
  /// elementwise operations have a rule by their kind.
  RowInputs (*rows)(const RowsContext&) = nullptr;
  /// What a program that runs many times does once, given inputs that stay the same, bit i of `constant` for
  /// input i (packing a matrix, say); null if nothing. Then `prepared_kernel` runs in place of the kernel.
  Prepared (*prepare)(std::span<const Var> inputs, std::uint64_t constant, const Attrs&) = nullptr;
  void (*prepared_kernel)(const KernelContext&, const void* prepared) = nullptr;
  /// Where constant inputs are read row by row, `prepare` is asked by each tile for its rows, in place of
  /// once for all; the bits must not depend on which rows these are.
  bool prepare_rows = false;
};

/// A registered operation. Objects of this type are constants at namespace scope and live as long as the
/// program.
class Op {
 public:
  explicit Op(const OpDef& def);
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  const OpDef& def() const { return def_; }
  std::string_view name() const { return name_; }

 private:
  OpDef def_;
  std::string_view name_;
};

/// Every operation linked into the program, sorted by name. `ops()` of <banach/ops/ops.hpp> also makes sure
/// that a static library's linker has left none out.
std::vector<const Op*> registered_ops();

/// Runs an operation with one output, and records it if a tape is alive and an input is on it.
Var apply(const Op& op, std::span<const Var> inputs, const Attrs& attrs = {});
/// The same; an elementwise operation that is not recorded writes into the buffer of an input that is given
/// up, if nobody else holds it.
Var apply(const Op& op, std::initializer_list<VarRef> inputs, const Attrs& attrs = {});
/// Runs an operation with any number of outputs.
Vars apply_all(const Op& op, std::span<const Var> inputs, const Attrs& attrs = {});

/// Records outputs that were computed elsewhere as one node (implicit nodes do). Constants if nothing
/// records.
Vars record(const Op& op, std::span<const Var> inputs, std::span<const Tensor> outputs, const Attrs& attrs);

/// How this use of an operation treats axis 0: see OpDef::rows.
RowInputs row_inputs(const Op& op, const RowsContext& c);

// Common rules about rows.

/// All inputs broadcast to the output.
RowInputs broadcast_rows(const RowsContext& c);
/// The first input alone, which has the output's rows.
RowInputs first_by_rows(const RowsContext& c);
/// All inputs, which have the output's rows.
RowInputs all_by_rows(const RowsContext& c);
/// The same, if the operation works along axes of the first input other than 0; none named: along all.
RowInputs all_by_rows_along(const RowsContext& c, const Axes& axes);

// Common shape rules.

/// One floating input; the output is like it.
Spec same_shape(const ShapeContext& c);
/// Two floating inputs of one dtype that broadcast.
Spec broadcast_shape(const ShapeContext& c);
/// All inputs share one floating dtype, which is returned. Throws DTypeError naming the op and both dtypes.
DType common_floating(const ShapeContext& c);

}  // namespace banach
