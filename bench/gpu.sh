#!/bin/sh
# Everything that needs a GPU: device tests, the same under compute-sanitizer, kernels, whole explanations,
# their latencies, and PyTorch in turn with whence. One results file says which machine and commit it belongs to.
# usage: bench/gpu.sh BUILD_FOLDER [--device NAME] [--smoke] [--sections 'NAME ...'] [--out FILE]
#   --device    of whence: cuda unless given
#   --smoke     tiny sizes, nothing worth keeping: with --device simt or cpu this tries the script without a GPU
#   --sections  some of: tests sanitizer kernels models latency peers
#   --out       results file, bench/results/GPU-COMMIT.json unless given
# Every section leaves parts in BUILD_FOLDER/gpu-results/COMMIT, and the results file is put together from all
# parts after each of them: a section that fails loses nothing, and sections can be run one by one. PYTHON names
# the interpreter (python3 unless set), which need not have torch.
set -u
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '4,8s/^# \{0,1\}//p' bench/gpu.sh >&2; exit 2; }

[ -d "${1:-}" ] || usage
build=$1
shift
device=cuda smoke='' out='' sections='tests sanitizer kernels models latency peers'
while [ $# -gt 0 ]; do
  case $1 in
    --smoke) smoke=--smoke ;;
    --device | --sections | --out)
      [ $# -ge 2 ] || usage
      case $1 in
        --device) device=$2 ;;
        --sections) sections=$2 ;;
        --out) out=$2 ;;
      esac
      shift
      ;;
    *) usage ;;
  esac
  shift
done

python=${PYTHON:-python3}
command -v "$python" > /dev/null || { echo "$python was not found: it checks the results" >&2; exit 1; }
tests=$build/tests/whence_tests
commit=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2> /dev/null)" ] || commit=$commit-changed
parts=$build/gpu-results/$commit${smoke:+-smoke}
mkdir -p "$parts" || exit 1

