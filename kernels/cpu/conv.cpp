// Convolutions as gathered products.
//
// A strip of result pixels (a few tiles of rows) gathers what some of its taps read into scratch,
// zeros where they reach outside the image; the tiles of the plain product multiply that with the
// packed weights of the same taps. So a panel's part is used by every tile of the strip while it
// is in L1 or L2, and the weights pass by once a strip. Threads get contiguous ranges of (group,
// strip, panel). Bytes: the source about taps / stride^2 times from L2, the result once, the
// weights once a strip. Bound by the FMA units, for few channels by the gathering.
#include <array>

#include "kernels/cpu/grouped.h"
#include "kernels/cpu/narrow.h"
#include "kernels/cpu/panel.h"

namespace whence::k {
namespace {

using namespace cpu;

constexpr int64_t strip_rows = 8 * tile_rows;
// Summed elements at a time: 112 rows of them are half a common L2.
constexpr int64_t block_sums = 1280;
// Multiply-adds that are worth a thread.
constexpr int64_t work_per_thread = 1 << 18;

// Short runs of reals: a call of memcpy would take longer than the copy, and a masked store is not
// forwarded to the loads that follow. The last vector overlaps the one before it.
inline void copy(const real* from, int64_t count, real* to) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(to + i, load(from + i));
  if (i > 0 && i < count) return store(to + count - lanes, load(from + count - lanes));
  for (; i + 4 <= count; i += 4) std::memcpy(to + i, from + i, 4 * sizeof(real));
  for (; i < count; ++i) to[i] = from[i];
}
inline void clear(int64_t count, real* to) {
  each_vec(count, [&](int64_t i, auto n) { store(to + i, Vec{}, n); });
}

// What taps [begin, end) of one pixel read, `from` channels each. `source` is the group's first
// channel of the sample.
void gather_pixel(const Gather& g, const Pixel& p, const real* source, int64_t begin, int64_t end,
                  real* to) {
  const int64_t taps = g.across.taps, from = g.from, step = g.groups * from;
  const Inside cols = inside(g.across, p.x, g.source_width);
  for (int64_t t = begin; t < end;) {
    const int64_t i = t / taps, first = t - i * taps, last = std::min(taps, first + end - t);
    const int64_t y = p.y + i * g.down.hop;
    const bool row_inside = y >= 0 && y < g.source_height;
    const int64_t lo = std::clamp(cols.begin, first, last);
    const int64_t hi = row_inside ? std::clamp(cols.end, lo, last) : lo;
    const int64_t zeros = row_inside ? lo - first : last - first;
    if (zeros > 0) clear(zeros * from, to);
    const real* line = source + (y * g.source_width + p.x) * step;
    if (row_inside && g.across.hop == 1 && g.groups == 1) {
      copy(line + lo * step, (hi - lo) * from, to + (lo - first) * from);
    } else {
      for (int64_t j = lo; j < hi; ++j)
        copy(line + j * g.across.hop * step, from, to + (j - first) * from);
    }
    if (row_inside && hi < last) clear((last - hi) * from, to + (hi - first) * from);
    to += (last - first) * from;
    t += last - first;
  }
}

class Product {
 public:
  Product(const Gather& g, const real* source, const real* packed, int64_t packed_group,
          const Epilogue& epilogue, real* result)
      : g_(g),
        source_(source),
        packed_(packed),
        packed_group_(packed_group),
        epilogue_(epilogue),
        result_(result),
        store_(finish_for(epilogue)) {}

