#pragma once
// The eigenvalues of J = df/dz at the solutions for some test images, before and after a training.

#include <complex>
#include <vector>

#include <apps/lab/models.hpp>
#include <apps/lab/results.hpp>

namespace banach::lab {

/// Of one image.
struct Spectrum {
  std::vector<std::complex<double>> eigenvalues;  ///< by falling magnitude

  double radius() const;
  std::size_t outside() const;  ///< how many lie outside of the unit disc
};

struct SpectrumResults {
  Entries settings{}, environment{};
  std::string rule{};  ///< that trained the model
  std::int64_t steps = 0;
  double accuracy_before = unknown,
         accuracy_after = unknown;  ///< on the test set; unknown if not trained here
  std::vector<std::string> notices{}, class_names{};
  std::vector<SampleImage> samples{};
  std::vector<Spectrum> before{}, after{};  ///< one for each sample
  double forward_residual = 0.0;            ///< relative, the largest of all solves
};

/// Spectra of J at the solutions for x (B, C, H, W), by LAPACK on the dense matrices in f64, the model in
/// evaluation. `residual` is raised to the largest relative residual of the solves.
std::vector<Spectrum> spectra_at(const Classifier& model, const Tensor& x, double& residual);

/// "image 3 (boot)": the image by its place and label.
std::string sample_name(const SpectrumResults& results, std::size_t i);

/// What the numbers say.
std::vector<std::string> findings(const SpectrumResults& results);

/// One row an image: its numbers before and after.
cli::SummaryTable summary_table(const SpectrumResults& results);
std::string summary_json(const SpectrumResults& results);

}  // namespace banach::lab
