// The safetensors container: 8 bytes of header length N (little-endian), N bytes of JSON, then the
// tensors' bytes, row-major and packed. Reading trusts nothing: every number of the header is
// checked before it is used, and every byte of the file must belong to exactly one tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"
#include "weights/dtypes.h"
#include "whence/tensor.h"

namespace whence {

struct SafetensorsLimits {
  uint64_t header_bytes = 100'000'000;
  size_t tensors = 1'000'000;
  size_t name_bytes = 1024;
  size_t dimensions = 8;
  size_t metadata_bytes = 1'000'000;  // of one value
};

struct TensorEntry {
  std::string name;
  StoredDtype dtype = StoredDtype::f32;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // in the data, which starts after the header
};
std::string shape_text(std::span<const int64_t> shape);  // "[768, 3072]"

struct SafetensorsHeader {
  std::vector<TensorEntry> entries;  // sorted by name
  std::map<std::string, std::string> metadata;
};
// The header of a file whose data has `data_bytes` bytes. Throws file errors that begin with
// `file`.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& file,
                                           const SafetensorsLimits& limits = {});

class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::filesystem::path& path,
                              const SafetensorsLimits& limits = {});
  // The same file, in memory; `bytes` must outlive the object.
  static SafetensorsFile from_bytes(std::span<const uint8_t> bytes, const std::string& name,
                                    const SafetensorsLimits& limits = {});

  const std::string& name() const { return name_; }
  const std::vector<TensorEntry>& entries() const { return header_.entries; }  // sorted by name
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const TensorEntry* find(std::string_view tensor) const;  // null when absent
  uint64_t data_bytes() const { return size_ - data_begin_; }

  // The tensor as reals. F16 and BF16 are exact; a finite F64 that does not fit is an error;
  // integers are a dtype error. `lost` counts what became zero.
  Tensor read(const TensorEntry& entry, Narrowing* lost = nullptr) const;
  Tensor read(std::string_view tensor) const;
  // Bytes [offset, offset + to.size()) of the tensor.
  void read_bytes(const TensorEntry& entry, uint64_t offset, std::span<uint8_t> to) const;
  // Closes the file until the next read, which fails if its size has changed. For checkpoints with
  // more parts than a process may open.
  void release() const { source_.reset(); }

 private:
  void read_at(uint64_t offset, std::span<uint8_t> to) const;
  void load_header(const SafetensorsLimits& limits);

  std::string name_;
  std::filesystem::path path_;
  mutable std::shared_ptr<const InputFile> source_;
  std::span<const uint8_t> memory_;
  uint64_t size_ = 0, data_begin_ = 0;
  SafetensorsHeader header_;
};

struct OutputTensor {
  std::string name;
  StoredDtype dtype = StoredDtype::f32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};
// Rounds to `dtype` (F32, F16, BF16 or F64); a finite value that would become infinite is an error.
OutputTensor output_tensor(std::string name, const Tensor& tensor,
                           StoredDtype dtype = StoredDtype::f32);
// The file's bytes: tensors in the order given, header padded with spaces to a multiple of 8.
std::vector<uint8_t> serialize_safetensors(const std::vector<OutputTensor>& tensors,
                                           const std::map<std::string, std::string>& metadata = {});
// Appears complete or not at all.
void write_safetensors(const std::filesystem::path& path, const std::vector<OutputTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace whence
