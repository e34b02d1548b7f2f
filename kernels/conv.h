// Convolutions of channels-last images, and batch norm.
//
// x [batch, height, width, channels], y [batch, out_height, out_width, outputs], weight [outputs,
// channels / groups, kernel_height, kernel_width]:
//
//   y[b, h, w, o] = sum_{i, j, c} weight[o, c, i, j] x[b, h stride - pad + i dilation,
//                                                         w stride - pad + j dilation, c + ...]
//
// Both directions are gathers: a result pixel reads the source pixels that its kernel taps reach.
// That makes a product of it (rows: result pixels; columns: result channels; sums: taps, row by
// row in ascending source position, and the group's source channels inside a tap). The bits of an
// element do not depend on the batch: it is one chain of multiply-adds, or on a GPU what one
// algorithm of cuDNN makes of it, always asked for the same number of images; where the convolution
// is pointwise() it is a product().
#pragma once

#include "kernels/product.h"

namespace whence::k {

struct ConvSize {
  int64_t batch = 0, height = 0, width = 0, channels = 0;  // of x
  int64_t outputs = 0, groups = 1, kernel_height = 1, kernel_width = 1;
  int64_t stride = 1, pad = 0, dilation = 1;

  int64_t out_height() const { return out(height, kernel_height); }
  int64_t out_width() const { return out(width, kernel_width); }
  int64_t taps() const { return kernel_height * kernel_width; }
  // Positions of a kernel along an axis; 0 or less where it does not fit.
  int64_t out(int64_t size, int64_t kernel) const {
    const int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
  }
  // A matrix product, in either direction.
  bool pointwise() const { return taps() == 1 && stride == 1 && pad == 0 && groups == 1; }
  // One channel a group on both sides: every channel has a kernel of its own.
  bool depthwise() const { return groups == channels && groups == outputs && !pointwise(); }
};

// The weights as conv (or, `backward`, as conv_bwd) reads them.
int64_t conv_packed_count(const ConvSize& size);
WHENCE_KERNEL(conv_pack, const real* weight, const ConvSize& size, bool backward, real* packed);

// y = epilogue(convolution of x); rows of the epilogue are pixels, columns are channels.
WHENCE_KERNEL(conv, const real* x, const real* packed, const ConvSize& size,
              const Epilogue& epilogue, real* y);
// dx[b, h, w, c] = epilogue(sum of dy weight over the outputs that read the element).
WHENCE_KERNEL(conv_bwd, const real* dy, const real* packed, const ConvSize& size,
              const Epilogue& epilogue, real* dx);
// dweight[o, c, i, j] = sum over pixels of dy x, one chain in ascending order of the pixels.
WHENCE_KERNEL(conv_bwd_weight, const real* x, const real* dy, const ConvSize& size, real* dweight);

// scale[c] = weight[c] / sqrt(variance[c] + eps)
WHENCE_KERNEL(norm_scale, const real* weight, const real* variance, real eps, int64_t cols,
              real* scale);
// y = (x - mean[c]) * weight[c] / sqrt(variance[c] + eps) + bias[c]. y may be x.
WHENCE_KERNEL(batch_norm, const real* x, const real* weight, const real* bias, const real* mean,
              const real* variance, real eps, int64_t rows, int64_t cols, real* y);
// dx = dy * weight[c] / sqrt(variance[c] + eps). dx may be dy.
WHENCE_KERNEL(batch_norm_bwd, const real* dy, const real* weight, const real* variance, real eps,
              int64_t rows, int64_t cols, real* dx);

// --- geometry, shared by all processors ----------------------------------------------------------

// One axis of a gather. Position first + step u of the result (u < count) reads, for t < taps,
// position u stride + offset + t hop of the source with tap number tap + t tap_step of the kernel.
struct Reach {
  int64_t count = 0, first = 0, step = 1;
  int64_t stride = 1, offset = 0, hop = 1;
  int64_t taps = 0, tap = 0, tap_step = 0;
};

inline Reach forward_reach(const ConvSize& z, int64_t size, int64_t kernel) {
  return {z.out(size, kernel), 0, 1, z.stride, -z.pad, z.dilation, kernel, 0, 1};
}

// x positions phase, phase + stride, ... are reached by the same taps i: those for which phase +
// pad - i dilation is a multiple of the stride, which then is how far their output lies.
inline Reach backward_reach(const ConvSize& z, int64_t size, int64_t kernel, int64_t phase) {
  Reach r;
  r.count = phase < size ? (size - phase - 1) / z.stride + 1 : 0;
  r.first = phase;
  r.step = z.stride;
  for (int64_t i = kernel - 1; i >= 0; --i) {
    const int64_t from = phase + z.pad - i * z.dilation;
    if (from % z.stride != 0) continue;
    if (r.taps == 0) {
      r.tap = i;
      r.offset = from / z.stride;
    } else if (r.taps == 1) {
      r.tap_step = i - r.tap;
      r.hop = from / z.stride - r.offset;
    }
    ++r.taps;
  }
  return r;
}

// A gather over both axes: all of a forward convolution, one phase of a backward one.
struct Gather {
  Reach down, across;
  int64_t batch, source_height, source_width, result_height, result_width;
  int64_t groups, from, to;        // channels of a group in the source and in the result
  int64_t weight_from, weight_to;  // steps of a weight from channel to channel; a tap's is 1
  int64_t weight_group;            // and from group to group
  int64_t kernel_width;
  int64_t before;  // taps of earlier phases
  WHENCE_HD int64_t rows() const { return batch * down.count * across.count; }
  WHENCE_HD int64_t taps() const { return down.taps * across.taps; }
  WHENCE_HD int64_t sums() const { return taps() * from; }
  // The number of tap t in the kernel, row-major.
  WHENCE_HD int64_t kernel_tap(int64_t t) const {
    return (down.tap + t / across.taps * down.tap_step) * kernel_width + across.tap +
           t % across.taps * across.tap_step;
  }
};

// Calls f for every gather of a convolution. Their results are disjoint and cover everything.
template <class F>
void each_gather(const ConvSize& z, bool backward, F&& f) {
  const int64_t in = z.channels / z.groups, out = z.outputs / z.groups, taps = z.taps();
  Gather g{};
  g.batch = z.batch;
  g.groups = z.groups;
  g.weight_group = out * in * taps;
  g.kernel_width = z.kernel_width;
  if (!backward) {
    g.down = forward_reach(z, z.height, z.kernel_height);
    g.across = forward_reach(z, z.width, z.kernel_width);
    g.source_height = z.height, g.source_width = z.width;
    g.result_height = z.out_height(), g.result_width = z.out_width();
    g.from = in, g.to = out;
    g.weight_from = taps, g.weight_to = in * taps;
    return f(g);
  }
  g.source_height = z.out_height(), g.source_width = z.out_width();
  g.result_height = z.height, g.result_width = z.width;
  g.from = out, g.to = in;
  g.weight_from = in * taps, g.weight_to = taps;
  for (int64_t i = 0; i < z.stride; ++i)
    for (int64_t j = 0; j < z.stride; ++j) {
      g.down = backward_reach(z, z.height, z.kernel_height, i);
      g.across = backward_reach(z, z.width, z.kernel_width, j);
      f(g);
      g.before += g.taps();
    }
}

}  // namespace whence::k
