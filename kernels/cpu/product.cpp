// Products with packed weights and a fused epilogue.
//
// The right operand is packed once into panels of panel_width columns (32 floats with AVX-512), so
// the inner loop streams it. Rows of the left operand are cut into chunks that stay in L2 while all
// panels pass by; a panel is used by every tile of the chunk while it is in L2 itself. A tile's
// sums are those of its chains of 256 elements, which rounds less than one long chain does. Threads
// get contiguous ranges of (chunk, panel), chunk-major, cut between panels: never along the sum.
//
// Bytes: the left operand and the result once, the panels once per chunk (from L3 when they fit
// there). Bound by the FMA units for m >= 14 or so; one row is bound by reading the weights.
#include "kernels/product.h"

#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace whence::k {
namespace {

using namespace cpu;

// Bytes of left operand that a chunk may have: half of a common L2.
constexpr int64_t chunk_bytes = 512 * 1024;
// Multiply-adds that are worth a thread: about 10 microseconds of reading weights.
constexpr int64_t work_per_thread = 1 << 18;
// Elements of a chain, see kernels/product.h: adding a chain's sum costs 1 % of computing it.
constexpr int64_t chain = 256;

// Starts fetching the part of c and of the residual that a tile will touch when its sums are done.
void ask_for(const real* residual, const real* c, int64_t row, int64_t rows, int64_t column,
             int64_t c_stride) {
  for (int64_t i = row; i < row + rows; ++i) {
    for (int64_t v = 0; v < panel_width; v += 64 / int64_t(sizeof(real))) {
      __builtin_prefetch(c + i * c_stride + column + v, 1);
      if (residual) __builtin_prefetch(residual + i * c_stride + column + v, 0);
    }
  }
}

// Rows whose distance is a multiple of half an L1 way fall into so few cache sets that the rows of
// a tile evict each other; such chunks are copied to rows an odd number of lines apart.
bool rows_collide(int64_t stride) { return stride * int64_t(sizeof(real)) % 2048 == 0; }

struct Rows {
  const real* at;
  int64_t stride;
};

int64_t spread_stride(int64_t k) { return (k + lanes - 1) / lanes * lanes + lanes; }

Rows spread(Rows a, int64_t rows, int64_t k, real* copy) {
  const int64_t stride = spread_stride(k);
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(copy + i * stride, a.at + i * a.stride, size_t(k) * sizeof(real));
  }
  return {copy, stride};
}

// tile() or part_tile() of tile.h.
using TileOf = void (*)(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums,
                        real* c, int64_t c_stride, const Ahead& next);

void whole_tile(int64_t rows, int64_t width, const Left& a, const real* panel, int64_t sums,
                real* c, int64_t c_stride, const Ahead& next) {
  tile(rows, width, a, panel, sums, c, c_stride, false, next);
}

void products(Stream& s, TileOf tile_of, const real* a, int64_t a_stride, const real* packed,
              int64_t m, int64_t n, int64_t k, const Epilogue& epilogue, real* c,
              int64_t c_stride) {
  if (m <= 0 || n <= 0) return;
  const int64_t panels = (n + panel_width - 1) / panel_width;
  const int64_t row_bytes = std::max<int64_t>(1, k * int64_t(sizeof(real)));
  int64_t most = std::max<int64_t>(tile_rows, chunk_bytes / row_bytes / tile_rows * tile_rows);
  if (panels < 4 * s.threads) {  // too few panels to share out: share rows as well
    most = std::min(most, std::max<int64_t>(tile_rows, m / (4 * s.threads)));
  }
  const Cuts chunks(m, most);
  const Finish store_tile = finish_for(epilogue);
  const int64_t grain = std::max<int64_t>(
      1, work_per_thread * panels * chunks.pieces / std::max<int64_t>(1, m * n * k));
  const int64_t items = chunks.pieces * panels;
  const bool spreads = k > 0 && chunks.longest() > 1 && rows_collide(a_stride);
  const Scratch<real> copies(s, workers(s, range_count(s, items, grain)),
                             spreads ? chunks.longest() * spread_stride(k) : 0);
  parallel_ranges(s, items, grain, [&](int64_t begin, int64_t end, int64_t worker) {
    alignas(64) real sums[tile_rows * panel_width] = {}, more[tile_rows * panel_width] = {};
    int64_t held = -1;
    Rows rows{};
    for (int64_t item = begin; item < end; ++item) {
      const int64_t chunk = item / panels, column = item % panels * panel_width;
      const int64_t first = chunks.cut(chunk), count = chunks.cut(chunk + 1) - first;
      if (chunk != held) {
        rows = {a + first * a_stride, a_stride};
        if (spreads && count > 1) rows = spread(rows, count, k, copies.of(worker));
        held = chunk;
      }
      const int64_t width = std::min<int64_t>(panel_width, n - column);
      const Cuts tiles(count, tile_rows);
      const real* panel = packed + column * k;
      const real* following = packed + (column + panel_width) % (panels * panel_width) * k;
      // While a panel is used, the next one comes into L2: an equal share with every tile. One tile
      // alone is a plain stream, which the processor foresees.
      const bool alone = tiles.pieces == 1;
      const int64_t share = alone ? 0 : panel_width * int64_t(sizeof(real)) / tiles.pieces;
      const char* next = reinterpret_cast<const char*>(alone ? panel : following);
      for (int64_t t = 0; t < tiles.pieces; ++t) {
        const int64_t i = tiles.cut(t), height = tiles.cut(t + 1) - i;
        ask_for(epilogue.residual, c, first + i, height, column, c_stride);
        for (int64_t x = 0; x == 0 || x < k; x += chain) {
          tile_of(height, width, {rows.at + i * rows.stride + x, rows.stride, 1},
                  panel + x * panel_width, std::min(chain, k - x), x ? more : sums, panel_width,
                  {next + share * (t * k + x), share});
          for (int64_t j = 0; x && j < height * panel_width; j += lanes)
            store(sums + j, load(sums + j) + load(more + j));
        }
        Epilogue here = epilogue;
        if (here.residual) here.residual += (first + i) * c_stride;
        store_tile(sums, panel_width, height, width, here, column, c + (first + i) * c_stride,
                   c_stride);
      }
    }
  });
}

}  // namespace

int64_t packed_count(int64_t n, int64_t k) { return panels_count(n, k); }

void pack(Stream& s, const real* b, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k,
          real* packed) {
  const int64_t panels = (n + panel_width - 1) / panel_width;
  parallel_ranges(s, panels, row_grain(k * panel_width), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * panel_width;
    pack_panels(b + first * stride_n, std::min(end * panel_width, n) - first, k, stride_n, stride_k,
                packed + first * k);
  });
}

void product(Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m, int64_t n,
             int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  products(s, whole_tile, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
}

void part_product(Stream& s, Part part, const real* a, int64_t a_stride, const real* packed,
                  int64_t m, int64_t n, int64_t k, const Epilogue& epilogue, real* c,
                  int64_t c_stride) {
  const TileOf tile_of = part == Part::positive   ? part_tile<Positive>
                         : part == Part::negative ? part_tile<Negative>
                                                  : whole_tile;
  products(s, tile_of, a, a_stride, packed, m, n, k, epilogue, c, c_stride);
}

}  // namespace whence::k
