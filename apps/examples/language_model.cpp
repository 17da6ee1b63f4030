// A language model of one transformer layer, run to its equilibrium: reads the characters of Moby-Dick,
// window after window, each seeing the last positions of the one before (Bai, Kolter and Koltun 2019, "Deep
// equilibrium models").
#include <banach/banach.hpp>

#include <cstdio>

using namespace banach;

struct Reader {
  nn::Parameter table;  // one row a character
  nn::TransformerCell cell;
  nn::Linear head;
  FixedPointOptions options{.solver = Anderson{.memory = 5},
                            .backward = Phantom{.form = Phantom::Form::neumann},
                            .tolerance = 1e-2,
                            .max_steps = 24};

  Reader(std::int64_t characters, std::int64_t width, Random& random)
      : table(nn::init::normal({characters, width}, 0.0, 1.0, random)),
        cell({.d_model = width, .heads = 2, .hidden = 2 * width, .memory = 32}, random),
        head(width, characters, random) {}

  // Scores of the next character, (batch, length, characters); `memory` becomes that of the next window.
  Var operator()(const Tensor& text, nn::SegmentMemory& memory, SolveReport& how) const {
    const Var x = embedding(table, Var(text));
    const auto body = cell.bind(x, memory);  // what does not depend on z is computed here, once
    const auto [z, report, adjoint] = fixed_point(body, cell.start(x), options);
    memory = cell.remember(memory, z.value(), x.value());
    how = report;
    return head(z);
  }
  void visit(nn::Visitor& v) { v("table", table)("cell", cell)("head", head); }
};

int main() {
  const nn::Corpus corpus = nn::make_corpus(nn::load_moby_dick(), "Moby-Dick");
  nn::TextStream stream(corpus.train, {.batch = 8, .length = 32});
  Random random(0);
  Reader reader(corpus.vocabulary.size(), 48, random);
  const nn::ParameterList parameters = nn::parameters(reader);
  nn::Adam adam(parameters, {.learning_rate = 4e-3});

  nn::SegmentMemory memory;
  double mean = 0.0;
  for (int step = 1; step <= 300; ++step) {
    const nn::TextWindow window = stream.next();
    Tape tape;
    SolveReport report;
    const Var scores = reader(window.inputs, memory, report);
    const std::int64_t count = window.targets.size();
    const Var loss = cross_entropy(reshape(scores, {count, -1}), window.targets.reshape({count}));
    Vars gradients = nn::grad(loss, parameters);
    nn::clip_by_global_norm(gradients, 0.5);
    adam.step(gradients);
    mean += loss.item() / 100.0;
    if (step % 100 == 0) {
      std::printf("step %3d  %.2f nats a character\n  solve %s\n", step, mean, report.to_string().c_str());
      if (step < 300) mean = 0.0;
    }
  }
  return mean < 2.5 ? 0 : 1;  // by frequency alone: 3.1
}
