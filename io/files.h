// Files: whole reads, recognition by content, folders of images, and outputs that appear complete
// or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace whence {

// A path as messages show it: one line, no control bytes, every component kept (long ones are cut).
std::string path_text(const std::filesystem::path& path);

// An open regular file. A FIFO, device or folder is refused without waiting for it; symbolic links
// are followed. Errors are file errors: not_found when absent, io otherwise.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  int64_t size() const { return size_; }  // when it was opened
  const std::string& name() const { return name_; }
  // Fills `to` from byte `offset`, or throws io: short transfers continue, interrupted ones repeat.
  void read(int64_t offset, std::span<uint8_t> to) const;

 private:
  int descriptor_ = -1;
  int64_t size_ = 0;
  std::string name_;
};

// More than `limit` bytes are a limit error.
void check_size(const InputFile& file, int64_t limit);

// The whole file. More than `limit` bytes is a limit error before anything is allocated; a file
// that shrinks or grows while it is read is an io error.
std::vector<uint8_t> read_file(const std::filesystem::path& path, int64_t limit);

enum class FileKind : uint8_t {
  unknown,
  empty,
  safetensors,
  pickle,
  zip,
  hdf5,
  gguf,
  numpy,
  gzip,
  html,
  lfs_pointer,
  png,
  jpeg,
  bmp,
  gif,
  webp,
  tiff,
  heif,
};
// Decided from the first 16 bytes (more do no harm). `safetensors` is a guess: a plausible header
// length followed by a JSON object.
FileKind file_kind(std::span<const uint8_t> first_bytes);
// For messages, after "this is": "a pickle checkpoint", "a git-lfs pointer", ...
std::string_view describe(FileKind kind);

struct ImageList {
  std::vector<std::filesystem::path> paths;  // .jpg .jpeg .png .bmp in any case, sorted by bytes
  int64_t skipped = 0;  // hidden entries, linked folders, broken links, things that are not files
};
// Images of a folder and of the folders in it. Names may be any bytes.
ImageList list_images(const std::filesystem::path& folder);

// A group of output files. `add` writes each one under a temporary name beside its final one;
// `commit` makes all of them durable, gives them their names, then makes the names durable.
// Whatever was not committed is removed again. Failures are file errors (output) that name the file
// and the reason.
class AtomicWriter {
 public:
  AtomicWriter() = default;
  ~AtomicWriter();
  AtomicWriter(const AtomicWriter&) = delete;
  AtomicWriter& operator=(const AtomicWriter&) = delete;
  void add(const std::filesystem::path& path, std::span<const uint8_t> bytes);
  void add(const std::filesystem::path& path, std::string_view text);
  void commit();

 private:
  struct Pending {
    std::filesystem::path temporary, path;
    int descriptor;  // -1 once its bytes are durable
  };
  void sync();
  void discard() noexcept;
  std::vector<Pending> pending_;
};
void write_file_atomically(const std::filesystem::path& path, std::span<const uint8_t> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
// Removes temporaries that processes which no longer run left in `folder`; returns how many.
int64_t remove_stale_temporaries(const std::filesystem::path& folder);

}  // namespace whence
