#include "weights/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "io/json.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr size_t chunk_bytes = size_t(8) << 20;

// What a person whose file is something else should do.
std::string_view advice(FileKind kind) {
  switch (kind) {
    case FileKind::pickle:
    case FileKind::zip:
      return "convert it with torch.load(..., weights_only=True) and "
             "safetensors.torch.save_file";
    case FileKind::lfs_pointer:
      return "fetch the real file with git lfs pull";
    case FileKind::html:
      return "the download failed; fetch the real file";
    case FileKind::gzip:
      return "unpack it first";
    case FileKind::empty:
      return "the download is probably incomplete";
    default:
      return "give a .safetensors file";
  }
}

void refuse_other_kinds(std::span<const uint8_t> first, const std::string& file) {
  const FileKind kind = file_kind(first);
  if (kind == FileKind::safetensors || kind == FileKind::unknown || kind == FileKind::empty) return;
  std::string_view what = describe(kind);
  if (kind == FileKind::zip) what = "a zip archive (perhaps a pickle checkpoint)";
  fail(ErrorCode::format, "{}: this is {}, not safetensors; {}", file, what, advice(kind));
}

std::vector<int64_t> sizes_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

void refuse_overflow(const Narrowing& lost, const std::string& where, std::string_view tensor,
                     std::string_view dtype, std::string_view instead) {
  if (lost.overflowed > 0)
    fail(ErrorCode::dtype, "{}'{}': {} values exceed the range of {} (largest {}); {}", where,
         printable(tensor), lost.overflowed, dtype, lost.largest, instead);
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path,
                                      const SafetensorsLimits& limits) {
  SafetensorsFile f;
  f.path_ = path;
  f.source_ = std::make_shared<InputFile>(path);
  f.name_ = f.source_->name();
  f.size_ = uint64_t(f.source_->size());
  f.load_header(limits);
  return f;
}

SafetensorsFile SafetensorsFile::from_bytes(std::span<const uint8_t> bytes, const std::string& name,
                                            const SafetensorsLimits& limits) {
  SafetensorsFile f;
  f.memory_ = bytes;
  f.name_ = name;
  f.size_ = bytes.size();
  f.load_header(limits);
  return f;
}

void SafetensorsFile::load_header(const SafetensorsLimits& limits) {
  std::vector<uint8_t> first(std::min<uint64_t>(size_, 16));
  read_at(0, first);
  refuse_other_kinds(first, name_);
  if (size_ < 8)
    fail(ErrorCode::format, "{}: not a safetensors file: {} bytes, at least 8 needed", name_,
         size_);
  uint64_t length = 0;
  std::memcpy(&length, first.data(), 8);
  if (length > limits.header_bytes)
    fail(ErrorCode::limit, "{}: header of {} bytes is over the limit of {}", name_, length,
         limits.header_bytes);
  if (length > size_ - 8)
    fail(ErrorCode::format,
         "{}: header claims {} bytes but only {} follow; the download is probably incomplete",
         name_, length, size_ - 8);
  data_begin_ = 8 + length;
  if (!memory_.empty()) {
    const std::string_view json(reinterpret_cast<const char*>(memory_.data()) + 8, length);
    header_ = parse_safetensors_header(json, size_ - data_begin_, name_, limits);
    return;
  }
  std::vector<uint8_t> bytes(length);
  read_at(8, bytes);
  const std::string_view json(reinterpret_cast<const char*>(bytes.data()), length);
  header_ = parse_safetensors_header(json, size_ - data_begin_, name_, limits);
}

void SafetensorsFile::read_at(uint64_t offset, std::span<uint8_t> to) const {
  if (to.empty()) return;
  if (!memory_.empty()) {
    std::memcpy(to.data(), memory_.data() + offset, to.size());
    return;
  }
  if (!source_) {
    auto again = std::make_shared<const InputFile>(path_);
    if (uint64_t(again->size()) != size_)
      fail(ErrorCode::io,
           "{}: its size changed from {} to {} bytes while it was "
           "in use",
           name_, size_, again->size());
    source_ = std::move(again);
  }
  source_->read(int64_t(offset), to);
}

