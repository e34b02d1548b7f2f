#include "weights/checkpoint.h"

#include <algorithm>
#include <map>

#include "io/json.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

constexpr size_t max_shards = 10'000;
constexpr size_t max_open_files = 16;
constexpr int64_t max_index_bytes = int64_t(64) << 20;

// A folder without a readable checkpoint: say what it holds instead.
[[noreturn]] void fail_no_checkpoint(const fs::path& folder) {
  std::vector<std::string> pickles, safetensors;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().native();
    const std::string name = it->path().filename().native();
    for (const char* known : {".bin", ".pt", ".pth", ".th", ".ckpt", ".pdparams"})
      if (extension == known) pickles.push_back(name);
    if (extension == ".safetensors") safetensors.push_back(name);
  }
  std::sort(pickles.begin(), pickles.end());
  std::sort(safetensors.begin(), safetensors.end());
  const std::string where = path_text(folder);
  if (!safetensors.empty())
    fail(ErrorCode::not_found,
         "{}: there is no model.safetensors in this folder; it holds {}: name the file", where,
         listing(safetensors));
  if (!pickles.empty())
    fail(ErrorCode::not_found,
         "{}: there is no model.safetensors in this folder, only {}; pickle checkpoints can run "
         "programs and are not read: convert with torch.load(..., weights_only=True) and "
         "safetensors.torch.save_file",
         where, listing(pickles));
  fail(ErrorCode::not_found,
       "{}: there is no model.safetensors or model.safetensors.index.json in this folder", where);
}

std::vector<std::string> missing_shards(const fs::path& folder, const ShardIndex& index) {
  std::vector<std::string> missing;
  for (const std::string& shard : index.shards) {
    std::error_code error;
    if (!fs::exists(folder / shard, error)) missing.push_back(shard);
  }
  return missing;
}

}  // namespace

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

ShardIndex parse_shard_index(std::string_view json, const std::string& file) {
  const Json document = parse_json(json, file, {.bytes = max_index_bytes});
  const JsonObject top(document, file);
  ShardIndex index;
  const auto map = top.object("weight_map");
  if (!map) fail(ErrorCode::format, "{}: 'weight_map' is missing", file);
  for (const auto& [tensor, shard] : map->value().items()) {
    if (!shard.is_string())
      fail(ErrorCode::format, "{}: the shard of tensor '{}' is {}, a string is expected", file,
           printable(tensor), json_type(shard));
    const auto& name = shard.get_ref<const std::string&>();
    if (!is_plain_file_name(name))
      fail(ErrorCode::format, "{}: shard '{}' is not a plain file name", file, printable(name));
    index.files.emplace_back(tensor, name);
    index.shards.push_back(name);
  }
  std::sort(index.shards.begin(), index.shards.end());
  index.shards.erase(std::unique(index.shards.begin(), index.shards.end()), index.shards.end());
  if (index.shards.empty()) fail(ErrorCode::format, "{}: 'weight_map' names no tensor", file);
  if (index.shards.size() > max_shards)
    fail(ErrorCode::limit, "{}: {} shards, the limit is {}", file, index.shards.size(), max_shards);
  if (const auto metadata = top.object("metadata"))
    index.total_size = metadata->integer("total_size", 0, std::numeric_limits<int64_t>::max());
  return index;
}

Checkpoint Checkpoint::open(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.name_ = path_text(path);
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    checkpoint.add_file(SafetensorsFile::open(path));
  } else {
    checkpoint.folder_ = path;
    if (fs::exists(path / "model.safetensors", error))
      checkpoint.add_file(SafetensorsFile::open(path / "model.safetensors"));
    else if (fs::exists(path / "model.safetensors.index.json", error))
      checkpoint.open_shards(path / "model.safetensors.index.json");
    else
      fail_no_checkpoint(path);
  }
  checkpoint.sort_tensors();
  return checkpoint;
}

Checkpoint Checkpoint::of(SafetensorsFile file) {
  Checkpoint checkpoint;
  checkpoint.name_ = file.name();
  checkpoint.add_file(std::move(file));
  checkpoint.sort_tensors();
  return checkpoint;
}

