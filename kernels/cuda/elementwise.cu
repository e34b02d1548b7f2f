// Elementwise functions and broadcasting pairs.
//
// A block of 256 threads owns 1,024 adjacent results; thread t computes those at t, t + 256, t +
// 512 and t + 768, so that a warp's accesses are adjacent, whatever the alignment, and four loads
// are under way before the first store. Bytes per element: 8
// (unary, affine), 12 (unary_bwd, rescale, binary without broadcast); bound by memory.
#include "kernels/axes.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/elementwise.h"

namespace whence::k {
namespace {

constexpr int threads = 256, per_thread = 4, per_block = threads * per_thread;

// y[i] = f(i). y may be what f reads at i.
template <class F>
__global__ void __launch_bounds__(threads) each_kernel(F f, int64_t count, real* y) {
  const int64_t first = int64_t(blockIdx.x) * per_block + threadIdx.x;
  real value[per_thread] = {};
  for (int j = 0; j < per_thread; ++j)
    if (first + j * threads < count) value[j] = f(first + j * threads);
  for (int j = 0; j < per_thread; ++j)
    if (first + j * threads < count) y[first + j * threads] = value[j];
}

template <class F>
void each(gpu::Stream& s, const char* name, F f, int64_t count, real* y) {
  if (count <= 0) return;
  const gpu::Launch shape(gpu::pieces<int64_t>(count, per_block), threads, 0, name);
  gpu::launch(s, shape, each_kernel<F>, f, count, y);
}

template <class F>
struct Value {  // f(x[i])
  const real* x;
  __device__ real operator()(int64_t i) const { return F::value(x[i]); }
};
template <class F>
struct Slope {  // dy[i] f'(x[i])
  const real *x, *dy;
  __device__ real operator()(int64_t i) const { return dy[i] * F::slope(x[i]); }
};
struct Affine {  // factor x[i] + shift
  const real* x;
  real factor, shift;
  __device__ real operator()(int64_t i) const { return std::fma(x[i], factor, shift); }
};

template <class F>
struct RescaleBy {  // dy[i] times the slope between x[i] and its reference
  real epsilon;
  const real *x, *x0, *dy;
  int64_t references;
  __device__ real operator()(int64_t i) const {
    const int64_t reference = i < references ? i : i % references;
    return dy[i] * rescale_slope<F>(x[i], x0[reference], epsilon);
  }
};

// f(a, b) where both operands step evenly through memory; a step of 0 broadcasts.
template <class F>
struct Row {
  F f;
  const real *a, *b;
  int64_t step_a, step_b;
  __device__ real operator()(int64_t i) const { return f(a[i * step_a], b[i * step_b]); }
};
// f(a, b) over several axes: those before `first` are 1. An element's place is found by divisions,
// which are 32-bit ones where its number is small.
template <class F>
struct Cells {
  F f;
  const real *a, *b;
  Broadcast space;
  int first;
  __device__ real operator()(int64_t i) const {
    int64_t at_a = 0, at_b = 0;
    for (int axis = 4; axis > first; --axis) {
      const int64_t above = i / space.size[axis], here = i - above * space.size[axis];
      at_a += here * space.a[axis];
      at_b += here * space.b[axis];
      i = above;
    }
    return f(a[at_a + i * space.a[first]], b[at_b + i * space.b[first]]);
  }
};

template <class F>
void pairs(gpu::Stream& s, const char* name, F f, const real* a, const real* b,
           const Broadcast& space, real* y) {
  const Broadcast m = merged(space);
  int64_t count = 1;
  for (int64_t size : m.size) count *= size;
  int first = 0;
  while (first < 4 && m.size[size_t(first)] == 1) ++first;
  if (first == 4) return each(s, name, Row<F>{f, a, b, m.a[4], m.b[4]}, count, y);
  each(s, name, Cells<F>{f, a, b, m, first}, count, y);
}

// A thread owns a column of the state and goes down the rows; slots that repeat meet in order.
__global__ void __launch_bounds__(threads)
    accumulate_kernel(const real* x, const real* weight, const int32_t* slot, int64_t rows,
                      int64_t count, real* state) {
  const int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  for (int64_t r = 0; r < rows; ++r)
    if (slot[r] >= 0) state[slot[r] * count + i] += weight[r] * x[r * count + i];
}

}  // namespace

void unary(gpu::Stream& s, Unary f, const real* x, int64_t count, real* y) {
  with(f, [&](auto function) { each(s, "unary", Value<decltype(function)>{x}, count, y); });
}

void unary_bwd(gpu::Stream& s, Unary f, const real* x, const real* dy, int64_t count, real* dx) {
  with(f, [&](auto function) {
    each(s, "unary_bwd", Slope<decltype(function)>{x, dy}, count, dx);
  });
}

void rescale(gpu::Stream& s, Unary f, real epsilon, const real* x, const real* x0,
             int64_t references, const real* dy, int64_t count, real* dx) {
  with(f, [&](auto function) {
    using By = RescaleBy<decltype(function)>;
    each(s, "rescale", By{epsilon, x, x0, dy, references}, count, dx);
  });
}

void affine(gpu::Stream& s, const real* x, real factor, real shift, int64_t count, real* y) {
  each(s, "affine", Affine{x, factor, shift}, count, y);
}

void binary(gpu::Stream& s, Binary f, const real* a, const real* b, const Broadcast& space,
            real* y) {
  with(f, [&](auto function) { pairs(s, "binary", function, a, b, space, y); });
}

void divide(gpu::Stream& s, Division how, real epsilon, const real* a, const real* b,
            const Broadcast& space, real* y) {
  with(how, epsilon, [&](auto quotient) { pairs(s, "divide", quotient, a, b, space, y); });
}

void accumulate(gpu::Stream& s, const real* x, const real* weight, const int32_t* slot,
                int64_t rows, int64_t count, real* state) {
  if (rows <= 0 || count <= 0) return;
  gpu::launch(s, {gpu::pieces<int64_t>(count, threads), threads}, accumulate_kernel, x, weight,
              slot, rows, count, state);
}

}  // namespace whence::k
