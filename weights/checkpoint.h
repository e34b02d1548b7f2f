// A checkpoint: one safetensors file, or a folder with one, or a folder whose tensors are spread
// over several files by an index.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/safetensors.h"

namespace whence {

struct CheckpointTensor {
  std::string name;    // without a stripped wrapper prefix
  std::string stored;  // as the file has it
  StoredDtype dtype = StoredDtype::f32;
  std::vector<int64_t> shape;
  size_t file = 0, entry = 0;
};

// What an index file says: each tensor's file, and the bytes of all tensors together.
struct ShardIndex {
  std::vector<std::pair<std::string, std::string>> files;  // tensor, shard; sorted by tensor
  std::vector<std::string> shards;                         // sorted, each once
  std::optional<int64_t> total_size;
};
ShardIndex parse_shard_index(std::string_view json, const std::string& file);
// Whether `name` may be opened inside the folder of its index: one component, nothing special.
bool is_plain_file_name(std::string_view name);

class Checkpoint {
 public:
  static Checkpoint open(const std::filesystem::path& path);
  static Checkpoint of(SafetensorsFile file);

  const std::string& name() const { return name_; }                          // for messages
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }  // sorted by name
  const CheckpointTensor* find(std::string_view tensor) const;               // null when absent
  Tensor read(const CheckpointTensor& tensor, Narrowing* lost = nullptr) const;
  // Where config.json and its companions are: the folder given, or nothing for a single file.
  const std::optional<std::filesystem::path>& folder() const { return folder_; }
  const std::vector<std::string>& notes() const { return notes_; }
  // Elements of all tensors together.
  uint64_t elements() const;

  // Removes `prefix` from every name and returns true, or returns false if one name lacks it.
  bool strip(std::string_view prefix);
  const std::string& stripped() const { return stripped_; }  // all prefixes removed so far

 private:
  void add_file(SafetensorsFile file);
  void open_shards(const std::filesystem::path& index);
  void sort_tensors();

  std::string name_, stripped_;
  std::optional<std::filesystem::path> folder_;
  std::vector<SafetensorsFile> files_;
  std::vector<CheckpointTensor> tensors_;
  std::vector<std::string> notes_;
};

}  // namespace whence
