#!/usr/bin/env bash
# Installs a build and uses it as a stranger would: configures, builds and runs tests/downstream against the installed
# tree, with nothing of the source tree in sight.
#   cmake/test_downstream.sh [BUILD_DIR]      default: build/release
set -euo pipefail
source_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build_dir="${1:-$source_dir/build/release}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build_dir" --prefix "$scratch/prefix" >/dev/null
cp -r "$source_dir/tests/downstream" "$scratch/source"
cmake -G Ninja -S "$scratch/source" -B "$scratch/build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_FIND_PACKAGE_NO_PACKAGE_REGISTRY=ON
cmake --build "$scratch/build"
"$scratch/build/downstream"
"$scratch/prefix/bin/banach" --help >/dev/null
echo "test_downstream: built, linked and run against the installed package"
