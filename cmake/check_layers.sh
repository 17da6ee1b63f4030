#!/usr/bin/env bash
# Checks who includes whom, in the tree given as $1 (default: this one):
#   - a layer includes only itself and the layers to its left: engine <- solvers <- ops <- nn <- apps;
#   - files of the library name their headers in full, <banach/...>, so that no include escapes the first check;
#   - TBB and CBLAS each have one door, banach/engine/parallel.cpp and banach/engine/blas.cpp;
#   - the applications start no threads nor parallel loops of their own (so ThreadSanitizer need not build them);
#   - public headers stay light: none of the heavy headers below, outside the files that exist for them;
#   - <banach/banach.hpp> brings in every header but those whose second line begins with "// Internal", and none
#     of those.
# Prints file:line and the forbidden arrow for each fault; exits 1 if there is one.
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

mapfile -t files < <(find banach apps -type f \( -name '*.hpp' -o -name '*.cpp' \) 2>/dev/null | sort)
if [ ${#files[@]} -eq 0 ]; then
  echo "check_layers: no sources found"
  exit 1
fi
awk '
  function layer_of(path,   parts) {  # "banach/ops/implicit/rule.hpp" -> "ops"; umbrella headers -> "banach"
    if (split(path, parts, "/") > 2 || parts[1] == "apps") return parts[1] == "apps" ? "apps" : parts[2]
    return parts[2] == "version.hpp" ? "version" : "banach"
  }
  function fault(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; faults++ }
  BEGIN {
    # The umbrella headers bring in every layer of the library: only the applications may include them.
    rank["version"] = 0; rank["engine"] = 1; rank["solvers"] = 2; rank["ops"] = 3; rank["nn"] = 4
    rank["banach"] = 5; rank["apps"] = 6
    heavy = "^(fmt|nlohmann|tbb|oneapi|xtensor|xtl|xsimd|catch2|CLI)/"
    may_be_heavy["banach/xtensor.hpp"] = may_be_heavy["banach/engine/simd_kernels.hpp"] = 1
  }
  FNR == 2 && FILENAME ~ /^banach\/.*\.hpp$/ { internal[FILENAME] = /^\/\/ Internal/ }
  FNR == 1 { from = layer_of(FILENAME); if (!(from in rank)) fault("no such layer: " from) }
  /^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    quoted = $0 ~ /^[^<"]*"/
    header = $0; sub(/^[^<"]*[<"]/, "", header); sub(/[>"].*$/, "", header)
    includes[FILENAME] = includes[FILENAME] " " header
    if (header ~ /^(banach|apps)\//) {
      to = layer_of(header)
      if (!(to in rank)) fault("no such layer: " to)
      else if (rank[to] > rank[from]) fault(from " -> " to " is forbidden: <" header ">")
    } else if (quoted && FILENAME ~ /^banach\//) {
      fault("name the header in full, <banach/...>: \"" header "\"")
    }
    if (header ~ /^(tbb|oneapi)\// && FILENAME != "banach/engine/parallel.cpp")
      fault("TBB is for banach/engine/parallel.cpp alone: <" header ">")
    if (header ~ /^(cblas|f77blas|lapack|lapacke|openblas_config)\.h$/ && FILENAME != "banach/engine/blas.cpp")
      fault("BLAS is for banach/engine/blas.cpp alone: <" header ">")
    if (from == "apps" && (header ~ /^(thread|future|pthread.h)$/ ||
                           header == "banach/engine/parallel.hpp" && FILENAME !~ /^apps\/cli\//))
      fault("applications leave threads to the library: <" header ">")
    if (header ~ heavy && FILENAME ~ /^banach\/.*\.hpp$/ && !(FILENAME in may_be_heavy))
      fault("heavy header in a public header: <" header ">")
  }
  function visit(header,   list, n, i) {  # marks what an include of this header brings in
    if (public[header]++) return
    n = split(includes[header], list, " ")
    for (i = 1; i <= n; i++) visit(list[i])
  }
  END {
    visit("banach/banach.hpp")
    for (i = 1; i < ARGC; i++) {
      FILENAME = ARGV[i]; FNR = 2
      if (FILENAME !~ /^banach\/.*\/.*\.hpp$/) continue
      if (internal[FILENAME] && FILENAME in public)
        fault("an internal header that <banach/banach.hpp> brings in")
      if (!internal[FILENAME] && !(FILENAME in public))
        fault("neither internal nor brought in by <banach/banach.hpp>")
    }
    printf "check_layers: %d files, %d faults\n", ARGC - 1, faults
    exit faults > 0
  }' "${files[@]}"
