// Precision: how the factors of products are rounded on a GPU.
#pragma once

#include <cstdint>
#include <string>

namespace whence {

// How the factors of products are rounded before they are multiplied on a GPU's tensor cores. Sums,
// everything that is stored, and everything that is not a product are f32 always. Convolutions
// other than pointwise ones are products in this sense with tf32 where cuDNN computes them, else
// not.
enum class Precision : uint8_t {
  f32,   // not at all: 24 bits
  tf32,  // 11 bits
  bf16,  // 8 bits
};

inline std::string to_string(Precision precision) {  // "bf16"
  return precision == Precision::f32 ? "f32" : precision == Precision::tf32 ? "tf32" : "bf16";
}

}  // namespace whence
