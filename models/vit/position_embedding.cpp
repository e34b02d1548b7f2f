#include "models/vit/position_embedding.h"

#include <cmath>
#include <vector>

#include "runtime/check.h"

namespace whence {
namespace {

// Keys' cubic convolution kernel.
double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return a * (((x - 5) * x + 8) * x - 4);
  return 0;
}

// out = M * in for one axis: row-major [out, in].
using Matrix = std::vector<double>;

Matrix antialiased(int64_t in, int64_t out) {
  Matrix m(size_t(out * in));
  const double scale = double(in) / double(out), stretch = std::max(scale, 1.0);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (double(i) + 0.5) * scale;
    const auto low = std::max<int64_t>(0, int64_t(centre - 2 * stretch + 0.5));
    const auto high = std::min<int64_t>(in, int64_t(centre + 2 * stretch + 0.5));
    double sum = 0;
    for (int64_t j = low; j < high; ++j)
      sum += m[size_t(i * in + j)] = cubic((double(j) - centre + 0.5) / stretch, -0.5);
    for (int64_t j = low; j < high; ++j) m[size_t(i * in + j)] /= sum;
  }
  return m;
}

Matrix four_taps(int64_t in, int64_t out, bool corners) {
  Matrix m(size_t(out * in));
  for (int64_t i = 0; i < out; ++i) {
    const double centre = corners ? (out > 1 ? double(i) * double(in - 1) / double(out - 1) : 0.0)
                                  : (double(i) + 0.5) * double(in) / double(out) - 0.5;
    const double first = std::floor(centre);
    for (int64_t tap = -1; tap <= 2; ++tap) {
      const int64_t j = std::clamp<int64_t>(int64_t(first) + tap, 0, in - 1);
      m[size_t(i * in + j)] += cubic(centre - first - double(tap), -0.75);
    }
  }
  return m;
}

Matrix resampling(int64_t in, int64_t out, PositionKernel kernel) {
  if (kernel == PositionKernel::bicubic_antialias) return antialiased(in, out);
  return four_taps(in, out, kernel == PositionKernel::bicubic_corners);
}

}  // namespace

PositionKernel position_kernel(const ViTLayout& layout) {
  switch (layout.names) {
    case ViTNames::timm:
      return PositionKernel::bicubic_antialias;
    case ViTNames::torchvision:
      return PositionKernel::bicubic_corners;
    default:
      return PositionKernel::bicubic;
  }
}

Tensor resize_positions(const Tensor& positions, int64_t prefix, std::array<int64_t, 2> from,
                        std::array<int64_t, 2> to, PositionKernel kernel) {
  const int64_t width = positions.shape()[2];
  if (positions.shape() != Shape{1, prefix + from[0] * from[1], width})
    fail_shape("a position embedding of shape {} does not fit {} tokens and a grid of {} x {}",
               to_string(positions.shape()), prefix, from[0], from[1]);
  Tensor result(Type{Shape{1, prefix + to[0] * to[1], width}, dtype_of<real>()});
  const std::span<const real> in = positions.reals();
  const std::span<real> out = result.reals();
  std::copy_n(in.begin(), prefix * width, out.begin());

  const Matrix rows = resampling(from[0], to[0], kernel);
  const Matrix columns = resampling(from[1], to[1], kernel);
  // Columns first, kept in double: half[y][X][w], y over the old rows, X over the new columns.
  std::vector<double> half(size_t(from[0] * to[1] * width));
  for (int64_t y = 0; y < from[0]; ++y)
    for (int64_t x = 0; x < to[1]; ++x)
      for (int64_t j = 0; j < from[1]; ++j) {
        const double weight = columns[size_t(x * from[1] + j)];
        if (weight == 0) continue;
        const real* source = &in[size_t((prefix + y * from[1] + j) * width)];
        double* target = &half[size_t((y * to[1] + x) * width)];
        for (int64_t w = 0; w < width; ++w) target[w] += weight * double(source[w]);
      }
  std::vector<double> sum(static_cast<size_t>(width));
  for (int64_t y = 0; y < to[0]; ++y)
    for (int64_t x = 0; x < to[1]; ++x) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t i = 0; i < from[0]; ++i) {
        const double weight = rows[size_t(y * from[0] + i)];
        if (weight == 0) continue;
        const double* source = &half[size_t((i * to[1] + x) * width)];
        for (int64_t w = 0; w < width; ++w) sum[size_t(w)] += weight * source[w];
      }
      real* target = &out[size_t((prefix + y * to[1] + x) * width)];
      for (int64_t w = 0; w < width; ++w) target[w] = real(sum[size_t(w)]);
    }
  return result;
}

}  // namespace whence
