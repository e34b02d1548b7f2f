// Convolutions and pooling of channels-last images as plain loops in double.
#pragma once

#include <string>

#include "kernels/conv.h"
#include "tests/ref/tensor_ops.h"

namespace whence::ref {

// Every number of a size, for messages.
inline std::string name_of(const k::ConvSize& z) {
  std::string text;
  for (int64_t n : {z.batch, z.height, z.width, z.channels, z.outputs, z.groups, z.kernel_height,
                    z.kernel_width, z.stride, z.pad, z.dilation})
    text += " " + std::to_string(n);
  return text;
}

struct ConvWindow {
  int64_t stride = 1, pad = 0, dilation = 1;
};

// x [B, H, W, C], w [O, C/groups, kh, kw], bias [O] or null.
inline Array conv2d(const Array& x, const Array& w, const Array* bias, const ConvWindow& z) {
  const auto out = [&](int axis) {
    const int64_t reach = z.dilation * (w.shape[axis + 1] - 1) + 1;
    return (x.shape[axis] + 2 * z.pad - reach) / z.stride + 1;
  };
  const int64_t in_group = w.shape[1], out_group = w.shape[0] / (x.shape[3] / in_group);
  return make({x.shape[0], out(1), out(2), w.shape[0]}, [&](const Index& at) {
    double sum = bias ? bias->x[size_t(at[3])] : 0;
    for (int64_t i = 0; i < w.shape[2]; ++i)
      for (int64_t j = 0; j < w.shape[3]; ++j) {
        const int64_t h = at[1] * z.stride - z.pad + i * z.dilation;
        const int64_t v = at[2] * z.stride - z.pad + j * z.dilation;
        if (h < 0 || v < 0 || h >= x.shape[1] || v >= x.shape[2]) continue;
        for (int64_t c = 0; c < in_group; ++c)
          sum += w({at[3], c, i, j}) * x({at[0], h, v, at[3] / out_group * in_group + c});
      }
    return sum;
  });
}

inline Array batch_norm(const Array& x, const Array& weight, const Array& bias, const Array& mean,
                        const Array& variance, double epsilon) {
  return by_rows(x, [&](double* row, size_t n) {
    for (size_t c = 0; c < n; ++c)
      row[c] = (row[c] - mean.x[c]) / std::sqrt(variance.x[c] + epsilon) * weight.x[c] + bias.x[c];
  });
}

struct Pooling {
  int64_t size, stride, pad;
  bool ceil, count_padding, largest;
};

// Largest element or mean of every window.
inline Array pool(const Array& x, const Pooling& z) {
  const auto windows = [&](int64_t size) {
    int64_t n = 0;
    // Windows that begin inside the image or the padding before it, and end inside what follows it.
    for (int64_t first = -z.pad; first < size; first += z.stride)
      n += z.ceil ? first == -z.pad || first + z.size - z.stride < size + z.pad
                  : first + z.size <= size + z.pad;
    return n;
  };
  const int64_t height = x.shape[1], width = x.shape[2];
  return make({x.shape[0], windows(height), windows(width), x.shape[3]}, [&](const Index& at) {
    double sum = 0, top = -INFINITY, count = 0;
    for (int64_t i = 0; i < z.size; ++i)
      for (int64_t j = 0; j < z.size; ++j) {
        const int64_t h = at[1] * z.stride - z.pad + i, w = at[2] * z.stride - z.pad + j;
        const bool inside = h >= 0 && w >= 0 && h < height && w < width;
        if (inside || (z.count_padding && h < height + z.pad && w < width + z.pad)) ++count;
        if (!inside) continue;
        const double v = x({at[0], h, w, at[3]});
        sum += v;
        top = std::max(top, v);
      }
    return z.largest ? top : sum / count;
  });
}

}  // namespace whence::ref
