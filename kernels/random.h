// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). A number is a function of (seed, item, draw, element)
// alone, so chunking, threads and devices cannot change it.
//
// Counter of element i:  { low 32 bits of i / 4, high 32 bits of i / 4, draw, item };
// key:                   { low 32 bits of seed, high 32 bits of seed }.
// The block's four words w0..w3 belong to elements 4 (i / 4) + 0..3:
//   uniform: element j is (w_j >> 8) 2^-24;
//   normal:  u = ((w0 >> 8) + 1) 2^-24 in (0, 1], v = (w1 >> 8) 2^-24, r = sqrt(-2 ln u); elements
//   0
//            and 1 are r cos(2 pi v) and r sin(2 pi v) (Box and Muller 1958), elements 2 and 3 the
//            same of w2 and w3. The largest magnitude is sqrt(48 ln 2) = 5.77.
#pragma once

#include <array>

#include "kernels/kernel.h"

namespace whence::k {

// Identifies one stream of variates: the seed a user gives, the input's index, the draw's index.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t item = 0, draw = 0;
};

// The generator itself: ten rounds of two 32 x 32 bit products each.
inline constexpr uint32_t philox_m0 = 0xD2511F53, philox_m1 = 0xCD9E8D57;  // multipliers
inline constexpr uint32_t philox_w0 = 0x9E3779B9, philox_w1 = 0xBB67AE85;  // added to the key
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{philox_m0} * counter[0], b = uint64_t{philox_m1} * counter[2];
    counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b),
               uint32_t(a >> 32) ^ counter[3] ^ key[1], uint32_t(a)};
    key = {key[0] + philox_w0, key[1] + philox_w1};
  }
  return counter;
}

// y[i] = element i of the key's standard normal variates.
WHENCE_KERNEL(random_normal, const RandomKey& key, int64_t count, real* y);
// y[i] = element i of the key's uniform variates in [0, 1).
WHENCE_KERNEL(random_uniform, const RandomKey& key, int64_t count, real* y);

}  // namespace whence::k
