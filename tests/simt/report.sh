#!/bin/sh
# Writes bench/results/emulator.md: which kernels the emulated device runs under how many schedules, and what it
# notices of faults.
# usage: tests/simt/report.sh [RELEASE TSAN]   folders that whence_simt_report (and in RELEASE whence_simt_mutate) are
#                                              built in; without, they are built in build/release and build/tsan
set -eu
cd "$(dirname "$0")/../.."
out=bench/results/emulator.md
release=${1:-build/release}
tsan=${2:-build/tsan}
if [ $# -eq 0 ]; then
  [ -f build/release/CMakeCache.txt ] || cmake --preset release
  cmake --build build/release --target whence_simt_report whence_simt_mutate
  [ -f build/tsan/CMakeCache.txt ] || cmake --preset tsan
  cmake --build build/tsan --target whence_simt_report
fi
mkdir -p bench/results
{
  echo '# The CUDA kernels on the emulated device'
  echo
  echo 'Written by tests/simt/report.sh. No number is a time.'
  echo
  "$release"/tests/simt/whence_simt_report
  "$tsan"/tests/simt/whence_simt_report
  echo '## Barriers left out, in the kernel tests'
  echo
  echo 'The mutation program (whence_simt_mutate): which test of tests/unit fails first.'
  echo
  echo '| place | first to fail |'
  echo '| --- | --- |'
  "$release"/tests/simt/whence_simt_mutate |
    sed -e 's/\[  FAILED  \] //' -e 's/^\([a-z_]*\.cuh\{0,1\}:[0-9]*\)  \(.*\)$/| \1 | \2 |/' -e 's/^[0-9]* barriers/\n&/'
} > "$out.part"
mv "$out.part" "$out"
tail -1 "$out"
