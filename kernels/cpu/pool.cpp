// Pooling. Lanes are channels; rows of results go to threads (samples and vectors of channels for
// the gradients of a maximum, which add up window by window). Every element of a window is read
// from L1 or L2 when its neighbours' windows come to it; bound by those reads.
#include "kernels/pool.h"

#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec.h"

namespace whence::k {
namespace {

using namespace cpu;

// f(b, row, column, offset of the pixel's first channel) for every pixel of an image [batch,
// height, width, channels].
template <class F>
void each_pixel(const Stream& s, const PoolSize& z, int64_t height, int64_t width, F&& f) {
  const int64_t work = width * z.channels * std::max<int64_t>(z.size * z.size / 4, 1);
  parallel_ranges(s, z.batch * height, row_grain(work), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t x = 0; x < width; ++x)
        f(line / height, line % height, x, (line * width + x) * z.channels);
  });
}

// The largest element of a window so far, and where it is. A later one must be larger, or NaN.
struct Best {
  Vec value = splat(-std::numeric_limits<real>::infinity());
  Bits place{};
  void meet(Vec x, int64_t at) {
    const Bits wins = (x > value) | (x != x);
    value = wins ? x : value;
    place = wins ? Bits{} + lane_int(at) : place;
  }
};

// Lanes [c, c + n) of the window (down, across) of the sample that begins at `image`. Places count
// from 1 on, row by row inside the image.
template <class N>
Best best_of(const PoolSize& z, Span down, Span across, const real* image, int64_t c, N n) {
  Best best;
  int64_t place = 0;
  for (int64_t y = down.begin; y < down.end; ++y)
    for (int64_t x = across.begin; x < across.end; ++x)
      best.meet(load(image + (y * z.width + x) * z.channels + c, n), ++place);
  return best;
}

// Lanes [c, c + n) of one sample's gradient: every window, row by row, adds to its maximum.
template <class N>
void slopes_of_lanes(const PoolSize& z, const real* image, const real* cotangents, int64_t c, N n,
                     real* slopes) {
  for (int64_t i = 0; i < z.height * z.width; ++i) store(slopes + i * z.channels + c, Vec{}, n);
  for (int64_t h = 0; h < z.out_height; ++h)
    for (int64_t w = 0; w < z.out_width; ++w) {
      const Span down = window_span(z, h, z.height), across = window_span(z, w, z.width);
      const Best best = best_of(z, down, across, image, c, n);
      const Vec d = load(cotangents + (h * z.out_width + w) * z.channels, n);
      int64_t place = 0;
      for (int64_t y = down.begin; y < down.end; ++y)
        for (int64_t x = across.begin; x < across.end; ++x) {
          real* at = slopes + (y * z.width + x) * z.channels + c;
          const Vec won = best.place == Bits{} + lane_int(++place) ? d : Vec{};
          store(at, load(at, n) + won, n);
        }
    }
}

// The same for Rescale: `image` and `reference` are a pair, `near` elements get the gradient.
template <class N>
void rescaled_lanes(const PoolSize& z, Vec epsilon, const real* image, const real* reference,
                    const real* cotangents, int64_t c, N n, real* slopes) {
  const auto difference = [&](int64_t at) { return load(image + at, n) - load(reference + at, n); };
  const auto near = [&](Vec d) { return (d < epsilon) & (d > -epsilon); };
  for (int64_t i = 0; i < z.height * z.width; ++i) store(slopes + i * z.channels + c, Vec{}, n);
  for (int64_t h = 0; h < z.out_height; ++h)
    for (int64_t w = 0; w < z.out_width; ++w) {
      const Span down = window_span(z, h, z.height), across = window_span(z, w, z.width);
      const Best y = best_of(z, down, across, image, c, n);
      const Best y0 = best_of(z, down, across, reference, c, n);
      const Bits higher = (y.value > y0.value) | (y.value != y.value);
      const Vec top = higher ? y.value : y0.value;
      const Vec d = load(cotangents + (h * z.out_width + w) * z.channels, n);
      int64_t place = 0;
      for (int64_t i = down.begin; i < down.end; ++i)
        for (int64_t j = across.begin; j < across.end; ++j) {
          const int64_t at = (i * z.width + j) * z.channels + c;
          const Bits here = Bits{} + lane_int(++place), close = near(difference(at));
          const Vec won = close ? splat(1) : top - y0.value, lost = close ? Vec{} : y.value - top;
          const Vec share = (y.place == here ? won : Vec{}) + (y0.place == here ? lost : Vec{});
          store(slopes + at, load(slopes + at, n) + share * d, n);
        }
    }
  for (int64_t i = 0; i < z.height * z.width; ++i) {
    const int64_t at = i * z.channels + c;
    const Vec d = difference(at), sum = load(slopes + at, n);
    store(slopes + at, near(d) ? sum : sum / d, n);
  }
}

