#pragma once
// Internal: one quadratic program, or eight at once.
//
//   min 1/2 x'Qx + p'x  subject to  Ax = b,  Gx + s = h,  s >= 0
//
// A primal-dual interior point with Mehrotra's predictor and corrector and proximal regularisation of both
// sides (after Schwan, Jiang, Kuhn, Jones 2023, "PIQP"): every system is quasi-definite whatever the ranks of
// Q, A and G, and the proximal terms vanish at the solution. Then the constraints with multipliers larger
// than their slacks are taken for active, and the equality-constrained problem is solved to rounding with one
// factor.
//
// All numbers are N: double or Lanes. M supplies the matrix kernels.

#include <banach/solvers/qp/irregular.hpp>
#include <banach/solvers/qp/multipliers.hpp>
#include <banach/solvers/qp/scaling.hpp>

namespace banach::qp {
namespace {

/// In the problem's own units: the largest entry of Ax - b and of Gx + s - h; of Qx + p +
/// A'y + G'z and of the negative part of z; |x'Qx + p'x + b'y + h'z|.
template <class N>
struct Residuals {
  N primal, dual, gap, objective;
  N scaled;  // the largest of them all in the units that equilibrate chose, relative to the numbers they are
             // differences of where these are above 1

  /// The largest, the gap beside max(1, |objective|); infinite if one is not finite.
  N largest() const {
    const N all = larger(larger(primal, dual), gap / larger(number<N>(1.0), magnitude(objective)));
    return select(finite(primal + dual + gap + objective), all, number<N>(1e300));
  }
  /// Small in either units; or so small in those of equilibrate that rounding is all that is left.
  Mask<N> reaches(double target) const {
    const N own = largest();
    return (scaled <= number<N>(target)) &
           ((own <= number<N>(target)) | ((scaled <= number<N>(1e-13)) & (own < number<N>(1e300))));
  }
};

// ---- The KKT system ---------------------------------------------------------------------------------------

/// [ Q + rho    A'        G'     ] [dx]   [rx]
/// [ A       -delta_e            ] [dy] = [ry]
/// [ G                 -1 / w    ] [dz]   [rz]      by Cholesky factors of H = Q + rho + G'WG and of the
/// Schur complement delta_e + A H^-1 A'. Entries of w may be 0: dz is then 0.
template <class N, class M>
struct Kkt {
  Data<N> d;
  N *L, *V, *S, *w, *t, *u;
  N rho, delta;

  static Index size(Index n, Index e, Index m) { return n * n + n * e + e * e + 2 * m + n; }
  void place(const Data<N>& data, Arena<N>& arena) {
    d = data;
    L = arena.take(data.n * data.n), V = arena.take(data.n * data.e), S = arena.take(data.e * data.e);
    w = arena.take(data.m), u = arena.take(data.m), t = arena.take(data.n);
  }

  /// With w as it stands. False in lanes where a pivot is not positive.
  Mask<N> factor(N rho_, N delta_) {
    rho = rho_, delta = delta_;
    const Index n = d.n, e = d.e;
    copy(d.Q, L, n * n);
    for (Index j = 0; j < n; ++j) L[j * n + j] += rho;
    for (Index i = 0; i < d.bounds; ++i) L[d.column[i] * (n + 1)] += w[i] * d.bound[i] * d.bound[i];
    M::add_gram(n, d.rows(), d.G, w + d.bounds, L);
    auto good = M::cholesky(n, L);
    if (e == 0) return good;
    M::transpose(e, n, d.A, V);
    M::lower_solve(n, e, L, V);
    for (Index i = 0; i < e * e; ++i) S[i] = number<N>(0.0);
    M::add_gram(e, n, V, nullptr, S);
    for (Index i = 0; i < e; ++i) S[i * e + i] += delta;
    return good & M::cholesky(e, S);
  }

  void solve(const N* rx, const N* ry, const N* rz, N* dx, N* dy, N* dz) const {
    const Index n = d.n, m = d.m;
    copy(rx, t, n);
    for (Index i = 0; i < m; ++i) u[i] = -w[i] * rz[i];
    subtract_gt<N, M>(d, u, t);
    solve_reduced(ry, dx, dy);
    copy(rz, dz, m);
    subtract_g<N, M>(d, dx, dz);
    for (Index i = 0; i < m; ++i) dz[i] *= -w[i];
  }

