#!/bin/sh
# Registers, shared memory, stack and spills of every CUDA kernel, as the compiler reports them: writes
# bench/results/kernel_resources.md. Needs nvcc, no GPU.
set -eu
cd "$(dirname "$0")/.."
out=bench/results/kernel_resources.md
log=$(mktemp)
object=$(mktemp)
trap 'rm -f "$log" "$object"' EXIT
mkdir -p bench/results
{
  echo '# Resources of the CUDA kernels'
  echo
  echo "Written by bench/kernel_resources.sh with $(nvcc --version | sed -n 's/.*\(release [0-9.]*\).*/nvcc \1/p')."
  echo 'Shared memory is what the kernel declares; what a launch adds stands in the kernel files.'
  echo
  echo '| file | kernel | sm | registers | shared, bytes | stack, bytes | spills, bytes |'
  echo '| --- | --- | --- | --- | --- | --- | --- |'
} > "$out"
for file in kernels/cuda/*.cu; do
  for arch in 80 90; do
    nvcc -std=c++20 --expt-relaxed-constexpr --fmad=false -O3 -arch=sm_$arch -I. -Iinclude -DWHENCE_HAVE_CUDA \
      -Xptxas -v -c "$file" -o "$object" 2> "$log"
    c++filt < "$log" | awk -v file="$(basename "$file")" -v arch=$arch '
      /Compiling entry function/ {
        # the name, without namespaces, arguments and the return type of templates
        match($0, /\x27.*\x27 for/); name = substr($0, RSTART + 1, RLENGTH - 6)
        gsub(/whence::k::|cuda::map_tile::|cuda::|\(anonymous namespace\)::|whence::|_INTERNAL[^:]*::/, "", name)
        sub(/^void /, "", name); sub(/\([^()]*(\([^()]*\)[^()]*)*\)$/, "", name)
      }
      /bytes stack frame/ { stack = $1; spills = $5 + $9 }
      /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5); shared = 0
        if (match($0, /[0-9]+ bytes smem/)) { split(substr($0, RSTART, RLENGTH), part, " "); shared = part[1] }
        printf "| %s | `%s` | %s | %s | %s | %s | %s |\n", file, name, arch, registers, shared, stack, spills
      }'
  done
done | sort -t'|' -k2,2 -k3,3 -k4,4 >> "$out"
awk -F'|' '/^\| [a-z_]*\.cu/ { n++; if ($8 + 0 > 0 || $7 + 0 > 0) bad++ } END { print n " rows, " bad + 0 " with a stack or spills" }' "$out"