gpu=no index=0
case $device in
  cuda*)
    gpu=yes
    index=${device#cuda} index=${index#:} index=${index:-0}
    ;;
esac

# --- the machine -----------------------------------------------------------------------------------

json_string() { printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')"; }
ask_gpu() {
  [ $gpu = yes ] || return 0
  nvidia-smi --query-gpu="$1" --format=csv,noheader -i "$index" 2> /dev/null | head -n 1
}
name=$(ask_gpu name)
machine() {
  printf '{"gpu": %s, "driver": %s, ' "$(json_string "$name")" "$(json_string "$(ask_gpu driver_version)")"
  printf '"memory": %s, "power_limit": %s, ' "$(json_string "$(ask_gpu memory.total)")" \
    "$(json_string "$(ask_gpu power.limit)")"
  printf '"clocks_max_sm": %s, "clocks_max_memory": %s, ' "$(json_string "$(ask_gpu clocks.max.sm)")" \
    "$(json_string "$(ask_gpu clocks.max.memory)")"
  printf '"host": %s, "processors": %s}' \
    "$(json_string "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)")" "$(nproc)"
}
if [ -z "$out" ]; then
  out=bench/results/$(printf '%s' "${name:-no-gpu}" | tr 'A-Z ' 'a-z-')-$commit.json
  [ -z "$smoke" ] || out=$build/gpu-smoke.json
fi

# --- parts and the results file ---------------------------------------------------------------------

# {"NAME": contents of NAME.SUFFIX, ...} of all parts
object_of() {
  comma=
  printf '{'
  for part in "$parts"/*."$1"; do
    [ -s "$part" ] || continue
    printf '%s\n%s: ' "$comma" "$(json_string "$(basename "$part" ".$1")")"
    cat "$part"
    comma=,
  done
  printf '}'
}
assemble() {
  mkdir -p "$(dirname "$out")"
  {
    printf '{"machine": %s,\n"device": %s, "smoke": %s, ' "$(machine)" "$(json_string "$device")" \
      "$([ -n "$smoke" ] && echo true || echo false)"
    printf '"commit": %s, "date": "%s",\n' "$(json_string "$commit")" "$(date -u +%FT%TZ)"
    printf '"failed": %s,\n"clocks": %s,\n"sections": %s}\n' "$(object_of error)" "$(object_of clocks)" \
      "$(object_of json)"
  } > "$out.part" && mv "$out.part" "$out"
}
is_json() { "$python" -m json.tool "$1" > /dev/null 2>&1; }

# Clocks of multiprocessors and memory (MHz), power (W) and temperature, one line a second.
watch_clocks() {
  exec nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu \
    --format=csv,noheader,nounits -i "$index" -l 1
}
summarise_clocks() {
  sort -t, -k1,1n "$1" 2> /dev/null | awk -F, '
    NF == 4 { sm[++n] = $1 + 0; memory = $2 + 0; if ($3 + 0 > power) power = $3 + 0; if ($4 + 0 > hot) hot = $4 + 0 }
    END { if (n) printf "{\"sm_min\": %d, \"sm_median\": %d, \"sm_max\": %d, \"memory\": %d, \"power_max\": %.0f, \"temperature_max\": %d}",
                        sm[1], sm[int((n + 1) / 2)], sm[n], memory, power, hot }'
}

# part NAME COMMAND...: what the command prints becomes the part if it is JSON, whether or not it succeeds.
status=0
part() {
  part_name=$1
  shift
  echo "== $part_name"
  file=$parts/$part_name.json
  rm -f "$parts/$part_name".*
  watcher=
  if [ $gpu = yes ] && command -v nvidia-smi > /dev/null; then
    watch_clocks > "$parts/$part_name.watch" 2> /dev/null &
    watcher=$!
  fi
  "$@" > "$file.new" 2> "$parts/$part_name.said"
  code=$?
  if [ -n "$watcher" ]; then
    kill "$watcher" 2> /dev/null
    wait "$watcher" 2> /dev/null
    summarise_clocks "$parts/$part_name.watch" > "$parts/$part_name.clocks"
  fi
  if is_json "$file.new"; then
    mv "$file.new" "$file"
  elif [ $code -eq 0 ]; then
    code=1
  fi
  if [ $code -ne 0 ]; then
    status=1
    last=$(tail -n 1 "$parts/$part_name.said")
    echo "   failed: exit $code: $last"
    json_string "exit $code: $last" > "$parts/$part_name.error"
  fi
  assemble
}

wanted() { case " $sections " in *" $1 "*) true ;; *) false ;; esac; }

# --- sections ---------------------------------------------------------------------------------------

# shellcheck disable=SC2317  # called through part()
# Prints JSON when the tests succeed, and what failed to where messages go otherwise.
run_tests() {
  # all of them skipped, or none found, is no success
  if "$@" > "$parts/tests.log" 2>&1 && grep -q '^\[  PASSED  \] [1-9]' "$parts/tests.log"; then
    skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$parts/tests.log" | head -n 1)
    printf '{"passed": true, "skipped": %d, "last_line": %s}\n' "${skipped:-0}" \
      "$(json_string "$(tail -n 1 "$parts/tests.log")")"
  else
    grep -E 'FAILED|ERROR|error|SKIPPED|PASSED|not run' "$parts/tests.log" | tail -n 20 >&2
    return 1
  fi
}
# shellcheck disable=SC2317
sanitized() {
  run_tests compute-sanitizer --tool "$1" --error-exitcode 1 "$tests" --gtest_brief=1 \
    --gtest_filter='Each/OnDevice.every_operator*cuda*:Each/OnDevice.precision*cuda*'
}

"$build/bench/model_bench" --smoke --device "$device" --only forward --rounds 1 > /dev/null || {
  echo "the device $device could not be used"
  exit 1
}

precisions='f32 tf32 bf16' batches='1 32 128' rounds=30 calls=10000
[ "$device" != cpu ] || precisions=f32  # others are a GPU's
[ -z "$smoke" ] || batches=2 rounds=1 calls=2

if wanted tests && [ $gpu = yes ]; then
  part tests run_tests "$tests" --gtest_brief=1 --gtest_filter='*OnDevice.*cuda*'
fi
if wanted sanitizer && [ $gpu = yes ]; then
  if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do part "sanitizer-$tool" sanitized $tool; done
  else
    echo 'compute-sanitizer was not found: not run'
  fi
fi
if wanted kernels && [ ! -x "$build/bench/kernels_bench" ]; then
  echo "$build/bench/kernels_bench was not built: kernels not measured"
elif wanted kernels; then
  for group in product attention conv; do
    part "kernels-$group" "$build/bench/kernels_bench" --device "$device" $smoke --benchmark_format=json \
      --benchmark_filter="^$group"
  done
  part kernels-rest "$build/bench/kernels_bench" --device "$device" $smoke --benchmark_format=json \
    --benchmark_filter='-^(product|attention|conv)'
fi
if wanted models; then
  for precision in $precisions; do
    for batch in $batches; do
      part "models-$precision-$batch" "$build/bench/model_bench" --json --device "$device" $smoke \
        --precision "$precision" --batch "$batch" --rounds $rounds
    done
  done
fi
if wanted latency; then
  for precision in $precisions; do
    part "latency-$precision" "$build/bench/model_bench" --json --device "$device" $smoke \
      --precision "$precision" --batch 1 --rounds 1 --latency $calls
  done
fi
# shellcheck disable=SC2317
# What was measured until something went wrong is kept.
run_peers() {
  rm -f "$parts/peers.rows"
  if [ -n "$smoke" ]; then few='--rounds 2 --methods forward generic-attention'; else few=; fi
  # shellcheck disable=SC2086
  "$python" bench/peer_gpu.py --bench "$build/bench/model_bench" --device "$device" $smoke $few \
    --batches "$1" --out "$parts/peers.rows" >&2
  peers_code=$?
  cat "$parts/peers.rows" && rm "$parts/peers.rows"
  return "$peers_code"
}
if wanted peers; then
  if [ $gpu = yes ]; then has_peer='import torch; assert torch.cuda.is_available()'; else has_peer='import torch'; fi
  if "$python" -c "$has_peer" 2> /dev/null; then
    for batch in $batches; do part "peers-$batch" run_peers "$batch"; done
  else
    echo "$python has no torch that can use $device: peers not run"
  fi
fi
assemble
echo "results: $out"
exit $status
