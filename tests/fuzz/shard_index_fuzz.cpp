// Text as the index of a sharded checkpoint: no name that leaves the folder is ever returned.
#include <algorithm>
#include <cstring>

#include "weights/checkpoint.h"
#include "whence/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto require = [](bool holds) {
    if (!holds) __builtin_trap();
  };
  try {
    const whence::ShardIndex index =
        whence::parse_shard_index({reinterpret_cast<const char*>(data), size}, "fuzz");
    require(!index.shards.empty() && !index.files.empty());
    for (const std::string& shard : index.shards) {
      require(!shard.empty() && shard.size() <= 255 && shard != "." && shard != "..");
      for (char c : shard) require(c != '/' && c != '\\' && c != '\0');
    }
    for (const auto& [tensor, shard] : index.files)
      require(std::binary_search(index.shards.begin(), index.shards.end(), shard));
    require(!index.total_size || *index.total_size >= 0);
  } catch (const whence::Error& e) {
    require(std::strchr(e.what(), '\n') == nullptr);
  }
  return 0;
}
