#pragma once
// The baseline of quadratic programs: one problem at a time, by the textbook and LAPACK.

#include <vector>

namespace bench {

/// min 1/2 z'Qz + p'z subject to Gz <= h, Az = b; Q positive definite, A of full rank.
struct DenseQp {
  int n, m, e;
  const double *Q, *p, *G, *h, *A, *b;  // row-major
};

/// Mehrotra's predictor and corrector (1992), a Cholesky factor of Q + G'WG and one of the Schur complement
/// of A at every step, one refinement, until all residuals and the gap are 1e-9.
class LapackQp {
 public:
  explicit LapackQp(const DenseQp& problem);
  /// Of the system of a step, at the point where it stands: at first z = s = 1.
  void factor();
  /// Steps taken; -1 if they did not suffice.
  int solve();
  /// After `solve`: the derivatives of a function of z, whose gradient is g, in Q, p, G, h, A and b, by one
  /// more factor at the solution.
  void gradients(const double* g, double* Q, double* p, double* G, double* h, double* A, double* b);

 private:
  using Numbers = std::vector<double>;
  bool residuals();  // right-hand sides of a step; whether they and the gap are small
  void step();       // for rx, ry, rz and rs
  void refine();     // of rx alone, where weights of 1e9 would leave errors of 1e-9
  double reach(const Numbers& v, const Numbers& dv) const;

  DenseQp d_;
  Numbers x_, y_, z_, s_, dx_, dy_, dz_, ds_, rx_, ry_, rz_, rs_;
  Numbers H_, V_, S_, scaled_, w_, t_;
};

}  // namespace bench