  /// Solves for the step, and leaves in r what of it the system without rho, delta and 1 / w leaves. `back`
  /// is G'W r.z, before and afterwards (so it is made anew only for another r).
  void refine(const Point<N>& r, N* back, const Point<N>& step) const {
    const Index n = d.n, e = d.e;
    for (Index j = 0; j < n; ++j) t[j] = r.x[j] + back[j];
    solve_reduced(r.y, step.x, step.y);
    for (Index j = 0; j < n; ++j) back[j] = number<N>(0.0);
    for (Index i = 0; i < d.bounds; ++i) {
      r.z[i] -= d.bound[i] * step.x[d.column[i]];
      step.z[i] = -w[i] * r.z[i];
      back[d.column[i]] -= d.bound[i] * step.z[i];
    }
    M::subtract_both(d.rows(), n, d.G, w + d.bounds, step.x, r.z + d.bounds, step.z + d.bounds, back);
    add(back, r.x, n, number<N>(1.0));
    M::subtract(n, n, d.Q, step.x, r.x);
    M::subtract_transposed(e, n, d.A, step.y, r.x);
    M::subtract(e, n, d.A, step.x, r.y);
  }

 private:
  // What is left once dz is eliminated, with its right-hand side in t.
  void solve_reduced(const N* ry, N* dx, N* dy) const {
    const Index n = d.n, e = d.e;
    M::lower_solve(n, 1, L, t);
    negate(ry, dy, e);
    M::add_transposed(n, e, V, t, dy);
    M::lower_solve(e, 1, S, dy);
    M::upper_solve(e, S, dy);
    M::subtract(n, e, V, dy, t);
    M::upper_solve(n, L, t);
    copy(t, dx, n);
  }
};

// ---- The iteration ----------------------------------------------------------------------------------------

struct Limits {
  double target;  // for Residuals::largest()
  int max_steps;
  double rounding;  // of the data: negative eigenvalues of Q of this size, beside its largest entry, count as
                    // zero
};

/// What a solve leaves; the points are in the problem's own units.
template <class N>
struct Answer {
  Point<N> best;
  Residuals<N> residuals;
  N steps;
  N convex;  // 1, or 0 where Q + 1e-9 max|Q| is not positive definite
};

template <class N, class M>
class InteriorPoint {
 public:
  static Index size(Index n, Index e, Index m) {
    const Index point = n + e + 2 * m;
    return Kkt<N, M>::size(n, e, m) + Scaling<N>::size(n, e, m) + 8 * point + n + 64;
  }

  /// What only `run` needs.
  static Index scratch_size(Index n, Index e, Index m) {
    return Multipliers<N, M>::suits(n, m) ? Multipliers<N, M>::size(n, e, m) : 0;
  }

  /// The data are scaled in place; Q may be any matrix with the same x'Qx.
  InteriorPoint(const Data<N>& data, const Limits& limits, Arena<N>& arena, Arena<N> scratch)
      : d_(data), limits_(limits) {
    kkt_.place(d_, arena);
    scaling_.place(d_, arena);
    if (Multipliers<N, M>::suits(d_.n, d_.m)) multipliers_.place(d_, scratch);
    Point<N>* const points[] = {&at_, &step_, &right_, &error_, &more_, &best_, &centre_, &trial_};
    for (Point<N>* p : points) *p = arena.point(d_);
    minus_qx_ = arena.take(d_.n);
    forget(of(0.0) == of(0.0));
    symmetrise();
    equilibrate(d_, scaling_, step_, right_.x, error_.x);
  }

  /// Begins with the active set `start` (1, 0, or NaN where there is none), if given. Afterwards the object
  /// may be copied: all it knows is in the memory it was given, but for the scratch.
  Answer<N> run(const N* start) {
    const Flag convex = factor_objective();
    const bool resumed = start && d_.m > 0;
    if (resumed) resume(start, convex);
    Flag left = unsolved();
    if (any(left) && Multipliers<N, M>::suits(d_.n, d_.m)) {
      if (resumed) factor_objective();  // its place was needed
      const Flag among = left & convex & (largest(d_.Q, d_.n * d_.n) > of(0.0));
      const Flag found = multipliers_.solve(kkt_.L, among, limits_.max_steps, at_, steps_);
      keep_best(at_, measure(at_, right_), found);
      finish(found & (measured_.scaled < of(1e-2)), best_, 8);
      left = unsolved();
    }
    if (any(left)) {
      begin();
      iterate(left);
      finish(left & (measured_.scaled < of(1e-2)), best_, 8);
    }
    copy(best_.x, centre_.x, d_.n), copy(best_.y, centre_.y, d_.e);
    copy(best_.z, centre_.z, d_.m), copy(best_.s, centre_.s, d_.m);
    unscale(best_);
    return {best_, measured_, steps_, select(convex, of(1.0), of(0.0))};
  }

