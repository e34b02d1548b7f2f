// What happens to the sums of a product before they are stored.
#pragma once

#include "kernels/cpu/vec_math.h"
#include "kernels/product.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// c [rows, width] = epilogue(sums), for columns of the result from `column` on: `c` and the
// residual are where column 0 of the first row lies. Reads whole vectors of sums.
template <class F, bool residual_first>
void finish(const real* sums, int64_t sums_stride, int64_t rows, int64_t width,
            const k::Epilogue& e, int64_t column, real* c, int64_t c_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = i * c_stride + column;
    each_vec(width, [&](int64_t j, auto n) {
      Vec x = load(sums + i * sums_stride + j);
      if (e.bias) x += load(e.bias + column + j, n);
      if (residual_first && e.residual) x += load(e.residual + at + j, n);
      x = F::value(x);
      if (!residual_first && e.residual) x += load(e.residual + at + j, n);
      store(c + at + j, x, n);
    });
  }
}

using Finish = void (*)(const real*, int64_t, int64_t, int64_t, const k::Epilogue&, int64_t, real*,
                        int64_t);

template <bool residual_first>
Finish finish_with(k::Unary f) {
  Finish found = nullptr;
  with(f, [&](auto function) { found = finish<decltype(function), residual_first>; });
  return found;
}
inline Finish finish_for(const k::Epilogue& e) {
  return e.residual_first ? finish_with<true>(e.activation) : finish_with<false>(e.activation);
}

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
