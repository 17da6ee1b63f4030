// Batches of random dense quadratic programs, strictly convex and feasible, beside the textbook by LAPACK.
#include <bench/table/lapack_qp.hpp>
#include <bench/table/table.hpp>

#include <banach/banach.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace bench {

using namespace banach;

namespace {

struct Size {
  int n, m, e;
  double goal;  // seconds for the forward solve of a problem
  bool sudoku() const { return n == 64; }
  std::int64_t batch() const { return n < 200 ? 128 : 32; }
  std::string name() const { return fmt::format("{}{}, {}, {}", sudoku() ? "Sudoku: " : "", n, m, e); }
};

constexpr Size sizes[] = {{10, 10, 0, 2e-6},      {50, 50, 0, 90e-6},     {50, 50, 12, 110e-6},
                          {100, 100, 0, 480e-6},  {100, 100, 25, 750e-6}, {200, 200, 0, 3.6e-3},
                          {200, 200, 50, 4.8e-3}, {64, 64, 40, 100e-6}};

/// h and b follow from a point, so that it is feasible. Those of Sudoku have Q = 0.1 I, z >= 0 and A in
/// U(0, 1), as OptNet's.
QpParameters problems(const Size& size) {
  Random random(3);
  const std::int64_t batch = size.batch(), n = size.n, m = size.m, e = size.e;
  const auto normal = [&](const Shape& shape) {
    Tensor t = Tensor::empty(shape, DType::f64);
    random.fill_normal(t.mutable_data<double>(), t.size());
    return Var(t);
  };
  Tensor identity = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) identity.mutable_data<double>()[i * n + i] = 1.0;
  const Var unit{identity}, every = Var(Tensor::zeros({batch, n, n}, DType::f64)) + unit;
  Var x = normal({batch, n, 1}), room = normal({batch, m, 1});
  QpParameters q;
  q.p = normal({batch, n});
  if (size.sudoku()) {
    q.Q = 0.1 * every, q.G = -every, x = sqrt(square(x)), room = x;
    Tensor A = Tensor::empty({batch, e, n}, DType::f64);
    random.fill_uniform(A.mutable_data<double>(), A.size());
    q.A = Var(A);
  } else {
    const Var root = normal({batch, n, n});
    q.Q = matmul(root, root, {.transpose_b = true}) / static_cast<double>(n) + 0.1 * every;
    q.G = normal({batch, m, n}), room = sqrt(square(room));
    if (e > 0) q.A = normal({batch, e, n});
  }
  q.h = reshape(matmul(q.G, x) + room, {batch, m});
  if (e > 0) q.b = reshape(matmul(q.A, x), {batch, e});
  return q;
}

void expect_solved(const QpReport& report) {
  for (const QpSampleReport& r : report.samples)
    if (r.largest() > 1e-9) throw std::runtime_error("quadratic programs: " + report.to_string());
}

/// Counts are the mean of the steps.
Work ours(const Size& size, bool backward) {
  struct State {
    QpParameters given;
    QpReport report;
  };
  const auto state = std::make_shared<State>(problems(size), QpReport());
  const auto with_gradients = [=] {
    const Tape tape;
    QpParameters q = state->given;
    Vars leaves;
    for (Var* v : {&q.Q, &q.p, &q.G, &q.h, &q.A, &q.b})
      if (v->defined()) leaves.push_back(*v = leaf(v->value()));
    const QpSolved s = qp_solve(q);
    grad(s.z, leaves, {.cotangent = ones_like(s.z)});
    state->report = s.report;
  };
  const auto alone = [=] { state->report = qp_solve(state->given).report; };
  return {.run = backward ? std::function<void()>(with_gradients) : alone,
          .per = static_cast<double>(size.batch()),
          .counts = [=] {
            expect_solved(state->report);
            double steps = 0.0;
            for (const QpSampleReport& r : state->report.samples) steps += r.steps;
            return Counts{static_cast<int>(std::lround(steps / static_cast<double>(size.batch()))), 0};
          }};
}

struct LapackBatch {
  explicit LapackBatch(const Size& s) : size(s), given(problems(s)) {
    const auto values = [](const Var& v) { return v.defined() ? v.value().data<double>() : nullptr; };
    const auto of = [](const double* v, std::int64_t i, std::int64_t each) { return v ? v + i * each : v; };
    for (std::int64_t i = 0; i < size.batch(); ++i)
      all.emplace_back(DenseQp{size.n, size.m, size.e, of(values(given.Q), i, size.n * size.n),
                               of(values(given.p), i, size.n), of(values(given.G), i, size.m * size.n),
                               of(values(given.h), i, size.m), of(values(given.A), i, size.e * size.n),
                               of(values(given.b), i, size.e)});
    const Var* const parts[] = {&given.Q, &given.p, &given.G, &given.h, &given.A, &given.b};
    for (int k = 0; k < 6; ++k)
      gradients[k].resize(parts[k]->defined() ? static_cast<std::size_t>(parts[k]->value().size()) : 0);
  }

  void run(bool backward) {
    steps = 0;
    const std::vector<double> ones(static_cast<std::size_t>(size.n), 1.0);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const int taken = all[i].solve();
      if (taken < 0) throw std::runtime_error("the baseline did not solve " + size.name());
      steps += taken;
      const auto to = [&](int k) { return gradients[k].data() + i * (gradients[k].size() / all.size()); };
      if (backward) all[i].gradients(ones.data(), to(0), to(1), to(2), to(3), to(4), to(5));
    }
  }

  Size size;
  QpParameters given;
  std::vector<LapackQp> all;
  std::vector<double> gradients[6];
  int steps = 0;
};

Work lapack(const Size& size, bool backward) {
  const auto batch = std::make_shared<LapackBatch>(size);
  return {.run = [=] { batch->run(backward); },
          .per = static_cast<double>(size.batch()),
          .counts =
              [=] {
                return Counts{batch->steps / static_cast<int>(size.batch()), 0};
              }};
}

/// One factor of the dense system of a step.
Work factor(const Size& size) {
  const auto batch = std::make_shared<LapackBatch>(size);
  return {.run =
              [=] {
                for (LapackQp& qp : batch->all) qp.factor();
              },
          .per = static_cast<double>(size.batch())};
}

}  // namespace

Section quadratic_section() {
  Section section{"Quadratic programs: n variables, m inequalities, e equalities; f64; time for one problem",
                  {}};
  section.peers = {.name = "LAPACK", .threads = 1};  // OpenBLAS's own threads slow down problems so small
  for (const Size& size : sizes) {
    const std::string forward = size.name() + ", forward", both = size.name() + ", forward and backward";
    section.lines.push_back({.name = forward,
                             .unit = Unit::microseconds,
                             .ours = [=] { return ours(size, false); },
                             .floor = [=] { return factor(size); },
                             .floors = [](const Counts& c) { return c.f + 1.0; },
                             .goal = {Goal::seconds, size.goal}});
    section.lines.push_back({.name = both,
                             .unit = Unit::microseconds,
                             .ours = [=] { return ours(size, true); },
                             .floor = [=] { return ours(size, false); },
                             .goal = {Goal::floor, 1.1}});
    section.peers.work[forward] = [=] { return lapack(size, false); };
    section.peers.work[both] = [=] { return lapack(size, true); };
  }
  return section;
}

}  // namespace bench
