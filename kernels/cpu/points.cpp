// Points in one pass, in the order of the image or cut into patches.
//
// Rows are cut into groups of 64 adjacent elements, as the generator makes them; threads take
// ranges of groups. Reads 4 bytes per element (8 where the other tensor is given) and writes 4;
// bound by memory, or by the generator's logarithm.
#include "kernels/points.h"

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random_group.h"

namespace whence::k {
namespace {

using namespace cpu;

// Where the elements of a row go, in their order: runs that stay together.
class Cursor {
 public:
  // Stands at element `at` of a row of `count` elements whose result begins at y.
  Cursor(const PatchSize& size, int64_t count, int64_t at, real* y)
      : patch_(size.patch), y_(y), to_(y + at), left_(count - at) {
    if (patch_ == 0) return;
    down_ = size.height / patch_;
    across_ = size.width / patch_;
    cells_ = size.channels * patch_ * patch_;
    const int64_t line = at / size.width, col = at - line * size.width;
    band_ = line / size.height * patch_;
    y_patch_ = line % size.height / patch_;
    band_ += line % patch_;
    x_patch_ = col / patch_;
    start_run();
    to_ += col % patch_;
    left_ -= col % patch_;
  }
  real* to() const { return to_; }
  int64_t left() const { return left_; }  // of the run
  void advance(int64_t n) {
    to_ += n;
    left_ -= n;
    if (left_ > 0 || patch_ == 0) return;
    if (++x_patch_ == across_) {
      x_patch_ = 0;
      if (++band_ % patch_ == 0 && ++y_patch_ < down_) band_ -= patch_;
      if (y_patch_ == down_) y_patch_ = 0;
    }
    start_run();
  }

 private:
  void start_run() {
    to_ = y_ + (y_patch_ * across_ + x_patch_) * cells_ + band_ * patch_;
    left_ = patch_;
  }

  int64_t patch_, down_ = 0, across_ = 0, cells_ = 0;
  real *y_, *to_;
  int64_t left_;
  // The run's place: patch, and the row of a patch, counted through all channels.
  int64_t x_patch_ = 0, y_patch_ = 0, band_ = 0;
};

template <PointTerms::Other kind>
void combine(real to, const real* item, real from, const real* other, int64_t count, real* y) {
  each_vec(count, [&](int64_t i, auto n) {
    Vec sum = splat(to) * load(item + i, n);
    if constexpr (kind != PointTerms::none) sum += splat(from) * load(other + i, n);
    store(y + i, sum, n);
  });
}

template <PointTerms::Other kind>
void groups(const PointTerms& t, const PatchSize& size, int64_t count, int64_t begin, int64_t end,
            real* y) {
  const int64_t per_row = (count + group_elements - 1) / group_elements;
  while (begin < end) {
    const int64_t row = begin / per_row, first = begin - row * per_row;
    const int64_t last = std::min(per_row, first + end - begin);
    Cursor place(size, count, first * group_elements, y + row * count);
    for (int64_t g = first; g < last; ++g) {
      const int64_t at = g * group_elements, n = std::min<int64_t>(group_elements, count - at);
      real drawn[group_elements];
      const real* other = drawn;
      if constexpr (kind == PointTerms::normal)
        variates(key_of(t.keys + 4 * row), g, normal_group, drawn);
      if constexpr (kind == PointTerms::given) other = t.other + row * count + at;
      for (int64_t done = 0; done < n;) {
        const int64_t run = std::min(place.left(), n - done);
        combine<kind>(t.to[row], t.item + row * count + at + done,
                      kind == PointTerms::none ? real(0) : t.from[row], other + done, run,
                      place.to());
        place.advance(run);
        done += run;
      }
    }
    begin += last - first;
  }
}

}  // namespace

void interpolate(Stream& s, const PointTerms& terms, const PatchSize& size, real* y) {
  const int64_t count = size.channels * size.height * size.width;
  if (count <= 0) return;
  const int64_t per_row = (count + group_elements - 1) / group_elements;
  const auto run = [&](auto work, int64_t elements) {
    parallel_ranges(s, size.batch * per_row, elements / group_elements,
                    [&](int64_t begin, int64_t end) { work(terms, size, count, begin, end, y); });
  };
  switch (terms.kind) {
    case PointTerms::none:
      return run(groups<PointTerms::none>, elements_per_thread);
    case PointTerms::given:
      return run(groups<PointTerms::given>, elements_per_thread);
    case PointTerms::normal:
      return run(groups<PointTerms::normal>, elements_per_thread / 4);
  }
}

}  // namespace whence::k
