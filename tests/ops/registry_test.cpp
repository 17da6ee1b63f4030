// Walks every registered operation with its own samples and edges.
#include <banach/engine/grad.hpp>
#include <banach/engine/samples.hpp>
#include <banach/engine/simd.hpp>
#include <banach/ops/ops.hpp>
#include <tests/threads.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <set>
#include <string>

using namespace banach;

namespace {

// ---- Tools ------------------------------------------------------------------------------------------------

/// Implicit nodes hold solves: tests/ops/implicit has theirs.
std::vector<const Op*> walked() {
  std::vector<const Op*> result;
  for (const Op* op : ops())
    if (op->def().kind != OpKind::implicit) result.push_back(op);
  return result;
}

Samples samples_of(const Op& op, std::uint64_t seed) {
  SampleGen gen(seed);
  return op.def().samples ? op.def().samples(gen) : Samples{};
}

using Map = std::function<Vars(const Vars&)>;

/// What happens to it at special values stands in the edges of the operation that it serves.
bool part_of_vjp(const Op& op) {
  return op.name().find("_vjp") != std::string_view::npos ||
         op.name().find("_grad") != std::string_view::npos;
}

bool differentiable(const Op& op) { return op.def().vjp || op.def().composite; }

/// An operation at fixed attributes and integer inputs, as a function of those inputs that have derivatives.
/// Indices among its outputs are left out.
struct Subject {
  const Op& op;
  const Sample& sample;
  std::vector<std::size_t> active;

  Subject(const Op& o, const Sample& s) : op(o), sample(s) {
    for (std::size_t i = 0; i < s.inputs.size(); ++i)
      if (is_floating(s.inputs[i].dtype()) && (op.def().steps >> i & 1) == 0) active.push_back(i);
  }

  Tensors at() const {
    Tensors result;
    for (const std::size_t i : active) result.push_back(sample.inputs[i]);
    return result;
  }
  Vars operator()(const Vars& values) const {
    Vars inputs(sample.inputs.begin(), sample.inputs.end());
    for (std::size_t k = 0; k < active.size(); ++k) inputs[active[k]] = values[k];
    Vars outputs = apply_all(op, inputs, sample.attrs);
    if (differentiable(op)) std::erase_if(outputs, [](const Var& y) { return !is_floating(y.dtype()); });
    return outputs;
  }
};

Vars vars(const Tensors& tensors) { return Vars(tensors.begin(), tensors.end()); }

Tensors values(const Vars& vs) {
  Tensors result;
  for (const Var& v : vs) result.push_back(v.value());
  return result;
}

Tensors joined(Tensors a, const Tensors& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Tensors run(const Op& op, const Tensors& inputs, const Attrs& attrs) {
  return values(apply_all(op, vars(inputs), attrs));
}

Tensors as(const Tensors& tensors, DType dtype) {
  Tensors result;
  for (const Tensor& t : tensors) result.push_back(is_floating(t.dtype()) ? t.to(dtype) : t);
  return result;
}

std::int64_t count(const Tensors& tensors) {
  std::int64_t n = 0;
  for (const Tensor& t : tensors) n += t.size();
  return n;
}

double dot(const Tensors& a, const Tensors& b) {
  double total = 0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (std::int64_t i = 0; i < a[k].size(); ++i) total += a[k].at(i) * b[k].at(i);
  return total;
}

double norm(const Tensors& a) { return std::sqrt(dot(a, a)); }

double largest(const Tensors& tensors) {
  double result = 0;
  for (const Tensor& t : tensors)
    for (std::int64_t i = 0; i < t.size(); ++i) result = std::max(result, std::abs(t.at(i)));
  return result;
}

/// Like `tensors`, with normal entries.
Tensors random_like(const Tensors& tensors, SampleGen& gen) {
  Tensors result;
  for (const Tensor& t : tensors) result.push_back(gen.normal(t.shape()));
  return result;
}

/// a + t * b
Tensors moved(const Tensors& a, double t, const Tensors& b) {
  Tensors result = a;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (std::int64_t i = 0; i < a[k].size(); ++i) result[k].mutable_data<double>()[i] += t * b[k].at(i);
  return result;
}

bool same_bits(const Tensors& a, const Tensors& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Tensor& x, const Tensor& y) { return test::same_bits(x, y); });
}

