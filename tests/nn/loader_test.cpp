#include <tests/nn/files.hpp>

#include <banach/engine/error.hpp>
#include <banach/engine/memory.hpp>
#include <banach/nn/loader.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

using namespace banach;
using namespace banach::nn;
using files::message;

namespace {

using Rows = std::vector<std::int64_t>;

/// n images of one pixel, n <= 250: pixel and label are the row itself.
ImageSplit rows_as_pixels(std::int64_t n) {
  Bytes values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), std::uint8_t{0});
  return {"rows", {1, 1, 1}, values, values, 256};
}

Rows rows_of(const Minibatch& batch) {
  const auto labels = batch.labels.values<std::int64_t>();
  for (std::int64_t i = 0; i < batch.x.size(); ++i)  // input and label must belong together
    REQUIRE(std::lround(batch.x.at(i) * 255) == labels[static_cast<std::size_t>(i)]);
  return {labels.begin(), labels.end()};
}

std::vector<Rows> epoch(Loader& loader) {
  std::vector<Rows> batches;
  for (auto [x, labels] : loader) batches.push_back(rows_of({x, labels}));
  return batches;
}

Rows flat(const std::vector<Rows>& batches) {
  Rows all;
  for (const Rows& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

Rows sorted(Rows rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

Rows counted(std::int64_t n) {
  Rows rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  return rows;
}

}  // namespace

TEST_CASE("An epoch holds every row once, in batches of the size asked for") {
  const int prefetch = GENERATE(0, 1, 2, 7);
  Loader loader(rows_as_pixels(50), {.batch_size = 8, .prefetch = prefetch});
  REQUIRE(loader.batches() == 7);
  for (int e = 0; e < 3; ++e) {
    const auto batches = epoch(loader);
    REQUIRE(batches.size() == 7);
    for (std::size_t b = 0; b < 7; ++b) CHECK(batches[b].size() == (b < 6 ? 8u : 2u));
    CHECK(sorted(flat(batches)) == counted(50));
  }
  CHECK(loader.position() == LoaderPosition{3, 0});
}

TEST_CASE("drop_last leaves out the smaller batch, and nothing when there is none") {
  Loader uneven(rows_as_pixels(50), {.batch_size = 8, .drop_last = true});
  CHECK(uneven.batches() == 6);
  CHECK(flat(epoch(uneven)).size() == 48);
  Loader even(rows_as_pixels(48), {.batch_size = 8, .drop_last = true});
  CHECK(flat(epoch(even)).size() == 48);
}

TEST_CASE("Without shuffling rows come in order") {
  Loader loader(rows_as_pixels(20), {.batch_size = 6, .shuffle = false});
  CHECK(flat(epoch(loader)) == counted(20));
  CHECK(flat(epoch(loader)) == counted(20));
}

TEST_CASE("The order of an epoch depends on the seed and the epoch, and on nothing else") {
  const auto order = [](std::uint64_t seed, std::int64_t e, std::int64_t batch_size, int prefetch) {
    Loader loader(rows_as_pixels(100), {.batch_size = batch_size, .seed = seed, .prefetch = prefetch});
    loader.seek({e, 0});
    return flat(epoch(loader));
  };
  const Rows reference = order(1, 2, 10, 2);
  CHECK(reference != counted(100));
  CHECK(order(1, 2, 10, 2) == reference);
  CHECK(order(1, 2, 33, 0) == reference);
  CHECK(order(1, 2, 1, 5) == reference);
  CHECK(order(1, 3, 10, 2) != reference);
  CHECK(order(2, 2, 10, 2) != reference);
  CHECK(order(2, 1, 10, 2) != reference);  // seed and epoch are not merely added
  Loader loader(rows_as_pixels(100), {.batch_size = 10, .seed = 1});
  epoch(loader);
  epoch(loader);
  CHECK(flat(epoch(loader)) == reference);
}

TEST_CASE("Every row is equally likely at every place") {
  // 20 rows, 2,000 epochs: row r comes first Binomial(2000, 1/20) times; chi-square with 19 degrees of
  // freedom.
  Loader loader(rows_as_pixels(20), {.batch_size = 20, .seed = 5, .prefetch = 0});
  std::vector<double> first(20);
  for (int e = 0; e < 2000; ++e) ++first[static_cast<std::size_t>(rows_of(loader.next())[0])];
  double chi2 = 0.0;
  for (const double count : first) chi2 += (count - 100) * (count - 100) / 100;
  CHECK(chi2 < 50.8);  // 99.99 %
}

TEST_CASE("A loader resumed at any position gives the batches that would have followed") {
  const int prefetch = GENERATE(0, 2);
  const LoaderOptions options{.batch_size = 4, .seed = 9, .prefetch = prefetch};
  Loader whole(rows_as_pixels(18), options);
  std::vector<LoaderPosition> positions;
  std::vector<Rows> batches;
  for (int i = 0; i < 15; ++i) {
    positions.push_back(whole.position());
    batches.push_back(rows_of(whole.next()));
  }
  for (std::size_t start = 0; start < positions.size(); ++start) {
    Loader resumed(rows_as_pixels(18), options);
    resumed.seek(positions[start]);
    for (std::size_t i = start; i < batches.size(); ++i) {
      REQUIRE(resumed.position() == positions[i]);
      REQUIRE(rows_of(resumed.next()) == batches[i]);
    }
  }
  // Also backwards, in a loader that has run ahead.
  whole.seek(positions[3]);
  CHECK(rows_of(whole.next()) == batches[3]);
}

TEST_CASE("Inside the loop the position is already that of the next batch; a break is gone on from") {
  Loader loader(rows_as_pixels(12), {.batch_size = 4, .seed = 3});
  Loader reference(rows_as_pixels(12), {.batch_size = 4, .seed = 3});
  const auto expected = epoch(reference);
  std::vector<Rows> got;
  for (auto [x, labels] : loader) {
    got.push_back(rows_of({x, labels}));
    CHECK(loader.position() == LoaderPosition{0, 1});
    break;
  }
  for (auto [x, labels] : loader) got.push_back(rows_of({x, labels}));
  CHECK(got == expected);
  CHECK(loader.position() == LoaderPosition{1, 0});
}

TEST_CASE("A batch is the caller's alone, and stays as it is while others are made") {
  Loader loader(rows_as_pixels(40), {.batch_size = 4, .seed = 3});
  std::vector<Minibatch> kept;
  std::vector<Rows> seen;
  for (int i = 0; i < 20; ++i) {
    kept.push_back(loader.next());
    CHECK(kept.back().x.unique());
    CHECK(kept.back().labels.unique());
    seen.push_back(rows_of(kept.back()));
  }
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(rows_of(kept[i]) == seen[i]);
}

TEST_CASE("The inputs have the dtype asked for") {
  Loader loader(rows_as_pixels(8), {.batch_size = 4, .dtype = DType::f64});
  CHECK(loader.next().x.dtype() == DType::f64);
  CHECK_THROWS_AS(Loader(rows_as_pixels(8), {.dtype = DType::i64}), DTypeError);
}

TEST_CASE("A loader that is destroyed at any time stops its thread and gives its memory back") {
  const std::int64_t before = memory::stats().live_bytes;
  for (const int taken : {0, 1, 2, 5}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      Loader loader(rows_as_pixels(200), {.batch_size = 10, .prefetch = 3});
      for (int i = 0; i < taken; ++i) loader.next();
    }
  }
  CHECK(memory::stats().live_bytes == before);

  // Batches that take long are not all waited for.
  using Clock = std::chrono::steady_clock;
  std::atomic<int> made{0};
  Clock::time_point start;
  {
    Loader loader(1000,
                  [&](std::span<const std::int64_t> rows, Minibatch& batch) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(20));
                    batch.x = Tensor::zeros({static_cast<std::int64_t>(rows.size())});
                    ++made;
                  },
                  {.batch_size = 1, .prefetch = 100});
    loader.next();
    start = Clock::now();
  }
  CHECK(Clock::now() - start < std::chrono::seconds(1));
  CHECK(made < 100);
}

