#include <banach/ops/ops.hpp>

namespace banach {

using Function = void (*)();

template <class Result, class... Arguments>
static Function keep(Result (*f)(Arguments...)) {
  return reinterpret_cast<Function>(f);
}

// Operations register themselves when the program starts, if their source is in it. A static library's linker
// takes a source only where somebody names one of its functions: so here is one of each source of this layer.
// External linkage, or the compiler would drop what nobody reads.
extern const Function one_of_each_source[];
const Function one_of_each_source[] = {
    keep<Var, const Var&, const Var&, const Var&, const AttentionOptions&>(scaled_dot_product_attention),
    keep(relative_attention),
    keep(cast),
    keep(gather),
    keep(layer_norm),
    keep(matmul),
    keep(max_pool2d),
    keep(mse),
    keep(conv2d),
    keep(transpose),
    keep(sum),
    keep(log_softmax),
    keep(logsumexp),
    keep(square),
    keep(sign),
    keep(sigmoid),
    keep(repeat),
    keep(conv1d),
    keep(conv_transpose2d),
    keep(upsample_nearest),
    keep(dropout),
    keep(batch_norm_by),
    keep(dot),
    keep(cumsum),
    keep(argmax),
    keep(diagonal),
    keep(solve_spd),
    keep(inverse),
    keep(eigh),
    keep(upsample_bilinear),
    keep(isotonic_regression),
};

std::vector<const Op*> ops() { return registered_ops(); }

}  // namespace banach
