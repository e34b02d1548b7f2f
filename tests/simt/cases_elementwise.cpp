// Elementwise functions, copies, random numbers, pooling: a thread for each element or four.
#include "kernels/elementwise.h"
#include "kernels/picture.h"
#include "kernels/points.h"
#include "kernels/pool.h"
#include "kernels/random.h"
#include "tests/simt/cases.h"

namespace whence::simt_test {
namespace {

using gpu::Stream;
using ref::noise;
using ref::Reals;

constexpr int64_t count = 1027;  // blocks own 1024

std::vector<KernelCase> function_cases() {
  return {
      {"unary", "", "1027", "each_kernel each_kernel",
       [](Stream& s) {
         const Reals x = noise(count, 1, 3);
         Reals y =
             output_of(s, count, [&](real* to) { k::unary(s, k::Gelu{}, x.data(), count, to); });
         k::unary(s, k::GeluTanh{}, y.data(), count, y.data());  // in place
         s.synchronize();
         return y;
       }},
      {"unary_bwd", "", "1027", "each_kernel",
       [](Stream& s) {
         const Reals x = noise(count, 1, 3), dy = noise(count, 2);
         return output_of(s, count, [&](real* dx) {
           k::unary_bwd(s, k::Gelu{}, x.data(), dy.data(), count, dx);
         });
       }},
      {"rescale", "", "3 x 515, one reference", "each_kernel",
       [](Stream& s) {
         const Reals x = noise(1545, 1, 3), x0 = noise(515, 2, 3), dy = noise(1545, 3);
         return output_of(s, 1545, [&](real* dx) {
           k::rescale(s, k::Gelu{}, real(1e-10), x.data(), x0.data(), 515, dy.data(), 1545, dx);
         });
       }},
      {"affine", "", "1027", "each_kernel",
       [](Stream& s) {
         const Reals x = noise(count, 1);
         return output_of(
             s, count, [&](real* y) { k::affine(s, x.data(), real(1.7), real(-0.3), count, y); });
       }},
  };
}

std::vector<KernelCase> pair_cases() {
  return {
      {"binary", "row", "1027, one operand a scalar", "each_kernel",
       [](Stream& s) {
         const Reals a = noise(count, 1), b = noise(1, 2);
         const k::Broadcast space{.size = {1, 1, 1, 1, count}, .a = {0, 0, 0, 0, 1}};
         return output_of(s, count, [&](real* y) {
           k::binary(s, k::Binary::sub, a.data(), b.data(), space, y);
         });
       }},
      {"binary", "cells", "3 x 49 x 7, both operands broadcast", "each_kernel",
       [](Stream& s) {
         const Reals a = noise(3 * 7, 1), b = noise(49 * 7, 2);
         const k::Broadcast space{
             .size = {1, 1, 3, 49, 7}, .a = {0, 0, 7, 0, 1}, .b = {0, 0, 0, 7, 1}};
         return output_of(s, 3 * 49 * 7, [&](real* y) {
           k::binary(s, k::Binary::mul, a.data(), b.data(), space, y);
         });
       }},
      {"divide", "", "1027", "each_kernel",
       [](Stream& s) {
         const Reals a = noise(count, 1), b = noise(count, 2);
         const k::Broadcast space{
             .size = {1, 1, 1, 1, count}, .a = {0, 0, 0, 0, 1}, .b = {0, 0, 0, 0, 1}};
         return output_of(s, count, [&](real* y) {
           k::divide(s, k::Division::away, real(1e-6), a.data(), b.data(), space, y);
         });
       }},
      {"accumulate", "", "4 rows x 259, two to one slot", "accumulate_kernel",
       [](Stream& s) {
         const Reals x = noise(4 * 259, 1), weight = noise(4, 2);
         const std::vector<int32_t> slot{1, 0, 1, -1};
         Reals state = noise(2 * 259, 3);
         k::accumulate(s, x.data(), weight.data(), slot.data(), 4, 259, state.data());
         s.synchronize();
         return state;
       }},
  };
}

std::vector<KernelCase> copy_cases() {
  return {
      {"copy_blocks", "", "29 blocks of 37, steps 41 and 37", "move_kernel",
       [](Stream& s) {
         const Reals x = noise(29 * 41, 1);
         return output_of(s, 29 * 37,
                          [&](real* y) { k::copy_blocks(s, x.data(), 41, 29, 37, y, 37); });
       }},
      {"fill", "", "1027, steps of 2", "fill_kernel",
       [](Stream& s) {
         Reals y(2 * count, 0);
         k::fill(s, real(0.7), count, 2, y.data());
         s.synchronize();
         return y;
       }},
      {"patchify", "", "2 x 3 x 12 x 15, patches of 3", "move_kernel",
       [](Stream& s) {
         const Reals x = noise(2 * 3 * 12 * 15, 1);
         return output_of(s, int64_t(x.size()), [&](real* y) {
           k::patchify(s, x.data(), {2, 3, 12, 15, 3}, y);
         });
       }},
      {"unpatchify", "", "2 x 3 x 12 x 15, patches of 3", "move_kernel",
       [](Stream& s) {
         const Reals y = noise(2 * 3 * 12 * 15, 1);
         return output_of(s, int64_t(y.size()), [&](real* x) {
           k::unpatchify(s, y.data(), {2, 3, 12, 15, 3}, x);
         });
       }},
  };
}

std::vector<KernelCase> random_cases() {
  return {
      {"random_normal", "", "1027", "random_kernel",
       [](Stream& s) {
         return output_of(s, count, [&](real* y) { k::random_normal(s, {7, 3, 2}, count, y); });
       }},
      {"random_normal_rows", "", "2 x 133", "random_rows_kernel",
       [](Stream& s) {
         const std::vector<int32_t> keys{7, 0, 3, 2, 7, 0, 4, 2};
         return output_of(s, 2 * 133,
                          [&](real* y) { k::random_normal_rows(s, keys.data(), 2, 133, y); });
       }},
      {"random_uniform", "", "1027", "random_kernel",
       [](Stream& s) {
         return output_of(s, count, [&](real* y) { k::random_uniform(s, {7, 3, 2}, count, y); });
       }},
  };
}

Reals points(Stream& s, const k::PatchSize& size, k::PointTerms::Other kind) {
  const int64_t all = size.batch * size.channels * size.height * size.width;
  const Reals to = noise(size.batch, 1), item = noise(all, 2), from = noise(size.batch, 3);
  const Reals other = noise(all, 4);
  const std::vector<int32_t> keys{7, 0, 3, 2, 7, 0, 4, 2};
  return output_of(s, all, [&](real* y) {
    k::interpolate(s, {kind, to.data(), item.data(), from.data(), other.data(), keys.data()}, size,
                   y);
  });
}

std::vector<KernelCase> point_cases() {
  return {
      {"interpolate", "image", "2 x 3 x 7 x 5", "interpolate_kernel",
       [](Stream& s) {
         return points(s, {2, 3, 7, 5, 0}, k::PointTerms::none);
       }},
      {"interpolate", "patches", "2 x 2 x 8 x 12, patches of 4", "interpolate_kernel",
       [](Stream& s) {
         return points(s, {2, 2, 8, 12, 4}, k::PointTerms::given);
       }},
      {"interpolate", "noise_in_patches", "2 x 1 x 9 x 15, patches of 3", "interpolate_kernel",
       [](Stream& s) {
         return points(s, {2, 1, 9, 15, 3}, k::PointTerms::normal);
       }},
  };
}

// Two maps of 3 x 29 x 21 over images of 17 x 19: planes and ranges, and what is drawn.
struct Pictures {
  static constexpr int64_t cells = 29 * 21, pixels = 17 * 19;
  Reals maps = noise(2 * 3 * cells, 1), planes = Reals(2 * cells, ref::poison);
  Reals ranges = Reals(4, ref::poison);
  std::vector<uint8_t> images, drawn = std::vector<uint8_t>(2 * 3 * pixels);
  std::vector<k::Picture> table;
  Pictures() {
    for (const real x : noise(2 * 3 * pixels, 2)) images.push_back(uint8_t(100 * x + 128));
    for (int64_t i = 0; i < 2; ++i)
      table.push_back({.map = maps.data() + i * 3 * cells,
                       .plane = planes.data() + i * cells,
                       .range = ranges.data() + 2 * i,
                       .image = images.data() + i * 3 * pixels,
                       .drawn = drawn.data() + i * 3 * pixels,
                       .channels = 3,
                       .absolute = true,
                       .map_height = 29,
                       .map_width = 21,
                       .height = 17,
                       .width = 19,
                       .left = 1,
                       .top = 2,
                       .right = 18,
                       .bottom = 16,
                       .map_left = 0.7,
                       .map_top = 1.8,
                       .x_scale = 21 / 17.2,
                       .y_scale = 29 / 14.1});
  }
};

std::vector<KernelCase> picture_cases() {
  return {
      {"scale_maps", "", "3 x 29 x 21 and 29 x 21", "scale_maps_kernel",
       [](Stream& s) {
         Pictures p;
         // A plane with zeros of both signs, of which the first is the least value.
         Reals plane = noise(Pictures::cells, 4);
         for (real& v : plane) v = std::abs(v) + 1;
         plane[5] = real(-0.0);
         plane[20] = 0;
         p.table[1].map = plane.data();
         p.table[1].absolute = false;
         k::scale_maps(s, p.table.data(), 2);
         s.synchronize();
         append(p.planes, p.ranges);
         return p.planes;
       }},
      {"draw_maps", "", "2 x 17 x 19, maps of 29 x 21", "draw_maps_kernel",
       [](Stream& s) {
         Pictures p;
         p.planes = noise(2 * Pictures::cells, 3);
         for (real& v : p.planes) v = (v + 1) / 2;
         p.table[0].plane = p.planes.data();
         p.table[1].plane = p.planes.data() + Pictures::cells;
         p.ranges = {-1, 1, 0, 2};
         for (size_t i : {0, 1}) p.table[i].range = &p.ranges[2 * i];
         k::draw_maps(s, p.table.data(), 2, Pictures::pixels);
         s.synchronize();
         return Reals(p.drawn.begin(), p.drawn.end());
       }},
  };
}

// Overlapping windows: 2 x 7 x 5 x 5, windows of 3, one apart.
constexpr k::PoolSize pool{2, 7, 5, 5, 7, 5, 3, 1, 1};
constexpr int64_t pool_count = 2 * 7 * 5 * 5;
constexpr const char* pool_text = "2 x 7 x 5 x 5, windows of 3";

std::vector<KernelCase> pool_cases() {
  return {
      {"max_pool", "", pool_text, "max_pool_kernel",
       [](Stream& s) {
         const Reals x = noise(pool_count, 1);
         return output_of(s, pool_count, [&](real* y) { k::max_pool(s, x.data(), pool, y); });
       }},
      {"max_pool_bwd", "", pool_text, "max_pool_bwd_kernel",
       [](Stream& s) {
         const Reals x = noise(pool_count, 1), dy = noise(pool_count, 2);
         return output_of(s, pool_count,
                          [&](real* dx) { k::max_pool_bwd(s, x.data(), dy.data(), pool, dx); });
       }},
      {"max_pool_rescale", "", pool_text, "max_pool_rescale_kernel",
       [](Stream& s) {
         const Reals x = noise(pool_count, 1), x0 = noise(pool_count, 3), dy = noise(pool_count, 2);
         return output_of(s, pool_count, [&](real* dx) {
           k::max_pool_rescale(s, real(1e-10), x.data(), x0.data(), pool.batch, dy.data(), pool,
                               dx);
         });
       }},
      {"average_pool", "", pool_text, "average_pool_kernel",
       [](Stream& s) {
         const Reals x = noise(pool_count, 1);
         return output_of(s, pool_count,
                          [&](real* y) { k::average_pool(s, x.data(), pool, false, y); });
       }},
      {"average_pool_bwd", "", pool_text, "average_pool_bwd_kernel",
       [](Stream& s) {
         const Reals dy = noise(pool_count, 2);
         return output_of(s, pool_count,
                          [&](real* dx) { k::average_pool_bwd(s, dy.data(), pool, false, dx); });
       }},
  };
}

}  // namespace

std::vector<KernelCase> elementwise_cases() {
  std::vector<KernelCase> table;
  for (const auto& part : {function_cases(), pair_cases(), copy_cases(), random_cases(),
                           point_cases(), picture_cases(), pool_cases()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

}  // namespace whence::simt_test
