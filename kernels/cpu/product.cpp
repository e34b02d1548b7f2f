// simple version
#include "kernels/product.h"

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vec_math.h"

namespace whence::k {
using namespace cpu;
namespace {
real activate(Unary f, real x) {
  switch (f) {
    case Unary::identity: return x;
    case Unary::relu: return unary_value<Unary::relu>(x);
    case Unary::gelu: return unary_value<Unary::gelu>(x);
    case Unary::gelu_tanh: return unary_value<Unary::gelu_tanh>(x);
    case Unary::gelu_quick: return unary_value<Unary::gelu_quick>(x);
    case Unary::tanh: return unary_value<Unary::tanh>(x);
  }
  return x;
}
struct Walk {
  int64_t a = 0, b = 0, c = 0;
};
Walk walk(const Contraction::Role& role, int64_t i) {
  Walk w;
  for (int axis = role.count - 1; axis >= 0; --axis) {
    const Axis& x = role.axes[size_t(axis)];
    const int64_t at = i % x.size;
    i /= x.size;
    w.a += at * x.a;
    w.b += at * x.b;
    w.c += at * x.c;
  }
  return w;
}
int64_t total(const Contraction::Role& role) {
  int64_t n = 1;
  for (int axis = 0; axis < role.count; ++axis) n *= role.axes[size_t(axis)].size;
  return n;
}
}  // namespace

int64_t packed_count(int64_t n, int64_t k) { return (n + 31) / 32 * 32 * k; }

void pack(Stream&, const real* b, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k,
          real* packed) {
  for (int64_t j = 0; j < (n + 31) / 32 * 32; ++j)
    for (int64_t i = 0; i < k; ++i)
      packed[j / 32 * 32 * k + i * 32 + j % 32] = j < n ? b[j * stride_n + i * stride_k] : real(0);
}

void product(Stream& s, const real* a, int64_t a_stride, const real* packed, int64_t m, int64_t n,
             int64_t k, const Epilogue& epilogue, real* c, int64_t c_stride) {
  parallel_ranges(s, m, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t panel = 0; panel < n; panel += 32) {
        real sum[32] = {};
        const real* p = packed + panel * k;
        for (int64_t x = 0; x < k; ++x)
          for (int j = 0; j < 32; ++j) sum[j] += a[i * a_stride + x] * p[x * 32 + j];
        for (int64_t j = panel; j < std::min(n, panel + 32); ++j) {
          real v = sum[j - panel] + (epilogue.bias ? epilogue.bias[j] : real(0));
          v = activate(epilogue.activation, v);
          if (epilogue.residual) v += epilogue.residual[i * c_stride + j];
          c[i * c_stride + j] = v;
        }
      }
  });
}

void contract(Stream& s, const real* a, const real* b, real* c, const Contraction& l, real scale) {
  const int64_t loops = total(l.loops), rows = total(l.rows), cols = total(l.cols),
                sums = total(l.sums);
  parallel_ranges(s, loops * rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Walk wl = walk(l.loops, i / rows), wr = walk(l.rows, i % rows);
      for (int64_t j = 0; j < cols; ++j) {
        const Walk wc = walk(l.cols, j);
        real sum = 0;
        for (int64_t x = 0; x < sums; ++x) {
          const Walk ws = walk(l.sums, x);
          sum += a[wl.a + wr.a + ws.a] * b[wl.b + wc.b + ws.b];
        }
        c[wl.c + wr.c + wc.c] = sum * scale;
      }
    }
  });
}
}  // namespace whence::k
