#!/usr/bin/env bash
# Builds the stub driver and the stub cuBLASLt into a folder:
#
#     kernels/cuda/stub/build.sh OUT
#
# `CXXFLAGS` is added; -DWITHOUT_UUID leaves a function out, as an older driver does.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=$1
mkdir -p "$out"
flags=(-std=c++17 -O2 -g1 -fPIC -shared -Wall -Wextra -Werror -Wno-unknown-pragmas -fno-strict-aliasing ${CXXFLAGS:-})
"${CXX:-g++}" "${flags[@]}" "$here/driver.cpp" -Wl,-soname,libcuda.so.1 -o "$out/libcuda.so.1" -ldl
"${CXX:-g++}" "${flags[@]}" "$here/cublaslt.cpp" -Wl,-soname,libcublasLt.so.12 -Wl,-rpath,'$ORIGIN' \
    -L"$out" -l:libcuda.so.1 -o "$out/libcublasLt.so.12" -ldl
