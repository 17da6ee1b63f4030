#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/node.hpp>
#include <banach/solvers/vector.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace banach {
namespace {

// Outputs: the answer, and the iterates of evaluations 1 + every, 1 + 2 every, ...
struct CheckpointAttrs : IterationAttrs {
  std::string_view rule;
  int every;

  int segments() const { return (last() - 1 + every - 1) / every; }
  int begin(int segment) const { return 1 + segment * every; }
  int end(int segment) const { return std::min(begin(segment) + every, last()); }

  // The iterates of evaluation end(segment) from those of begin(segment).
  Var advance(Var z, int segment, std::span<const Var> theta) const {
    for (int k = begin(segment); k < end(segment); ++k)
      z = choose_rows(
          rows, [&](std::size_t i) { return k < answer[i]; }, picard_step(z, evaluate(z, theta), damping), z);
    return z;
  }
};

// The replayed steps must be those of the solve: an f that decides by values what it does was recorded at the
// answer, and does there what it may not have done before.
void check_replayed(const Tensor& replayed, const Tensor& kept, const CheckpointAttrs& attrs, int segment) {
  const PoolVector<double> off = vec::row_norms(replayed.reshape(attrs.rows), kept.reshape(attrs.rows)),
                           size = vec::row_norms(kept.reshape(attrs.rows));
  const double epsilon = kept.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                    : std::numeric_limits<double>::epsilon();
  for (std::size_t i = 0; i < off.size(); ++i)
    if (off[i] > std::sqrt(epsilon) * size[i])
      fail<ValueError>(
          attrs.rule,
          fmt::format("f must do the same operations at every iterate, as checkpoints replay what it "
                      "did at the last: evaluations {} to {} of problem {} went another way; leave "
                      "checkpoint_every at 0 for an f that decides by values",
                      attrs.begin(segment), attrs.end(segment), i));
}

// Sweeps segment after segment, the last first, each recorded afresh. The cotangents of theta so far are
// seeds of the next sweep, so that they are summed in the order in which one sweep over all steps sums them.
Vars backward(const VjpContext& c) {
  const auto& attrs = c.attrs.as<CheckpointAttrs>();
  const auto theta = c.inputs.subspan(1);
  attrs.body->log.add(iterate_report(attrs.rule, attrs.forward(), attrs.last() - 1));
  if (recording()) {
    const auto run = [&](const Vars& at) {
      Var z = at.front();
      for (int s = 0; s < attrs.segments(); ++s) z = attrs.advance(std::move(z), s, std::span(at).subspan(1));
      return Vars{z};
    };
    VjpResult result = vjp(run, Vars(c.inputs.begin(), c.inputs.end()), {c.cotangent});
    check_replayed(result.outputs.front().value(), c.out.value(), attrs, std::max(0, attrs.segments() - 1));
    return std::move(result.cotangents);
  }

  PoolVector<std::size_t> needed{0};
  for (std::size_t i = 1; i < c.inputs.size(); ++i)
    if (c.needs(static_cast<int>(i))) needed.push_back(i);
  Vars cotangents(c.inputs.size());
  cotangents[0] = c.cotangent;
  for (int s = attrs.segments() - 1; s >= 0; --s) {
    Tensors at{s == 0 ? c.in().value() : c.outputs[static_cast<std::size_t>(s)].value()};
    for (const Var& value : theta) at.push_back(value.value());
    const Trace segment = trace(
        [&](const Vars& in) { return Vars{attrs.advance(in.front(), s, std::span(in).subspan(1))}; }, at);
    const bool newest = s == attrs.segments() - 1;
    check_replayed(segment.results.front().value(),
                   (newest ? c.out : c.outputs[static_cast<std::size_t>(s + 1)]).value(), attrs, s);

    PoolVector<std::int32_t> outputs{segment.outputs.front()}, wrt;
    Vars seeds{std::exchange(cotangents[0], Var())};
    for (const std::size_t i : needed) {
      wrt.push_back(segment.inputs[i]);
      if (!cotangents[i].defined()) continue;
      outputs.push_back(segment.inputs[i]);
      seeds.push_back(std::exchange(cotangents[i], Var()));
    }
    const Vars swept = sweep(segment.graph, outputs, seeds, wrt, false);
    for (std::size_t k = 0; k < needed.size(); ++k) cotangents[needed[k]] = swept[k];
    if (!cotangents[0].defined()) cotangents[0] = Var(Tensor::zeros(c.out.shape(), c.out.dtype()));
  }
  return cotangents;
}

// A replay (a node inside the body of an implicit one) takes the same steps again.
void iterate_again(const KernelContext& c) {
  const auto& attrs = c.attrs.as<CheckpointAttrs>();
  const NoGrad off;
  Vars theta;
  for (const Var& input : c.inputs.subspan(1)) theta.push_back(input.detach());
  Var z = c.inputs.front().detach();
  for (int s = 0; s < attrs.segments(); ++s) {
    if (s > 0) c.out(s) = z.value();
    z = attrs.advance(std::move(z), s, theta);
  }
  c.out() = z.value();
}

const Op checkpointed_op{{
    .name = "checkpointed",
    .doc = "An unrolled fixed point that keeps some of its iterates: inputs z0 and theta, the captures of "
           "the body; outputs the answer and the iterates kept.",
    .kernel = iterate_again,
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp = backward,
    .shapes =
        [](const ShapeContext& c) {
          const int outputs = std::max(1, c.attrs.as<CheckpointAttrs>().segments());
          return Specs(static_cast<std::size_t>(outputs), Spec{c.shape(), c.dtype()});
        },
    .view = true,
}};

}  // namespace

Var record_checkpointed(std::string_view rule, IterationAttrs iteration, int every, const Var& z0,
                        Tensors iterates) {
  const CheckpointAttrs attrs{std::move(iteration), rule, every};
  // Of what a sample did after its answer, nothing is kept.
  iterates.resize(static_cast<std::size_t>(std::max(1, attrs.segments())));
  for (std::size_t s = 1; s < iterates.size(); ++s)
    iterates[s] =
        choose_rows(
            attrs.rows, [&](std::size_t i) { return attrs.begin(static_cast<int>(s)) <= attrs.answer[i]; },
            Var(iterates[s]), Var(iterates.front()))
            .value();
  Vars inputs{z0};
  const Vars& theta = attrs.body->trace.captured;
  inputs.insert(inputs.end(), theta.begin(), theta.end());
  return record(checkpointed_op, inputs, iterates, attrs).front();
}

ImplicitSolution checkpointed(FunctionRef<Var(const Var&)> f, const Var& z0, int every,
                              const FixedPointOptions& options) {
  const Shape rows = state_rows(z0.shape(), options.batch);
  FixedPoint result;
  Tensors iterates(1);
  {
    const NoGrad off;
    int evaluation = 0;
    const auto map = [&](const Tensor& z) {
      if (evaluation > 0 && evaluation % every == 0) iterates.push_back(z.reshape(z0.shape()));
      ++evaluation;
      return at_rows("fixed_point", f, z0.shape(), z);
    };
    FixedPointSolution solved =
        solve_fixed_point(options.solver, std::ref(map), z0.value().reshape(rows), stop_options(options));
    iterates.front() = solved.z.reshape(z0.shape());
    result.report = std::move(solved.report);
  }
  IterationAttrs iteration =
      iteration_at(f, iterates.front(), result, picard_damping(options, "Unrolled"), options);
  const Var z = record_checkpointed(Unrolled::name, std::move(iteration), every, z0, std::move(iterates));
  result.z = held_to_policy("fixed_point", z, result.report, options.batch, options.policy);
  return result;
}

}  // namespace banach