/// Largest |a - b| over all entries.
double distance(const Tensors& a, const Tensors& b) {
  double result = 0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (std::int64_t i = 0; i < a[k].size(); ++i) {
      const double x = a[k].at(i), y = b[k].at(i);
      if (x != y && !(std::isnan(x) && std::isnan(y))) result = std::max(result, std::abs(x - y));
      if (std::isnan(x) != std::isnan(y)) return std::numeric_limits<double>::infinity();
    }
  return result;
}

// ---- Derivatives by differences ---------------------------------------------------------------------------

/// d/dt f(x + t v) at 0 by the five-point central difference, whose error is h^4 / 30 times the fifth
/// derivative. The step is h = 1e-3 / ||v||_inf, so that no input moves by more than 2e-3; inputs are of
/// order 1.
template <class F>
Tensors five_point(const F& f, const Tensors& x, const Tensors& v) {
  const double h = 1e-3 / std::max(largest(v), 1e-300);
  const auto at = [&](double t) { return f(moved(x, t, v)); };
  const Tensors far_left = at(-2 * h), left = at(-h), right = at(h), far_right = at(2 * h);
  Tensors result = left;
  for (std::size_t k = 0; k < result.size(); ++k)
    for (std::int64_t i = 0; i < result[k].size(); ++i)
      result[k].mutable_data<double>()[i] =
          (8 * (right[k].at(i) - left[k].at(i)) - (far_right[k].at(i) - far_left[k].at(i))) / (12 * h);
  return result;
}

/// |<u, J v> by vjp - <u, J v> by differences|, relative to ||u||_2 ||J v||_2 or to the larger of the two:
/// the inner product alone may cancel to nothing.
double relative_error(double analytic, double numeric, double scale) {
  const double size = std::max({std::abs(analytic), std::abs(numeric), scale});
  return size > 0 ? std::abs(analytic - numeric) / size : 0.0;
}

double error_of_vjp(const Map& f, const Tensors& x, SampleGen& gen) {
  const Tensors v = random_like(x, gen);
  const Tensors jv = five_point([&](const Tensors& at) { return values(f(vars(at))); }, x, v);
  const Tensors u = random_like(jv, gen);
  const Tensors pulled = values(vjp(f, vars(x), vars(u)).cotangents);
  for (std::size_t k = 0; k < x.size(); ++k) CHECK(pulled[k].shape() == x[k].shape());
  return relative_error(dot(pulled, v), dot(u, jv), norm(u) * norm(jv));
}

/// (x, u) -> u^T J(x), for f of `inputs` arguments.
Map pullback(const Map& f, std::size_t inputs) {
  return [f, inputs](const Vars& all) {
    const auto split = all.begin() + static_cast<std::ptrdiff_t>(inputs);
    return vjp(f, Vars(all.begin(), split), Vars(split, all.end())).cotangents;
  };
}

template <class Body>
void for_samples(std::uint64_t seeds, const Body& body) {
  for (const Op* op : walked())
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      const Samples samples = samples_of(*op, seed);
      for (std::size_t i = 0; i < samples.size(); ++i) {
        INFO(op->name() << ", sample " << i << ", seed " << seed);
        body(*op, samples[i]);
      }
    }
}

constexpr int cases_each = 200;

}  // namespace

TEST_CASE("every operation has a doc, samples and refusals") {
  std::set<std::string_view> names;
  for (const Op* op : walked()) {
    const OpDef& def = op->def();
    INFO(op->name());
    CHECK(names.insert(op->name()).second);
    CHECK(def.doc != nullptr);
    CHECK((def.composite != nullptr) == (def.kind == OpKind::composite));
    CHECK((def.composite || (def.kernel && (def.shape || def.shapes))));

    bool empty = false, single = false, broadcasts = false;
    for (const Sample& sample : samples_of(*op, 1)) {
      bool all_single = true;
      for (const Tensor& input : sample.inputs) {
        CHECK(input.dtype() != DType::f32);
        empty = empty || input.size() == 0;
        all_single = all_single && input.size() == 1;
        broadcasts = broadcasts || !(input.shape() == sample.inputs[0].shape());
      }
      single = single || all_single;
      empty = empty || count(run(*op, sample.inputs, sample.attrs)) == 0;
    }
    CHECK((empty || def.needs_elements));
    CHECK(single);
    CHECK((broadcasts || def.shape != broadcast_shape));
    CHECK((def.errors && !def.errors().empty()));
  }
}

