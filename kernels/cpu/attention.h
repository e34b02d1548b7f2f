// What attention and its backward pass share: the work item (one head of one sample), blocks of
// query rows whose scores stay in cache, and sums of maps over heads.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row.h"
#include "kernels/cpu/scratch.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// Multiply-adds of a score map that are worth a thread.
inline constexpr int64_t attention_work_per_thread = 1 << 17;

// A score map's rows in scratch: whole vectors, the columns beyond the keys included.
struct MapSize {
  int64_t keys, cols, stride, block;
  explicit MapSize(int64_t keys_) : keys(keys_) {
    cols = (keys + lanes - 1) / lanes * lanes;
    // Rows a power of two apart would share cache sets.
    stride = cols * int64_t(sizeof(real)) % 2048 == 0 ? cols + lanes : cols;
    // Query rows at a time: a few tiles, or fewer where the keys are so many that two maps of them
    // (scores and their gradient) would leave L2.
    const int64_t fitting = 256 * 1024 / int64_t(sizeof(real)) / std::max<int64_t>(stride, 1);
    block = std::clamp<int64_t>(fitting / tile_rows, 1, 4) * tile_rows;
  }
};

// One head of one sample: where its rows begin and how far apart they are.
struct Head {
  int64_t item, sample, at_query, at_key, stride;
  Head(const k::AttentionSize& z, int64_t item_)
      : item(item_),
        sample(item_ / z.heads),
        at_query((sample * z.queries * z.heads + item_ % z.heads) * z.width),
        at_key((sample * z.keys * z.heads + item_ % z.heads) * z.width),
        stride(z.heads * z.width) {}
};

// Rows [first, first + count) of a head's operand, close together in `rows`.
inline Left gather(const real* at, int64_t stride, int64_t first, int64_t count, int64_t width,
                   real* rows) {
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(rows + i * width, at + (first + i) * stride, size_t(width) * sizeof(real));
  }
  return {rows, width, 1};
}

// P = softmax(scale q k^T) of a block of query rows; columns beyond the keys become 0. `keys` are
// the panels of k with the keys as columns.
inline void probabilities(const Left& q, int64_t rows, const real* keys, int64_t width,
                          const MapSize& map, real scale, real* p) {
  constexpr real lowest = -std::numeric_limits<real>::infinity();
  multiply(q, rows, keys, map.cols, width, p, map.stride, false);
  for (int64_t i = 0; i < rows; ++i) {
    real* row = p + i * map.stride;
    for (int64_t j = map.keys; j < map.cols; ++j) row[j] = lowest;
  }
  softmax_rows(p, rows, map.stride, map.cols, scale, p);
}

// out [B, Q, N] = mean over heads of maps that the items of a round produce. Heads are added in
// ascending order for any number of threads: an item leaves its map in its slot of the round, and
// the slots are added when the round is over. A single thread adds at once.
class HeadMean {
 public:
  HeadMean(const Stream& s, real* out, const k::AttentionSize& size, int64_t slots)
      : out_(out),
        size_(size),
        map_(size.queries * size.keys),
        in_slots_(out && slots > 1),
        slots_(s, in_slots_ ? slots : 0, map_) {}
  explicit operator bool() const { return out_ != nullptr; }

  // Row `query` of the map of `item`, which has place `slot` in its round.
  void put(int64_t item, int64_t slot, int64_t query, const real* row) {
    if (in_slots_) {
      std::memcpy(slots_.of(slot) + query * size_.keys, row, size_t(size_.keys) * sizeof(real));
    } else {
      add(item, query, row);
    }
  }
  // Adds the maps of a round of items [first, first + count).
  void finish_round(const Stream& s, int64_t first, int64_t count) {
    if (!in_slots_) return;
    parallel_ranges(s, size_.queries, row_grain(count * size_.keys),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = 0; i < count; ++i)
                        for (int64_t query = begin; query < end; ++query) {
                          add(first + i, query, slots_.of(i) + query * size_.keys);
                        }
                    });
  }

 private:
  void add(int64_t item, int64_t query, const real* row) {
    const int64_t sample = item / size_.heads, head = item % size_.heads;
    const Vec factor = splat(head + 1 == size_.heads ? 1 / real(size_.heads) : real(1));
    real* to = out_ + sample * map_ + query * size_.keys;
    each_vec(size_.keys, [&](int64_t j, auto n) {
      Vec sum = load(row + j, n);
      if (head > 0) sum = load(to + j, n) + sum;
      store(to + j, sum * factor, n);
    });
  }
  real* out_;
  k::AttentionSize size_;
  int64_t map_;
  bool in_slots_;
  Scratch<real> slots_;
};

// f(item, slot, worker) for all heads of all samples on the stream's threads; if maps are summed
// over heads, in rounds of one item a thread, with finish(first, count) after each.
template <class F, class G>
void each_head(const Stream& s, const k::AttentionSize& z, int64_t round, F&& f, G&& finish) {
  const int64_t items = z.batch * z.heads;
  for (int64_t first = 0; first < items; first += round) {
    const int64_t count = std::min(round, items - first);
    parallel_items(s, count, [&](int64_t i, int64_t worker) { f(first + i, i, worker); });
    finish(first, count);
  }
}

// Threads worth starting for maps of this size.
inline Stream attention_stream(const Stream& s, const k::AttentionSize& z) {
  const int64_t work = z.batch * z.heads * z.queries * z.keys * z.width;
  const int64_t threads = work / attention_work_per_thread;
  return {int(std::clamp<int64_t>(threads, 1, std::max(s.threads, 1))), s.loan};
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
