// Tiles whose rows leave on the way.
#include <banach/ops/implicit/fixed_point.hpp>
#include <tests/ops/program/random_function.hpp>

#include <catch2/catch.hpp>

#include <atomic>

using namespace banach;
using namespace banach::test;

TEST_CASE("rows that stay in a tile have the bits that they have among all", "[program]") {
  const std::int64_t rows = 40, n = 6;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    const bool mixing = seed % 5 == 4;
    INFO("seed " << seed);
    const RandomFunction f(seed, rows, n, mixing);
    const Tensor z = normal({rows, n}, 1000 + seed);
    const program::Program program(program::record(std::ref(f), normal({rows, n}, seed)).code, rows, 0);
    CHECK(program.separable() == !mixing);
    const Tensor expected = program.run(z);
    std::atomic<int> compared = 0, different = 0;  // tiles run at the same time, and assertions may not
    program.for_tiles([&](program::Tile& tile, std::int64_t index) {
      Random random = Random(seed).split(static_cast<std::uint64_t>(index));
      const Tensor at = z.rows(tile.begin(), tile.end()), all = expected.rows(tile.begin(), tile.end());
      const std::int64_t count = tile.end() - tile.begin();
      std::vector<char> wanted(static_cast<std::size_t>(count), 1);
      for (int step = 0; step < 12; ++step) {
        if (step == 9) wanted.assign(wanted.size(), 1);  // they may come back
        if (step == 11) wanted.clear();                  // no marks: all of them
        const Tensor value = tile.run(at, {wanted.data(), wanted.size()});
        for (std::int64_t r = 0; r < count; ++r)
          if (wanted.empty() || wanted[static_cast<std::size_t>(r)]) {
            ++compared;
            if (!same_bits(value.rows(r, r + 1), all.rows(r, r + 1))) ++different;
          }
        for (char& mark : wanted) mark = mark && random.uniform() < 0.7;
      }
    });
    CHECK(compared > 0);
    CHECK(different == 0);
  }
}

TEST_CASE("samples that stop early leave the work to the others", "[program]") {
  // Sample i contracts by i / 40, so that they stop one after another.
  const std::int64_t rows = 32, n = 3;
  Tensor rate = Tensor::empty({rows, 1}, DType::f64);
  for (std::int64_t i = 0; i < rows; ++i)
    rate.mutable_data<double>()[i] = static_cast<double>(i) / static_cast<double>(rows + 8);
  const Tensor shift = normal({rows, n}, 7);
  const auto f = [&](const Var& z) { return Var(rate) * sin(z) + Var(shift); };
  for (const Solver& solver : {Solver(Picard{}), Solver(Anderson{}), Solver(Broyden{})}) {
    FixedPointOptions options{.solver = solver, .tolerance = 1e-10, .max_steps = 500};
    const Var start(Tensor::zeros({rows, n}, DType::f64));
    options.body = Body::eager;
    const FixedPoint eager = fixed_point(f, start, options);
    options.body = Body::replayed;
    const FixedPoint replayed = fixed_point(f, start, options);
    CHECK(replayed.report.converged());
    CHECK(replayed.report.samples[31].nstep > 2 * replayed.report.samples[0].nstep);
    CHECK(same_bits(eager.z, replayed.z));
    for (std::size_t i = 0; i < 32; ++i)
      CHECK(eager.report.samples[i].nstep == replayed.report.samples[i].nstep);
  }
}
