#include <banach/engine/program/program.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/elementwise.hpp>
#include <banach/ops/implicit/iteration.hpp>
#include <banach/ops/implicit/replay.hpp>
#include <banach/ops/matmul.hpp>
#include <banach/ops/shape_ops.hpp>
#include <banach/solvers/join.hpp>
#include <banach/solvers/vector.hpp>

#include <algorithm>
#include <functional>
#include <limits>

namespace banach {
namespace {

struct SolveAttrs {
  std::shared_ptr<const ImplicitBody> body;
  LinearSolver solver;
  bool transposed;
};

// Inputs z, theta..., rhs.
Linearized linearized_of(const SolveAttrs& attrs, std::span<const Var> inputs) {
  return Linearized(attrs.body, inputs.front(), inputs.subspan(1, inputs.size() - 2));
}

// A solve behind a derivative of the adjoint itself: reported, and held to the node's policy, like the
// adjoint's.
Var accounted(const ImplicitBody& body, const Linearized& f, AdjointSolve solved) {
  AdjointReport report{.rule = "adjoint_solve", .samples = {}, .evaluations = f.evaluations()};
  bool failed = false;
  for (std::size_t i = 0; i < solved.status.size(); ++i) {
    const Status status = solved.status[i];
    const bool exact = status == Status::converged && body.forward[i].status == Status::converged;
    const GradientKind kind = status == Status::singular || status == Status::indefinite
                                  ? GradientKind::non_differentiable
                              : exact ? GradientKind::exact
                                      : GradientKind::approximate;
    report.samples.push_back({kind, body.forward[i].status, status, solved.residual[i]});
    failed = failed || status != Status::converged;
  }
  body.log.add(std::move(report));
  if (!failed || body.policy == Policy::report) return solved.solution;
  if (body.policy == Policy::raise)
    fail<SolveError>("adjoint_solve", "a derivative of the adjoint failed: " + body.log.last().to_string());
  return solved.solution + nan_rows(solved.solution, body.batch,
                                    [&](std::size_t i) { return solved.status[i] != Status::converged; });
}

// For x = (I - J^T)^-1 r and a cotangent w of it, y = (I - J)^-1 w is the cotangent of r, and since
// dx = (I - J^T)^-1 (dJ^T x + dr), that of the point is the gradient of x^T J(z, theta) y with x and y held
// fixed. With J in place of J^T, x and y change places.
Vars solve_vjp(const VjpContext& c) {
  const auto& attrs = c.attrs.as<SolveAttrs>();
  const Linearized f = linearized_of(attrs, c.inputs);
  const Var y = accounted(*attrs.body, f, f.solve(attrs.solver, c.cotangent, !attrs.transposed));
  const Var &left = attrs.transposed ? c.out : y, &right = attrs.transposed ? y : c.out;

  const Vars point(c.inputs.begin(), c.inputs.end() - 1);
  bool moves = false;  // forward mode asks for the cotangent of r alone
  for (std::size_t i = 0; i < point.size(); ++i) moves = moves || c.needs(static_cast<int>(i));
  if (!moves) {
    Vars cotangents(point.size());
    cotangents.push_back(y);
    return cotangents;
  }
  const auto pulled = [&](const Vars& at) {
    const auto body = [&](const Vars& state) {
      return attrs.body->trace.replay(state, std::span<const Var>(at).subspan(1));
    };
    return vjp(body, {at.front()}, {left}).cotangents;
  };
  Vars cotangents = vjp(pulled, point, {right}).cotangents;
  cotangents.push_back(y);
  return cotangents;
}

const Op solve_op{{
    .name = "adjoint_solve",
    .doc = "x = (I - J^T)^-1 r or (I - J)^-1 r, J being the Jacobian of an implicit node's body.",
    .shape =
        [](const ShapeContext& c) {
          return Spec{c.inputs.back().shape(), c.inputs.back().dtype()};
        },
    .kernel =
        [](const KernelContext& c) {
          const auto& attrs = c.attrs.as<SolveAttrs>();
          const NoGrad off;
          c.out() = linearized_of(attrs, c.inputs)
                        .solve(attrs.solver, c.inputs.back(), attrs.transposed)
                        .solution.value();
        },
    .kind = OpKind::implicit,
    .saves = Saves::both,
    .vjp = solve_vjp,
    .view = true,
}};

// Which of a problem's terms behind the first is the shortest: the newest of equals. Where lengths are no
// numbers there is none, and the sum is left as it is, for its residual to say so.
struct Shortest {
  int index = std::numeric_limits<int>::max();
  double length = std::numeric_limits<double>::infinity();

