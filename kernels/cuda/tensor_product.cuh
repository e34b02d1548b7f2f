// Products on tensor cores, with rounded factors (Precision::tf32, bf16): what product() and pack()
// of product.cu do where the stream asks for less than f32.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/product.h"

namespace whence::k {

#ifdef WHENCE_F64
// The double-precision build has no tensor cores.
inline bool on_tensor_cores(Precision, int64_t) { return false; }
inline void tensor_pack(gpu::Stream&, const real*, int64_t, int64_t, int64_t, int64_t, real*) {}
inline void tensor_product(gpu::Stream&, const real*, int64_t, const real*, int64_t, int64_t,
                           int64_t, const Epilogue&, real*, int64_t) {}
#else
// Whole 16-byte pieces of k elements in either format; other products are computed in f32. Decided
// by k alone, so that packing and multiplying agree.
inline bool on_tensor_cores(Precision precision, int64_t k) {
  return precision != Precision::f32 && k > 0 && k % 8 == 0;
}
void tensor_pack(gpu::Stream& s, const real* b, int64_t n, int64_t k, int64_t stride_n,
                 int64_t stride_k, real* packed);
void tensor_product(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
                    int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride);
#endif

}  // namespace whence::k
