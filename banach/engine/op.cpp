#include <banach/engine/op.hpp>
#include <banach/engine/tape.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace banach {
namespace {

std::vector<const Op*>& registry() {
  static std::vector<const Op*> ops;
  return ops;
}

[[noreturn, gnu::noinline]] void refuse_inputs(const Op& op, std::size_t i) {
  if (!op.def().name)
    fail<ValueError>("operation", "must not be called before main starts: a static object did");
  fail<ValueError>(op.name(), fmt::format("input {} must be defined: it was never assigned", i));
}

inline void check_inputs(const Op& op, std::span<const Var> inputs) {
  if (!op.def().name) refuse_inputs(op, 0);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (!inputs[i].defined()) refuse_inputs(op, i);
}

// Where nothing records, a Var of another thread's tape must still be refused: its gradient would be lost
// silently.
void check_threads(const Op& op, std::span<const Var> inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].recorded() && Tape::on_other_thread(inputs[i].tape()))
      Tape::refuse(inputs[i], op.name(), static_cast<int>(i));
}

// On a tape that records outlines, what depends on its inputs is not computed.
bool outlined(const Tape* tape, std::span<const Var> inputs) {
  return tape && tape->outlines() &&
         std::any_of(inputs.begin(), inputs.end(), [](const Var& x) { return !x.value().has_data(); });
}

// The buffer of one of them, if it is like `spec` and nobody else holds it.
Tensor buffer_of(std::initializer_list<VarRef> given_up, const Spec& spec) {
  for (const VarRef& x : given_up)
    if (x.given_up && x.var->value().unique() && x.var->dtype() == spec.dtype && x.var->shape() == spec.shape)
      return std::move(*x.given_up).release();
  return {};
}

}  // namespace

Op::Op(const OpDef& def) : def_(def), name_(def.name) { registry().push_back(this); }

std::vector<const Op*> registered_ops() {
  std::vector<const Op*> ops = registry();
  std::sort(ops.begin(), ops.end(), [](const Op* a, const Op* b) { return a->name() < b->name(); });
  return ops;
}

// `given_up` are those among the inputs whose buffers may be written to.
static Var apply_to(const Op& op, std::span<const Var> inputs, const Attrs& attrs,
                    std::initializer_list<VarRef> given_up) {
  check_inputs(op, inputs);
  const OpDef& def = op.def();
  if (def.composite) return def.composite(inputs, attrs).front();
  if (!def.shape) return apply_all(op, inputs, attrs).front();
  const Spec spec = def.shape({op.name(), inputs, attrs});
  Tape* tape = Tape::recorder();
  Tensor output;
  const std::span<Tensor> outputs(&output, 1);
  if (outlined(tape, inputs)) {
    output = Tensor::placeholder(spec.shape, spec.dtype);
  } else {
    if (!tape && def.kind == OpKind::elementwise) output = buffer_of(given_up, spec);
    if (!def.view && !output.defined()) output = Tensor::empty(spec.shape, spec.dtype);
    def.kernel({inputs, outputs, attrs});
  }
  if (!tape) {
    check_threads(op, inputs);
    return Var(std::move(output));
  }
  const std::int32_t node = tape->append(op, attrs, inputs, outputs);
  return node < 0 ? Var(std::move(output)) : Var(std::move(output), tape->serial(), node, &op);
}

Var apply(const Op& op, std::span<const Var> inputs, const Attrs& attrs) {
  return apply_to(op, inputs, attrs, {});
}

Var apply(const Op& op, std::initializer_list<VarRef> inputs, const Attrs& attrs) {
  return apply_to(op, Borrowed(inputs), attrs, inputs);
}

Vars apply_all(const Op& op, std::span<const Var> inputs, const Attrs& attrs) {
  const OpDef& def = op.def();
  if (def.composite) {
    check_inputs(op, inputs);
    return def.composite(inputs, attrs);
  }
  if (!def.shapes) return {apply(op, inputs, attrs)};
  check_inputs(op, inputs);
  const bool outline = outlined(Tape::recorder(), inputs);
  Tensors outputs;
  for (const Spec& spec : def.shapes({op.name(), inputs, attrs}))
    outputs.push_back(outline ? Tensor::placeholder(spec.shape, spec.dtype)
                              : Tensor::empty(spec.shape, spec.dtype));
  if (!outline) def.kernel({inputs, outputs, attrs});
  return record(op, inputs, outputs, attrs);
}

Vars record(const Op& op, std::span<const Var> inputs, std::span<const Tensor> outputs, const Attrs& attrs) {
  Vars results(outputs.begin(), outputs.end());
  Tape* tape = Tape::recorder();
  if (!tape) {
    check_threads(op, inputs);
    return results;
  }
  const std::int32_t first = tape->append(op, attrs, inputs, outputs);
  if (first < 0) return results;
  for (std::size_t i = 0; i < results.size(); ++i)
    results[i] = Var(outputs[i], tape->serial(), first + static_cast<std::int32_t>(i), &op);
  return results;
}

RowInputs row_inputs(const Op& op, const RowsContext& c) {
  for (const Tensor& output : c.outputs)
    if (output.rank() == 0) return {};
  const OpDef& def = op.def();
  if (def.rows) return def.rows(c);
  return def.kind == OpKind::elementwise ? broadcast_rows(c) : RowInputs{};
}

RowInputs broadcast_rows(const RowsContext& c) {
  std::uint64_t by_rows = 0;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Shape& shape = c.inputs[i].shape();
    if (shape.rank() < c.out().rank() || shape[0] != c.out()[0]) continue;
    if (i >= 64) return {};
    by_rows |= std::uint64_t{1} << i;
  }
  return by_rows;
}

RowInputs first_by_rows(const RowsContext& c) {
  if (c.shape().rank() == 0 || c.shape()[0] != c.out()[0]) return {};
  return 1;
}

RowInputs all_by_rows(const RowsContext& c) {
  if (c.inputs.empty() || c.inputs.size() > 64) return {};
  for (const Var& input : c.inputs)
    if (input.rank() == 0 || input.shape()[0] != c.out()[0]) return {};
  return ~std::uint64_t{0} >> (64 - c.inputs.size());
}

RowInputs all_by_rows_along(const RowsContext& c, const Axes& axes) {
  if (normalize_axes(axes, c.shape().rank(), "rows").contains(0)) return {};
  return all_by_rows(c);
}

[[noreturn, gnu::noinline]] static void refuse_dtype(const ShapeContext& c, std::size_t i) {
  const DType dtype = c.dtype(0), other = c.inputs[i].dtype();
  if (!is_floating(other))
    fail<DTypeError>(c.op, fmt::format("expects f32 or f64: input {} is {} (cast it)", i, name(other)));
  fail<DTypeError>(c.op, fmt::format("dtypes must agree (cast one): {} with {}", name(dtype), name(other)));
}

DType common_floating(const ShapeContext& c) {
  const DType dtype = c.dtype(0);
  for (std::size_t i = 0; i < c.inputs.size(); ++i)
    if (c.inputs[i].dtype() != dtype || !is_floating(dtype)) refuse_dtype(c, i);
  return dtype;
}

Spec same_shape(const ShapeContext& c) { return {c.shape(), common_floating(c)}; }

Spec broadcast_shape(const ShapeContext& c) {
  const DType dtype = common_floating(c);
  if (c.shape(0) == c.shape(1)) return {c.shape(0), dtype};
  return {broadcast(c.shape(0), c.shape(1), c.op), dtype};
}

}  // namespace banach