const TensorEntry* SafetensorsFile::find(std::string_view tensor) const {
  const auto& all = header_.entries;
  const auto it =
      std::lower_bound(all.begin(), all.end(), tensor,
                       [](const TensorEntry& e, std::string_view n) { return e.name < n; });
  return it != all.end() && it->name == tensor ? &*it : nullptr;
}

void SafetensorsFile::read_bytes(const TensorEntry& entry, uint64_t offset,
                                 std::span<uint8_t> to) const {
  const uint64_t size = entry.end - entry.begin;
  WHENCE_ASSERT(offset <= size && to.size() <= size - offset);
  read_at(data_begin_ + entry.begin + offset, to);
}

Tensor SafetensorsFile::read(const TensorEntry& entry, Narrowing* lost) const {
  if (!is_weight_dtype(entry.dtype))
    fail(ErrorCode::dtype,
         "{}: tensor '{}': dtype '{}' is not supported (weights may be F64, F32, F16, BF16)", name_,
         printable(entry.name), name_of(entry.dtype));
  if (entry.shape.size() > Shape::max_rank)
    fail_shape("{}: tensor '{}': shape {} has more than {} dimensions", name_,
               printable(entry.name), shape_text(entry.shape), int(Shape::max_rank));
  Tensor tensor(Type{Shape(std::span<const int64_t>(entry.shape)), dtype_of<real>()});
  const std::span<real> values = tensor.reals();
  if (entry.dtype == StoredDtype::f32 && sizeof(real) == sizeof(float)) {
    read_bytes(entry, 0, {reinterpret_cast<uint8_t*>(values.data()), values.size_bytes()});
    return tensor;
  }
  Narrowing narrowing;
  const size_t item = size_t(bits_of(entry.dtype)) / 8;
  std::vector<uint8_t> chunk(std::min(chunk_bytes, values.size() * item));
  for (size_t done = 0; done < values.size();) {
    const size_t n = std::min(chunk.size() / item, values.size() - done);
    const std::span<uint8_t> bytes(chunk.data(), n * item);
    read_bytes(entry, uint64_t(done) * item, bytes);
    to_reals(entry.dtype, bytes, values.subspan(done, n), narrowing);
    done += n;
  }
  refuse_overflow(narrowing, name_ + ": tensor ", entry.name, "F32", "store smaller weights");
  if (lost) lost->flushed += narrowing.flushed;
  return tensor;
}

Tensor SafetensorsFile::read(std::string_view tensor) const {
  const TensorEntry* entry = find(tensor);
  if (!entry) fail(ErrorCode::keys, "{}: there is no tensor '{}'", name_, printable(tensor));
  return read(*entry);
}

OutputTensor output_tensor(std::string name, const Tensor& tensor, StoredDtype dtype) {
  const std::span<const real> values = tensor.reals();
  OutputTensor out{std::move(name), dtype, sizes_of(tensor.shape()), {}};
  out.bytes.resize(values.size() * size_t(bits_of(dtype)) / 8);
  Narrowing lost;
  from_reals(dtype, values, out.bytes, lost);
  refuse_overflow(lost, "", out.name, name_of(dtype), "keep f32 or bf16");
  return out;
}

std::vector<uint8_t> serialize_safetensors(const std::vector<OutputTensor>& tensors,
                                           const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += "\"__metadata__\":" + Json(metadata).dump();
  uint64_t at = 0;
  for (const OutputTensor& t : tensors) {
    if (header.size() > 1) header += ',';
    header += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          Json(t.name).dump(), name_of(t.dtype), fmt::join(t.shape, ","), at,
                          at + t.bytes.size());
    at += t.bytes.size();
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::vector<uint8_t> out(8 + header.size() + at);
  const uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  auto to = out.begin() + int64_t(8 + header.size());
  for (const OutputTensor& t : tensors) to = std::copy(t.bytes.begin(), t.bytes.end(), to);
  return out;
}

void write_safetensors(const std::filesystem::path& path, const std::vector<OutputTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_file_atomically(path, std::span<const uint8_t>(serialize_safetensors(tensors, metadata)));
}

}  // namespace whence
