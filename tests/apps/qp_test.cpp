// `banach qp`: what a user sees, and what stands in the file that it writes.
#include <banach/nn/safetensors.hpp>
#include <tests/apps/command.hpp>
#include <tests/tensors.hpp>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

using namespace banach;
using namespace banach::test;

namespace {

std::vector<nlohmann::json> lines(const std::string& text) {
  std::vector<nlohmann::json> result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) result.push_back(nlohmann::json::parse(line));
  return result;
}

bool contains(const std::string& text, const std::string& word) { return text.find(word) != text.npos; }

void check_refused(const std::string& path, std::initializer_list<const char*> words) {
  const command::Outcome outcome = command::run("qp '" + path + "'");
  INFO(outcome.err);
  CHECK(outcome.code == 1);
  CHECK(outcome.out.empty());
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
  for (const char* word : words) CHECK(contains(outcome.err, word));
}

}  // namespace

TEST_CASE("banach qp prints a line for each problem and writes the solutions", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "problems.safetensors";
  const double nan = std::nan("");
  // x >= 0 and x <= 1 with p = -2, 2, 0 (weakly active), NaN; then one that asks for x <= -1.
  nn::save_safetensors(path, {{"Q", tensor({1.0}, {1, 1})},
                              {"p", tensor({-2.0, 2.0, 0.0, nan, 0.0}, {5, 1})},
                              {"G", tensor({-1.0, 1.0}, {2, 1})},
                              {"h", tensor({0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0}, {5, 2})}});
  const command::Outcome outcome =
      command::run("qp '" + path + "' --threads 0 --out '" + (folder / "made/s.safetensors") + "'");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto found = lines(outcome.out);
  REQUIRE(found.size() == 5);
  CHECK(found[0]["status"] == "solved");
  CHECK(found[0]["objective"].get<double>() == Approx(-1.5));
  CHECK(found[0]["gradient_status"] == "exact");
  CHECK(found[0]["residuals"]["primal"].get<double>() <= 1e-9);
  CHECK(found[2]["gradient_status"] == "non_differentiable");
  CHECK(found[3]["status"] == "non_finite");
  CHECK(contains(found[3]["reason"], "p[0] is nan"));
  CHECK(contains(outcome.err, "problem 3: p[0] is nan: a finite number was expected"));
  CHECK(found[4]["status"] == "primal_infeasible");
  CHECK(found[4]["gradient_status"] == "not_converged");
  CHECK(found[4].contains("objective"));
  CHECK(found[4]["objective"].is_null());

  const nn::Safetensors solution = nn::load_safetensors(folder / "made/s.safetensors");
  CHECK(solution.at("z").shape() == Shape{5, 1});
  CHECK(solution.at("lambda").shape() == Shape{5, 2});
  CHECK(solution.at("z").at(0) == Approx(1.0));
  CHECK(solution.at("lambda").at(1) == Approx(1.0));
  CHECK(solution.at("slack").at(1) == 0.0);
  const command::Outcome over = command::run("qp '" + path + "' --out '" + path + "'");
  CHECK(over.code == 2);
  CHECK(contains(over.err, "would overwrite"));
}

TEST_CASE("banach qp says where a solution is not unique and where its multipliers are not", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "degenerate.safetensors";
  // -1 <= x <= 1 and no objective; then (x - 2)^2 / 2 with x <= 1 twice.
  nn::save_safetensors(path, {{"Q", tensor({0.0, 1.0}, {2, 1, 1})},
                              {"p", tensor({0.0, -2.0}, {2, 1})},
                              {"G", tensor({-1.0, 1.0, 1.0, 1.0}, {2, 2, 1})},
                              {"h", tensor({1.0, 1.0, 1.0, 1.0}, {2, 2})}});
  const command::Outcome outcome = command::run("qp '" + path + "'");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto found = lines(outcome.out);
  REQUIRE(found.size() == 2);
  CHECK(found[0]["gradient_status"] == "non_differentiable");
  CHECK(found[1]["gradient_status"] == "least_squares");
}

TEST_CASE("banach qp takes an absent Q or p for zero and says so, unless a name may be misspelled", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "p.safetensors";
  const Tensor Q = tensor({1.0, 0.0, 0.0, 1.0}, {2, 2}), p = tensor({-1.0, -2.0}), h = tensor({3.0, 4.0});
  const auto solved = [&](double objective, const char* note) {
    const command::Outcome outcome = command::run("qp '" + path + "'");
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    CHECK(contains(outcome.err, note));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    const auto found = lines(outcome.out);
    REQUIRE(found.size() == 1);
    CHECK(found[0]["status"] == "solved");
    CHECK(found[0]["objective"].get<double>() == Approx(objective));
  };
  nn::save_safetensors(path, {{"p", p}, {"G", Q}, {"h", h}});
  solved(-11.0, "tensor 'Q', (n,n), is absent: zero, a linear program");
  nn::save_safetensors(path, {{"Q", Q}, {"A", Q}, {"b", h}});
  solved(12.5, "tensor 'p', (n), is absent: zero");
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"scale", h}});
  solved(-2.5, "'scale' is no part of a quadratic program");
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"scale", h}, {"unit", h}});
  solved(-2.5, "'scale', 'unit' are no part of a quadratic program");
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"G", Q}, {"h", h}, {"A", Q}, {"b", p}, {"names", Q}});
  solved(7.5, "'names' is no part of a quadratic program");

  nn::save_safetensors(path, {{"G", Q}, {"h", h}});
  check_refused(path, {"tensor 'Q' is missing: (n,n), or (batch,n,n), was expected",
                       "and so is 'p': (n), or (batch,n); one of them must be there"});
  nn::save_safetensors(path, {{"q", Q}, {"p", p}});
  check_refused(path, {"tensor 'Q' is missing", "there is 'q'"});
  nn::save_safetensors(path, {{"Q", Q}, {"linear", p}});
  check_refused(path, {"tensor 'p' is missing: (n), or (batch,n), was expected; there is 'linear'"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"g", Q}, {"H", h}});
  check_refused(path, {"tensor 'G' is missing: (m,n), or (batch,m,n), was expected; there is 'H', 'g'"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"Gmat", tensor({1.0, 1.0}, {1, 2})}, {"hvec", h}});
  check_refused(path, {"tensor 'Gmat' (1,2) may be G or A, which are missing: rename it, or leave it out"});
  nn::save_safetensors(
      path, {{"p", p.reshape({1, 2})}, {"Q", Q}, {"G", Q}, {"h", h}, {"Aeq", Q.reshape({1, 2, 2})}});
  check_refused(path, {"tensor 'Aeq' (1,2,2) may be A, which is missing"});
}

