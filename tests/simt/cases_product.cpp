// Products of matrices in every precision, and einsums: tiles in shared memory, tensor cores,
// asynchronous copies; what is done around the library's products.
#include "kernels/cuda/library_product.cuh"
#include "kernels/product.h"
#include "tests/simt/cases.h"

namespace whence::simt_test {
namespace {

using gpu::Stream;
using k::Axis;
using k::Contraction;
using ref::noise;
using ref::Reals;

// The packed operand as the device that packs it counts it.
Reals packed(Stream& s, int64_t n, int64_t k, int64_t stride_n, int64_t stride_k) {
  const Reals b = noise(n * k, 1);
  Reals to(size_t(k::packed_count(n, k)), 0);
  k::pack(s, b.data(), n, k, stride_n, stride_k, to.data());
  s.synchronize();
  return to;
}
// Bits of packed operands may be anything, NaN included: 16 of them at a time, exactly.
Reals halves(const Reals& x) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(x.data());
  Reals out;
  for (size_t i = 0; i < x.size() * sizeof(real); i += 2)
    out.push_back(real(bytes[i] + 256 * bytes[i + 1]));
  return out;
}

Reals product(Stream& s, int64_t m, int64_t n, int64_t k) {
  const Reals a = noise(m * k, 2), bias = noise(n, 3), b = packed(s, n, k, k, 1);
  Reals c = noise(m * n, 4);  // the residual, too
  const k::Epilogue epilogue{.bias = bias.data(), .activation = k::Gelu{}, .residual = c.data()};
  k::product(s, a.data(), k, b.data(), m, n, k, epilogue, c.data(), n);
  s.synchronize();
  return c;
}

std::vector<KernelCase> plain_cases() {
  return {
      {"pack", "", "35 x 37, both ways", "pack_kernel pack_kernel",
       [](Stream& s) {
         Reals both = halves(packed(s, 35, 37, 37, 1));
         append(both, halves(packed(s, 37, 35, 1, 37)));
         return both;
       }},
      {"product", "tiny_tiles", "5 x 35 x 67", "pack_kernel product_kernel",
       [](Stream& s) { return product(s, 5, 35, 67); }},
      {"product", "small_tiles", "35 x 19 x 67", "pack_kernel product_kernel",
       [](Stream& s) { return product(s, 35, 19, 67); }},
      {"part_product", "", "5 x 35 x 67", "pack_kernel product_kernel",
       [](Stream& s) {
         const Reals a = noise(5 * 67, 2), b = packed(s, 35, 67, 67, 1);
         return output_of(s, 5 * 35, [&](real* c) {
           k::part_product(s, k::Part::negative, a.data(), 67, b.data(), 5, 35, 67, {}, c, 35);
         });
       }},
  };
}

#ifndef WHENCE_F64  // which has neither tensor cores nor the library
template <class F>
auto rounded(Precision precision, F f) {
  return [=](Stream& s) {
    s.precision = precision;
    return f(s);
  };
}

std::vector<KernelCase> tensor_cases() {
  const auto pack = [](Stream& s) { return halves(packed(s, 37, 8, 8, 1)); };
  const auto small = [](Stream& s) { return product(s, 5, 67, 72); };
  const auto wide = [](Stream& s) { return product(s, 3, 127 * 128 + 1, 40); };
  const char *launches = "tensor_pack_kernel tensor_product_kernel", *shape = "5 x 67 x 72",
             *wide_shape = "3 x 16257 x 40";
  const auto in_bf16 = [](auto f) { return rounded(Precision::bf16, f); };
  const auto in_tf32 = [](auto f) { return rounded(Precision::tf32, f); };
  return {
      {"pack", "bf16", "37 x 8", "tensor_pack_kernel", in_bf16(pack)},
      {"pack", "tf32", "37 x 8", "tensor_pack_kernel", in_tf32(pack)},
      {"product", "bf16", shape, launches, in_bf16(small)},
      {"product", "tf32", shape, launches, in_tf32(small)},
      {"product", "bf16_wide_tiles", wide_shape, launches, in_bf16(wide), few_seeds, false},
      {"product", "tf32_wide_tiles", wide_shape, launches, in_tf32(wide), few_seeds, false},
  };
}

// Rows of a are `gap` reals further apart than they are long.
Reals rounded_rows(Stream& s, int64_t gap) {
  const int64_t rows = 67, k = 40;
  const Reals a = noise(rows * (k + gap), 1);
  Reals to(size_t(rows * k / 2), 0);
  k::round_rows(s, a.data(), k + gap, rows, k, reinterpret_cast<uint32_t*>(to.data()));
  s.synchronize();
  return halves(to);
}
Reals finished_rows(Stream& s) {
  const int64_t rows = 19, n = 37;
  const Reals sums = noise(rows * (n + 2), 1);
  Reals c = noise(rows * n, 2);  // the residual, too
  k::finish_rows(s, sums.data(), n + 2, rows, n, {.activation = k::Gelu{}, .residual = c.data()},
                 c.data(), n);
  s.synchronize();
  return c;
}

std::vector<KernelCase> library_cases() {
  return {
      {"product", "library_rounding", "67 x 40, 16-byte loads", "round_rows_kernel",
       [](Stream& s) { return rounded_rows(s, 4); }},
      {"product", "library_rounding_misaligned", "67 x 40", "round_rows_kernel",
       [](Stream& s) { return rounded_rows(s, 3); }},
      {"product", "library_finish", "19 x 37", "finish_rows_kernel", finished_rows},
  };
}
#else
std::vector<KernelCase> tensor_cases() { return {}; }
std::vector<KernelCase> library_cases() { return {}; }
#endif

Contraction::Role role(std::initializer_list<Axis> axes) {
  Contraction::Role out;
  for (const Axis& x : axes) out.axes[size_t(out.count++)] = x;
  return out;
}

struct Matrices {
  int64_t loops, rows, cols, sums;
};
// c[l, i, j] = sum_x a b with dense operands a [l, i, x] and b [l, j, x], either with its last two
// axes exchanged.
Reals contracted(Stream& s, Matrices n, bool a_sums_last, bool b_sums_last) {
  const int64_t a_row = a_sums_last ? n.sums : 1, a_sum = a_sums_last ? 1 : n.rows;
  const int64_t b_col = b_sums_last ? n.sums : 1, b_sum = b_sums_last ? 1 : n.cols;
  const Contraction letters{
      .loops = role({{n.loops, n.rows * n.sums, n.cols * n.sums, n.rows * n.cols}}),
      .rows = role({{n.rows, a_row, 0, n.cols}}),
      .cols = role({{n.cols, 0, b_col, 1}}),
      .sums = role({{n.sums, a_sum, b_sum, 0}})};
  const Reals a = noise(n.loops * n.rows * n.sums, 1), b = noise(n.loops * n.cols * n.sums, 2);
  return output_of(s, n.loops * n.rows * n.cols,
                   [&](real* c) { k::contract(s, a.data(), b.data(), c, letters, real(0.3)); });
}

// c[i, j] = sum_{x, y} a[x, i, y] b[x, j, y]
Reals contracted_over_two(Stream& s) {
  const Contraction letters{.loops = {},
                            .rows = role({{5, 11, 0, 17}}),
                            .cols = role({{17, 0, 11, 1}}),
                            .sums = role({{13, 55, 187, 0}, {11, 1, 1, 0}})};
  const Reals a = noise(13 * 5 * 11, 1), b = noise(13 * 17 * 11, 2);
  return output_of(s, 5 * 17,
                   [&](real* c) { k::contract(s, a.data(), b.data(), c, letters, real(0.3)); });
}

std::vector<KernelCase> contract_cases() {
  const auto of = [](Matrices n, bool a_sums_last, bool b_sums_last) {
    return [=](Stream& s) { return contracted(s, n, a_sums_last, b_sums_last); };
  };
  constexpr Matrices tiny{2, 5, 17, 67}, vector{2, 1, 67, 37};
  const char *tiny_shape = "2 loops of 5 x 17 x 67", *tile = "tile_kernel";
  return {
      {"contract", "tiny_tiles", tiny_shape, tile, of(tiny, true, true)},
      {"contract", "a_across", tiny_shape, tile, of(tiny, false, true)},
      {"contract", "b_across", tiny_shape, tile, of(tiny, true, false)},
      {"contract", "both_across", tiny_shape, tile, of(tiny, false, false)},
      {"contract", "small_tiles", "1 loop of 19 x 35 x 67", tile, of({1, 19, 35, 67}, true, false)},
      {"contract", "middle_tiles", "128 loops of 33 x 34 x 35", tile,
       of({128, 33, 34, 35}, true, true), many_seeds, false},
      {"contract", "wide_tiles", "128 loops of 65 x 66 x 9", tile, of({128, 65, 66, 9}, true, true),
       many_seeds, false},
      {"contract", "table", "5 x 17, sums over 13 x 11", "table_kernel tile_kernel",
       contracted_over_two},
      {"contract", "in_place", "2 loops of 1 x 67 x 37", "in_place_kernel",
       of(vector, true, false)},
      {"contract", "staged", "2 loops of 1 x 67 x 37", "staged_kernel", of(vector, true, true)},
  };
}

}  // namespace

std::vector<KernelCase> product_cases() {
  std::vector<KernelCase> table;
  for (const auto& part : {plain_cases(), tensor_cases(), library_cases(), contract_cases()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

}  // namespace whence::simt_test