// f(sample, channel, lanes) for every sample's vectors of channels.
template <class F>
void each_lanes(const Stream& s, const PoolSize& z, F&& f) {
  const int64_t vecs = (z.channels + lanes - 1) / lanes;
  parallel_ranges(s, z.batch * vecs, row_grain(z.height * z.width * lanes),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t item = begin; item < end; ++item) {
                      const int64_t b = item / vecs, c = item % vecs * lanes;
                      if (z.channels - c < lanes)
                        f(b, c, z.channels - c);
                      else
                        f(b, c, std::integral_constant<int64_t, lanes>());
                    }
                  });
}

}  // namespace

void max_pool(Stream& s, const real* x, const PoolSize& z, real* y) {
  const int64_t sample = z.height * z.width * z.channels;
  each_pixel(s, z, z.out_height, z.out_width, [&](int64_t b, int64_t h, int64_t w, int64_t at) {
    const Span down = window_span(z, h, z.height), across = window_span(z, w, z.width);
    each_vec(z.channels, [&](int64_t c, auto n) {
      store(y + at + c, best_of(z, down, across, x + b * sample, c, n).value, n);
    });
  });
}

void max_pool_bwd(Stream& s, const real* x, const real* dy, const PoolSize& z, real* dx) {
  const int64_t sample = z.height * z.width * z.channels;
  const int64_t windows = z.out_height * z.out_width * z.channels;
  each_lanes(s, z, [&](int64_t b, int64_t c, auto n) {
    slopes_of_lanes(z, x + b * sample, dy + b * windows + c, c, n, dx + b * sample);
  });
}

void max_pool_rescale(Stream& s, real epsilon, const real* x, const real* x0, int64_t references,
                      const real* dy, const PoolSize& z, real* dx) {
  const int64_t sample = z.height * z.width * z.channels;
  const int64_t windows = z.out_height * z.out_width * z.channels;
  each_lanes(s, z, [&](int64_t b, int64_t c, auto n) {
    rescaled_lanes(z, splat(epsilon), x + b * sample, x0 + b % references * sample,
                   dy + b * windows + c, c, n, dx + b * sample);
  });
}

void average_pool(Stream& s, const real* x, const PoolSize& z, bool count_padding, real* y) {
  const int64_t sample = z.height * z.width * z.channels;
  each_pixel(s, z, z.out_height, z.out_width, [&](int64_t b, int64_t h, int64_t w, int64_t at) {
    const Span down = window_span(z, h, z.height), across = window_span(z, w, z.width);
    const Vec count = splat(real(window_count(z, h, z.height, count_padding) *
                                 window_count(z, w, z.width, count_padding)));
    each_vec(z.channels, [&](int64_t c, auto n) {
      Vec sum{};
      for (int64_t i = down.begin; i < down.end; ++i)
        for (int64_t j = across.begin; j < across.end; ++j)
          sum += load(x + b * sample + (i * z.width + j) * z.channels + c, n);
      store(y + at + c, sum / count, n);
    });
  });
}

void average_pool_bwd(Stream& s, const real* dy, const PoolSize& z, bool count_padding, real* dx) {
  each_pixel(s, z, z.height, z.width, [&](int64_t b, int64_t h, int64_t w, int64_t at) {
    const Span rows = windows_of(z, h, z.out_height), cols = windows_of(z, w, z.out_width);
    each_vec(z.channels, [&](int64_t c, auto n) {
      Vec sum{};
      for (int64_t i = rows.begin; i < rows.end; ++i)
        for (int64_t j = cols.begin; j < cols.end; ++j) {
          const int64_t count = window_count(z, i, z.height, count_padding) *
                                window_count(z, j, z.width, count_padding);
          sum += load(dy + ((b * z.out_height + i) * z.out_width + j) * z.channels + c, n) /
                 splat(real(count));
        }
      store(dx + at + c, sum, n);
    });
  });
}

}  // namespace whence::k
