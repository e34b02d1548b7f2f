// Depthwise convolutions: lanes are channels. The taps of a pixel follow each other in registers,
// up to four vectors of channels at a time; sums of a piece of a row wait in L1 for the epilogue.
//
// Bytes: the source once from memory and taps / stride^2 times from L1, the result once; bound by
// memory for large images, else by the two loads of each multiply-add.
#include "kernels/cpu/gather.h"
#include "kernels/cpu/tile.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {
namespace {

// The taps of one pixel that lie inside the image: `source` and `weights` are those of the first.
struct Taps {
  int64_t rows, cols;                    // how many
  int64_t row_step, col_step;            // in the source
  int64_t weight_row_step, weight_step;  // in the weights
};

// sums[c] of `vecs` vectors of channels, or of the `n` channels of one.
template <int vecs, class N>
void channels_of(const Taps& t, const real* source, const real* weights, real* sums, N n) {
  Vec acc[vecs] = {};
  for (int64_t i = 0; i < t.rows; ++i) {
    const real *x = source + i * t.row_step, *w = weights + i * t.weight_row_step;
    for (int64_t j = 0; j < t.cols; ++j, x += t.col_step, w += t.weight_step)
      unrolled<vecs>([&](auto v) WHENCE_INLINE {
        acc[v] = fma(load(x + v * lanes, n), load(w + v * lanes, n), acc[v]);
      });
  }
  unrolled<vecs>([&](auto v) WHENCE_INLINE { store(sums + v * lanes, acc[v]); });
}

void pixel_sums(const Gather& g, const Pixel& p, const real* source, const real* weights,
                real* sums) {
  const int64_t channels = g.groups;
  const Inside down = inside(g.down, p.y, g.source_height);
  const Inside across = inside(g.across, p.x, g.source_width);
  const int64_t row_step = g.down.hop * g.source_width * channels;
  const int64_t col_step = g.across.hop * channels, weight_row = g.across.taps * channels;
  const Taps t{
      down.end - down.begin, across.end - across.begin, row_step, col_step, weight_row, channels};
  const real* x = source + ((p.b * g.source_height + p.y) * g.source_width + p.x) * channels +
                  down.begin * row_step + across.begin * col_step;
  const real* w = weights + down.begin * weight_row + across.begin * channels;
  constexpr std::integral_constant<int64_t, lanes> whole;
  int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes)
    channels_of<4>(t, x + c, w + c, sums + c, whole);
  for (; c + 2 * lanes <= channels; c += 2 * lanes)
    channels_of<2>(t, x + c, w + c, sums + c, whole);
  for (; c + lanes <= channels; c += lanes) channels_of<1>(t, x + c, w + c, sums + c, whole);
  if (c < channels) channels_of<1>(t, x + c, w + c, sums + c, channels - c);
}

}  // namespace

void depthwise(const Stream& s, const Gather& g, const real* source, const real* weights,
               const k::Epilogue& epilogue, real* result) {
  if (g.across.count <= 0) return;
  const int64_t channels = g.groups, stride = (channels + lanes - 1) / lanes * lanes;
  const int64_t piece = std::max<int64_t>(1, 2048 / std::max<int64_t>(stride, 1));
  const Finish store_sums = finish_for(epilogue);
  const int64_t work = g.across.count * channels * std::max<int64_t>(g.taps() / 4, 1);
  const int64_t lines = g.batch * g.down.count, grain = row_grain(work);
  const Scratch<real> scratch(s, workers(s, range_count(s, lines, grain)), piece * stride);
  parallel_ranges(s, lines, grain, [&](int64_t begin, int64_t end, int64_t worker) {
    real* sums = scratch.of(worker);
    for (int64_t line = begin; line < end; ++line)
      for (int64_t v = 0; v < g.across.count; v += piece) {
        const int64_t count = std::min(piece, g.across.count - v), row = line * g.across.count + v;
        Pixel p = pixel_of(g, row);
        for (int64_t i = 0; i < count; ++i, to_next(g, p))
          pixel_sums(g, p, source, weights, sums + i * stride);
        store_rows(g, store_sums, sums, stride, row, count, channels, epilogue, 0, result);
      }
  });
}

// An item is a tap and a vector of channels.
void depthwise_bwd_weight(const Stream& s, const real* x, const real* dy, const k::ConvSize& z,
                          real* dweight) {
  const int64_t vecs = (z.groups + lanes - 1) / lanes, taps = z.taps();
  parallel_items(s, taps * vecs, [&](int64_t item) {
    const int64_t i = item % taps / z.kernel_width, j = item % taps % z.kernel_width;
    const int64_t c = item / taps * lanes, count = std::min<int64_t>(lanes, z.groups - c);
    Vec sum{};
    for (int64_t line = 0; line < z.batch * z.out_height(); ++line) {
      const int64_t y = line % z.out_height() * z.stride - z.pad + i * z.dilation;
      if (y < 0 || y >= z.height) continue;
      const real* row = x + (line / z.out_height() * z.height + y) * z.width * z.groups + c;
      for (int64_t v = 0; v < z.out_width(); ++v) {
        const int64_t w = v * z.stride - z.pad + j * z.dilation;
        if (w < 0 || w >= z.width) continue;
        const real *px = row + w * z.groups, *pd = dy + (line * z.out_width() + v) * z.groups + c;
        sum = count == lanes ? fma(load(px), load(pd), sum)
                             : fma(load(px, count), load(pd, count), sum);
      }
    }
    for (int64_t lane = 0; lane < count; ++lane)
      dweight[(c + lane) * taps + item % taps] = sum[lane];
  });
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