// ---- Edges ------------------------------------------------------------------------------------------------

namespace {

/// NaN for NaN, infinity for infinity, zero for zero; else to rounding.
bool matches(double got, double expected, double epsilon) {
  if (std::isnan(expected)) return std::isnan(got);
  if (std::isinf(expected) || expected == 0.0) return got == expected;
  return std::abs(got - expected) <= 8 * epsilon * std::max(1.0, std::abs(expected));
}

void check_match(const Tensor& got, const Tensor& expected, bool signs_of_zeros) {
  REQUIRE(got.shape() == expected.shape());
  const double epsilon = got.dtype() == DType::f32 ? std::numeric_limits<float>::epsilon()
                                                   : std::numeric_limits<double>::epsilon();
  for (std::int64_t i = 0; i < got.size(); ++i) {
    INFO("element " << i << ": " << got.at(i) << ", expected " << expected.at(i));
    CHECK(matches(got.at(i), expected.at(i), epsilon));
    if (signs_of_zeros && expected.at(i) == 0.0)
      CHECK(std::signbit(got.at(i)) == std::signbit(expected.at(i)));
  }
}

}  // namespace

TEST_CASE("special values do what the operations' edges say") {
  const simd::Isa before = simd::active();
  int rows = 0;
  for (const Op* op : walked()) {
    INFO(op->name());
    if (!part_of_vjp(*op)) CHECK(op->def().edges);
    if (!op->def().edges) continue;
    const Edges edges = op->def().edges();
    CHECK_FALSE(edges.empty());
    for (std::size_t row = 0; row < edges.size(); ++row)
      for (const DType dtype : {DType::f64, DType::f32})
        for (const simd::Isa isa : {simd::Isa::sse2, simd::Isa::avx2, simd::Isa::avx512}) {
          if (!simd::supported(isa)) continue;
          simd::select(isa);
          const Edge& edge = edges[row];
          INFO("row " << row << " " << name(dtype) << " " << simd::name(isa));
          const Sample sample{as(edge.inputs, dtype), edge.attrs};
          const Subject f(*op, sample);
          const Tensors outputs = run(*op, sample.inputs, sample.attrs);
          REQUIRE(outputs.size() == edge.outputs.size());
          for (std::size_t k = 0; k < outputs.size(); ++k) check_match(outputs[k], edge.outputs[k], true);
          ++rows;
          if (edge.cotangents.empty()) continue;
          Vars ones;
          for (const Var& y : f(vars(f.at()))) ones.push_back(Var(Tensor::ones(y.shape(), y.dtype())));
          const Tensors cotangents = values(vjp(f, vars(f.at()), ones).cotangents);
          REQUIRE(cotangents.size() == edge.cotangents.size());
          for (std::size_t k = 0; k < cotangents.size(); ++k)
            check_match(cotangents[k], edge.cotangents[k], false);
        }
  }
  simd::select(before);
  std::printf("edge rows: %d\n", rows);
}

TEST_CASE("operations refuse what does not fit, and say so") {
  for (const Op* op : walked()) {
    if (!op->def().errors) continue;
    for (const ErrorSample& sample : op->def().errors()) {
      INFO(op->name() << " should say: " << sample.message);
      std::string message = "nothing";
      try {
        run(*op, sample.inputs, sample.attrs);
      } catch (const Error& error) {
        message = error.what();
      }
      CHECK_THAT(message,
                 Catch::StartsWith("[" + std::string(op->name()) + "]") && Catch::Contains(sample.message));
    }
  }
}