  /// Readies for derivatives at the solution: constraints with a multiplier are active, w > 0; those with
  /// neither multiplier nor slack are not, and counted in `weak`. False where the factorisation fails;
  /// `regular` where the system has one solution for every right-hand side.
  Mask<N> linearise(N* active, N& weak, Mask<N>& regular) {
    const N tolerance = of(1e-8), weight = of(1e6), zero = of(0.0), one = of(1.0);
    weak = zero;
    Flag same = factored_;  // finish ended with the very factor
    for (Index i = 0; i < d_.m; ++i) {
      const Flag holds = (centre_.z[i] > tolerance) & (centre_.z[i] > centre_.s[i]);
      weak += select((!holds) & (centre_.s[i] <= tolerance), one, zero);
      const N w = select(holds, weight, zero);
      same = same & (w == kkt_.w[i]);
      kkt_.w[i] = w;
      active[i] = select(holds, one, zero);
    }
    const Flag good = any(!same) ? kkt_.factor(of(1e-8), of(1e-6)) : same;
    regular = takes_anything();
    return good;
  }

  /// Solves Q a + A'c + G'd = r.x, A a = r.y, and G a = r.z for active constraints (d = 0 for the others), in
  /// the problem's own units, in place. Steps end where the largest residual is `enough` times the
  /// largest entry of r, both scaled, or where it falls no further. Returns that ratio.
  N tangent(const Point<N>& r, double enough) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    const N c = scaling_.c;
    for (Index j = 0; j < n; ++j) error_.x[j] = r.x[j] * c * scaling_.D[j];
    for (Index i = 0; i < e; ++i) error_.y[i] = r.y[i] * scaling_.E[i];
    for (Index i = 0; i < m; ++i) error_.z[i] = r.z[i] * scaling_.F[i];
    const N left = solve_system(enough);
    for (Index j = 0; j < n; ++j) r.x[j] = at_.x[j] * scaling_.D[j];
    for (Index i = 0; i < e; ++i) r.y[i] = at_.y[i] * scaling_.E[i] / c;
    for (Index i = 0; i < m; ++i) r.z[i] = at_.z[i] * scaling_.F[i] / c;
    return left;
  }

 private:
  using Flag = Mask<N>;
  static N of(double x) { return number<N>(x); }
  N entries(const Point<N>& p) const {
    return larger(largest(p.x, d_.n), larger(largest(p.y, d_.e), largest(p.z, d_.m)));
  }

  // The system of tangent for the right-hand side error_, scaled, into at_; by proximal steps with the factor
  // of linearise, so a solution of least norm where the system is singular but has one.
  N solve_system(double enough) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    const N zero = of(0.0);
    for (Index i = 0; i < n + e; ++i) at_.x[i] = zero;
    for (Index i = 0; i < m; ++i) error_.z[i] = select(kkt_.w[i] > zero, error_.z[i], zero), at_.z[i] = zero;
    const N size = larger(of(1e-300), entries(error_));
    for (Index j = 0; j < n; ++j) right_.x[j] = zero;
    for (Index i = 0; i < m; ++i) right_.z[i] = -kkt_.w[i] * error_.z[i];
    subtract_gt<N, M>(d_, right_.z, right_.x);
    N last = of(1e300);
    Flag going = zero == zero;
    for (int k = 0; k < 40; ++k) {
      for (Index i = 0; i < m; ++i) error_.z[i] = select(kkt_.w[i] > zero, error_.z[i], zero);
      const N left = entries(error_) / size;
      const Flag better = going & (left < of(0.9) * last);
      last = select(going, smaller(left, last), last);
      going = better & (left > of(enough));
      if (!any(going)) break;
      kkt_.refine(error_, right_.x, step_);
      const N share = select(going, of(1.0), zero);
      add(step_.x, at_.x, n, share), add(step_.y, at_.y, e, share), add(step_.z, at_.z, m, share);
    }
    return last;
  }

