#!/bin/sh
# Everything that needs a GPU, in one run: builds for the GPU of this machine, runs the device tests, then
# the same under compute-sanitizer where it is installed, and measures. The results file says which machine and
# commit it belongs to.
# usage: bench/gpu.sh BUILD_FOLDER
set -eu
cd "$(dirname "$0")/.."
build=$1
tests=$build/tests/whence_tests

"$build/whence" --version
"$tests" --gtest_brief=1 --gtest_filter='*/OnDevice.*'
if "$tests" --gtest_filter='Each/OnDevice.*cuda*' | grep -q SKIPPED; then
  echo 'the GPU could not be used: see the skipped tests above'
  exit 1
fi
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    echo "== compute-sanitizer --tool $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" --gtest_brief=1 \
      --gtest_filter='Each/OnDevice.every_operator*cuda*:Each/OnDevice.precision*cuda*'
  done
else
  echo 'compute-sanitizer was not found: not run'
fi

gpu=$(nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.memory --format=csv,noheader -i 0)
name=$(echo "$gpu" | cut -d, -f1 | tr 'A-Z ' 'a-z-')
commit=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
mkdir -p bench/results
out=bench/results/$name-$commit.json
{
  printf '{"machine": "%s", "commit": "%s", "date": "%s", "runs": [' "$gpu" "$commit" "$(date -u +%F)"
  comma=
  for precision in f32 tf32 bf16; do
    for batch in 1 32 128; do
      printf '%s\n' "$comma"
      "$build/bench/model_bench" --json --device cuda --precision "$precision" --batch "$batch" --rounds 30
      comma=,
    done
  done
  printf ']}\n'
} > "$out"
echo "results: $out"