TEST_CASE("banach qp names an entry that is not finite by tensor, row and column", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "nan.safetensors";
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const Tensor p = tensor({1.0, 1.0}), h = tensor({1.0, 1.0, 1.0});
  // Of a batch of two the second, in a matrix of three rows; then in what both share.
  nn::save_safetensors(
      path, {{"p", p},
             {"G", tensor({1.0, 0.0, 0.0, 1.0, -1.0, -1.0, 1.0, 0.0, 0.0, 1.0, -1.0, nan}, {2, 3, 2})},
             {"h", h}});
  command::Outcome outcome = command::run("qp '" + path + "'");
  auto found = lines(outcome.out);
  REQUIRE(found.size() == 2);
  CHECK_FALSE(found[0].contains("reason"));
  CHECK(found[1]["reason"] == "G[row 2, column 1] is nan: a finite number was expected");
  CHECK(found[1]["objective"].is_null());
  CHECK(contains(outcome.err, "problem 1: G[row 2, column 1] is nan"));
  nn::save_safetensors(
      path, {{"Q", tensor({1.0, inf, 0.0, 1.0}, {2, 2})}, {"p", tensor({1.0, 1.0, 1.0, 1.0}, {2, 2})}});
  outcome = command::run("qp '" + path + "'");
  found = lines(outcome.out);
  REQUIRE(found.size() == 2);
  for (const auto& line : found)
    CHECK(line["reason"] == "Q[row 0, column 1] is inf: a finite number was expected");
}

TEST_CASE("banach qp says by how much a Q is not convex", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "saddle.safetensors";
  nn::save_safetensors(
      path, {{"Q", tensor({4.0, 0.0, 0.0, 4.0, 0.0, 2.0, 2.0, 0.0}, {2, 2, 2})}, {"p", tensor({1.0, 1.0})}});
  const command::Outcome outcome = command::run("qp '" + path + "'");
  REQUIRE(outcome.code == 0);
  const auto found = lines(outcome.out);
  REQUIRE(found.size() == 2);
  CHECK(found[0]["status"] == "solved");
  CHECK_FALSE(found[0].contains("reason"));
  CHECK(found[1]["status"] == "non_convex");
  const std::string reason =
      "Q must be positive semidefinite, to 1e-8 of its largest entry 2: its smallest eigenvalue is -2";
  CHECK(found[1]["reason"] == reason);
  CHECK(contains(outcome.err, "problem 1: " + reason));
}

TEST_CASE("banach qp names what is wrong with a file", "[qp]") {
  const files::Folder folder;
  const std::string path = folder / "p.safetensors";
  const Tensor Q = tensor({1.0, 0.0, 0.0, 1.0}, {2, 2}), p = tensor({1.0, 1.0});
  check_refused(folder / "none.safetensors", {"none.safetensors"});
  nn::save_safetensors(path, {{"Q", Q}, {"q", p}});
  check_refused(path, {"tensor 'p' is missing", "there is 'q'", "(n)"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}, {"h", p}});
  check_refused(path, {"tensor 'G' is missing", "h comes with it"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", tensor({1.0, 1.0, 1.0})}});
  check_refused(path, {"p.safetensors", "p must have shape (...,2): (3)"});
  nn::save_safetensors(path, {{"Q", tensor({1.0, 1.0}, {1, 2})}, {"p", p}});
  check_refused(path, {"Q must be square, (n,n) or (batch,n,n): got (1,2), 1 by 2"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", p.to(DType::f32)}});
  check_refused(path, {"one dtype", "p is f32"});
  nn::save_safetensors(path, {{"Q", Q}, {"p", p}});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 3);
  check_refused(path,
                {"p.safetensors", "tensor \"p\"", "16 bytes were expected, for F64 of shape (2)", "has 13"});
  std::ofstream(path) << "min x^2 subject to x >= 1\n";
  check_refused(path, {"p.safetensors", "is this a safetensors file?"});
  const command::Outcome bad = command::run("qp");
  CHECK(bad.code == 2);
  CHECK(contains(bad.err, "FILE"));
  CHECK(command::run("qp x --tolerance -1").code == 2);
  const std::string help = command::run("qp --help").out;
  CHECK(contains(help, "FILE"));
  CHECK(contains(help, "Exit codes"));
}
