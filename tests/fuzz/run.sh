#!/bin/sh
# Runs every fuzzer of a build for a number of executions and prints a table of what they did.
# usage: tests/fuzz/run.sh [executions [build folder]]
# New inputs stay in BUILD/fuzz-out/TOPIC/corpus, findings in BUILD/fuzz-out/TOPIC/findings.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
executions=${1:-2000000}
build=${2:-$root/build/fuzz}
status=0
printf '%-14s %12s %9s %9s\n' target executions seconds findings
for fuzzer in "$build"/tests/fuzz/fuzz_*; do
  if [ ! -f "$fuzzer" ] || [ ! -x "$fuzzer" ]; then continue; fi
  topic=${fuzzer##*/fuzz_}
  out=$build/fuzz-out/$topic
  mkdir -p "$out/corpus" "$out/findings"
  started=$(date +%s)
  # 2 GiB of memory, 10 seconds and 1 MiB an input
  "$fuzzer" -runs="$executions" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -max_len=1048576 \
    -print_final_stats=1 -artifact_prefix="$out/findings/" \
    "$out/corpus" "$root/tests/fuzz/corpus/$topic" > "$out/log" 2>&1 || status=1
  seconds=$(($(date +%s) - started))
  done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/log")
  findings=$(find "$out/findings" -type f | wc -l)
  printf '%-14s %12s %9s %9s\n' "$topic" "${done_runs:-0}" "$seconds" "$findings"
  [ "$findings" -eq 0 ] || status=1
done
exit $status