TEST_CASE("first and second derivatives of all operations agree with differences") {
  int first = 0, second = 0, counted = 0;
  double worst_first = 0, worst_second = 0;
  for (const Op* op : walked()) {
    ++counted;
    if (!differentiable(*op)) continue;
    const int first_before = first, second_before = second;
    for (std::uint64_t seed = 0; seed < cases_each && first - first_before < cases_each; ++seed) {
      const Samples samples = samples_of(*op, seed);
      for (std::size_t i = 0; i < samples.size(); ++i) {
        const Subject f(*op, samples[i]);
        const Tensors x = f.at();
        if (count(x) == 0) continue;
        const Tensors y = values(f(vars(x)));
        if (count(y) == 0) continue;
        INFO(op->name() << ", sample " << i << ", seed " << seed);
        SampleGen gen(1000 + seed);

        const double error = error_of_vjp(f, x, gen);
        CHECK(error <= 1e-8);
        worst_first = std::max(worst_first, error);
        ++first;

        const Tensors xu = joined(x, random_like(y, gen));
        const double second_error = error_of_vjp(pullback(f, x.size()), xu, gen);
        CHECK(second_error <= 1e-6);
        worst_second = std::max(worst_second, second_error);
        ++second;
      }
    }
    INFO(op->name());
    CHECK(first - first_before >= cases_each);
    CHECK(second - second_before >= cases_each);
  }
  std::printf("op cases: %d first order, %d second order, %d ops\n", first, second, counted);
  INFO("worst relative errors: " << worst_first << ", " << worst_second);
  CHECK(first + second >= 20000);
}

TEST_CASE("a vjp asked for one input gives what it gives when asked for all") {
  for (const Op* op : walked()) {
    if (!differentiable(*op)) continue;
    const Samples samples = samples_of(*op, 2);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const Subject f(*op, samples[i]);
      const Tensors x = f.at();
      if (x.size() < 2) continue;
      INFO(op->name() << ", sample " << i);
      SampleGen gen(3);
      const Vars u = vars(random_like(values(f(vars(x))), gen));
      const Tensors all = values(vjp(f, vars(x), u).cotangents);
      for (std::size_t k = 0; k < x.size(); ++k) {
        const Map alone = [&](const Vars& one) {
          Vars at = vars(x);
          at[k] = one[0];
          return f(at);
        };
        CHECK(same_bits(values(vjp(alone, {Var(x[k])}, u).cotangents), {all[k]}));
      }
    }
  }
}

// ---- Rows -------------------------------------------------------------------------------------------------

namespace {

/// Runs the kernel on the first third of the rows and on the others, and compares with the use as a whole.
/// True if it had several rows to cut.
bool check_rows(const Op& op, const Vars& inputs, const Tensors& whole, const Attrs& attrs) {
  const RowInputs by_rows = row_inputs(op, {inputs, whole, attrs});
  if (!by_rows) return false;
  const std::int64_t rows = whole[0].size(0), split = (rows + 1) / 3;
  for (const auto& [begin, end] : {std::pair(std::int64_t{0}, split), std::pair(split, rows)}) {
    Vars part = inputs;
    for (std::size_t k = 0; k < part.size(); ++k)
      if (*by_rows >> k & 1) part[k] = Var(inputs[k].value().rows(begin, end));
    Tensors expected, outputs;
    for (const Tensor& y : whole) {
      REQUIRE(y.size(0) == rows);
      expected.push_back(y.rows(begin, end));
      outputs.push_back(Tensor::empty(expected.back().shape(), y.dtype()));
    }
    op.def().kernel({part, outputs, attrs});
    for (std::size_t k = 0; k < outputs.size(); ++k) CHECK(outputs[k].shape() == expected[k].shape());
    CHECK(distance(outputs, expected) <= 1e-14 * std::max(1.0, largest(whole)));
  }
  return rows > 1 && *by_rows != 0;
}

/// body(op, inputs, outputs, attributes) for everything that runs when f and its vjp are computed at x: what
/// a composite is made of, and what vjps are written with. Values are computed again, as tapes drop some.
template <class Body>
void for_nodes(const Map& f, const Tensors& x, SampleGen& gen, const Body& body) {
  Tape tape(Tape::Captures{});
  Vars at;
  for (const Tensor& input : x) at.push_back(tape.leaf(input));
  const Tensors y = values(f(vars(x)));
  vjp(f, at, vars(random_like(y, gen)));
  const Graph& graph = tape.graph();
  Tensors computed(static_cast<std::size_t>(graph.size()));
  for (std::int32_t i = 0; i < graph.size(); ++i) {
    const Node& node = graph[i];
    if (node.outputs == 0) continue;
    if (!node.op) {
      computed[static_cast<std::size_t>(i)] = node.output;
      continue;
    }
    Vars inputs;
    for (const Var& in : node.inputs)
      inputs.push_back(in.node() < 0 ? in : Var(computed[static_cast<std::size_t>(in.node())]));
    Tensors outputs;
    for (std::int32_t k = 0; k < node.outputs; ++k)
      outputs.push_back(Tensor::empty(graph[i + k].output.shape(), graph[i + k].output.dtype()));
    node.op->def().kernel({inputs, outputs, node.attrs});
    for (std::size_t k = 0; k < outputs.size(); ++k) computed[static_cast<std::size_t>(i) + k] = outputs[k];
    body(*node.op, inputs, outputs, node.attrs);
  }
}

}  // namespace

