#pragma once
// Internal: the same problem in its inequality multipliers alone, where Q is well conditioned. With Q = LL'
// and W = L^-1 [A' G'], x and y follow from z, and what is left is
//
//   s = K z + c,  z >= 0,  s >= 0,  s'z = 0,   K: the Schur complement of A's part in W'W
//
// A step of the interior point then factors m by m numbers, whatever n, and has no other product. Its answer
// is rough; it is made exact in all variables afterwards.

#include <banach/solvers/qp/data.hpp>

namespace banach::qp {
namespace {

template <class N, class M>
class Multipliers {
 public:
  static Index size(Index n, Index e, Index m) {
    const Index rows = e + m;
    return n * rows + rows * rows + e * e + e * m + 2 * m * m + n + rows + e + 6 * m;
  }
  /// Whether that saves anything.
  static bool suits(Index n, Index m) { return m > 0 && 2 * m <= 3 * n; }

  void place(const Data<N>& data, Arena<N>& arena) {
    d_ = data;
    const Index n = d_.n, e = d_.e, m = d_.m, rows = e + m;
    W_ = arena.take(n * rows), F_ = arena.take(rows * rows), S_ = arena.take(e * e);
    T_ = arena.take(e * m), K_ = arena.take(m * m), C_ = arena.take(m * m), t_ = arena.take(n);
    both_ = arena.take(rows), a_ = arena.take(e), c_ = arena.take(m), z_ = arena.take(m), s_ = arena.take(m);
    r_ = arena.take(m), dz_ = arena.take(m), ds_ = arena.take(m);
  }

  /// L as M::cholesky left it. Takes steps where `among` holds, as long as their count is below max_steps.
  /// True where there is a solution, which is put into `to`.
  Mask<N> solve(const N* L, Mask<N> among, int max_steps, const Point<N>& to, N& steps) {
    among = among & balanced(d_.n, L);
    if (!any(among)) return among;
    among = among & prepare(L);
    start();
    const Flag found = iterate(among, max_steps, steps);
    if (any(found)) recover(L, to);
    return found;
  }

 private:
  using Flag = Mask<N>;
  static N of(double x) { return number<N>(x); }

  // Whether the diagonal of a factor, or its inverse, is of one size.
  static Flag balanced(Index n, const N* L) {
    N most = of(1e-300), least = of(1e300);
    for (Index j = 0; j < n; ++j) most = larger(most, L[j * n + j]), least = smaller(L[j * n + j], least);
    return most <= of(1e3) * least;
  }

  Flag prepare(const N* L) {
    const Index n = d_.n, e = d_.e, m = d_.m, rows = e + m;
    for (Index j = 0; j < n; ++j) {
      N* to = W_ + j * rows;
      for (Index i = 0; i < e; ++i) to[i] = d_.A[i * n + j];
      for (Index i = 0; i < d_.bounds; ++i) to[e + i] = d_.column[i] == j ? d_.bound[i] : of(0.0);
      for (Index i = 0; i < d_.rows(); ++i) to[e + d_.bounds + i] = d_.G[i * n + j];
    }
    M::lower_solve(n, rows, L, W_);
    for (Index i = 0; i < rows * rows; ++i) F_[i] = of(0.0);
    M::add_gram(rows, n, W_, nullptr, F_);
    for (Index i = 0; i < e; ++i) copy(F_ + i * rows, S_ + i * e, e);
    const Flag good = M::cholesky(e, S_) & balanced(e, S_);
    for (Index i = 0; i < m; ++i) {
      const N* from = F_ + (e + i) * rows;
      for (Index k = 0; k < e; ++k) T_[k * m + i] = from[k];
      copy(from + e, K_ + i * m, m);
    }
    M::lower_solve(e, m, S_, T_);
    M::subtract_gram(m, e, T_, K_);

    // t = -L^-1 p; a = S^-1 (V't - b); c = h - U't + T'a, where W = [V U]
    negate(d_.p, t_, n);
    M::lower_solve(n, 1, L, t_);
    for (Index i = 0; i < rows; ++i) both_[i] = of(0.0);
    M::add_transposed(n, rows, W_, t_, both_);
    for (Index i = 0; i < e; ++i) a_[i] = both_[i] - d_.b[i];
    M::lower_solve(e, 1, S_, a_);
    for (Index i = 0; i < m; ++i) c_[i] = d_.h[i] - both_[e + i];
    M::add_transposed(e, m, T_, a_, c_);
    return good;
  }

  // C = K + D, D = s / z
  Flag factor() {
    const Index m = d_.m;
    for (Index i = 0; i < m; ++i) {
      copy(K_ + i * m, C_ + i * m, i + 1);
      C_[i * m + i] += s_[i] / z_[i] + of(1e-12);
    }
    return M::cholesky(m, C_);
  }
  // C dz = right
  void apply(N* right) {
    M::lower_solve(d_.m, 1, C_, right);
    M::upper_solve(d_.m, C_, right);
  }

