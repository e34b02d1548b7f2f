// Pictures of maps: the bytes of the definition, on every processor, alone and among others.
#include "kernels/picture.h"
#include "tests/ref/backends.h"
#include "tests/ref/picture.h"

namespace whence {
namespace {

using namespace ref;

// Pictures of many overlays, which outlive it, with memory of their own.
struct Batch {
  explicit Batch(const std::vector<Overlay>& overlays) {
    ranges.resize(2 * overlays.size(), poison);
    for (const Overlay& o : overlays) {
      planes.emplace_back(size_t(o.map_height * o.map_width), poison);
      drawn.emplace_back(o.image.size(), uint8_t(7));
    }
    for (size_t i = 0; i < overlays.size(); ++i) {
      const Overlay& o = overlays[i];
      k::Picture p{o.map.data(),   planes[i].data(), &ranges[2 * i],
                   o.image.data(), drawn[i].data(),  std::max(o.channels, 1),
                   o.channels > 0, o.map_height,     o.map_width,
                   o.height,       o.width};
      const auto inside = [](double v, int most) {
        return std::clamp<int64_t>(std::llround(v), 0, most);
      };
      p.left = inside(o.left, o.width);
      p.right = inside(o.left + o.across, o.width);
      p.top = inside(o.top, o.height);
      p.bottom = inside(o.top + o.down, o.height);
      p.map_left = o.left;
      p.map_top = o.top;
      p.x_scale = double(o.map_width) / o.across;
      p.y_scale = double(o.map_height) / o.down;
      p.opacity = o.opacity;
      pictures.push_back(p);
      most_pixels = std::max(most_pixels, int64_t{o.height} * o.width);
    }
  }
  template <class Stream>
  void run(Stream& s) {
    k::scale_maps(s, pictures.data(), int64_t(pictures.size()));
    k::draw_maps(s, pictures.data(), int64_t(pictures.size()), most_pixels);
  }
  std::vector<Reals> planes;
  Reals ranges;
  std::vector<Bytes> drawn;
  std::vector<k::Picture> pictures;
  int64_t most_pixels = 0;
};

void expect_bytes(const Bytes& got, const Bytes& want, size_t picture) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(int(got[i]), int(want[i])) << "picture " << picture << ", byte " << i;
}

template <class Backend>
class KernelsPicture : public testing::Test {};
TYPED_TEST_SUITE(KernelsPicture, Backends, BackendNames);

TYPED_TEST(KernelsPicture, have_the_bytes_of_the_definition) {
  const std::vector<Overlay> all = overlays();
  Batch batch(all);
  TypeParam::run([&](auto& s) { batch.run(s); });
  for (size_t i = 0; i < all.size(); ++i) {
    expect_bytes(batch.drawn[i], draw(all[i]), i);
    expect_same_bits(batch.planes[i], all[i].scaled(), "plane");
    EXPECT_EQ(batch.ranges[2 * i], all[i].lowest());
    EXPECT_EQ(batch.ranges[2 * i + 1], all[i].highest());
  }
}

TYPED_TEST(KernelsPicture, do_not_depend_on_their_neighbours) {
  const std::vector<Overlay> all = overlays();
  for (const size_t i : {0, 3}) {
    const std::vector<Overlay> one{all[i]};
    Batch alone(one);
    TypeParam::run([&](auto& s) { alone.run(s); });
    expect_bytes(alone.drawn[0], draw(all[i]), i);
  }
}

TYPED_TEST(KernelsPicture, may_be_drawn_in_place) {
  std::vector<Overlay> one{overlays()[0]};
  const Bytes want = draw(one[0]);
  Batch batch(one);
  batch.pictures[0].drawn = one[0].image.data();
  TypeParam::run([&](auto& s) { batch.run(s); });
  expect_bytes(one[0].image, want, 0);
}

// More cells than a block has threads, with every extreme place.
TYPED_TEST(KernelsPicture, find_the_range_wherever_it_is) {
  std::vector<Overlay> all;
  constexpr int cells = 1201;
  for (const auto& [low, high] : std::vector<std::array<int, 2>>{
           {0, 1200}, {1200, 0}, {511, 512}, {31, 32}, {700, 1199}, {1024, 63}}) {
    Overlay o = overlays()[8];
    o.map_width = cells;
    o.map = noise(cells, 3);
    o.map[size_t(low)] = -5;
    o.map[size_t(high)] = 6;
    all.push_back(o);
  }
  Batch batch(all);
  TypeParam::run([&](auto& s) { batch.run(s); });
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(batch.ranges[2 * i], -5);
    EXPECT_EQ(batch.ranges[2 * i + 1], 6);
    expect_same_bits(batch.planes[i], all[i].scaled(), "plane");
  }
}