TEST_CASE("an operation that reads rows gives the rows of a part of its inputs") {
  std::set<std::string_view> cut;
  int inside = 0;
  for_samples(5, [&](const Op& op, const Sample& sample) {
    if (!op.def().composite &&
        check_rows(op, vars(sample.inputs), run(op, sample.inputs, sample.attrs), sample.attrs))
      cut.insert(op.name());
    const Subject f(op, sample);
    if (!differentiable(op) || f.at().empty()) return;
    SampleGen gen(6);
    for_nodes(f, f.at(), gen,
              [&](const Op& node, const Vars& inputs, const Tensors& outputs, const Attrs& attrs) {
                INFO("its node " << node.name());
                if (!check_rows(node, inputs, outputs, attrs)) return;
                cut.insert(node.name());
                ++inside;
              });
  });
  for (const Op* op : ops()) {
    INFO(op->name());
    CHECK((cut.count(op->name()) == 1 || !op->def().rows));
  }
  std::printf("operations by rows: %d, %d uses of them inside others\n", static_cast<int>(cut.size()),
              inside);
}

// Programs let an output take over the memory of an input that nobody reads again.
TEST_CASE("elementwise kernels may write where they read") {
  int uses = 0;
  for_samples(2, [&](const Op& op, const Sample& sample) {
    if (op.def().kind != OpKind::elementwise) return;
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensors inputs = as(sample.inputs, dtype);
      const Shape shape = run(op, inputs, sample.attrs).front().shape();
      const auto check = [&](Tensors at, const std::vector<std::size_t>& shared) {
        for (const std::size_t k : shared) at[k] = at[shared.front()];
        const Tensor expected = run(op, at, sample.attrs).front();
        Tensor memory = at[shared.front()].clone();
        dispatch_floating(dtype, [&](auto zero) {
          void* place = memory.mutable_data<decltype(zero)>();
          for (const std::size_t k : shared) at[k] = Tensor::over(place, shape, dtype);
          Tensor output = Tensor::over(place, shape, dtype);
          op.def().kernel({vars(at), {&output, 1}, sample.attrs});
        });
        CHECK(test::same_bits(memory, expected));
        ++uses;
      };
      std::vector<std::size_t> of_its_shape;
      for (std::size_t k = 0; k < inputs.size(); ++k)
        if (inputs[k].dtype() == dtype && inputs[k].shape() == shape) of_its_shape.push_back(k);
      for (const std::size_t k : of_its_shape) check(inputs, {k});
      if (of_its_shape.size() > 1) check(inputs, of_its_shape);
    }
  });
  std::printf("uses in place: %d\n", uses);
}

TEST_CASE("operations without derivatives give constants") {
  for (const Op* op : walked()) {
    if (differentiable(*op)) continue;
    for (const Sample& sample : samples_of(*op, 4)) {
      INFO(op->name());
      const Tape tape;
      Vars inputs;
      for (const Tensor& input : sample.inputs)
        inputs.push_back(is_floating(input.dtype()) ? leaf(input) : Var(input));
      for (const Var& output : apply_all(*op, inputs, sample.attrs)) CHECK_FALSE(output.recorded());
    }
  }
}

// The scale of an error is the largest magnitude among inputs, cotangents and results, and at least 1: sums
// may cancel.
namespace {

struct Results {
  Tensors outputs, cotangents;
  Tensors all() const { return joined(outputs, cotangents); }
};

Results results_of(const Op& op, const Sample& sample, DType dtype, std::uint64_t seed) {
  const Sample converted{as(sample.inputs, dtype), sample.attrs};
  const Subject f(op, converted);
  Results results{values(f(vars(f.at()))), {}};
  if (!differentiable(op)) return results;
  SampleGen gen(seed);
  Tensors u;
  for (const Tensor& y : results.outputs) u.push_back(gen.normal(y.shape()).to(DType::f32).to(y.dtype()));
  results.cotangents = values(vjp(f, vars(f.at()), vars(u)).cotangents);
  return results;
}

double scale_of(const Sample& sample, const Results& results) {
  double finite = 1.0;
  for (const Tensor& t : joined(sample.inputs, results.all()))
    for (std::int64_t i = 0; i < t.size(); ++i)
      if (std::isfinite(t.at(i))) finite = std::max(finite, std::abs(t.at(i)));
  return finite;
}

}  // namespace

