#!/usr/bin/env bash
# Random problems on every path that this processor can run, under the address and undefined-behaviour sanitizers and with guard
# pages around all arrays; and on NEON under emulation, where a compiler for it and QEMU are here.
#
#     check.sh [problems] [seed]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! command -v "${CXX:-g++}" > /dev/null; then
  echo "there is no C++ compiler here, so nothing is checked"
  exit 0
fi
problems=${1:-60}
seed=${2:-1}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
flags=(-std=c++17 -Wall -Wextra -Werror -Wno-uninitialized -Wno-maybe-uninitialized -ffp-contract=off -pthread)

for name in words reals; do
  "${CXX:-g++}" "${flags[@]}" -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined "fuzz_$name.cc" -o "$build/$name"
  echo "$name, sanitized:"
  "$build/$name" "$problems" "$seed"
done

if command -v aarch64-linux-gnu-g++ qemu-aarch64 > "$build/found" && [ "$(wc -l < "$build/found")" = 2 ]; then
  for name in words reals; do
    aarch64-linux-gnu-g++ "${flags[@]}" -O2 -static "fuzz_$name.cc" -o "$build/$name"
    echo "$name, emulated:"
    qemu-aarch64 "$build/$name" "$problems" "$seed"
  done
else
  echo "NEON is not checked: that takes aarch64-linux-gnu-g++ and qemu-aarch64"
fi
