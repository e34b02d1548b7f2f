// Einsums of two operands with arbitrary strides.
//
// The general case takes a tile of rows x columns of one loop index for each block (tile.cuh); the
// offsets of the tile's lines are computed once, those of the summed elements as they are fetched.
// With one row or one column there is nothing to share: a thread has one element of the result. If
// neighbouring elements lie side by side in the matrix it reads the matrix in place, else a warp
// brings 32 lines of it through shared memory.
//
// Everywhere an element is one chain of fma() in ascending order of the sum, the same bits on every
// path. Bytes: operands once for each 32 to 128 lines of the other, or the matrix once for a
// vector. Bound by the FMA units, or by reading the matrix for a vector.
#include "kernels/cuda/tile.cuh"
#include "kernels/product.h"

namespace whence::k {
namespace {

// Offset of one operand for an index of a role, row-major over the role's axes.
template <int64_t Axis::*step>
__device__ int64_t offset(const Contraction::Role& role, int64_t index) {
  int64_t at = 0;
  for (int i = role.count - 1; i > 0; --i) {
    const Axis& axis = role.axes[size_t(i)];
    const int64_t outer = index / axis.size;
    at += (index - outer * axis.size) * (axis.*step);
    index = outer;
  }
  return at + index * (role.axes[0].*step);
}

// Offset of a summed element: of one axis its multiple, of several from a table, because divisions
// would cost more than the multiply-adds that they serve.
struct SumOffset {
  int64_t step;
  const int64_t* table;  // null for one axis
  __device__ int64_t operator()(int64_t x) const { return table ? table[x] : x * step; }
};

struct Extents {
  int64_t loops, rows, cols, sums;
};

constexpr int warps = 4, threads = warps * gpu::warp_size;  // where there is no tile

__global__ void table_kernel(Contraction::Role sums, int64_t count, int64_t* a, int64_t* b) {
  const int64_t x = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (x >= count) return;
  a[x] = offset<&Axis::a>(sums, x);
  b[x] = offset<&Axis::b>(sums, x);
}

struct StoreScaled {  // c = scale sum
  real* c;
  const int64_t *rows, *cols;  // offsets, in shared memory
  real scale;
  __device__ void operator()(int i, int j, real sum) const { c[rows[i] + cols[j]] = sum * scale; }
};

template <class T, bool a_sums_adjacent, bool b_sums_adjacent>
__global__ void __launch_bounds__(T::threads, T::resident)
    tile_kernel(const real* a, const real* b, real* c, Contraction l, Extents n, SumOffset sum_a,
                SumOffset sum_b, real scale) {
  WHENCE_SHARED(int64_t, lines, [4][T::side]);  // rows in a and c, columns in b and c
  const int64_t across = gpu::pieces<int64_t>(n.cols, T::side);
  const int64_t strips = gpu::pieces<int64_t>(n.rows, T::side);
  const int64_t strip = int64_t(blockIdx.x) / across, loop = strip / strips;
  const int64_t row = strip % strips * T::side, col = int64_t(blockIdx.x) % across * T::side;
  for (auto t = int(threadIdx.x); t < T::side; t += T::threads) {
    const int64_t i = std::min(row + t, n.rows - 1), j = std::min(col + t, n.cols - 1);
    lines[0][t] = offset<&Axis::a>(l.rows, i);
    lines[1][t] = offset<&Axis::c>(l.rows, i);
    lines[2][t] = offset<&Axis::b>(l.cols, j);
    lines[3][t] = offset<&Axis::c>(l.cols, j);
  }
  __syncthreads();
  tile_product<T>(
      Operand<a_sums_adjacent, SumOffset>{a + offset<&Axis::a>(l.loops, loop), lines[0], sum_a},
      Operand<b_sums_adjacent, SumOffset>{b + offset<&Axis::b>(l.loops, loop), lines[2], sum_b},
      n.sums, int(std::min<int64_t>(T::side, n.rows - row)),
      int(std::min<int64_t>(T::side, n.cols - col)),
      StoreScaled{c + offset<&Axis::c>(l.loops, loop), lines[1], lines[3], scale});
}

template <class T>
auto tile_kernel_for(bool a_sums_adjacent, bool b_sums_adjacent) {
  if (a_sums_adjacent)
    return b_sums_adjacent ? tile_kernel<T, true, true> : tile_kernel<T, true, false>;
  return b_sums_adjacent ? tile_kernel<T, false, true> : tile_kernel<T, false, false>;
}

// The vector kernels have one row; thread o owns element o of loops x columns.
struct Vector {
  int64_t a, b, c;  // offsets of the element's vector, of its line of the matrix, of itself
};
__device__ inline Vector vector_of(const Contraction& l, int64_t cols, int64_t element) {
  const int64_t loop = element / cols, col = element % cols;
  return {offset<&Axis::a>(l.loops, loop),
          offset<&Axis::b>(l.loops, loop) + offset<&Axis::b>(l.cols, col),
          offset<&Axis::c>(l.loops, loop) + offset<&Axis::c>(l.cols, col)};
}

__global__ void __launch_bounds__(threads)
    in_place_kernel(const real* a, const real* b, real* c, Contraction l, Extents n,
                    SumOffset sum_a, SumOffset sum_b, real scale) {
  const int64_t element = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (element >= n.loops * n.cols) return;
  const Vector v = vector_of(l, n.cols, element);
  real sum = 0;
  WHENCE_UNROLL(16)  // reads that are under way together
  for (int64_t x = 0; x < n.sums; ++x) sum = std::fma(a[v.a + sum_a(x)], b[v.b + sum_b(x)], sum);
  c[v.c] = sum * scale;
}

// Summed elements are adjacent in the matrix. A warp reads 32 of them on each of its 32 lines, line
// by line, and puts them where each lane finds its own line; the next ones are on their way
// meanwhile. The odd width keeps both accesses free of bank conflicts.
__global__ void __launch_bounds__(threads)
    staged_kernel(const real* a, const real* b, real* c, Contraction l, Extents n, SumOffset sum_a,
                  SumOffset sum_b, real scale) {
  constexpr int side = gpu::warp_size;
  WHENCE_SHARED(real, squares, [warps][side][side + 1]);  // [line][sum]
  WHENCE_SHARED(int64_t, offsets, [warps][side]);
  const int warp = int(threadIdx.x) / side, lane = int(threadIdx.x) % side;
  const int64_t elements = n.loops * n.cols;
  const int64_t element = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (element - lane >= elements) return;  // the whole warp
  const Vector v = vector_of(l, n.cols, std::min(element, elements - 1));
  auto& square = squares[warp];
  auto& lines = offsets[warp];
  lines[lane] = v.b;
  __syncwarp();
  real part[side], sum = 0;
  const auto fetch_part = [&](int64_t first) {
    const bool exists = first + lane < n.sums;
    const int64_t at = exists ? sum_b(first + lane) : 0;
    for (int i = 0; i < side; ++i) part[i] = exists ? b[lines[i] + at] : real(0);
  };
  fetch_part(0);
  for (int64_t first = 0; first < n.sums; first += side) {
    for (int i = 0; i < side; ++i) square[i][lane] = part[i];
    __syncwarp();
    if (first + side < n.sums) fetch_part(first + side);
    const int count = int(std::min<int64_t>(side, n.sums - first));
    for (int x = 0; x < count; ++x) sum = std::fma(a[v.a + sum_a(first + x)], square[lane][x], sum);
    __syncwarp();
  }
  if (element < elements) c[v.c] = sum * scale;
}

// The innermost axis that has more than one index; null if none.
const Axis* innermost(const Contraction::Role& role) {
  for (int i = role.count; i-- > 0;)
    if (role.axes[size_t(i)].size > 1) return &role.axes[size_t(i)];
  return nullptr;
}
bool adjacent(const Contraction::Role& role, int64_t Axis::*step) {
  const Axis* axis = innermost(role);
  return axis && axis->*step == 1;
}
int64_t extent(const Contraction::Role& role) {
  int64_t n = 1;
  for (int i = 0; i < role.count; ++i) n *= role.axes[size_t(i)].size;
  return n;
}

// The same einsum with a and b exchanged; multiplication commutes, so the bits are the same.
Contraction exchanged(Contraction l) {
  std::swap(l.rows, l.cols);
  for (auto* role : {&l.loops, &l.rows, &l.cols, &l.sums})
    for (Axis& axis : role->axes) std::swap(axis.a, axis.b);
  return l;
}

struct SumOffsets {
  SumOffset a, b;
};
SumOffsets sum_offsets(gpu::Stream& s, const Contraction::Role& sums, int64_t count) {
  if (sums.count <= 1) return {{sums.axes[0].a, nullptr}, {sums.axes[0].b, nullptr}};
  auto* table =
      static_cast<int64_t*>(s.scratch(size_t(std::max<int64_t>(count, 1)) * 2 * sizeof(int64_t)));
  gpu::launch(s, {gpu::pieces<int64_t>(count, threads), threads}, table_kernel, sums, count, table,
              table + count);
  return {{0, table}, {0, table + count}};
}

}  // namespace

void contract(gpu::Stream& s, const real* a, const real* b, real* c, const Contraction& letters,
              real scale) {
  Contraction l = letters;
  Extents n{extent(l.loops), extent(l.rows), extent(l.cols), extent(l.sums)};
  if (n.loops <= 0 || n.rows <= 0 || n.cols <= 0) return;
  for (auto* role : {&l.loops, &l.rows, &l.cols, &l.sums})
    if (role->count == 0) role->axes[0] = {};
  // Columns are what neighbouring lanes write, and the side of the matrix for a vector.
  const bool write_rows = adjacent(l.rows, &Axis::c) && !adjacent(l.cols, &Axis::c);
  if (n.rows > 1 && (n.cols == 1 || write_rows)) {
    l = exchanged(l);
    std::swap(a, b);
    std::swap(n.rows, n.cols);
  }
  const SumOffsets sum = sum_offsets(s, l.sums, n.sums);
  const bool a_sums = adjacent(l.sums, &Axis::a), b_sums = adjacent(l.sums, &Axis::b);
  if (n.rows > 1) {
    with_tile(n.loops, n.rows, n.cols, [&](auto tile) {
      using T = decltype(tile);
      const int64_t tiles =
          n.loops * gpu::pieces<int64_t>(n.rows, T::side) * gpu::pieces<int64_t>(n.cols, T::side);
      gpu::launch(s, {tiles, T::threads, 0, "contract"}, tile_kernel_for<T>(a_sums, b_sums), a, b,
                  c, l, n, sum.a, sum.b, scale);
    });
    return;
  }
  const int64_t blocks = gpu::pieces<int64_t>(n.loops * n.cols, threads);
  const bool staged = b_sums && !adjacent(l.cols, &Axis::b);
  gpu::launch(s, {blocks, threads}, staged ? staged_kernel : in_place_kernel, a, b, c, l, n, sum.a,
              sum.b, scale);
}

}  // namespace whence::k
