#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <set>
#include <system_error>

#include "io/files.h"
#include "runtime/check.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

// Not derived from the final name, which may already be as long as a file system allows.
constexpr std::string_view temporary_prefix = ".whence-", temporary_suffix = ".tmp";
constexpr size_t most_open_files = 64;

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<uint64_t> serial{0};
  return path.parent_path() / fmt::format("{}{}-{}{}", temporary_prefix, ::getpid(),
                                          serial.fetch_add(1), temporary_suffix);
}

[[noreturn]] void fail_write(const fs::path& path, int error) {
  fail(ErrorCode::output, "{}: cannot be written: {}", path_text(path),
       std::generic_category().message(error));
}

int write_all(int descriptor, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor, bytes.data(), std::min(bytes.size(), size_t(64) << 20));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    bytes = bytes.subspan(size_t(n));
  }
  return 0;
}

// Makes a rename in `folder` durable. File systems that cannot sync a folder say EINVAL.
void sync_folder(const fs::path& folder) {
  const fs::path named = folder.empty() ? fs::path(".") : folder;
  const int descriptor = ::open(named.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_write(named, errno);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0 && error != EINVAL) fail_write(named, error);
}

std::span<const uint8_t> as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

AtomicWriter::~AtomicWriter() { discard(); }

void AtomicWriter::discard() noexcept {
  for (const Pending& file : pending_) {
    if (file.descriptor >= 0) ::close(file.descriptor);
    ::unlink(file.temporary.c_str());
  }
  pending_.clear();
}

void AtomicWriter::add(const fs::path& path, std::span<const uint8_t> bytes) {
  if (path.filename().empty() || path.native().find('\0') != std::string::npos)
    fail(ErrorCode::output, "{}: not the name of a file", path_text(path));
  if (std::count_if(pending_.begin(), pending_.end(), [](const Pending& file) {
        return file.descriptor >= 0;
      }) >= int64_t(most_open_files))
    sync();
  pending_.push_back({temporary_beside(path), path, -1});
  Pending& file = pending_.back();
  do
    file.descriptor = ::open(file.temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  while (file.descriptor < 0 && errno == EINTR);
  if (file.descriptor < 0) {
    const int error = errno;
    pending_.pop_back();
    fail_write(path, error);
  }
  if (const int error = write_all(file.descriptor, bytes); error != 0) {
    ::close(file.descriptor);
    ::unlink(file.temporary.c_str());
    pending_.pop_back();
    fail_write(path, error);
  }
}

void AtomicWriter::add(const fs::path& path, std::string_view text) { add(path, as_bytes(text)); }

void AtomicWriter::sync() {
  for (Pending& file : pending_) {
    if (file.descriptor < 0) continue;
    int error = ::fdatasync(file.descriptor) == 0 ? 0 : errno;
    if (error == EINVAL || error == EROFS) error = 0;  // a target that has nothing to make durable
    // A full network file system may report so only on closing.
    if (::close(file.descriptor) != 0 && errno != EINTR && error == 0) error = errno;
    file.descriptor = -1;
    if (error != 0) fail_write(file.path, error);
  }
}

void AtomicWriter::commit() {
  try {
    sync();
    std::set<fs::path> folders;
    for (const Pending& file : pending_) {
      if (::rename(file.temporary.c_str(), file.path.c_str()) != 0) fail_write(file.path, errno);
      folders.insert(file.path.parent_path());
    }
    pending_.clear();
    for (const fs::path& folder : folders) sync_folder(folder);
  } catch (...) {
    discard();
    throw;
  }
}

void write_file_atomically(const fs::path& path, std::span<const uint8_t> bytes) {
  AtomicWriter writer;
  writer.add(path, bytes);
  writer.commit();
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, as_bytes(text));
}

int64_t remove_stale_temporaries(const fs::path& folder) {
  int64_t removed = 0;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().native();
    if (name.size() <= temporary_prefix.size() + temporary_suffix.size() ||
        name.compare(0, temporary_prefix.size(), temporary_prefix) != 0 ||
        name.compare(name.size() - temporary_suffix.size(), std::string::npos, temporary_suffix) !=
            0)
      continue;
    int process = 0;
    const char* first = name.data() + temporary_prefix.size();
    const auto parsed = std::from_chars(first, name.data() + name.size(), process);
    if (parsed.ec != std::errc() || *parsed.ptr != '-' || process <= 0) continue;
    if (::kill(process, 0) == 0 || errno != ESRCH) continue;  // still running
    if (::unlink(entries->path().c_str()) == 0) ++removed;
  }
  if (error)
    fail(ErrorCode::output, "{}: folder cannot be read: {}", path_text(folder), error.message());
  return removed;
}

}  // namespace whence
