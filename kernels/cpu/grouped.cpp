// Convolutions of groups of few channels: lanes are result channels, of as many whole groups as
// fit, or of one that takes up to two vectors.
//
// What a lane multiplies is a source channel of its own group. Groups of up to half a vector have a
// segment of lanes each, and the source channels lie below the lanes in the same way, in as many
// vectors as it takes: element k of every segment, k = 0, 1, ..., in all lanes of that segment is
// one shuffle within a register. For a wider group the element is a broadcast from memory.
//
// An item is a bundle of groups (the vector or two) and a block of result pixels. It copies what
// the block reads of the image, with zeros on the left and right, and then a run of pixels in a row
// is a tile:
//
//   sums[pixel, lane] = sum over taps, then c < from:
//                         source[pixel stride + tap, group of lane, c] weight[tap, c, lane]
//
// in which a weight is loaded once for all pixels. Bytes: the source and the result once from
// memory, the copy taps / stride^2 times from L1. Bound by the shuffles and multiply-adds, for
// groups of four or less and large images by memory.
#include "kernels/cpu/grouped.h"

#include "kernels/cpu/tile.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {
namespace {

// Pixels of a tile: their accumulators, loaded elements and weights fill the registers.
constexpr int tile_pixels([[maybe_unused]] int vecs) {
#if defined(WHENCE_SMALL_TILES)
  return 4 - vecs;
#elif defined(__AVX512F__) || defined(__aarch64__)
  return 10;
#else
  return 12 / vecs;
#endif
}
// Columns of a block, and how much it should copy: a part of L2.
constexpr int64_t block_cols = 64;
constexpr int64_t block_reals = 16384;
// Multiply-adds that are worth a thread.
constexpr int64_t work_per_thread = 1 << 18;

// Groups and vectors of a bundle, and how many bundles there are.
int64_t together(const Gather& g) { return std::max<int64_t>(lanes / g.to, 1); }
int64_t vecs_of(const Gather& g) { return g.to <= lanes ? 1 : 2; }
int64_t bundles_of(const Gather& g) { return (g.groups + together(g) - 1) / together(g); }
// What is in one of them.
struct Bundle {
  int64_t group, groups;    // the first and how many
  int64_t column, columns;  // of the result
};
Bundle bundle_of(const Gather& g, int64_t i) {
  const int64_t group = i * together(g), groups = std::min(together(g), g.groups - group);
  return {group, groups, group * g.to, groups * g.to};
}
// Source positions that `count` result positions reach.
int64_t reach(const Reach& r, int64_t count) {
  return r.taps > 0 ? (count - 1) * r.stride + (r.taps - 1) * r.hop + 1 : 0;
}

// Element k of every segment of `width` lanes, in all its lanes.
template <int width, int k, int... i>
WHENCE_INLINE inline Vec spread(Vec v, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(v, v, (i / width * width + k) % lanes...);
}
template <int width, int k>
WHENCE_INLINE inline Vec spread(const real* at) {
  if constexpr (width == lanes) return splat(at[k]);
  if constexpr (width == 1) return load(at);
  return spread<width, k>(load(at), std::make_integer_sequence<int, lanes>());
}

// How a tile walks over the copied source.
struct Walk {
  int64_t rows, cols, row_step, col_step;  // taps
  int64_t pixel_step;                      // from result pixel to result pixel
  int64_t from;
};

template <int width, int vecs, int pixels>
void grouped_tile(const Walk& walk, const real* source, const real* weights, real* sums) {
  Vec acc[pixels * vecs] = {};
  const int64_t step = walk.pixel_step;
  for (int64_t i = 0; i < walk.rows; ++i)
    for (int64_t j = 0; j < walk.cols; ++j) {
      const real* at = source + i * walk.row_step + j * walk.col_step;
      for (int64_t c = 0; c < walk.from; c += width, at += lanes)
        unrolled<width>([&](auto k) WHENCE_INLINE {
          if (c + k >= walk.from) return;
          Vec weight[vecs];
          unrolled<vecs>([&](auto v) WHENCE_INLINE { weight[v] = load(weights + v * lanes); });
          weights += vecs * lanes;
          unrolled<pixels>([&](auto p) WHENCE_INLINE {
            const Vec x = spread<width, k>(at + p * step);
            unrolled<vecs>([&](auto v) WHENCE_INLINE {
              acc[p * vecs + v] = fma(x, weight[v], acc[p * vecs + v]);
            });
          });
        });
    }
  unrolled<pixels * vecs>([&](auto i) WHENCE_INLINE { store(sums + i * lanes, acc[i]); });
}

using GroupedTile = void (*)(const Walk&, const real*, const real*, real*);
template <int width, int vecs, int... pixels>
constexpr std::array<GroupedTile, sizeof...(pixels)> grouped_tiles(
    std::integer_sequence<int, pixels...>) {
  return {&grouped_tile<width, vecs, pixels + 1>...};
}

template <int width, int vecs>
class Grouped {
 public:
  Grouped(const Gather& g, const real* source, const real* packed, const k::Epilogue& epilogue,
          real* result)
      : g_(g),
        source_(source),
        packed_(packed),
        epilogue_(epilogue),
        result_(result),
        store_(finish_for(epilogue)) {}

