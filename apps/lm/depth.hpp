#pragma once
// How deep a cell is run, by name: the backward rule of an equilibrium ("implicit", "phantom:5:0.5",
// "reversible:0.8:8": apps/rules/rules.hpp), or "explicit:L" layers, "explicit:L:M" with every M-th kept.

#include <string>
#include <vector>

#include <apps/lm/settings.hpp>
#include <banach/nn/sequence.hpp>

namespace banach::lm {

/// What --depth takes, one family a line.
std::vector<std::string> depth_syntax();

/// Throws cli::UsageError naming the bad part and what is allowed. `seed` decides what a rule draws, if it
/// does.
nn::Depth parse_depth(const std::string& spec, const SolveSettings& settings, std::uint64_t seed = 0);

bool is_explicit(const std::string& spec);
/// Whether it is an equilibrium by the exact rule, whatever solves its adjoint equation, and to its end.
bool is_exact(const std::string& spec);

}  // namespace banach::lm
