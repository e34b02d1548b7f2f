// Many pictures at a time, on every device: the bytes of one by one, and what is refused.
#include "whence/picture.h"

#include <gtest/gtest.h>

#include "tests/ref/picture.h"
#include "tests/unit/message_of.h"
#include "whence/error.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif

namespace whence {
namespace {

struct Case {
  Image image;
  Tensor map;
  Preprocess::Region region;
  double opacity;
  ref::Bytes want;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const ref::Overlay& o : ref::overlays()) {
    const Shape plane{o.map_height, o.map_width};
    const Shape shape = o.channels ? Shape{o.channels, o.map_height, o.map_width} : plane;
    all.push_back({{o.width, o.height, o.image},
                   Tensor::of(shape, o.map),
                   {o.left, o.top, o.across, o.down},
                   o.opacity,
                   ref::draw(o)});
  }
  return all;
}

std::vector<Device> devices_here() {
  std::vector<Device> all{{}};
#ifdef WHENCE_HAVE_SIMT
  all.push_back(device("simt"));
#endif
  return all;
}

TEST(Overlay, has_the_bytes_of_the_definition) {
  for (const Case& c : cases())
    EXPECT_EQ(overlay(c.image, c.map, c.region, {c.opacity, false}).rgb, c.want);
}

TEST(Painter, draws_many_as_one_by_one_and_keeps_its_memory) {
  const std::vector<Case> all = cases();
  for (const Device& device : devices_here())
    for (const int threads : {1, 3}) {
      Painter painter(device, threads);
      EXPECT_TRUE(painter.overlay({}).empty());
      // Three of different content, then more, then fewer.
      for (const size_t count : {size_t{3}, all.size(), size_t{2}}) {
        std::vector<Painter::Drawing> drawings;
        for (size_t i = 0; i < count; ++i)
          drawings.push_back({&all[i].image, &all[i].map, all[i].region});
        for (const bool legend : {false, true}) {
          const auto drawn = painter.overlay(drawings, {0.5, legend});
          ASSERT_EQ(drawn.size(), count);
          for (size_t i = 0; i < count; ++i) {
            const Image one = overlay(all[i].image, all[i].map, all[i].region, {0.5, legend});
            EXPECT_EQ(drawn[i].width, one.width);
            EXPECT_EQ(drawn[i].height, one.height);
            EXPECT_EQ(drawn[i].rgb, one.rgb) << i;
          }
        }
      }
    }
}

TEST(Painter, maps_may_share_an_image) {
  const Case c = cases()[0];
  const Tensor other = Tensor::of(Shape{1, 2}, {3, -1}), flat(Type{{4, 4}});
  const std::vector<Painter::Drawing> drawings{
      {&c.image, &c.map, c.region}, {&c.image, &other, {0, 0, 9, 9}}, {&c.image, &flat, c.region}};
  for (const Device& device : devices_here()) {
    const auto drawn = Painter(device).overlay(drawings);
    for (size_t i = 0; i < drawings.size(); ++i)
      EXPECT_EQ(drawn[i].rgb, overlay(c.image, *drawings[i].map, drawings[i].region).rgb) << i;
  }
}

TEST(Painter, refuses_what_cannot_be_drawn_and_goes_on) {
  const Case c = cases()[1];
  const real nan = std::numeric_limits<real>::quiet_NaN();
  const real most = std::numeric_limits<real>::max();
  const Tensor holes = Tensor::of(Shape{1, 3}, {1, nan, 2});
  const Tensor huge = Tensor::of(Shape{2, 1, 2}, {most, 0, most, 1});
  const Tensor line = Tensor::of(Shape{2}, {1, 2}), empty(Type{{0, 3}}), deep(Type{{1, 2, 3, 4}});
  const Image torn{2, 2, {1, 2, 3}};
  const auto refusal = [&](Painter& painter, const Image& image, const Tensor& map,
                           const Preprocess::Region& region) {
    const std::vector<Painter::Drawing> drawings{{&c.image, &c.map, c.region},
                                                 {&image, &map, region}};
    return message([&] { painter.overlay(drawings); });
  };
  for (const Device& device : devices_here()) {
    Painter painter(device);
    for (const Tensor* map : {&holes, &huge})
      EXPECT_EQ(refusal(painter, c.image, *map, c.region),
                "a map with values that are not finite cannot be drawn");
    EXPECT_EQ(refusal(painter, c.image, line, c.region),
              "a map of shape [2] cannot be drawn, [H, W] expected");
    EXPECT_EQ(refusal(painter, c.image, empty, c.region),
              "a map of shape [0, 3] cannot be drawn, [H, W] expected");
    EXPECT_EQ(refusal(painter, c.image, deep, c.region),
              "a map of shape [1, 2, 3, 4] cannot be drawn, [H, W] expected");
    EXPECT_EQ(refusal(painter, torn, c.map, c.region),
              "an image of 2 x 2 pixels with 3 bytes cannot be drawn on");
    EXPECT_EQ(refusal(painter, c.image, c.map, {100, 0, 4, 4}),
              "the region 4 x 4 at 100, 0 lies outside an image of 9 x 31 pixels");
    const Painter::Drawing good{&c.image, &c.map, c.region};
    EXPECT_EQ(painter.overlay({&good, 1}, {c.opacity, false})[0].rgb, c.want);
  }
}

#ifdef WHENCE_HAVE_SIMT
TEST(Painter, many_are_two_launches) {
  const std::vector<Case> all = cases();
  std::vector<Painter::Drawing> drawings;
  for (const Case& c : all) drawings.push_back({&c.image, &c.map, c.region});
  Painter painter(device("simt"));
  const uint64_t before = simt::counts().grids;
  painter.overlay(drawings);
  EXPECT_EQ(simt::counts().grids - before, 2u);
}

TEST(Painter, without_device_memory_the_processor_draws) {
  const Case c = cases()[0];
  const Painter::Drawing drawing{&c.image, &c.map, c.region};
  Painter painter(device("simt"));
  for (int round = 0; round < 2; ++round) {
    simt::Stream::inject({simt::Injection::allocation, 1, false});
    const auto drawn = painter.overlay({&drawing, 1}, {c.opacity, false});
    simt::Stream::inject({});
    EXPECT_EQ(drawn[0].rgb, c.want);
  }
  EXPECT_EQ(painter.overlay({&drawing, 1}, {c.opacity, false})[0].rgb, c.want);
}

TEST(Painter, a_device_that_fails_is_an_error_and_the_next_call_starts_afresh) {
  const Case c = cases()[0];
  const Painter::Drawing drawing{&c.image, &c.map, c.region};
  Painter painter(device("simt"));
  for (const auto kind :
       {simt::Injection::copy, simt::Injection::launch, simt::Injection::synchronize}) {
    simt::Stream::inject({kind, 1, false});
    EXPECT_THROW(painter.overlay({&drawing, 1}), Error);
    simt::Stream::inject({});
    EXPECT_EQ(painter.overlay({&drawing, 1}, {c.opacity, false})[0].rgb, c.want);
  }
}
#endif

}  // namespace
}  // namespace whence
