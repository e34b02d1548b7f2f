// Attention with capture.
//
// A thread takes one head of one sample at a time. It packs k and v once (as panels), then goes
// through the query rows in blocks: scores and softmax of a block (44 KB at 197 keys) stay in cache
// until they have been multiplied with v. Captured maps are written from there.
//
// Bytes: q, k, v and the context once, and what is captured. Bound by the FMA units; the
// exponentials cost about a tenth.
#include "kernels/cpu/attention.h"

namespace whence::k {
namespace {

using namespace cpu;

// What a thread needs for a head: panels of k and v, a block of the map, and its query rows.
struct Parts {
  Layout layout;
  int64_t keys, values, map, queries;
  Parts(const AttentionSize& z, const MapSize& size)
      : keys(layout.add(panels_count(z.keys, z.width))),
        values(layout.add(panels_count(z.width, z.keys))),
        map(layout.add(size.block * size.stride)),
        queries(layout.add(size.block * z.width)) {}
};

struct Forward {
  const real *q, *k, *v;
  const AttentionSize& z;
  real scale;
  real* context;
  const AttentionCapture& out;
  HeadMean& mean;
  const MapSize& map;
  const Parts& parts;

  void head(int64_t item, int64_t slot, real* scratch) const {
    const Head h(z, item);
    real *keys = scratch + parts.keys, *values = scratch + parts.values, *p = scratch + parts.map;
    pack_panels(k + h.at_key, z.keys, z.width, h.stride, 1, keys);
    if (context) pack_panels(v + h.at_key, z.width, z.keys, 1, h.stride, values);
    const bool one_row = !context && !out.probs && !mean;
    const int64_t begin = one_row ? out.row_index : 0;
    const int64_t end = one_row ? out.row_index + 1 : z.queries;
    for (int64_t first = begin; first < end; first += map.block) {
      const int64_t rows = std::min(map.block, end - first);
      const Left queries =
          gather(q + h.at_query, h.stride, first, rows, z.width, scratch + parts.queries);
      probabilities(queries, rows, keys, z.width, map, scale, p);
      if (context) {
        multiply({p, map.stride, 1}, rows, values, z.width, z.keys,
                 context + h.at_query + first * h.stride, h.stride, false);
      }
      capture(item, slot, first, rows, p);
    }
  }

  void capture(int64_t item, int64_t slot, int64_t first, int64_t rows, const real* p) const {
    const size_t bytes = size_t(z.keys) * sizeof(real);
    for (int64_t i = 0; i < rows; ++i) {
      const real* row = p + i * map.stride;
      const int64_t query = first + i;
      if (out.probs) std::memcpy(out.probs + (item * z.queries + query) * z.keys, row, bytes);
      if (out.row && query == out.row_index) std::memcpy(out.row + item * z.keys, row, bytes);
      if (mean) mean.put(item, slot, query, row);
    }
  }
};

}  // namespace

void attention(Stream& s, const real* q, const real* k, const real* v, const AttentionSize& size,
               real scale, real* context, const AttentionCapture& capture) {
  if (!context && !capture.probs && !capture.head_mean && !capture.row) return;
  if (size.keys <= 0 && context && !s.asking()) {  // nothing to attend to
    std::fill_n(context, size.batch * size.queries * size.heads * size.width, real(0));
  }
  if (size.queries <= 0 || size.keys <= 0) return;
  const Stream team = attention_stream(s, size);
  const int64_t round =
      capture.head_mean ? team.threads : std::max<int64_t>(1, size.batch * size.heads);
  HeadMean mean(s, capture.head_mean, size, capture.head_mean ? round : 0);
  const MapSize map(size.keys);
  const Parts parts(size, map);
  const Scratch<real> scratch(s, workers(team, std::min(round, size.batch * size.heads)),
                              parts.layout.total());
  const Forward forward{q, k, v, size, scale, context, capture, mean, map, parts};
  each_head(
      team, size, round,
      [&](int64_t item, int64_t slot, int64_t worker) {
        forward.head(item, slot, scratch.of(worker));
      },
      [&](int64_t first, int64_t count) { mean.finish_round(team, first, count); });
}

}  // namespace whence::k