  void see(int i, double newest) {
    if (!(newest <= length)) return;
    index = i;
    length = newest;
  }
};

}  // namespace

Shape state_rows(const Shape& state, Batch batch) {
  if (batch == Batch::none || state.rank() == 0) return {1, state.size()};
  return {state[0], state.size(1, state.rank())};
}

Var nan_rows(const Var& x, Batch batch, FunctionRef<bool(std::size_t)> chosen) {
  Tensor mark = Tensor::zeros(x.shape(), x.dtype());
  const Shape rows = state_rows(x.shape(), batch);
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = mark.mutable_data<T>();
    for (std::int64_t i = 0; i < rows[0]; ++i)
      if (chosen(static_cast<std::size_t>(i)))
        std::fill_n(out + i * rows[1], rows[1], std::numeric_limits<T>::quiet_NaN());
  });
  return Var(mark);
}

Linearized::Linearized(std::shared_ptr<const ImplicitBody> body, const Var& z, std::span<const Var> theta)
    : body_(std::move(body)), z_(z), theta_(theta.begin(), theta.end()) {}

const Trace& Linearized::values() const {
  if (values_) return *values_;
  const Trace& recorded = body_->trace;
  bool same = recorded.graph[recorded.inputs[0]].output.same_storage(z_.value());
  for (std::size_t i = 0; i < theta_.size(); ++i)
    same = same && recorded.captured[i].value().same_storage(theta_[i].value());
  if (same) {
    values_ = std::shared_ptr<const Trace>(body_, &recorded);
    return *values_;
  }
  // Another point than the recorded one: the same operations there, theta now being inputs rather than
  // captured.
  Tensors point{z_.value()};
  for (const Var& value : theta_) point.push_back(value.value());
  Trace moved = trace(
      [&](const Vars& at) {
        return recorded.replay({at.data(), 1}, std::span<const Var>(at).subspan(1));
      },
      point);
  moved.captures.assign(moved.inputs.begin() + 1, moved.inputs.end());
  moved.inputs.resize(1);
  values_ = std::allocate_shared<const Trace>(memory::PoolAllocator<char>(), std::move(moved));
  return *values_;
}

const Trace& Linearized::transposed() const {
  if (!transposed_) {
    // u -> J^T u is linear: its own vjp is v -> J v.
    const Trace& recorded = body_->trace;
    Vars theta;
    for (const Var& value : theta_) theta.push_back(value.detach());
    const auto pulled = [&](const Vars& u) {
      return vjp([&](const Vars& state) { return recorded.replay(state, theta); }, {z_.detach()}, u)
          .cotangents;
    };
    const std::array<Tensor, 1> at{Tensor::zeros(z_.shape(), z_.dtype())};
    transposed_ = std::allocate_shared<const Trace>(memory::PoolAllocator<char>(), trace(pulled, at));
  }
  return *transposed_;
}

const Linearized::Recorded& Linearized::recorded() const {
  if (!recorded_) {
    Recorded nodes;
    nodes.state = alias(z_);
    if (!nodes.state.recorded()) nodes.state = leaf(z_.value());
    for (const Var& value : theta_) {
      nodes.theta.push_back(alias(value));
      if (!nodes.theta.back().recorded()) nodes.theta.back() = leaf(value.value());
    }
    nodes.value = body_->trace.replay({&nodes.state, 1}, nodes.theta).front();
    recorded_ = std::allocate_shared<const Recorded>(memory::PoolAllocator<char>(), std::move(nodes));
  }
  return *recorded_;
}

Linearized::Pulled Linearized::pull(const Var& u, std::uint64_t needed) const {
  ++*evaluations_;
  const bool create = recording();
  const Recorded* nodes = create ? &recorded() : nullptr;
  const Trace* trace = create ? nullptr : &values();

  PoolVector<std::int32_t> wrt{create ? nodes->state.node() : trace->inputs[0]};
  PoolVector<std::size_t> positions;
  for (std::size_t i = 0; i < theta_.size(); ++i) {
    if (i < 63 && (needed >> i & 1) == 0) continue;
    positions.push_back(i);
    wrt.push_back(create ? nodes->theta[i].node() : trace->captures[i]);
  }
  Vars swept;
  if (create) {
    const std::array<std::int32_t, 1> output{nodes->value.node()};
    swept = sweep(Tape::current()->graph(), output, {&u, 1}, wrt, true);
  } else {
    swept = trace->pull_back({&u, 1}, wrt);
  }
  Pulled result{swept[0].defined() ? swept[0] : Var(Tensor::zeros(z_.shape(), z_.dtype())),
                Vars(theta_.size())};
  for (std::size_t i = 0; i < positions.size(); ++i) result.theta[positions[i]] = swept[i + 1];
  return result;
}

