#include "kernels/cpu/narrow.h"

#include <algorithm>

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

using k::ConvSize, k::Epilogue;

bool narrow(const ConvSize& z) {
  return z.groups == 1 && !z.pointwise() && !z.depthwise() && 2 * z.channels <= lanes;
}

namespace {

// Multiply-adds that are worth a thread.
constexpr int64_t work_per_thread = 1 << 18;

class NarrowGrad {
 public:
  NarrowGrad(const ConvSize& z, const real* dy, const real* packed, const Epilogue& epilogue,
             real* dx)
      : z_(z), dy_(dy), packed_(packed), epilogue_(epilogue), dx_(dx) {}

  void run(const Stream& s) const {
    const int64_t line_bytes = width_ * stride_ * int64_t(sizeof(real));
    const Cuts strips(z_.height, std::max<int64_t>(1, 512 * 1024 / line_bytes) * z_.stride);
    const int64_t items = z_.batch * strips.pieces;
    const int64_t work = z_.batch * height_ * width_ * stride_ * z_.outputs;
    const int64_t grain =
        std::max<int64_t>(1, work_per_thread * items / std::max<int64_t>(work, 1));
    int64_t most_rows = 0;
    for (int64_t i = 0; i < strips.pieces; ++i)
      most_rows = std::max(most_rows, rows_read(strips.cut(i), strips.cut(i + 1)).count);
    Layout layout;
    const int64_t parts = layout.add(most_rows * width_ * stride_);
    const int64_t line = layout.add(z_.width * z_.channels + lanes);
    const Scratch<real> scratch(s, workers(s, range_count(s, items, grain)), layout.total());
    parallel_ranges(s, items, grain, [&](int64_t begin, int64_t end, int64_t worker) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t at = item % strips.pieces;
        strip(item / strips.pieces, strips.cut(at), strips.cut(at + 1), scratch.of(worker) + parts,
              scratch.of(worker) + line);
      }
    });
  }

 private:
  // The rows of dy that reach rows [begin, end) of dx.
  struct RowsRead {
    int64_t first, count;
  };
  RowsRead rows_read(int64_t begin, int64_t end) const {
    const int64_t reach = begin + z_.pad - z_.dilation * (z_.kernel_height - 1);
    const int64_t first = reach <= 0 ? 0 : (reach + z_.stride - 1) / z_.stride;
    const int64_t last = std::min((end - 1 + z_.pad) / z_.stride + 1, height_);
    return {first, std::max<int64_t>(0, last - first)};
  }

  // Rows [begin, end) of a sample's dx.
  void strip(int64_t sample, int64_t begin, int64_t end, real* parts, real* line) const {
    const auto [first, rows] = rows_read(begin, end);
    const int64_t pixels = rows * width_;
    multiply({dy_ + (sample * height_ + first) * width_ * z_.outputs, z_.outputs, 1}, pixels,
             packed_, stride_, z_.outputs, parts, stride_, false);
    const int64_t count = z_.width * z_.channels;
    for (int64_t h = begin; h < end; ++h) {
      std::fill_n(line, count, real(0));
      for (int64_t i = 0; i < z_.kernel_height; ++i) {
        const int64_t from = h + z_.pad - i * z_.dilation, row = from / z_.stride;
        if (from < 0 || from % z_.stride != 0 || row >= height_) continue;
        add_line(parts + (row - first) * width_ * stride_ + i * z_.kernel_width * z_.channels,
                 line);
      }
      const int64_t at = (sample * z_.height + h) * count;
      Epilogue here = epilogue_;
      if (here.residual) here.residual += at;
      const Finish store_line = finish_for(here);
      if (here.bias)
        store_line(line, z_.channels, z_.width, z_.channels, here, 0, dx_ + at, z_.channels);
      else
        store_line(line, count, 1, count, here, 0, dx_ + at, count);
    }
  }

  // What one row of dy contributes to a row of dx through one row of taps.
  void add_line(const real* parts, real* line) const {
    const int64_t channels = z_.channels;
    for (int64_t v = 0; v < width_; ++v, parts += stride_) {
      const int64_t x = v * z_.stride - z_.pad;
      if (z_.dilation == 1) {
        const int64_t begin = std::max<int64_t>(0, -x),
                      end = std::min(z_.kernel_width, z_.width - x);
        if (begin < end)
          add(parts + begin * channels, (end - begin) * channels, line + (x + begin) * channels);
        continue;
      }
      for (int64_t j = 0; j < z_.kernel_width; ++j)
        if (const int64_t w = x + j * z_.dilation; w >= 0 && w < z_.width)
          add(parts + j * channels, channels, line + w * channels);
    }
  }

  static void add(const real* from, int64_t count, real* to) {
    each_vec(count,
             [&](int64_t i, auto n) { store(to + i, load(to + i, n) + load(from + i, n), n); });
  }

  const ConvSize& z_;
  const real *dy_, *packed_;
  const Epilogue& epilogue_;
  real* dx_;
  const int64_t height_ = z_.out_height(), width_ = z_.out_width();
  // Of a pixel's parts: whole vectors.
  const int64_t stride_ = (z_.taps() * z_.channels + lanes - 1) / lanes * lanes;
};

}  // namespace

void pack_narrow(const real* weight, const ConvSize& z, real* packed) {
  const int64_t cols = z.taps() * z.channels, in_output = cols;
  for (int64_t o = 0; o < z.outputs; ++o)
    for (int64_t j = 0; j < (cols + panel_width - 1) / panel_width * panel_width; ++j) {
      const int64_t tap = j / z.channels, channel = j % z.channels;
      packed[(j / panel_width * z.outputs + o) * panel_width + j % panel_width] =
          j < cols ? weight[o * in_output + channel * z.taps() + tap] : real(0);
    }
}

void conv_bwd_narrow(const Stream& s, const real* dy, const real* packed, const ConvSize& z,
                     const Epilogue& epilogue, real* dx) {
  NarrowGrad(z, dy, packed, epilogue, dx).run(s);
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