  void run(const Stream& s) const {
    const Cuts cols(g_.across.count, block_cols);
    const int64_t line = reach(g_.across, std::min(g_.across.count, block_cols)) * pixel_;
    const int64_t halo = reach(g_.down, 1);
    // At least so many that most of what is copied is not copied for the next block again.
    int64_t most = std::max(block_reals / std::max<int64_t>(line, 1) - halo, halo) / g_.down.stride;
    const int64_t shares = g_.batch * bundles_ * cols.pieces;
    if (shares < 4 * s.threads) most = std::min(most, g_.down.count * shares / (4 * s.threads));
    const Cuts rows(g_.down.count, std::max<int64_t>(most, 1));
    const int64_t items = g_.batch * rows.pieces * cols.pieces * bundles_;
    const int64_t work = g_.rows() * bundles_ * lanes * std::max<int64_t>(g_.sums(), 8) / items;
    const int64_t grain = work_per_thread / work + 1;
    // The source rows that a block copies, and the sums of a row of it.
    Layout parts;
    const int64_t image = parts.add(std::min(reach(g_.down, rows.longest()), g_.source_height) *
                                    reach(g_.across, cols.longest()) * pixel_);
    const int64_t sums = parts.add(block_cols * vecs * lanes);
    const Scratch<real> scratch(s, workers(s, range_count(s, items, grain)), parts.total());
    parallel_ranges(s, items, grain, [&](int64_t begin, int64_t end, int64_t worker) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t block = item / bundles_, i = block / cols.pieces, j = block % cols.pieces;
        const int64_t row = i % rows.pieces;
        compute(item % bundles_,
                {i / rows.pieces, rows.cut(row), rows.cut(row + 1), cols.cut(j), cols.cut(j + 1)},
                scratch.of(worker) + image, scratch.of(worker) + sums);
      }
    });
  }

 private:
  struct Block {
    int64_t sample, top, bottom, left, right;  // result rows and columns
  };

  void compute(int64_t item, const Block& block, real* image, real* sums) const {
    static constexpr auto tiles =
        grouped_tiles<width, vecs>(std::make_integer_sequence<int, tile_pixels(vecs)>());
    const Bundle bundle = bundle_of(g_, item);
    const int64_t cols = block.right - block.left, pitch = reach(g_.across, cols) * pixel_;
    // The source rows that are read.
    const int64_t first = block.top * g_.down.stride + g_.down.offset;
    const int64_t top = std::clamp<int64_t>(first, 0, g_.source_height);
    const int64_t bottom =
        std::clamp(first + reach(g_.down, block.bottom - block.top), top, g_.source_height);
    for (int64_t y = top; y < bottom; ++y)
      copy_row(bundle, block, y, pitch / pixel_, image + (y - top) * pitch);

    const real* weights = packed_ + item * g_.sums() * vecs * lanes;
    const int64_t row_weights = g_.across.taps * g_.from * vecs * lanes;
    const Cuts runs(cols, tile_pixels(vecs));
    for (int64_t u = block.top; u < block.bottom; ++u) {
      const int64_t y = u * g_.down.stride + g_.down.offset;
      const Inside down = inside(g_.down, y, g_.source_height);
      const Walk walk{down.end - down.begin,     g_.across.taps,
                      g_.down.hop * pitch,       g_.across.hop * pixel_,
                      g_.across.stride * pixel_, g_.from};
      const real* line = image + (y + down.begin * g_.down.hop - top) * pitch;
      for (int64_t r = 0; r < runs.pieces; ++r) {
        const int64_t v = runs.cut(r);
        tiles[size_t(runs.cut(r + 1) - v - 1)](walk, line + v * walk.pixel_step,
                                               weights + down.begin * row_weights,
                                               sums + v * vecs * lanes);
      }
      const int64_t row = (block.sample * g_.down.count + u) * g_.across.count + block.left;
      store_rows(g_, store_, sums, vecs * lanes, row, cols, bundle.columns, epilogue_,
                 bundle.column, result_);
    }
  }

  // What a block reads of source row y, `length` pixels, zeros outside the image.
  void copy_row(const Bundle& bundle, const Block& block, int64_t y, int64_t length,
                real* to) const {
    const int64_t x = block.left * g_.across.stride + g_.across.offset;
    const int64_t begin = std::clamp<int64_t>(-x, 0, length);
    const int64_t end = std::clamp(g_.source_width - x, begin, length);
    const int64_t row = (block.sample * g_.source_height + y) * g_.source_width;
    std::fill_n(to, begin * pixel_, real(0));
    copy_pixels(bundle, source_ + (row + x + begin) * g_.groups * g_.from, end - begin,
                to + begin * pixel_);
    std::fill_n(to + end * pixel_, (length - end) * pixel_, real(0));
  }

  // Pixels as [vector][lanes].
  void copy_pixels(const Bundle& bundle, const real* from, int64_t pixels, real* to) const {
    const int64_t channels = g_.groups * g_.from, first = bundle.group * g_.from;
    if (g_.from == width) {
      const int64_t count = std::min<int64_t>(lanes, channels - first);
      for (int64_t p = 0; p < pixels; ++p) {
        const real* at = from + p * channels + first;
        store(to + p * lanes, count == lanes ? load(at) : load(at, count));
      }
      return;
    }
    for (int64_t s = 0; s < bundle.groups; ++s)
      for (int64_t p = 0; p < pixels; ++p) {
        const real* at = from + p * channels + first + s * g_.from;
        real* out = to + p * pixel_ + s * width;
        int64_t c = 0;
        for (; c + width <= g_.from; c += width, out += lanes)
          std::memcpy(out, at + c, width * sizeof(real));
        for (int64_t k = 0; c + k < g_.from; ++k) out[k] = at[c + k];
      }
  }

  const Gather& g_;
  const real *source_, *packed_;
  const k::Epilogue& epilogue_;
  real* result_;
  Finish store_;
  const int64_t bundles_ = bundles_of(g_);
  const int64_t pixel_ = (g_.from + width - 1) / width * lanes;  // reals of a copied pixel
};