  void run(const Stream& s) const {
    const int64_t rows = g_.rows(), panels = (g_.to + panel_width - 1) / panel_width;
    if (rows <= 0 || panels <= 0) return;
    int64_t most = strip_rows;
    if (panels * g_.groups < 4 * s.threads)  // too few panels to share out: share rows as well
      most = std::clamp<int64_t>(rows / (4 * s.threads), tile_rows, most);
    const Cuts strips(rows, most);
    const int64_t items = g_.groups * strips.pieces * panels;
    const int64_t work = rows * g_.to * g_.groups * std::max<int64_t>(g_.sums(), 1);
    const int64_t grain = std::max<int64_t>(1, work_per_thread * items / work);
    const int64_t ranges = range_count(s, items, grain);
    // What is gathered, and sums: of one tile at a time where one block of taps is all of them.
    const int64_t together = std::min(panels, (items + ranges - 1) / ranges);
    const int64_t rows_of_sums = blocks_.pieces <= 1 ? tile_rows : strips.longest() * together;
    Layout parts;
    const int64_t gathered = parts.add(strips.longest() * gather_stride(blocks_.longest()));
    const int64_t sums = parts.add(rows_of_sums * panel_width);
    const Scratch<real> scratch(s, workers(s, ranges), parts.total());
    parallel_ranges(s, items, grain, [&](int64_t begin, int64_t end, int64_t worker) {
      while (begin < end) {
        const int64_t strip = begin / panels, first = begin - strip * panels;
        const int64_t last = std::min(panels, first + end - begin), at = strip % strips.pieces;
        compute(strip / strips.pieces, strips.cut(at), strips.cut(at + 1), first, last,
                scratch.of(worker) + gathered, scratch.of(worker) + sums);
        begin += last - first;
      }
    });
  }

 private:
  // Result rows [row, end) of a group, panels [first, last).
  void compute(int64_t group, int64_t row, int64_t end, int64_t first, int64_t last, real* gathered,
               real* sums) const {
    const int64_t rows = end - row, from = g_.from;
    const Cuts& blocks = blocks_;
    const Cuts tiles(rows, tile_rows);
    const bool whole = blocks.pieces <= 1;
    const int64_t stride = whole ? panel_width : (last - first) * panel_width;
    if (blocks.pieces == 0) std::fill_n(sums, tile_rows * panel_width, real(0));
    for (int64_t block = 0; block < std::max<int64_t>(blocks.pieces, 1); ++block) {
      const int64_t begin = blocks.pieces ? blocks.cut(block) : 0;
      const int64_t taps = blocks.pieces ? blocks.cut(block + 1) - begin : 0;
      const Left left = gather(group, row, rows, begin, begin + taps, gathered);
      for (int64_t p = first; p < last; ++p) {
        const real* panel = panel_at(group, p) + begin * from * panel_width;
        const int64_t width = std::min<int64_t>(panel_width, g_.to - p * panel_width);
        // While a panel is used, the next one comes into L2: an equal share with every tile.
        const int64_t share = panel_width * int64_t(sizeof(real)) / tiles.pieces;
        const auto* next = reinterpret_cast<const char*>(
            p + 1 < last ? panel_at(group, p + 1) + begin * from * panel_width : panel);
        for (int64_t t = 0; t < tiles.pieces; ++t) {
          const int64_t i = tiles.cut(t), height = tiles.cut(t + 1) - i;
          real* to = whole ? sums : sums + i * stride + (p - first) * panel_width;
          if (taps > 0)
            tile(height, width, {left.at + i * left.row, left.row, 1}, panel, taps * from, to,
                 stride, block > 0, {next + t * share * taps * from, share});
          if (block + 1 < blocks.pieces) continue;
          store_rows(g_, store_, to, stride, row + i, height, width, at_group(group),
                     p * panel_width, result_ + group * g_.to);
        }
      }
    }
  }

  const real* panel_at(int64_t group, int64_t p) const {
    return packed_ + group * packed_group_ + p * panel_width * g_.sums();
  }

  Epilogue at_group(int64_t group) const {
    Epilogue e = epilogue_;
    if (e.bias) e.bias += group * g_.to;
    if (e.residual) e.residual += group * g_.to;
    return e;
  }

