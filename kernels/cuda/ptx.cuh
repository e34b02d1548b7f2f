// Instructions that C++ has no name for, one function each: PTX on a GPU, and on the emulator a
// twin with the lane layout that the PTX manual documents (Parallel Thread Execution ISA,
// "Warp-level matrix instructions" and "Data movement instructions").
//
// Lanes of a warp hold parts of small matrices. With g = lane / 4 and t = lane % 4:
//   C, D 16x8 float:        c[0], c[1] = (g, 2t), (g, 2t + 1);  c[2], c[3] = the same of row g + 8
//   bf16 A 16x16, two to a word:  a[0] = (g, 2t..), a[1] = (g + 8, 2t..),
//                                 a[2] = (g, 2t + 8..), a[3] = (g + 8, 2t + 8..)
//   bf16 B 16x8:            b[0] = (2t.., g), b[1] = (2t + 8.., g); pairs run down the sum
//   tf32 A 16x8:            a[0] = (g, t), a[1] = (g + 8, t), a[2] = (g, t + 4), a[3] = (g + 8, t +
//   4) tf32 B 8x8:             b[0] = (t, g), b[1] = (t + 4, g)
#pragma once

#include <bit>

#include "kernels/cuda/gpu.cuh"

namespace whence::WHENCE_GPU {

// --- storage types ---

struct Bf16 {
  uint16_t bits;
};

WHENCE_HD inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }
WHENCE_HD inline float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }

// To the nearest, ties to even; NaN stays NaN.
WHENCE_HD inline Bf16 to_bf16(float x) {
  const uint32_t u = bits_of(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t(u >> 16 | 0x40)};
  return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
WHENCE_HD inline float to_float(Bf16 x) { return float_of(uint32_t{x.bits} << 16); }
WHENCE_HD inline uint32_t pair(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t both;  // one instruction, the same rounding; NaN becomes 0x7fff
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return uint32_t{to_bf16(low).bits} | uint32_t{to_bf16(high).bits} << 16;
#endif
}

// A float with the 10 stored bits of tf32, to the nearest, ties away from zero (cvt.rna).
WHENCE_HD inline uint32_t to_tf32(float x) {
  const uint32_t u = bits_of(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return u;
  return (u + 0x1000) & ~uint32_t{0x1fff};
}

// --- asynchronous copies: 16 bytes from global to shared memory, both aligned ---

// Where `present` is false, zeros are written and nothing is read.
__device__ inline void copy_async(void* shared, const void* global, bool present) {
#ifdef __CUDACC__
  const auto at = uint32_t(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global),
               "r"(present ? 16 : 0)
               : "memory");
#else
  alignas(16) static constexpr unsigned char zeros[16] = {};
  copy_issue(shared, present ? global : zeros, 16);
#endif
}
// Closes a group of copies.
__device__ inline void copy_async_commit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  copy_commit();
#endif
}
// Waits until at most `left` groups of this thread are under way. Others' copies need a barrier
// too.
template <int left>
__device__ void copy_async_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#else
  copy_wait(left);
#endif
}

// --- matrices from shared memory ---

#ifndef __CUDACC__
struct LoadMatrices {
  uint16_t row[8];  // what this lane brings
  uint32_t* words;
  bool transposed;
};
// Lane 8 i + r brings row r of matrix i; word i of lane l holds elements (l / 4, 2 (l % 4)) and the
// next, or, transposed, (2 (l % 4), l / 4) and the one below.
WHENCE_UNSEEN_BY_TSAN inline void load_matrices_of_warp(void* const operands[32]) {
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const int g = l / 4, t = l % 4;
      const auto* rows = reinterpret_cast<LoadMatrices* const*>(operands + 8 * i);
      auto* mine = static_cast<LoadMatrices*>(operands[l]);
      const uint32_t low = mine->transposed ? rows[2 * t]->row[g] : rows[g]->row[2 * t];
      const uint32_t high = mine->transposed ? rows[2 * t + 1]->row[g] : rows[g]->row[2 * t + 1];
      mine->words[i] = low | high << 16;
    }
}
#endif

// Four 8x8 matrices of 16-bit elements; `row` is the address of this lane's row, 16-byte aligned.
template <bool transposed = false>
__device__ void load_matrices(uint32_t (&words)[4], const void* row) {
#ifdef __CUDACC__
  const auto at = uint32_t(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(at)
                 : "memory");
#else
  check_aligned(row, 16);
  LoadMatrices mine{{}, words, transposed};
  std::memcpy(mine.row, row, sizeof mine.row);
  warp_operation("ldmatrix", {__FILE__, __LINE__}, full_warp, &mine, load_matrices_of_warp);
#endif
}

// --- products: c += a b ---

#ifndef __CUDACC__
struct Fragments {
  float* c;
  const uint32_t *a, *b;
};
// The products of the factors are exact; they are added to c in ascending order, each sum rounded.
// (Tensor cores add several at once and round their own way.)
template <int depth>
WHENCE_UNSEEN_BY_TSAN void multiply_of_warp(void* const operands[32], const float (&a)[16][depth],
                                            const float (&b)[depth][8]) {
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8, col = l % 4 * 2 + i % 2;
      float& c = static_cast<Fragments*>(operands[l])->c[i];
      for (int k = 0; k < depth; ++k) c += a[row][k] * b[k][col];
    }
}
WHENCE_UNSEEN_BY_TSAN inline void multiply_bf16_of_warp(void* const operands[32]) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; ++l) {
    const auto* mine = static_cast<Fragments*>(operands[l]);
    const int g = l / 4, t = l % 4;
    for (int half = 0; half < 2; ++half) {
      const auto part = [&](uint32_t word) { return to_float({uint16_t(word >> 16 * half)}); };
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = part(mine->a[i]);
      for (int i = 0; i < 2; ++i) b[2 * t + i * 8 + half][g] = part(mine->b[i]);
    }
  }
  multiply_of_warp<16>(operands, a, b);
}
WHENCE_UNSEEN_BY_TSAN inline void multiply_tf32_of_warp(void* const operands[32]) {
  float a[16][8], b[8][8];
  for (int l = 0; l < 32; ++l) {
    const auto* mine = static_cast<Fragments*>(operands[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = float_of(mine->a[i]);
    for (int i = 0; i < 2; ++i) b[t + i * 4][g] = float_of(mine->b[i]);
  }
  multiply_of_warp<8>(operands, a, b);
}
#endif

__device__ inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  Fragments mine{c, a, b};
  warp_operation("mma.bf16", {__FILE__, __LINE__}, full_warp, &mine, multiply_bf16_of_warp);
#endif
}

// Operands are floats whose low 13 bits are zero (to_tf32).
__device__ inline void multiply_tf32(float (&c)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  Fragments mine{c, a, b};
  warp_operation("mma.tf32", {__FILE__, __LINE__}, full_warp, &mine, multiply_tf32_of_warp);
#endif
}

}  // namespace whence::WHENCE_GPU
