// Quadratic programs of the collection of Maros and Meszaros (1999), where they are there.
#include <banach/nn/safetensors.hpp>
#include <banach/solvers/qp.hpp>

#include <catch2/catch.hpp>

#include <filesystem>
#include <iostream>

using namespace banach;

TEST_CASE("the problems of Maros and Meszaros are solved", "[qp]") {
  const std::filesystem::path folder =
      std::filesystem::path(BANACH_SOURCE_DIR) / "../shared/data/maros_meszaros";
  if (!std::filesystem::exists(folder)) {
    std::cout << "SKIPPED: the collection of test problems is not there\n";
    return;
  }
  int problems = 0, to_rounding = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const nn::Safetensors file = nn::load_safetensors(entry.path().string());
    const QpSolution s =
        solve_qp({file.at("Q"), file.at("p"), file.at("G"), file.at("h"), file.at("A"), file.at("b")});
    const QpSampleReport& r = s.report.samples.at(0);
    INFO(entry.path().filename() << ": " << name(r.status) << ", " << r.primal << ", " << r.dual << ", "
                                 << r.gap);
    CHECK(r.status == QpStatus::solved);
    CHECK(r.largest() <= 1e-6);
    to_rounding += r.largest() <= 1e-9;
    ++problems;
  }
  CHECK(problems == 17);
  CHECK(to_rounding >= 14);
}