  // Mehrotra's: s and z of a least-squares problem, moved into the interior.
  void start() {
    const Index m = d_.m;
    for (Index i = 0; i < m; ++i) z_[i] = s_[i] = of(1.0);
    factor();
    negate(c_, z_, m);
    apply(z_);
    N lift_s = of(0.0), lift_z = of(0.0), both = of(0.0), sum_s = of(0.0), sum_z = of(0.0);
    for (Index i = 0; i < m; ++i) {
      s_[i] = -z_[i];
      lift_s = larger(lift_s, of(-1.5) * s_[i]), lift_z = larger(lift_z, of(-1.5) * z_[i]);
    }
    for (Index i = 0; i < m; ++i) {
      const N si = s_[i] + lift_s, zi = z_[i] + lift_z;
      both += si * zi, sum_s += si, sum_z += zi;
    }
    const Flag tiny = !(both > of(1e-8 * static_cast<double>(m)));
    lift_s += select(tiny, of(1.0), of(0.5) * both / sum_z);
    lift_z += select(tiny, of(1.0), of(0.5) * both / sum_s);
    for (Index i = 0; i < m; ++i) s_[i] += lift_s, z_[i] += lift_z;
    // r = s - c - K z, of which only the lower triangle is there
    for (Index i = 0; i < m; ++i) r_[i] = s_[i] - c_[i];
    for (Index i = 0; i < m; ++i) {
      const N* row = K_ + i * m;
      N sum = row[i] * z_[i];
      for (Index j = 0; j < i; ++j) sum += row[j] * z_[j], r_[j] -= row[j] * z_[i];
      r_[i] -= sum;
    }
  }

  // The largest step that keeps both at least 0.
  N reach() const {
    N by = of(0.0);  // the inverse
    for (Index i = 0; i < d_.m; ++i) by = larger(larger(by, -ds_[i] / s_[i]), -dz_[i] / z_[i]);
    return of(1.0) / larger(by, of(1e-300));
  }

  // Predictor and corrector, by one step length: r then falls with it.
  Flag iterate(Flag among, int max_steps, N& steps) {
    const Index m = d_.m;
    const N one = of(1.0), each = of(1.0 / static_cast<double>(m));
    Flag going = among, found = !(one == one);
    N last = of(1e300), idle = of(0.0);
    for (;;) {
      const N mu = dot(s_, z_, m) * each, off = largest(r_, m), size = larger(mu, off);
      found = found | (going & (size < of(rough)));
      const Flag slow = !(size < of(0.9) * last);
      idle = select(slow, idle + one, of(0.0)), last = select(slow, last, size);
      going = going & !found & (idle < of(6.0)) & finite(size) & (steps < of(max_steps));
      if (!any(going)) return found;
      steps += select(going, one, of(0.0));
      going = going & factor();

      for (Index i = 0; i < m; ++i) dz_[i] = r_[i] - s_[i];
      apply(dz_);
      for (Index i = 0; i < m; ++i) ds_[i] = -s_[i] - s_[i] * dz_[i] / z_[i];
      const N trial = smaller(one, reach());
      N after = of(0.0);
      for (Index i = 0; i < m; ++i) after += (s_[i] + trial * ds_[i]) * (z_[i] + trial * dz_[i]);
      const N ratio = after * each / mu, sigma = smaller(one, larger(of(1e-8), ratio * ratio * ratio));
      for (Index i = 0; i < m; ++i) {
        const N right = sigma * mu - ds_[i] * dz_[i];
        ds_[i] = right;
        dz_[i] = r_[i] - s_[i] + right / z_[i];
      }
      apply(dz_);
      for (Index i = 0; i < m; ++i) ds_[i] = (ds_[i] - s_[i] * dz_[i]) / z_[i] - s_[i];
      const N closest = smaller(of(0.9995), larger(of(0.99), one - mu));
      const N by = select(going, smaller(one, closest * reach()), of(0.0));
      add(dz_, z_, m, by), add(ds_, s_, m, by);
      for (Index i = 0; i < m; ++i) r_[i] *= one - by;
    }
  }

  // y = S'^-1 (a - T z), x = L'^-1 (t - W [y z])
  void recover(const N* L, const Point<N>& to) {
    const Index n = d_.n, e = d_.e, m = d_.m;
    copy(z_, to.z, m), copy(s_, to.s, m);
    copy(a_, to.y, e);
    M::subtract(e, m, T_, z_, to.y);
    M::upper_solve(e, S_, to.y);
    copy(to.y, both_, e), copy(z_, both_ + e, m);
    copy(t_, to.x, n);
    M::subtract(n, e + m, W_, both_, to.x);
    M::upper_solve(n, L, to.x);
  }

  static constexpr double rough = 1e-9;

  Data<N> d_;
  N *W_, *F_, *S_, *T_, *K_, *C_, *t_, *both_, *a_, *c_, *z_, *s_, *r_, *dz_, *ds_;
};

}  // namespace
}  // namespace banach::qp
