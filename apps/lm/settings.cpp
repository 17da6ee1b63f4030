#include <apps/lm/settings.hpp>

#include <algorithm>
#include <limits>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <apps/cli/check.hpp>
#include <apps/cli/run.hpp>
#include <apps/lm/data.hpp>
#include <apps/lm/depth.hpp>
#include <apps/rules/rules.hpp>
#include <banach/engine/error.hpp>

namespace banach::lm {
namespace {

constexpr std::uint64_t most = 1'000'000'000;

CLI::Validator count() { return cli::whole_number(1, most); }

void add_text_options(CLI::App& app, TextSettings& o) {
  const auto group = cli::in_group("Text");
  group(app.add_option("--data", o.data,
                       "default (Moby-Dick, part of the program), austen, brown or union;\n"
                       "scripts/get-texts fetches the last three into data/texts"),
        "NAME")
      ->check(cli::one_of(data_names()));
  group(app.add_option("--text", o.file, "A file of your own, UTF-8, plain or gzip, in place of --data"),
        "FILE")
      ->check(cli::path());
  group(app.add_option("--unit", o.unit, "char (default) or word"), "NAME")
      ->check(cli::one_of({"char", "word"}));
  group(app.add_option("--vocabulary", o.vocabulary,
                       "Most entries, with the unknown one (default: all characters, 10000 words)"),
        "N")
      ->check(cli::whole_number(2, 10'000'000));
}

void add_model_options(CLI::App& app, Architecture& o) {
  const auto group = cli::in_group("Model");
  group(app.add_option("--cell", o.cell, "transformer (default) or trellis"), "NAME")
      ->check(cli::one_of({"transformer", "trellis"}));
  group(app.add_option("--d", o.d, "Width of embedding and cell (default: 128)"), "N")
      ->check(cli::whole_number(1, 65'536));
  group(app.add_option("--heads", o.heads, "Of the transformer; must divide --d (default: 4)"), "N")
      ->check(cli::whole_number(1, 65'536));
  group(app.add_option("--hidden", o.hidden, "Width of the transformer's feed-forward layer (default: 256)"),
        "N")
      ->check(cli::whole_number(1, 1'000'000));
  group(app.add_option("--memory", o.memory,
                       "Positions before its window that the transformer sees (default: 64)"),
        "N")
      ->check(cli::whole_number(0, 1'000'000));
  group(cli::add_numbers(app, "--dilations", o.dilations,
                         "Of the trellis, whose channels they share (default: 1,2,4,8)", 0, most),
        "LIST");
  app.add_flag("--pre-norm", o.pre_norm, "Layer norm before the transformer's parts, not behind")
      ->group("Model")
      ->disable_flag_override();
  app.add_flag("--weight-norm", o.weight_norm, "Weight normalisation in the cell")
      ->group("Model")
      ->disable_flag_override();
  group(app.add_option("--dropout", o.dropout,
                       "One mask a solve in the cell, others around it\n(default: 0, at most 0.99)"),
        "P")
      ->check(cli::number(0.0, 0.99));
  group(cli::add_numbers(app, "--cutoffs", o.cutoffs,
                         "Where the clusters of an adaptive softmax begin (default: none, a plain softmax)",
                         0, most),
        "LIST");
  app.add_flag_callback(
         "--untied", [&o] { o.tied = false; }, "Output weights of their own, not the embedding's")
      ->group("Model")
      ->disable_flag_override();
}

void add_solve_options(CLI::App& app, SolveSettings& o) {
  const auto group = cli::in_group("Depth");
  group(app.add_option("--solver", o.solver,
                       "anderson[:MEMORY], picard[:DAMPING], broyden[:MEMORY] or\n"
                       "adjoint-broyden[:MEMORY] (default: anderson:5)"),
        "NAME");
  group(app.add_option("--tolerance", o.tolerance, "On ||f(z) - z|| / ||f(z)|| (default: 0.01)"), "X")
      ->check(cli::number(true));
  group(app.add_option("--adjoint-tolerance", o.adjoint_tolerance,
                       "On the adjoint equation's residual, for rules that solve it (default: 0.001)"),
        "X")
      ->check(cli::number(true));
  group(app.add_option("--max-steps", o.max_steps, "Most evaluations of the cell in a solve (default: 24)"),
        "N")
      ->check(count());
}

void add_training_options(CLI::App& app, TrainSettings& o) {
  const auto group = cli::in_group("Training");
  group(app.add_option("--steps", o.steps, "Windows (default: 4000)"), "N")->check(count());
  group(app.add_option("--batch-size", o.batch, "Rows read side by side (default: 16)"), "N")->check(count());
  group(app.add_option("--length", o.length, "Tokens in a window (default: 64)"), "N")->check(count());
  group(app.add_option("--learning-rate", o.learning_rate,
                       "Peak of Adam's, to zero along a cosine (default: 0.002)"),
        "X")
      ->check(cli::number(true));
  group(app.add_option("--warmup", o.warmup, "Steps of its rise before (default: 100)"), "N")
      ->check(cli::whole_number(0, 1'000'000'000));
  group(app.add_option("--clip", o.clip, "Largest norm of the gradient (default: 0.25)"), "X")
      ->check(cli::number(true));
  group(app.add_option("--pretrain", o.pretrain,
                       "Steps at the start in which an equilibrium model is run as layers (default: 0)"),
        "N")
      ->check(cli::whole_number(0, 1'000'000'000));
  group(app.add_option("--pretrain-layers", o.pretrain_layers, "How many of them (default: 4)"), "N")
      ->check(count());
  group(app.add_option("--jacobian", o.jacobian, "Weight of ||J||^2 / d at the equilibrium (default: 0)"),
        "X")
      ->check(cli::number(false));
  group(app.add_option("--correction", o.correction,
                       "Weight of the losses of iterates on the way to the equilibrium (default: 0)"),
        "X")
      ->check(cli::number(false));
  group(app.add_option("--probes", o.probes, "Looks at the validation text (default: 20)"), "N")
      ->check(cli::whole_number(1, 100'000));
}

/// Throws cli::UsageError for options that were given and would be ignored.
void check_given(const CLI::App& app, const Settings& o) {
  const auto given = [&](const char* name) {
    const CLI::Option* option = app.get_option_no_throw(name);
    return option && option->count() > 0;
  };
  if (given("--text") && given("--data"))
    throw cli::UsageError("--text and --data exclude each other: both say what is read");
  if (given("--seeds") && given("--seed"))
    throw cli::UsageError("--seeds and --seed exclude each other: --seeds has them all");
  const bool trellis = o.architecture.cell == "trellis";
  for (const char* name : {"--heads", "--hidden", "--memory", "--pre-norm"})
    if (trellis && given(name))
      throw cli::UsageError(fmt::format("{} goes with --cell transformer, not trellis", name));
  if (!trellis && given("--dilations"))
    throw cli::UsageError("--dilations goes with --cell trellis, not transformer");
}

}  // namespace

void add_train_options(CLI::App& app, Settings& o, bool several) {
  o.several = several;
  add_text_options(app, o.text);
  add_model_options(app, o.architecture);
  const auto depth = cli::in_group("Depth");
  std::string what =
      "an equilibrium, by the backward rule, or so many\nlayers of the same weights (with M, every "
      "M-th is kept and the others are taken again):";
  for (const std::string& line : depth_syntax()) what += "\n  " + line;
  const std::string otherwise = fmt::format("\n(default: {})", fmt::join(o.depths, ","));
  if (several) {
    depth(app.add_option_function<std::string>(
              "--depths",
              [&o](const std::string& list) { o.depths = cli::split_list("--depths", "depth", list); },
              "Which are trained, separated by commas, each " + what + otherwise),
          "LIST");
    depth(
        cli::add_numbers(app, "--seeds", o.seeds, "One training each for every depth (default: --seed alone)",
                         0, std::numeric_limits<std::uint64_t>::max()),
        "LIST");
  } else {
    depth(app.add_option_function<std::string>(
              "--depth", [&o](const std::string& spec) { o.depths = {spec}; }, "Either " + what + otherwise),
          "SPEC");
  }
  add_solve_options(app, o.solve);
  add_training_options(app, o.train);
  cli::add_common_options(app, o.common, several ? "out/lm-compare" : "out/lm");
  app.callback([&app, &o] {
    check_given(app, o);
    check(o);
  });
}

void check_cutoffs(const Architecture& a, std::int64_t entries) {
  std::int64_t last = 0;
  for (const std::int64_t cutoff : a.cutoffs)
    if (cutoff <= last || (entries > 0 && cutoff >= entries))
      throw cli::UsageError(
          fmt::format("--cutoffs {}: must ascend from 1 on{}", fmt::join(a.cutoffs, ","),
                      entries == 0 ? "" : fmt::format(", below the {} entries of the vocabulary", entries)));
    else
      last = cutoff;
}

void check(const Settings& o) {
  rules::parse_solver(o.solve.solver);
  for (std::size_t i = 0; i < o.depths.size(); ++i) {
    parse_depth(o.depths[i], o.solve);
    for (std::size_t k = 0; k < i; ++k)
      if (o.depths[k] == o.depths[i])
        throw cli::UsageError(fmt::format("--depths: '{}' stands there twice", o.depths[i]));
  }
  for (std::size_t i = 0; i < o.seeds.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (o.seeds[k] == o.seeds[i])
        throw cli::UsageError(fmt::format("--seeds: '{}' stands there twice", o.seeds[i]));
  const Architecture& a = o.architecture;
  if (a.cell == "transformer" && a.d % a.heads != 0)
    throw cli::UsageError(fmt::format("--heads {}: must divide --d {}", a.heads, a.d));
  if (a.cell == "trellis") {
    if (std::any_of(a.dilations.begin(), a.dilations.end(), [](std::int64_t d) { return d < 1; }))
      throw cli::UsageError(
          fmt::format("--dilations {}: must be at least 1 each", fmt::join(a.dilations, ",")));
    if (a.d % std::ssize(a.dilations) != 0)
      throw cli::UsageError(
          fmt::format("--d {}: must be a multiple of the number of dilations, {}", a.d, a.dilations.size()));
  }
  check_cutoffs(a, o.text.most_entries());
  if (o.train.pretrain >= o.train.steps)
    throw cli::UsageError(
        fmt::format("--pretrain {}: must be less than --steps {}, or no equilibrium is trained",
                    o.train.pretrain, o.train.steps));
}

cli::Entries describe(const Settings& s) {
  const Architecture& a = s.architecture;
  const TrainSettings& t = s.train;
  const auto number = [](double x) { return fmt::format("{:g}", x); };
  cli::Entries entries{
      {s.several ? "--depths" : "--depth", fmt::format("{}", fmt::join(s.depths, ","))},
      {s.several ? "--seeds" : "--seed",
       s.seeds.empty() ? std::to_string(s.common.seed) : fmt::format("{}", fmt::join(s.seeds, ","))},
      {"--data", s.text.file.empty() ? s.text.data : ""},
      {"--text", s.text.file},
      {"--unit", s.text.unit},
      {"--vocabulary", s.text.most_entries() == 0 ? "all" : std::to_string(s.text.most_entries())},
      {"--cell", a.cell},
      {"--d", std::to_string(a.d)},
      {"--weight-norm", a.weight_norm ? "yes" : "no"},
      {"--dropout", number(a.dropout)},
      {"--cutoffs", a.cutoffs.empty() ? "none" : fmt::format("{}", fmt::join(a.cutoffs, ","))},
      {"--untied", a.tied ? "no" : "yes"}};
  if (a.cell == "trellis")
    entries.emplace_back("--dilations", fmt::format("{}", fmt::join(a.dilations, ",")));
  else
    for (auto& entry : cli::Entries{{"--heads", std::to_string(a.heads)},
                                    {"--hidden", std::to_string(a.hidden)},
                                    {"--memory", std::to_string(a.memory)},
                                    {"--pre-norm", a.pre_norm ? "yes" : "no"}})
      entries.push_back(entry);
  for (auto& entry : cli::Entries{{"--solver", s.solve.solver},
                                  {"--tolerance", number(s.solve.tolerance)},
                                  {"--adjoint-tolerance", number(s.solve.adjoint_tolerance)},
                                  {"--max-steps", std::to_string(s.solve.max_steps)},
                                  {"--steps", std::to_string(t.steps)},
                                  {"--batch-size", std::to_string(t.batch)},
                                  {"--length", std::to_string(t.length)},
                                  {"--learning-rate", number(t.learning_rate)},
                                  {"--warmup", std::to_string(t.warmup)},
                                  {"--clip", number(t.clip)},
                                  {"--pretrain", std::to_string(t.pretrain)},
                                  {"--pretrain-layers", std::to_string(t.pretrain_layers)},
                                  {"--jacobian", number(t.jacobian)},
                                  {"--correction", number(t.correction)},
                                  {"--probes", std::to_string(t.probes)}})
    entries.push_back(entry);
  std::erase_if(entries, [](const auto& entry) { return entry.second.empty(); });
  return entries;
}

std::string to_text(const Settings& s) {
  const Architecture& a = s.architecture;
  return nlohmann::ordered_json{{"data", s.text.data},
                                {"file", s.text.file},
                                {"unit", s.text.unit},
                                {"cell", a.cell},
                                {"d", a.d},
                                {"heads", a.heads},
                                {"hidden", a.hidden},
                                {"memory", a.memory},
                                {"dilations", a.dilations},
                                {"pre_norm", a.pre_norm},
                                {"weight_norm", a.weight_norm},
                                {"tied", a.tied},
                                {"dropout", a.dropout},
                                {"cutoffs", a.cutoffs},
                                {"solver", s.solve.solver},
                                {"tolerance", s.solve.tolerance},
                                {"adjoint_tolerance", s.solve.adjoint_tolerance},
                                {"max_steps", s.solve.max_steps},
                                {"batch", s.train.batch},
                                {"length", s.train.length}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // a file's name may be any bytes
}

Settings from_text(const std::string& text) {
  try {
    const nlohmann::json j = nlohmann::json::parse(text);
    Settings s;
    Architecture& a = s.architecture;
    s.text = {.data = j.at("data"), .file = j.at("file"), .unit = j.at("unit")};
    a = {.cell = j.at("cell"),
         .d = j.at("d"),
         .heads = j.at("heads"),
         .hidden = j.at("hidden"),
         .memory = j.at("memory"),
         .dilations = j.at("dilations"),
         .pre_norm = j.at("pre_norm"),
         .weight_norm = j.at("weight_norm"),
         .tied = j.at("tied"),
         .dropout = j.at("dropout"),
         .cutoffs = j.at("cutoffs")};
    s.solve = {.solver = j.at("solver"),
               .tolerance = j.at("tolerance"),
               .max_steps = j.at("max_steps"),
               .adjoint_tolerance = j.at("adjoint_tolerance")};
    s.train.batch = j.at("batch");
    s.train.length = j.at("length");
    return s;
  } catch (const nlohmann::json::exception& error) {
    fail<FileError>("lm", fmt::format("the settings of the model are damaged: {}", error.what()));
  }
}

}  // namespace banach::lm
