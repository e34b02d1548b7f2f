// NumPy's array files (.npy, versions 1 to 3).
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "whence/tensor.h"

namespace whence {

// Whether arrays of uint8 and int64 become 32-bit integers, as all others of integers do, or
// tensors of bytes and of 64-bit integers.
enum class NpyIntegers : uint8_t { as_i32, as_stored };

// Floating-point arrays become reals, integer and boolean ones 32-bit integers with every value
// checked. Arrays of objects or of records are refused: reading them would mean running what the
// file says. NaN and infinities are let through; see check_finite.
Tensor decode_npy(std::span<const uint8_t> bytes, const std::string& name,
                  NpyIntegers integers = NpyIntegers::as_i32);
Tensor read_npy(const std::filesystem::path& path, NpyIntegers integers = NpyIntegers::as_i32);
// What read_npy(path) would give, from the header and the file's size alone: the values are not
// read.
Type npy_type(const std::filesystem::path& path);

// Version 1, byte for byte as NumPy writes it: reals as float32 in every build, integers as int32,
// uint8 or int64.
std::vector<uint8_t> encode_npy(const Tensor& tensor);

// Throws an item error that counts the values that are not finite and names the first one's index.
void check_finite(const Tensor& tensor, const std::string& name);

}  // namespace whence