  // Rows an odd number of lines apart, so that those of a tile fall into different cache sets.
  int64_t gather_stride(int64_t taps) const {
    return ((taps * g_.from + lanes - 1) / lanes | 1) * lanes;
  }
  Left gather(int64_t group, int64_t row, int64_t rows, int64_t begin, int64_t end,
              real* to) const {
    const int64_t stride = gather_stride(end - begin);
    const int64_t sample = g_.source_height * g_.source_width * g_.groups * g_.from;
    Pixel p = pixel_of(g_, row);
    for (int64_t i = 0; i < rows; ++i, to_next(g_, p))
      gather_pixel(g_, p, source_ + p.b * sample + group * g_.from, begin, end, to + i * stride);
    return {to, stride, 1};
  }

  const Gather& g_;
  const real *source_, *packed_;
  int64_t packed_group_;
  const Epilogue& epilogue_;
  real* result_;
  Finish store_;
  const Cuts blocks_{g_.taps(), std::max<int64_t>(1, block_sums / std::max<int64_t>(g_.from, 1))};
};

void convolve(Stream& s, const real* source, const real* packed, const ConvSize& z, bool backward,
              const Epilogue& epilogue, real* result) {
  if (z.pointwise()) {
    const int64_t from = backward ? z.outputs : z.channels, to = backward ? z.channels : z.outputs;
    product(s, source, from, packed, z.batch * z.height * z.width, to, from, epilogue, result, to);
    return;
  }
  if (backward && narrow(z)) return conv_bwd_narrow(s, source, packed, z, epilogue, result);
  each_gather(z, backward, [&](const Gather& g) {
    if (z.depthwise())
      return depthwise(s, g, source, packed + g.before * z.groups, epilogue, result);
    if (many_groups(g))
      return grouped(s, g, source, packed + grouped_count(g, g.before), epilogue, result);
    const int64_t group = panels_count(g.to, z.taps() * g.from);
    Product(g, source, packed + panels_count(g.to, g.before * g.from), group, epilogue, result)
        .run(s);
  });
}

}  // namespace

int64_t conv_packed_count(const ConvSize& z) {
  if (z.depthwise()) return z.taps() * z.groups;
  int64_t count = 0;
  for (bool backward : {false, true}) {
    int64_t phases = 0;
    each_gather(z, backward, [&](const Gather& g) {
      phases +=
          many_groups(g) ? grouped_count(g, g.taps()) : z.groups * panels_count(g.to, g.sums());
    });
    count = std::max(count, phases);
  }
  return count;
}

void conv_pack(Stream& s, const real* weight, const ConvSize& z, bool backward, real* packed) {
  if (s.asking()) return;
  if (z.pointwise()) {
    const int64_t in = z.channels, out = z.outputs;
    return backward ? pack(s, weight, in, out, 1, in, packed)
                    : pack(s, weight, out, in, in, 1, packed);
  }
  if (backward && narrow(z)) return pack_narrow(weight, z, packed);
  each_gather(z, backward, [&](const Gather& g) {
    const int64_t taps = g.taps();
    if (z.depthwise()) {
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = 0; c < z.groups; ++c)
          packed[(g.before + t) * z.groups + c] = weight[c * z.taps() + g.kernel_tap(t)];
      return;
    }
    if (many_groups(g)) return pack_grouped(s, g, weight, packed + grouped_count(g, g.before));
    const int64_t panels = (g.to + panel_width - 1) / panel_width;
    real* phase = packed + panels_count(g.to, g.before * g.from);
    parallel_ranges(
        s, g.groups * panels, row_grain(panel_width * g.sums()), [&](int64_t begin, int64_t end) {
          for (int64_t item = begin; item < end; ++item) {
            const int64_t group = item / panels, first = item % panels * panel_width;
            real* panel = phase + group * panels_count(g.to, z.taps() * g.from) + first * g.sums();
            const real* at = weight + group * g.weight_group + first * g.weight_to;
            for (int64_t t = 0; t < taps; ++t)
              pack_panel(at + g.kernel_tap(t), std::min<int64_t>(panel_width, g.to - first), g.from,
                         g.weight_to, g.weight_from, panel + t * g.from * panel_width);
          }
        });
  });
}