TEST_CASE("An exception comes out where its batch is asked for, and asking again tries again") {
  const int prefetch = GENERATE(0, 1, 3);
  std::atomic<bool> broken{true};
  Loader loader(10,
                [&](std::span<const std::int64_t> rows, Minibatch& batch) {
                  if (rows[0] == 4 && broken) fail<FileError>("source", "row 4 is damaged");
                  batch.x = Tensor::full({1}, static_cast<double>(rows[0]), DType::f64);
                  batch.labels = Tensor::full({1}, static_cast<double>(rows[0]), DType::i64);
                },
                {.batch_size = 2, .shuffle = false, .prefetch = prefetch});
  CHECK(loader.next().x.item() == 0);
  CHECK(loader.next().x.item() == 2);
  for (int i = 0; i < 2; ++i) {
    CHECK(message<FileError>([&] { loader.next(); }) == "[source] row 4 is damaged");
    CHECK(loader.position() == LoaderPosition{0, 2});
  }
  broken = false;
  CHECK(loader.next().x.item() == 4);
  CHECK(loader.next().x.item() == 6);
}

TEST_CASE("A loader can be moved while it runs") {
  Loader reference(rows_as_pixels(30), {.batch_size = 4, .seed = 2});
  const auto expected = epoch(reference);
  Loader first(rows_as_pixels(30), {.batch_size = 4, .seed = 2});
  std::vector<Rows> got{rows_of(first.next())};
  Loader second(std::move(first));
  got.push_back(rows_of(second.next()));
  Loader third(rows_as_pixels(100), {.batch_size = 3});
  third.next();
  third = std::move(second);
  for (auto [x, labels] : third) got.push_back(rows_of({x, labels}));
  CHECK(got == expected);
}

