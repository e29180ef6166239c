#!/usr/bin/env bash
# Builds dsopt and runs every test: release, ASan+UBSan, TSan, fuzz targets, and, where nvcc is, the CUDA plugin
# (GPU tests report themselves skipped without a GPU). Needs packaging/setup.sh once. About 31 minutes on 2 cores.
#   tests/run.sh [release|asan|tsan|fuzz|cuda]...      default: all
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(cuda asan tsan fuzz release)
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
fi

build() { # preset, targets...
  local preset=$1
  shift
  cmake --preset "$preset" "${launcher[@]}" >/dev/null
  cmake --build "build/$preset" -j "$jobs" "$@"
}
check() { # preset, ctest arguments...
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" "$@" || failed+=("$preset")
}

failed=()
seconds=()
for part in "${parts[@]}"; do
  echo "== $part"
  started=$SECONDS
  case $part in
    release) build release; check release ;;
    asan) build asan; check asan -LE "slow|cli|model" ;;
    tsan) build tsan --target capi_threads_test runtime_test dsopt_ops_threads_test; check tsan -L tsan ;;
    fuzz) build fuzz --target dsopt_fuzzers; check fuzz -L fuzz ;;
    cuda)
      if command -v nvcc >/dev/null; then
        build cuda --target cuda_package dsopt_cuda_kernel_test dsopt_cuda_fault_test dsopt_cuda_ops_test bench_cuda_blocks; check cuda -L cuda
      else
        echo "skipped: nvcc is absent, the CUDA plugin is not built"
      fi ;;
    *) echo "unknown part '$part': release, asan, tsan, fuzz or cuda" >&2; exit 2 ;;
  esac
  seconds+=("$part $((SECONDS - started))")
done
echo "seconds: ${seconds[*]}"
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "every test passed: ${parts[*]}"
