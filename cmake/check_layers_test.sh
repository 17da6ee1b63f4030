#!/usr/bin/env bash
# Shows that check_layers.sh can fail: plants each kind of fault, and some lines that are none, in a scratch tree.
set -euo pipefail
check="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/check_layers.sh"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/banach/{engine,solvers,ops/implicit,nn} "$scratch"/apps/{cli,lab}

plant() { printf '%s\n' "$2" >"$scratch/$1"; }
failures=0
# expect WANTED_STATUS WANTED_TEXT: what the check must say of the scratch tree, which is emptied again.
expect() {
  local status=0 output
  output="$(bash "$check" "$scratch" 2>&1)" || status=$?
  if [ "$status" -ne "$1" ] || ! grep -qF -- "$2" <<<"$output"; then
    printf 'expected status %s and "%s"; got status %s and:\n%s\n' "$1" "$2" "$status" "$output"
    failures=$((failures + 1))
  fi
  find "$scratch" -type f -delete
}

expect 1 "no sources found"

plant banach/engine/tape.hpp '#include <vector>'
plant banach/engine/kernels.hpp '#pragma once
// Internal: loops.'
plant banach/ops/implicit/fixed_point.cpp '#include <banach/engine/tape.hpp>
#include <banach/solvers/picard.hpp>
#include <banach/version.hpp>
#include <fmt/format.h>
// #include <banach/nn/linear.hpp>'
plant banach/banach.hpp '#include <banach/engine/tape.hpp>'
plant banach/xtensor.hpp '#include <xtensor/xarray.hpp>'
plant apps/main.cpp '#include <banach/banach.hpp>
#include <CLI/CLI.hpp>
#include <apps/lab/lab.hpp>'
expect 0 "6 files, 0 faults"

plant banach/engine/tape.cpp '#include <vector>
  #  include <banach/ops/add.hpp>'
expect 1 "banach/engine/tape.cpp:2: engine -> ops is forbidden"

plant banach/solvers/picard.hpp '#include <banach/nn/linear.hpp>'
expect 1 "banach/solvers/picard.hpp:1: solvers -> nn is forbidden"

plant banach/ops/implicit/fixed_point.hpp '#include "banach/nn/linear.hpp"'
expect 1 "banach/ops/implicit/fixed_point.hpp:1: ops -> nn is forbidden"

plant banach/nn/linear.cpp '#include <banach/banach.hpp>'
expect 1 "banach/nn/linear.cpp:1: nn -> banach is forbidden"

plant banach/nn/linear.cpp '#include <apps/lab/lab.hpp>'
expect 1 "banach/nn/linear.cpp:1: nn -> apps is forbidden"

plant banach/nn/linear.cpp '#include "../engine/tape.hpp"'
expect 1 'banach/nn/linear.cpp:1: name the header in full'

plant apps/cli/common.cpp '#include <banach/engine/parallel.hpp>'
plant apps/lab/lab.cpp '#include <banach/engine/parallel.hpp>'
expect 1 "apps/lab/lab.cpp:1: applications leave threads to the library: <banach/engine/parallel.hpp>"

plant apps/main.cpp '#include <thread>'
expect 1 "apps/main.cpp:1: applications leave threads to the library: <thread>"

plant apps/main.cpp '#include <banach/solver/picard.hpp>'
expect 1 "apps/main.cpp:1: no such layer: solver"

plant banach/engine/parallel.cpp '#include <oneapi/tbb/parallel_for.h>'
plant banach/engine/blas.cpp '#include <cblas.h>'
expect 0 "2 files, 0 faults"

plant banach/solvers/picard.cpp '#include <tbb/parallel_for.h>'
expect 1 "banach/solvers/picard.cpp:1: TBB is for banach/engine/parallel.cpp alone"

plant banach/ops/matmul.cpp '#include <cblas.h>'
expect 1 "banach/ops/matmul.cpp:1: BLAS is for banach/engine/blas.cpp alone"

for header in fmt/format.h nlohmann/json.hpp tbb/parallel_for.h oneapi/tbb.h xtensor/xarray.hpp xsimd/xsimd.hpp \
  catch2/catch.hpp CLI/CLI.hpp; do
  plant banach/engine/tensor.hpp "#include <$header>"
  expect 1 "banach/engine/tensor.hpp:1: heavy header in a public header: <$header>"
done

plant banach/banach.hpp '#include <banach/engine/tape.hpp>'
plant banach/engine/tape.hpp '#include <banach/engine/var.hpp>'
plant banach/engine/var.hpp '#pragma once'
plant banach/engine/graph.hpp '#pragma once'
expect 1 "banach/engine/graph.hpp:2: neither internal nor brought in by <banach/banach.hpp>"

plant banach/banach.hpp '#include <banach/engine/tape.hpp>'
plant banach/engine/tape.hpp '#include <banach/engine/slab.hpp>'
plant banach/engine/slab.hpp '#pragma once
// Internal: chunks of memory.'
expect 1 "banach/engine/slab.hpp:2: an internal header that <banach/banach.hpp> brings in"

[ "$failures" -eq 0 ] && echo "check_layers_test: every planted fault was found"
exit "$((failures > 0))"