TEST_CASE("Options outside their domain are refused") {
  const auto error = [](const LoaderOptions& options) {
    return message<ValueError>([&] { Loader(rows_as_pixels(5), options); });
  };
  CHECK(error({.batch_size = 0}) == "[loader] batch_size must be at least 1: got 0");
  CHECK(error({.prefetch = -1}) == "[loader] prefetch must lie in [0, 1024]: got -1");
  CHECK(error({.batch_size = 6, .drop_last = true}) ==
        "[loader] an epoch must have a batch: 5 rows, batch_size 6 and drop_last leave none");
  CHECK_THROWS_AS(Loader(rows_as_pixels(5).first(0)), ValueError);
  Loader loader(rows_as_pixels(5), {.batch_size = 2});
  CHECK(message<ValueError>([&] {
          loader.seek({0, 3});
        }) == "[loader] position must have epoch >= 0 and batch in [0, 3): got epoch 0, batch 3");
  CHECK_THROWS_AS(loader.seek({-1, 0}), ValueError);
  CHECK_THROWS_AS(loader.seek({0, -1}), ValueError);
  CHECK(Loader(rows_as_pixels(5), {.batch_size = std::numeric_limits<std::int64_t>::max()}).next().x.size() ==
        5);
}

TEST_CASE("After the first epoch no batch takes new memory from the system") {
  const int prefetch = GENERATE(0, 2);
  Bytes pixels(200 * 784), labels(200);
  Loader loader(ImageSplit("blank", {1, 28, 28}, pixels, labels, 10),
                {.batch_size = 64, .prefetch = prefetch});
  std::int64_t batches = 0;
  for (int e = 0; e < 3; ++e)
    for (auto [x, l] : loader) ++batches;
  const std::int64_t before = memory::stats().system_allocations;
  for (int e = 0; e < 50; ++e)
    for (auto [x, l] : loader) ++batches;
  CHECK(memory::stats().system_allocations == before);
  CHECK(batches == 53 * 4);
}