// Zeros of both signs: the first of the least values, the last of the largest, whoever meets which.
TYPED_TEST(KernelsPicture, zeros_keep_the_sign_of_their_place) {
  std::vector<Overlay> all;
  const std::vector<std::array<size_t, 2>> places{{5, 690}, {40, 517}, {5, 20}, {4, 21}};
  for (const real side : {real(1), real(-1)})
    for (const auto& [first, last] : places)
      for (const real sign : {real(0.0), real(-0.0)}) {
        Overlay o = overlays()[8];
        o.map_width = 700;
        o.map.assign(700, side);
        o.map[first] = sign;
        o.map[last] = -sign;
        all.push_back(o);
      }
  Batch batch(all);
  TypeParam::run([&](auto& s) { batch.run(s); });
  for (size_t i = 0; i < all.size(); ++i) {
    const bool least = all[i].map[0] > 0;
    const real zero = batch.ranges[2 * i + (least ? 0 : 1)];
    const auto& [first, last] = places[i / 2 % places.size()];
    EXPECT_EQ(zero, 0);
    EXPECT_EQ(std::signbit(zero), std::signbit(all[i].map[least ? first : last])) << i;
  }
}

TYPED_TEST(KernelsPicture, what_is_not_finite_is_told) {
  const real endless = std::numeric_limits<real>::infinity();
  const real most = std::numeric_limits<real>::max();
  std::vector<Overlay> all;
  for (const real bad : {poison, -poison, endless, -endless})
    for (const int at : {0, 40, 599}) {
      Overlay o = overlays()[8];
      o.map_width = 600;
      o.map = noise(600, 5);
      o.map[size_t(at)] = bad;
      all.push_back(o);
    }
  Overlay sum = overlays()[0];  // finite, but their sum is not
  sum.map.assign(sum.map.size(), most);
  all.push_back(sum);
  all.push_back(overlays()[0]);
  Batch batch(all);
  TypeParam::run([&](auto& s) { batch.run(s); });
  for (size_t i = 0; i < all.size(); ++i)
    for (const size_t end : {0, 1})
      EXPECT_EQ(std::isnan(batch.ranges[2 * i + end]), i + 1 < all.size()) << i;
}

TYPED_TEST(KernelsPicture, nothing_is_nothing) {
  TypeParam::run([&](auto& s) {
    k::scale_maps(s, nullptr, 0);
    k::draw_maps(s, nullptr, 0, 0);
  });
}

TEST(KernelsPictureCpu, any_threads_give_the_same_bytes) {
  std::vector<Overlay> all = overlays();
  Overlay large = all[0];
  large.width = 301;
  large.height = 203;
  large.image = noise_bytes(int64_t{3} * 301 * 203, 9);
  large.left = -10.7;
  large.top = 20.2;
  large.across = 290.5;
  large.down = 200.1;
  all.push_back(large);
  for (const int threads : {1, 2, 7}) {
    Batch batch(all);
    cpu::Stream s{threads};
    batch.run(s);
    for (size_t i = 0; i < all.size(); ++i) expect_bytes(batch.drawn[i], draw(all[i]), i);
  }
}

}  // namespace
}  // namespace whence