TEST_CASE("f32 agrees with f64, in values and in vjps") {
  const double eps = std::numeric_limits<float>::epsilon();
  for_samples(3, [&](const Op& op, const Sample& sample) {
    const Sample rounded{as(as(sample.inputs, DType::f32), DType::f64), sample.attrs};
    const Results narrow = results_of(op, rounded, DType::f32, 5),
                  wide = results_of(op, rounded, DType::f64, 5);
    CHECK(distance(narrow.all(), wide.all()) <= 64 * eps * scale_of(rounded, wide));
  });
}

TEST_CASE("every instruction set gives what sse2 gives, to rounding") {
  const simd::Isa before = simd::active();
  for_samples(2, [&](const Op& op, const Sample& sample) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      const double eps = dtype == DType::f32 ? std::numeric_limits<float>::epsilon()
                                             : std::numeric_limits<double>::epsilon();
      simd::select(simd::Isa::sse2);
      const Results expected = results_of(op, sample, dtype, 6);
      for (const simd::Isa isa : {simd::Isa::avx2, simd::Isa::avx512}) {
        if (!simd::supported(isa)) continue;
        simd::select(isa);
        INFO(simd::name(isa) << " " << name(dtype));
        CHECK(distance(results_of(op, sample, dtype, 6).all(), expected.all()) <=
              16 * eps * scale_of(sample, expected));
      }
    }
  });
  simd::select(before);
}

TEST_CASE("one thread and two give the same bits") {
  const test::KeepThreads keep;
  for_samples(1, [&](const Op& op, const Sample& sample) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      set_threads(1);
      const Results one = results_of(op, sample, dtype, 7);
      set_threads(2);
      CHECK(same_bits(results_of(op, sample, dtype, 7).all(), one.all()));
    }
  });
}

TEST_CASE("a NaN does what the operation declares") {
  for_samples(1, [&](const Op& op, const Sample& sample) {
    const OpKind kind = op.def().kind;
    const NanRule rule = op.def().nan != NanRule::by_kind ? op.def().nan
                         : kind == OpKind::elementwise    ? NanRule::same_place
                         : kind == OpKind::reduction      ? NanRule::somewhere
                                                          : NanRule::by_kind;
    if (rule == NanRule::by_kind) return;
    const Tensors clean = run(op, sample.inputs, sample.attrs);
    for (std::size_t k = 0; k < sample.inputs.size(); ++k) {
      const Tensor& input = sample.inputs[k];
      if (!is_floating(input.dtype()) || count(clean) == 0) continue;
      // One place is like another, but for operands that broadcast.
      const bool aligned = input.shape() == clean[0].shape();
      if (!aligned && rule != NanRule::somewhere) continue;
      for (std::int64_t at = 0; at < input.size(); ++at) {
        Tensors inputs = sample.inputs;
        inputs[k].mutable_data<double>()[at] = std::numeric_limits<double>::quiet_NaN();
        const Tensors outputs = run(op, inputs, sample.attrs);
        INFO("input " << k << ", place " << at);
        bool found = false;
        for (const Tensor& output : outputs)
          for (std::int64_t i = 0; i < output.size(); ++i) found = found || std::isnan(output.at(i));
        const double there = aligned ? outputs[0].at(at) : 0.0;
        if (rule == NanRule::same_place) CHECK(std::isnan(there));
        if (rule == NanRule::somewhere) CHECK(found);
        if (rule == NanRule::compared) CHECK(there == (op.name() == "not_equal" ? 1.0 : 0.0));
        if (!aligned || rule == NanRule::somewhere) continue;
        for (std::int64_t i = 0; i < input.size(); ++i)
          if (i != at) CHECK(outputs[0].at(i) == clean[0].at(i));
      }
    }
  });
}