template <int... widths>
void with_width(int64_t width, std::integer_sequence<int, widths...>, auto&& f) {
  ((width == widths + 1 ? f(std::integral_constant<int, widths + 1>()) : void()), ...);
}

}  // namespace

bool many_groups(const Gather& g) { return g.groups > 1 && g.to <= 2 * lanes; }

int64_t grouped_count(const Gather& g, int64_t taps) {
  return g.to > 0 ? bundles_of(g) * vecs_of(g) * lanes * taps * g.from : 0;
}

// [bundle][tap][source channel of the group][lane]; lanes without a channel: 0.
void pack_grouped(const Stream& s, const Gather& g, const real* weight, real* packed) {
  if (g.to <= 0) return;
  const int64_t width = vecs_of(g) * lanes, size = g.sums() * width;
  parallel_ranges(s, bundles_of(g), row_grain(size), [&](int64_t begin, int64_t end) {
    real* to = packed + begin * size;
    for (int64_t item = begin; item < end; ++item) {
      const Bundle bundle = bundle_of(g, item);
      for (int64_t t = 0; t < g.taps(); ++t)
        for (int64_t c = 0; c < g.from; ++c, to += width) {
          const real* at = weight + g.kernel_tap(t) + c * g.weight_from;
          for (int64_t i = 0; i < bundle.columns; ++i) {
            const int64_t o = bundle.column + i;
            to[i] = at[o / g.to * g.weight_group + o % g.to * g.weight_to];
          }
          std::fill(to + bundle.columns, to + width, real(0));
        }
    }
  });
}

void grouped(const Stream& s, const Gather& g, const real* source, const real* packed,
             const k::Epilogue& epilogue, real* result) {
  if (g.rows() <= 0 || g.to <= 0) return;
  if (g.to > lanes) return Grouped<lanes, 2>(g, source, packed, epilogue, result).run(s);
  if (2 * g.to > lanes) return Grouped<lanes, 1>(g, source, packed, epilogue, result).run(s);
  with_width(g.to, std::make_integer_sequence<int, lanes / 2>(),
             [&](auto width) { Grouped<width, 1>(g, source, packed, epilogue, result).run(s); });
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
