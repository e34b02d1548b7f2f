// Transposition of lanes x lanes elements in registers.
#pragma once

#include "kernels/cpu/vec.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// Exchanges the off-diagonal blocks of side `bit`: log2(lanes) such stages transpose lanes x lanes.
template <int bit, int... i>
inline void exchange(Vec& a, Vec& b, std::integer_sequence<int, i...>) {
  const Vec low = __builtin_shufflevector(a, b, (i & bit ? lanes + (i ^ bit) : i)...);
  const Vec high = __builtin_shufflevector(a, b, (i & bit ? lanes + i : i ^ bit)...);
  a = low;
  b = high;
}

template <int bit>
inline void transpose_stage(Vec (&t)[lanes]) {
  for (int r = 0; r < lanes; ++r) {
    if (!(r & bit)) exchange<bit>(t[r], t[r | bit], std::make_integer_sequence<int, lanes>());
  }
}

inline void transpose(Vec (&t)[lanes]) {
  transpose_stage<1>(t);
  if constexpr (lanes > 2) transpose_stage<2>(t);
  if constexpr (lanes > 4) transpose_stage<4>(t);
  if constexpr (lanes > 8) transpose_stage<8>(t);
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