void conv(Stream& s, const real* x, const real* packed, const ConvSize& size,
          const Epilogue& epilogue, real* y) {
  convolve(s, x, packed, size, false, epilogue, y);
}

void conv_bwd(Stream& s, const real* dy, const real* packed, const ConvSize& size,
              const Epilogue& epilogue, real* dx) {
  convolve(s, dy, packed, size, true, epilogue, dx);
}

void conv_bwd_weight(Stream& s, const real* x, const real* dy, const ConvSize& z, real* dweight) {
  if (z.depthwise()) return depthwise_bwd_weight(s, x, dy, z, dweight);
  // An item is a panel of the group's weights, in the order of the gathered source: taps, and the
  // group's input channels inside a tap. It is dy^T times what those taps read, some pixels at a
  // time.
  constexpr int64_t pixels = 256;
  each_gather(z, false, [&](const Gather& g) {
    const int64_t panels = (g.sums() + panel_width - 1) / panel_width, taps = g.taps();
    const int64_t sample = z.height * z.width * z.channels;
    Layout parts;
    const int64_t panel_at = parts.add(pixels * panel_width);
    const int64_t sums_at = parts.add(g.to * panel_width);
    const Scratch<real> scratch(s, workers(s, g.groups * panels), parts.total());
    parallel_items(s, g.groups * panels, [&](int64_t item, int64_t worker) {
      const int64_t group = item / panels, first = item % panels * panel_width;
      const int64_t width = std::min<int64_t>(panel_width, g.sums() - first);
      // The channels that a tap gives to the panel.
      struct Run {
        int64_t y, x, channel, at, count;
      };
      std::array<Run, panel_width> runs;
      size_t run_count = 0;
      for (int64_t j = 0; j < width;) {
        const int64_t tap = (first + j) / g.from, channel = (first + j) % g.from;
        const int64_t count = std::min(g.from - channel, width - j);
        runs[run_count++] = {tap / g.across.taps * g.down.hop, tap % g.across.taps * g.across.hop,
                             channel, j, count};
        j += count;
      }
      real* panel = scratch.of(worker) + panel_at;
      real* sums = scratch.of(worker) + sums_at;
      std::fill_n(panel, pixels * panel_width, real(0));  // also what lies beyond `width`
      std::fill_n(sums, g.to * panel_width, real(0));
      for (int64_t row = 0; row < g.rows(); row += pixels) {
        const int64_t count = std::min(pixels, g.rows() - row);
        Pixel p = pixel_of(g, row);
        for (int64_t i = 0; i < count; ++i, to_next(g, p)) {
          const real* image = x + p.b * sample + group * g.from;
          real* to = panel + i * panel_width;
          for (size_t r = 0; r < run_count; ++r) {
            const Run& run = runs[r];
            const int64_t y = p.y + run.y, at_x = p.x + run.x;
            if (y >= 0 && y < z.height && at_x >= 0 && at_x < z.width)
              copy(image + (y * z.width + at_x) * z.channels + run.channel, run.count, to + run.at);
            else
              std::fill_n(to + run.at, run.count, real(0));
          }
        }
        multiply({dy + row * z.outputs + group * g.to, 1, z.outputs}, g.to, panel, width, count,
                 sums, panel_width, true);
      }
      for (int64_t o = 0; o < g.to; ++o)
        for (int64_t j = 0; j < width; ++j) {
          const int64_t tap = (first + j) / g.from, channel = (first + j) % g.from;
          dweight[((group * g.to + o) * g.from + channel) * taps + tap] = sums[o * panel_width + j];
        }
    });
  });
}

}  // namespace whence::k
