// Products by cuBLASLt: what product() of product.cu tries first.
#pragma once

#include "kernels/cuda/gpu.cuh"
#include "kernels/product.h"

namespace whence::k {

#ifdef WHENCE_F64
// The double-precision build verifies formulas; whence's own kernel does its products.
inline bool library_product(gpu::Stream&, const real*, int64_t, const real*, int64_t, int64_t,
                            int64_t, const Epilogue&, real*, int64_t) {
  return false;
}
#else
// As product(), with the operand that pack() wrote. False, and nothing done, where the library is
// not used or not there, or has no algorithm whose bits are the same for any m. That never depends
// on m.
bool library_product(gpu::Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m,
                     int64_t n, int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride);

// Its own kernels.
//
// rounded[rows, k] = a as bf16, two to a word; k is a multiple of 8, `rounded` 16-byte aligned.
void round_rows(gpu::Stream& s, const real* a, int64_t a_stride, int64_t rows, int64_t k,
                uint32_t* rounded);
// c = epilogue(sums), rows of sums sums_stride apart; sums may be c itself.
void finish_rows(gpu::Stream& s, const real* sums, int64_t sums_stride, int64_t rows, int64_t n,
                 const Epilogue& epilogue, real* c, int64_t c_stride);
#endif

}  // namespace whence::k