Var Linearized::vjp_state(const Var& u) const {
  // A needed mask of zero still covers inputs beyond the 63rd, so sweep for the state alone by hand.
  ++*evaluations_;
  if (recording()) {
    const std::array<std::int32_t, 1> output{recorded().value.node()}, wrt{recorded().state.node()};
    const Var swept = sweep(Tape::current()->graph(), output, {&u, 1}, wrt, true)[0];
    return swept.defined() ? swept : Var(Tensor::zeros(z_.shape(), z_.dtype()));
  }
  // To record the sweep costs about as much as one more.
  if (!replayed_ && ++unreplayed_ < 3) return pulled_state(u).detach();
  return Var(replayed(u).run(u.value()));
}

Linearized::Series Linearized::series(const Var& u, int terms, double damping, bool guarded) const {
  constexpr int few = 3;  // not worth a program
  const auto problems = static_cast<std::size_t>(rows()[0]);
  PoolVector<Shortest> shortest(guarded ? problems : 0);
  PoolVector<char> cut;
  const auto judge = [&] {
    for (const Shortest& s : shortest) cut.push_back(s.index < terms - 1);
  };
  if (recording() || terms <= few || u.size() == 0) {
    Series result{u, u};
    Var best = u;
    for (int i = 1; i < terms; ++i) {
      const Var pulled = vjp_state(result.last);
      result.last = damping == 1.0 ? pulled : damping * pulled + (1.0 - damping) * result.last;
      if (guarded) {
        const PoolVector<double> length = norms(result.last);
        for (std::size_t k = 0; k < problems; ++k) shortest[k].see(i, length[k]);
        best = choose_rows(
            rows(), [&](std::size_t k) { return shortest[k].index == i; }, result.sum, best);
      }
      result.sum = result.sum + result.last;
    }
    judge();
    if (std::find(cut.begin(), cut.end(), 1) != cut.end())
      result.sum = choose_rows(
          rows(), [&](std::size_t k) { return cut[k] != 0; }, best, result.sum);
    result.cut = std::move(cut);
    return result;
  }

  const program::Program& program = replayed(u);
  *evaluations_ += terms - 1;
  const Tensor start = u.value().reshape(rows());
  Tensor sum = start.clone(), last = Tensor::empty(start.shape(), start.dtype());
  Tensor best = guarded ? Tensor::empty(start.shape(), start.dtype()) : Tensor();
  dispatch_floating(start.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const simd::Kernels<T>& kernels = simd::kernels<T>();
    T *all_sum = sum.mutable_data<T>(), *all_last = last.mutable_data<T>();
    T* all_best = guarded ? best.mutable_data<T>() : nullptr;
    const std::int64_t each = start.shape()[1];
    program.for_tiles([&](program::Tile& tile, std::int64_t) {
      const bool all = program.tiles() == 1;
      Tensor term = all ? start : start.rows(tile.begin(), tile.end());
      const std::int64_t n = term.size(), offset = all ? 0 : tile.begin() * each;
      // Calls use(k, position of its row) for each problem k of the tile.
      const auto for_problems = [&](auto use) {
        for (std::int64_t at = offset; at < offset + n; at += each)
          use(static_cast<std::size_t>(at / each), at);
      };
      for (int i = 1; i < terms; ++i) {
        Tensor next = tile.run(term);
        T* data = next.mutable_data<T>();
        if (damping != 1.0) {
          kernels.scale_add(data, static_cast<T>(damping), T{-0.0}, data, n);
          kernels.axpy(static_cast<T>(1.0 - damping), term.data<T>(), data, n);
        }
        if (guarded)
          for_problems([&](std::size_t k, std::int64_t at) {
            shortest[k].see(i, vec::norm(data + (at - offset), each));
            if (shortest[k].index == i) std::copy_n(all_sum + at, each, all_best + at);
          });
        kernels.add_to(data, all_sum + offset, n);
        term = std::move(next);
      }
      std::copy_n(term.data<T>(), n, all_last + offset);
      if (guarded)
        for_problems([&](std::size_t k, std::int64_t at) {
          if (shortest[k].index < terms - 1) std::copy_n(all_best + at, each, all_sum + at);
        });
    });
  });
  judge();
  return {Var(sum.reshape(z_.shape())), Var(last.reshape(z_.shape())), std::move(cut)};
}

