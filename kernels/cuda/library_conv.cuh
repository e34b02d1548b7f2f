// Convolutions by cuDNN: what conv.cu tries first.
#pragma once

#include "kernels/conv.h"
#include "kernels/cuda/gpu.cuh"

namespace whence::k {

// What the library computes of a gather: sums at all positions of a convolution with `pad` on both
// sides; the gather's position u is its position u + shift. Positions that it does not have read
// nothing but padding.
struct Along {
  int64_t pad, count, shift;
};

#ifdef WHENCE_F64
// The double-precision build verifies formulas; whence's own kernels do its convolutions.
inline bool library_conv(gpu::Stream&, const Gather&, const real*, const real*, const Epilogue&,
                         real*) {
  return false;
}
#else
// result = epilogue(gather of source), `packed` as the kernels of conv.cu read it. False, and
// nothing done, where the library is not used, not there, or does not support the convolution. That
// never depends on the batch.
bool library_conv(gpu::Stream& s, const Gather& g, const real* source, const real* packed,
                  const Epilogue& epilogue, real* result);

// Its own kernels.
//
// staged[i] = source[i] for i < count, 0 for the others below `room`.
void stage_images(gpu::Stream& s, const real* source, int64_t count, int64_t room, real* staged);
// result = epilogue(sums), sums [batch, down.count, across.count, channels] as the library left
// them. The residual may be the result. Fewer than 2^32 elements.
void finish_images(gpu::Stream& s, const Gather& g, const real* sums, const Along& down,
                   const Along& across, const Epilogue& epilogue, real* result);
#endif

}  // namespace whence::k
