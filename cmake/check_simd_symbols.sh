#!/bin/sh
# Usage: check_simd_symbols.sh OBJECT...
# Checks that objects built per instruction set define nothing that the linker could share with other code: no
# global function, and no weak symbol outside the namespace of their instruction set (std:: templates, say). One such
# symbol, and a program may run AVX-512 code on a processor that lacks it, far away from any kernel.
# NM names the symbol lister (default: nm).
set -eu

[ "$#" -ge 1 ] || { echo "usage: $0 OBJECT..." >&2; exit 2; }

status=0
for object in "$@"; do
  symbols=$("${NM:-nm}" -C --defined-only "$object") || exit 1
  # Kinds: T global function; W, V, u weak or unique; i indirect function, resolved by code. DW.ref.* is data of the unwinder.
  bad=$(printf '%s\n' "$symbols" | awk '
    $2 ~ /^[TWVui]$/ {
      name = $0; sub(/^[^ ]* . /, "", name)
      if (name ~ /^DW\.ref\./) next
      if ($2 != "T" && name ~ /banach_xsimd_(sse2|avx2|avx512)::/) next
      print "  " $2 " " name
    }')
  if ! printf '%s\n' "$symbols" | grep -Eq 'banach::(simd|qp)::detail::'; then
    echo "$object: no kernel tables in it" >&2
    status=1
  fi
  if [ -n "$bad" ]; then
    echo "$object: symbols that must not be here:" >&2
    printf '%s\n' "$bad" >&2
    status=1
  fi
done
exit "$status"
