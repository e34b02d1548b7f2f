// Points in one pass, in the order of the image or cut into patches.
//
// A block of 256 threads owns 1,024 adjacent elements of a row of the image; a thread owns four,
// which are a block of the generator. Where rows (and patches) are multiples of four they are read
// and written as one: a warp reads 512 adjacent bytes and writes them in runs of a patch's width.
// Reads 4 bytes per element (8 where the other tensor is given) and writes 4; bound by memory, or
// by the generator.
#include "kernels/cuda/gpu.cuh"
#include "kernels/points.h"

namespace whence::k {
namespace {

constexpr int threads = 256, per_block = 4 * threads;

struct alignas(16) Quad {
  real of[4];
};

// Elements [first, first + 4) of x, of which `count` are there.
template <bool whole>
__device__ Quad read(const real* x, int64_t count) {
  if constexpr (whole) return *reinterpret_cast<const Quad*>(x);
  Quad q{};
  for (int j = 0; j < 4; ++j)
    if (j < count) q.of[j] = x[j];
  return q;
}

// Where element i of a row goes.
__device__ int64_t place_of(const PatchSize& size, int64_t i) {
  const int64_t p = size.patch;
  if (p == 0) return i;
  const int64_t line = i / size.width, col = i - line * size.width;
  const int64_t channel = line / size.height, row = line - channel * size.height;
  const int64_t down = row / p, across = col / p;
  const int64_t cell = (channel * p + row - down * p) * p + col - across * p;
  return (down * (size.width / p) + across) * size.channels * p * p + cell;
}

// to item + from other. Written out, so that products and the sum round one by one.
template <PointTerms::Other kind, bool whole>
__global__ void __launch_bounds__(threads)
    interpolate_kernel(PointTerms terms, PatchSize size, int64_t count, real* y) {
  const int64_t across = gpu::pieces<int64_t>(count, per_block);
  const int64_t row = int64_t(blockIdx.x) / across;
  const int64_t four = (int64_t(blockIdx.x) - row * across) * threads + threadIdx.x;
  const int64_t first = 4 * four, left = count - first, at = row * count + first;
  if (left <= 0) return;
  Quad sum = read<whole>(terms.item + at, left);
  const real to = terms.to[row];
  for (int j = 0; j < 4; ++j) sum.of[j] = to * sum.of[j];
  if constexpr (kind != PointTerms::none) {
    Quad other;
    if constexpr (kind == PointTerms::given) {
      other = read<whole>(terms.other + at, left);
    } else {
      const auto z = normal_four(words_of(key_of(terms.keys + 4 * row), uint64_t(four)));
      for (int j = 0; j < 4; ++j) other.of[j] = z[size_t(j)];
    }
    const real from = terms.from[row];
    for (int j = 0; j < 4; ++j) sum.of[j] = sum.of[j] + from * other.of[j];
  }
  real* const to_row = y + row * count;
  if constexpr (whole) {
    *reinterpret_cast<Quad*>(to_row + place_of(size, first)) = sum;
  } else {
    for (int j = 0; j < 4; ++j)
      if (j < left) to_row[place_of(size, first + j)] = sum.of[j];
  }
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % alignof(Quad) == 0; }

template <PointTerms::Other kind>
void run(gpu::Stream& s, const PointTerms& terms, const PatchSize& size, int64_t count, real* y) {
  const bool whole = count % 4 == 0 && size.patch % 4 == 0 && aligned(terms.item) &&
                     (kind != PointTerms::given || aligned(terms.other)) && aligned(y);
  const gpu::Launch shape(size.batch * gpu::pieces<int64_t>(count, per_block), threads, 0,
                          "interpolate");
  if (whole)
    gpu::launch(s, shape, interpolate_kernel<kind, true>, terms, size, count, y);
  else
    gpu::launch(s, shape, interpolate_kernel<kind, false>, terms, size, count, y);
}

}  // namespace

void interpolate(gpu::Stream& s, const PointTerms& terms, const PatchSize& size, real* y) {
  const int64_t count = size.channels * size.height * size.width;
  if (size.batch <= 0 || count <= 0) return;
  switch (terms.kind) {
    case PointTerms::none:
      return run<PointTerms::none>(s, terms, size, count, y);
    case PointTerms::given:
      return run<PointTerms::given>(s, terms, size, count, y);
    case PointTerms::normal:
      return run<PointTerms::normal>(s, terms, size, count, y);
  }
}

}  // namespace whence::k