void Checkpoint::add_file(SafetensorsFile file) {
  const auto& entries = file.entries();
  for (size_t i = 0; i < entries.size(); ++i)
    tensors_.push_back(
        {entries[i].name, entries[i].name, entries[i].dtype, entries[i].shape, files_.size(), i});
  if (files_.size() >= max_open_files) file.release();
  files_.push_back(std::move(file));
}

void Checkpoint::open_shards(const fs::path& path) {
  const std::string file = path_text(path);
  const std::vector<uint8_t> bytes = read_file(path, max_index_bytes);
  const ShardIndex index =
      parse_shard_index({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
  const std::vector<std::string> missing = missing_shards(*folder_, index);
  if (!missing.empty())
    fail(ErrorCode::not_found, "{}: shard '{}' is not in {} ({} of {} missing)", file,
         printable(missing[0]), path_text(*folder_), missing.size(), index.shards.size());

  std::map<std::string_view, size_t> owner;  // tensor -> number of the shard that has it
  for (const std::string& shard : index.shards) add_file(SafetensorsFile::open(*folder_ / shard));
  for (const CheckpointTensor& t : tensors_)
    if (const auto [it, fresh] = owner.emplace(t.name, t.file); !fresh)
      fail(ErrorCode::format, "{}: tensor '{}' is in two shards, '{}' and '{}'", file,
           printable(t.name), printable(index.shards[it->second]), printable(index.shards[t.file]));
  for (const auto& [tensor, shard] : index.files) {
    const auto it = owner.find(tensor);
    if (it == owner.end() || index.shards[it->second] != shard)
      fail(ErrorCode::format, "{}: tensor '{}' should be in '{}' but is not there", file,
           printable(tensor), printable(shard));
  }
  const auto mapped = [&](const CheckpointTensor& t) {
    const auto it = std::lower_bound(
        index.files.begin(), index.files.end(), t.name,
        [](const auto& pair, const std::string& name) { return pair.first < name; });
    return it != index.files.end() && it->first == t.name;
  };
  uint64_t total = 0;
  std::vector<std::string> unmapped;
  for (const CheckpointTensor& t : tensors_) {
    const TensorEntry& e = files_[t.file].entries()[t.entry];
    if (mapped(t))
      total += e.end - e.begin;
    else
      unmapped.push_back(t.name);
  }
  if (index.total_size && uint64_t(*index.total_size) != total)
    fail(ErrorCode::format,
         "{}: total_size is {} but the tensors have {} bytes; the shards do not belong together",
         file, *index.total_size, total);
  if (!unmapped.empty())
    notes_.push_back(fmt::format("{} tensors of the shards are not in the index: {}",
                                 unmapped.size(), listing(unmapped)));
}

void Checkpoint::sort_tensors() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const CheckpointTensor& a, const CheckpointTensor& b) { return a.name < b.name; });
}

const CheckpointTensor* Checkpoint::find(std::string_view tensor) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), tensor,
                       [](const CheckpointTensor& t, std::string_view n) { return t.name < n; });
  return it != tensors_.end() && it->name == tensor ? &*it : nullptr;
}

Tensor Checkpoint::read(const CheckpointTensor& tensor, Narrowing* lost) const {
  const SafetensorsFile& file = files_[tensor.file];
  Tensor values = file.read(file.entries()[tensor.entry], lost);
  if (tensor.file >= max_open_files) file.release();
  return values;
}

uint64_t Checkpoint::elements() const {
  uint64_t n = 0;
  for (const CheckpointTensor& t : tensors_) {
    const TensorEntry& e = files_[t.file].entries()[t.entry];
    n += (e.end - e.begin) * 8 / uint64_t(bits_of(e.dtype));
  }
  return n;
}

bool Checkpoint::strip(std::string_view prefix) {
  const bool all = std::all_of(tensors_.begin(), tensors_.end(), [&](const CheckpointTensor& t) {
    return t.name.size() > prefix.size() && t.name.compare(0, prefix.size(), prefix) == 0;
  });
  if (!all || tensors_.empty()) return false;
  for (CheckpointTensor& t : tensors_) t.name.erase(0, prefix.size());
  stripped_ += prefix;
  return true;  // a common prefix does not change the order
}

}  // namespace whence