Var Linearized::pulled_state(const Var& u) const {
  const Trace& f = values();
  const Var swept = sweep(f.graph, f.outputs, {&u, 1}, f.inputs, recording())[0];
  return swept.defined() ? swept : Var(Tensor::zeros(z_.shape(), z_.dtype()));
}

const program::Program& Linearized::replayed(const Var& u) const {
  if (!replayed_) {
    const Shape all = rows();
    values();  // on no tape that is made for the replay
    program::Recorded recorded = program::outline([&](const Var& at) { return pulled_state(at); }, u.value());
    replayed_ = std::allocate_shared<const program::Program>(
        memory::PoolAllocator<char>(), std::move(recorded.code), all[0], solver_row_bytes(all, z_.dtype()));
  }
  return *replayed_;
}

Tensor Linearized::product(const Tensor& rows, bool transpose) const {
  const NoGrad off;
  const Var u(rows.reshape(z_.shape()));
  if (transpose) return vjp_state(u).value().reshape(rows.shape());
  ++*evaluations_;
  const Var v = transposed().pull_back({&u, 1}, transposed().inputs)[0];
  return v.defined() ? v.value().reshape(rows.shape()) : Tensor::zeros(rows.shape(), rows.dtype());
}

AdjointSolve Linearized::solve(const LinearSolver& solver, const Var& g, bool transpose) const {
  const Tensor right = g.value().reshape(rows());
  LinearSolution solved;
  if (transpose && right.size() > 0) {
    const NoGrad off;
    const program::Program& program = replayed(g);
    PoolVector<LinearSolution> parts(static_cast<std::size_t>(program.tiles()));
    program.for_tiles([&](program::Tile& tile, std::int64_t index) {
      const auto map = [&](const Tensor& x, StateMap::Marks wanted) { return tile.run(x, wanted); };
      const Tensor part = program.tiles() == 1 ? right : right.rows(tile.begin(), tile.end());
      parts[static_cast<std::size_t>(index)] =
          std::visit([&](const auto& s) { return solve_linear(s, std::ref(map), part); }, solver);
    });
    solved = joined(parts);
    *evaluations_ += solved.evaluations;
  } else {
    const auto map = [&](const Tensor& x) { return product(x, transpose); };
    solved = std::visit([&](const auto& s) { return solve_linear(s, std::ref(map), right); }, solver);
  }

  Vars inputs{z_};
  inputs.insert(inputs.end(), theta_.begin(), theta_.end());
  inputs.push_back(g);
  const std::array<Tensor, 1> output{solved.x.reshape(z_.shape())};
  return {record(solve_op, inputs, output, SolveAttrs{body_, solver, transpose}).front(),
          std::move(solved.status), std::move(solved.residual)};
}

Var Linearized::estimate_inverse(const Var& u) const {
  if (!has_inverse())
    fail<ValueError>("estimate_inverse",
                     "the forward solver must leave an estimate of the inverse: use Broyden{} or "
                     "AdjointBroyden{}, with a rule that says needs_inverse");
  // For one sample, u^T (I - sum_k u_k v_k^T), as products of matrices.
  const auto& [left, right] = *body_->inverse;
  const Var row = reshape(u, {left.shape()[0], 1, left.shape()[2]});
  const Var overlaps = matmul(row, Var(left), {.transpose_b = true});
  return reshape(row - matmul(overlaps, Var(right)), u.shape());
}

Var Linearized::value() const { return recording() ? recorded().value : values().results.front(); }

PoolVector<double> Linearized::norms(const Var& x) const {
  return vec::row_norms(x.value().reshape(state_rows(z_.shape(), body_->batch)));
}

PoolVector<double> Linearized::residual(const Var& lambda, const Var& pulled, const Var& g) const {
  Tensor difference = Tensor::empty(g.shape(), g.dtype());
  dispatch_floating(g.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = difference.mutable_data<T>();
    const T *l = lambda.value().data<T>(), *p = pulled.value().data<T>(), *c = g.value().data<T>();
    for (std::int64_t i = 0; i < g.size(); ++i) out[i] = l[i] - p[i] - c[i];
  });
  PoolVector<double> result = norms(Var(difference));
  const PoolVector<double> scale = norms(g);
  for (std::size_t i = 0; i < result.size(); ++i)
    if (scale[i] > 0.0) result[i] /= scale[i];
  return result;
}

}  // namespace banach