  void symmetrise() {
    const Index n = d_.n;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < i; ++j)
        d_.Q[i * n + j] = d_.Q[j * n + i] = of(0.5) * (d_.Q[i * n + j] + d_.Q[j * n + i]);
  }

  // Q + 1e-9 max|Q|, in kkt_.L, where Q is raised by what its data's rounding may have taken, if need be.
  // False where it is not positive definite.
  Flag factor_objective() {
    const Index n = d_.n;
    const N size = largest(d_.Q, n * n), shift = larger(of(1e-30), of(1e-9) * size);
    const auto factor = [&] {
      copy(d_.Q, kkt_.L, n * n);
      for (Index j = 0; j < n; ++j) kkt_.L[j * n + j] += shift;
      return M::cholesky(n, kkt_.L);
    };
    const Flag good = factor();
    if (limits_.rounding == 0.0 || !any(!good)) return good;
    const N lift = select(good, of(0.0), of(limits_.rounding) * size);
    for (Index j = 0; j < n; ++j) d_.Q[j * n + j] += lift;
    return factor();
  }

  Flag unsolved() const { return !measured_.reaches(limits_.target); }

  // There is no best point yet, where `which` holds.
  void forget(Flag which) {
    const N none = of(__builtin_nan("")), infinite = of(__builtin_inf());
    lowest_ = select(which, of(1e300), lowest_);
    measured_.scaled = select(which, infinite, measured_.scaled);
    measured_.primal = select(which, infinite, measured_.primal);
    measured_.dual = select(which, infinite, measured_.dual);
    measured_.gap = select(which, infinite, measured_.gap);
    measured_.objective = select(which, none, measured_.objective);
    for (Index i = 0; i < d_.n + d_.e + 2 * d_.m; ++i) best_.x[i] = select(which, none, best_.x[i]);
  }

  // Solves on an active set, as finish does. The answer is kept where no other start could lead to another
  // one, nor to other derivatives: where every constraint has a multiplier or a slack, and the system of
  // derivatives, which is also the one just solved, is regular.
  void resume(const N* active, Flag among) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    const N clear = of(1e-6);
    for (Index i = 0; i < n + e; ++i) at_.x[i] = of(0.0);
    for (Index i = 0; i < m; ++i) at_.z[i] = active[i], at_.s[i] = of(1.0) - active[i];
    steps_ += finish(among & finite(active[0]), at_, 4);
    Flag kept = among & factored_ & !unsolved();
    if (any(kept)) {
      for (Index i = 0; i < m; ++i) kept = kept & ((best_.z[i] > clear) | (best_.s[i] > clear));
      kept = kept & takes_anything();
    }
    forget(!kept);
  }

  // Whether the system of derivatives takes a right-hand side without any structure.
  Flag takes_anything() {
    const Index all = d_.n + d_.e + d_.m;  // x, y and z lie side by side
    for (Index i = 0; i < all; ++i) error_.x[i] = of(irregular(i));
    return solve_system(1e-8) <= of(1e-8);
  }

  // right_ = -(gradient of the Lagrangian), b - Ax, h - Gx - s; and the residuals in the problem's own units.
  Residuals<N> measure(const Point<N>& at, Point<N>& r) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    for (Index j = 0; j < n; ++j) minus_qx_[j] = of(0.0);
    M::subtract(n, n, d_.Q, at.x, minus_qx_);
    for (Index j = 0; j < n; ++j) r.x[j] = minus_qx_[j] - d_.p[j];
    M::subtract_transposed(e, n, d_.A, at.y, r.x);
    subtract_gt<N, M>(d_, at.z, r.x);
    copy(d_.b, r.y, e);
    M::subtract(e, n, d_.A, at.x, r.y);
    copy(d_.h, r.z, m);
    subtract_g<N, M>(d_, at.x, r.z);
    const N c = scaling_.c, one = of(1.0);
    Residuals<N> result{of(0.0), of(0.0), of(0.0), of(0.0), of(0.0)};
    N quadratic = of(0.0), pulls = one, left = of(0.0);
    for (Index j = 0; j < n; ++j) {
      result.dual = larger(result.dual, magnitude(r.x[j]) / (c * scaling_.D[j]));
      quadratic -= at.x[j] * minus_qx_[j];
      left = larger(left, magnitude(r.x[j]));
      pulls = larger(larger(pulls, magnitude(minus_qx_[j])), magnitude(d_.p[j]));
    }
    result.scaled = left / pulls;
    for (Index i = 0; i < e; ++i) {
      result.primal = larger(result.primal, magnitude(r.y[i]) / scaling_.E[i]);
      result.scaled = larger(result.scaled, magnitude(r.y[i]) / larger(one, magnitude(d_.b[i])));
    }
    for (Index i = 0; i < m; ++i) {
      r.z[i] -= at.s[i];
      result.primal = larger(result.primal, magnitude(r.z[i]) / scaling_.F[i]);
      result.dual = larger(result.dual, -at.z[i] * scaling_.F[i] / c);
      result.scaled = larger(result.scaled, magnitude(r.z[i]) / larger(one, magnitude(d_.h[i])));
    }
    const N linear = dot(d_.p, at.x, n), objective = of(0.5) * quadratic + linear,
            gap = magnitude(quadratic + linear + dot(d_.b, at.y, e) + dot(d_.h, at.z, m));
    result.gap = gap / c;
    result.objective = objective / c;
    result.scaled = larger(result.scaled, gap / larger(one, magnitude(objective)));
    return result;
  }

  // With rs = right_.s, solves for the step in x, y, z and s, and refines it.
  void solve_step(Point<N>& step, int refinements) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    once(right_, step);
    const N enough = of(1e-10) * larger(entries(right_), largest(right_.s, m));
    N last = of(1e300);
    for (int k = 0; k < refinements; ++k) {
      copy(right_.x, error_.x, n), copy(right_.y, error_.y, e), copy(right_.z, error_.z, m);
      M::subtract(n, n, d_.Q, step.x, error_.x);
      M::subtract_transposed(e, n, d_.A, step.y, error_.x);
      subtract_gt<N, M>(d_, step.z, error_.x);
      add(step.x, error_.x, n, -rho_);
      M::subtract(e, n, d_.A, step.x, error_.y);
      add(step.y, error_.y, e, delta_);
      subtract_g<N, M>(d_, step.x, error_.z);
      for (Index i = 0; i < m; ++i) {
        error_.z[i] += delta_ * step.z[i] - step.s[i];
        error_.s[i] = right_.s[i] - at_.z[i] * step.s[i] - at_.s[i] * step.z[i];
      }
      const N size = larger(larger(largest(error_.x, n), largest(error_.y, e)),
                            larger(largest(error_.z, m), largest(error_.s, m)));
      const Flag better = (size < of(0.5) * last) & (size > enough);
      if (!any(better)) break;
      last = smaller(size, last);
      once(error_, more_);
      const N share = select(better, of(1.0), of(0.0));
      add(more_.x, step.x, n, share), add(more_.y, step.y, e, share);
      add(more_.z, step.z, m, share), add(more_.s, step.s, m, share);
    }
  }

  void once(const Point<N>& right, Point<N>& step) {
    for (Index i = 0; i < d_.m; ++i) trial_.z[i] = right.z[i] - right.s[i] / at_.z[i];
    kkt_.solve(right.x, right.y, trial_.z, step.x, step.y, step.z);
    for (Index i = 0; i < d_.m; ++i) step.s[i] = (right.s[i] - at_.s[i] * step.z[i]) / at_.z[i];
  }

  Flag factor() {
    for (Index i = 0; i < d_.m; ++i) kkt_.w[i] = of(1.0) / (delta_ + at_.s[i] / at_.z[i]);
    return kkt_.factor(rho_, delta_);
  }

  // The largest step that keeps v >= 0, at most 1.
  N reach(const N* v, const N* dv) const {
    N result = of(1.0);
    for (Index i = 0; i < d_.m; ++i) result = select(dv[i] < of(0.0), smaller(-v[i] / dv[i], result), result);
    return result;
  }

  N complementarity(const Point<N>& at) const {
    return d_.m == 0 ? of(0.0) : dot(at.s, at.z, d_.m) / of(static_cast<double>(d_.m));
  }

  // Mehrotra's start: z and s of a least-squares problem, moved into the interior.
  void begin() {
    const Index n = d_.n, e = d_.e, m = d_.m;
    rho_ = of(1e-6), delta_ = of(1e-4);
    for (Index i = 0; i < m; ++i) at_.s[i] = at_.z[i] = of(1.0), right_.s[i] = of(0.0);
    factor();
    negate(d_.p, right_.x, n), copy(d_.b, right_.y, e), copy(d_.h, right_.z, m);
    once(right_, step_);
    copy(step_.x, at_.x, n), copy(step_.y, at_.y, e), copy(step_.z, at_.z, m), negate(step_.z, at_.s, m);
    N lift_s = of(0.0), lift_z = of(0.0);
    for (Index i = 0; i < m; ++i) {
      lift_s = larger(lift_s, of(-1.5) * at_.s[i]);
      lift_z = larger(lift_z, of(-1.5) * at_.z[i]);
    }
    N both = of(0.0), sum_s = of(0.0), sum_z = of(0.0);
    for (Index i = 0; i < m; ++i) {
      const N si = at_.s[i] + lift_s, zi = at_.z[i] + lift_z;
      both += si * zi, sum_s += si, sum_z += zi;
    }
    const Flag tiny = !(both > of(1e-8 * static_cast<double>(m)));
    lift_s += select(tiny, of(1.0), of(0.5) * both / sum_z);
    lift_z += select(tiny, of(1.0), of(0.5) * both / sum_s);
    for (Index i = 0; i < m; ++i) at_.s[i] += lift_s, at_.z[i] += lift_z;
    copy(at_.x, centre_.x, n), copy(at_.y, centre_.y, e), copy(at_.z, centre_.z, m);
  }

  // Points that reach `enough` are as good as any before.
  void keep_best(const Point<N>& at, const Residuals<N>& r, Flag among, double enough = 0.0) {
    const N size = larger(r.largest(), r.scaled);
    const Flag better = among & ((size < lowest_) | r.reaches(enough));
    if (!any(better)) return;
    lowest_ = select(better, size, lowest_);
    measured_.scaled = select(better, r.scaled, measured_.scaled);
    measured_.primal = select(better, r.primal, measured_.primal);
    measured_.dual = select(better, r.dual, measured_.dual);
    measured_.gap = select(better, r.gap, measured_.gap);
    measured_.objective = select(better, r.objective, measured_.objective);
    const auto take = [&](const N* from, N* to, Index count) {
      for (Index i = 0; i < count; ++i) to[i] = select(better, from[i], to[i]);
    };
    take(at.x, best_.x, d_.n), take(at.y, best_.y, d_.e), take(at.z, best_.z, d_.m),
        take(at.s, best_.s, d_.m);
  }

  void iterate(Flag active) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    const N one = of(1.0);
    N last_primal = of(1e300), last_dual = of(1e300), mark = of(1e300), since_mark = of(0.0),
      held_for = of(0.0);
    for (int k = 0;; ++k) {
      const Residuals<N> r = measure(at_, right_);
      keep_best(at_, r, active);
      const N dual = largest(right_.x, n), primal = larger(largest(right_.y, e), largest(right_.z, m));
      N mu = complementarity(at_);
      if (k > 0) renew_centres(dual, primal, mu, last_dual, last_primal);
      const Flag held = (mu < of(1e-3) * primal) & (primal > of(0.9) * last_primal);
      held_for = select(held, held_for + one, of(0.0));
      last_dual = dual, last_primal = primal, last_mu_ = mu;
      // Progress beside its own points: what the multipliers found may be better for a long while.
      const N size = larger(r.largest(), r.scaled);
      const Flag progress = size < of(0.9) * mark;
      mark = select(progress, size, mark);
      since_mark = select(progress, of(0.0), since_mark + one);
      const N patience = select((mark < of(1e-8)) | (r.scaled < of(1e-12)), of(8.0), of(40.0));
      active = active & unsolved() & (since_mark < patience) & finite(dual + primal + mu) &
               (steps_ < of(limits_.max_steps));
      if (!any(active)) break;
      steps_ += select(active, one, of(0.0));
      const Flag stuck = active & (held_for >= of(6.0));
      if (any(stuck)) mu = lift_slacks(stuck, primal), held_for = select(stuck, of(0.0), held_for);

      Flag good = factor();
      for (int again = 0; again < 6 && any(active & !good); ++again) {
        // Far less for rho: where the objective is nearly flat, x goes no further than the residual over rho.
        rho_ = select(good, rho_, rho_ * of(10.0));
        delta_ = select(good, delta_, delta_ * of(100.0));
        good = factor();
      }
      active = active & good;
      add_proximal_terms(right_);

      for (Index i = 0; i < m; ++i) right_.s[i] = -at_.s[i] * at_.z[i];
      if (m > 0) {
        once(right_, step_);
        const N by_s = reach(at_.s, step_.s), by_z = reach(at_.z, step_.z);
        N after = of(0.0);
        for (Index i = 0; i < m; ++i)
          after += (at_.s[i] + by_s * step_.s[i]) * (at_.z[i] + by_z * step_.z[i]);
        const N ratio = after / (of(static_cast<double>(m)) * mu);
        const N sigma = smaller(one, larger(of(1e-8), ratio * ratio * ratio));
        for (Index i = 0; i < m; ++i) right_.s[i] += sigma * mu - step_.s[i] * step_.z[i];
      }
      solve_step(step_, 4);
      const N most = of(0.9995), closest = smaller(most, larger(of(0.99), one - mu));
      N by_s = smaller(one, m > 0 ? closest * reach(at_.s, step_.s) : one);
      N by_z = smaller(one, m > 0 ? closest * reach(at_.z, step_.z) : one);
      // Steps of two lengths add to the dual residual, through Q, and may circle for ever.
      const N both = smaller(by_s, by_z);
      const Flag circling = since_mark > of(15.0);
      by_s = select(circling, both, by_s), by_z = select(circling, both, by_z);
      by_s = select(active, by_s, of(0.0)), by_z = select(active, by_z, of(0.0));
      add(step_.x, at_.x, n, by_s), add(step_.s, at_.s, m, by_s);
      add(step_.y, at_.y, e, by_z), add(step_.z, at_.z, m, by_z);
    }
  }

  // Where multipliers began far too large, slacks vanish before the constraints hold, and such pairs then
  // keep x from moving. Slacks of the size of the residual free it; returns the mean product of slacks and
  // multipliers.
  N lift_slacks(Flag stuck, N residual) {
    for (Index i = 0; i < d_.m; ++i) {
      const N lifted = select(stuck, larger(at_.s[i], residual), at_.s[i]);
      right_.z[i] -= lifted - at_.s[i];
      at_.s[i] = lifted;
    }
    return complementarity(at_);
  }

  // r = right_, with what the proximal terms add to it.
  void add_proximal_terms(Point<N>& r) const {
    for (Index j = 0; j < d_.n; ++j) r.x[j] = right_.x[j] - rho_ * (at_.x[j] - centre_.x[j]);
    for (Index i = 0; i < d_.e; ++i) r.y[i] = right_.y[i] + delta_ * (at_.y[i] - centre_.y[i]);
    for (Index i = 0; i < d_.m; ++i) r.z[i] = right_.z[i] + delta_ * (at_.z[i] - centre_.z[i]);
  }

  // The proximal centres follow the iterates where the residuals fall, or where what is left of them is due
  // to the proximal terms; the weights fall with mu.
  void renew_centres(N dual, N primal, N mu, N last_dual, N last_primal) {
    const N one = of(1.0), least = of(1e-10), small = of(1e-9);
    const N fall =
        d_.m == 0 ? of(0.9) : smaller(one, magnitude(last_mu_ - mu) / larger(last_mu_, of(1e-300)));
    const auto renew = [&](Flag better, N& weight) {
      weight = larger(least, (one - select(better, one, of(0.666)) * fall) * weight);
    };
    const auto move = [&](Flag better, const N* to, N* centre, Index count) {
      for (Index i = 0; i < count; ++i) centre[i] = select(better, to[i], centre[i]);
    };
    add_proximal_terms(error_);
    const N own_dual = largest(error_.x, d_.n),
            own_primal = larger(largest(error_.y, d_.e), largest(error_.z, d_.m));
    const Flag dual_fell = (dual <= of(0.95) * last_dual) | (dual < small) | (own_dual < of(0.1) * dual);
    const Flag primal_fell =
        (primal <= of(0.95) * last_primal) | (primal < small) | (own_primal < of(0.1) * primal);
    renew(dual_fell, rho_), renew(primal_fell, delta_);
    move(dual_fell, at_.x, centre_.x, d_.n);
    move(primal_fell, at_.y, centre_.y, d_.e), move(primal_fell, at_.z, centre_.z, d_.m);
  }

  // Scaled residuals that are rounding beside 1; less where 1 is a large number in units of their own.
  N negligible() const {
    N unit = of(1e-6);
    for (Index j = 0; j < d_.n; ++j) unit = smaller(unit, scaling_.c * scaling_.D[j]);
    for (Index i = 0; i < d_.e; ++i) unit = smaller(unit, scaling_.E[i]);
    for (Index i = 0; i < d_.m; ++i) unit = smaller(unit, scaling_.F[i]);
    return of(1e-10) * unit;
  }

  // Solves with the active constraints as equations, those with multipliers above their slacks; constraints
  // go in and out by their signs for a few rounds, which are counted.
  N finish(Flag open, const Point<N>& from, int rounds) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    const N zero = of(0.0), weight = of(1e6), nothing = negligible();
    Point<N>& at = more_;
    for (Index i = 0; i < m; ++i) kkt_.w[i] = select(from.z[i] > from.s[i], weight, zero);
    factored_ = zero != zero;
    N taken = zero;
    for (int round = 0; round < rounds && any(open); ++round) {
      taken += select(open, of(1.0), zero);
      factored_ = kkt_.factor(of(1e-8), of(1e-6));
      open = open & factored_;
      copy(from.x, at.x, n), copy(from.y, at.y, e);
      for (Index i = 0; i < m; ++i) at.z[i] = select(kkt_.w[i] > zero, from.z[i], zero), at.s[i] = zero;
      N last = of(1e300);
      for (int k = 0; k < 10; ++k) {
        measure(at, right_);
        for (Index i = 0; i < m; ++i) right_.z[i] = select(kkt_.w[i] > zero, right_.z[i], zero);
        const N size = larger(largest(right_.x, n), larger(largest(right_.y, e), largest(right_.z, m)));
        const Flag going = open & (size > nothing) & (size < of(0.5) * last);
        if (!any(going)) break;
        last = size;
        kkt_.solve(right_.x, right_.y, right_.z, step_.x, step_.y, step_.z);
        const N share = select(going, of(1.0), zero);
        add(step_.x, at.x, n, share), add(step_.y, at.y, e, share), add(step_.z, at.z, m, share);
      }
      copy(d_.h, at.s, m);
      subtract_g<N, M>(d_, at.x, at.s);
      Flag changed = zero != zero;
      for (Index i = 0; i < m; ++i) {
        const Flag inside = kkt_.w[i] > zero, out = open & inside & (at.z[i] < of(-1e-11)),
                   in = open & (!inside) & (at.s[i] < of(-1e-11));
        kkt_.w[i] = select(out, zero, select(in, weight, kkt_.w[i]));
        changed = changed | out | in;
        at.z[i] = larger(zero, at.z[i]);
        at.s[i] = select(inside, zero, larger(zero, at.s[i]));
      }
      factored_ = factored_ & !changed;
      keep_best(at, measure(at, right_), open & !changed, limits_.target);
      open = open & changed;
    }
    return taken;
  }

  void unscale(Point<N>& p) const {
    const N c = scaling_.c;
    for (Index j = 0; j < d_.n; ++j) p.x[j] *= scaling_.D[j];
    for (Index i = 0; i < d_.e; ++i) p.y[i] *= scaling_.E[i] / c;
    for (Index i = 0; i < d_.m; ++i) p.z[i] *= scaling_.F[i] / c, p.s[i] = p.s[i] / scaling_.F[i];
  }

  Data<N> d_;
  Limits limits_;
  Kkt<N, M> kkt_;
  Scaling<N> scaling_;
  Multipliers<N, M> multipliers_;
  Flag factored_ = number<N>(0.0) != number<N>(0.0);  // kkt_ is of the active set in kkt_.w
  Point<N> at_, step_, right_, error_, more_, best_, centre_, trial_;
  N* minus_qx_;
  N rho_, delta_, last_mu_ = number<N>(0.0);
  N lowest_, steps_ = number<N>(0.0);
  Residuals<N> measured_;
};

}  // namespace
}  // namespace banach::qp
