#include "io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/check.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string_view describe_mode(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; }

bool is_image_name(const fs::path& path) {
  std::string extension = path.extension().native();
  std::transform(extension.begin(), extension.end(), extension.begin(), lower);
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp";
}

}  // namespace

std::string path_text(const fs::path& path) {
  std::string text;
  for (const fs::path& part : path) {
    if (!text.empty() && text.back() != '/') text += '/';
    text += printable(part.native());
  }
  return text;
}

InputFile::InputFile(const fs::path& path) : name_(path_text(path)) {
  if (path.native().find('\0') != std::string::npos)
    fail(ErrorCode::not_found, "{}: the name contains a zero byte", name_);
  // Non-blocking, so that a FIFO without a writer is refused and not waited for.
  do descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) fail(ErrorCode::not_found, "{}: no such file", name_);
    fail(ErrorCode::io, "{}: cannot be opened: {}", name_, reason(error));
  }
  struct stat status {};
  const int error = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (error != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);  // the destructor of an object that was not constructed does not run
    if (error != 0) fail(ErrorCode::io, "{}: cannot be opened: {}", name_, reason(error));
    fail(ErrorCode::io, "{}: this is {}, not a file", name_, describe_mode(status.st_mode));
  }
  size_ = status.st_size;
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(int64_t offset, std::span<uint8_t> to) const {
  size_t done = 0;
  while (done < to.size()) {
    // One call transfers at most 2 GiB on Linux; smaller steps also let signals through.
    const size_t step = std::min(to.size() - done, size_t(64) << 20);
    const ssize_t n = ::pread(descriptor_, to.data() + done, step, offset + int64_t(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail(ErrorCode::io, "{}: cannot be read at byte {}: {}", name_, offset + int64_t(done),
           reason(errno));
    if (n == 0)
      fail(ErrorCode::io, "{}: ended at byte {} of {} while it was read", name_,
           offset + int64_t(done), size_);
    done += size_t(n);
  }
}

void check_size(const InputFile& file, int64_t limit) {
  if (file.size() > limit)
    fail(ErrorCode::limit, "{}: {} bytes, the limit is {}", file.name(), file.size(), limit);
}

std::vector<uint8_t> read_file(const fs::path& path, int64_t limit) {
  const InputFile file(path);
  check_size(file, limit);
  std::vector<uint8_t> bytes(static_cast<size_t>(file.size()));
  file.read(0, bytes);
  if (const int64_t size = InputFile(path).size(); size != file.size())
    fail(ErrorCode::io, "{}: grew from {} to {} bytes while it was read", file.name(), file.size(),
         size);
  return bytes;
}

ImageList list_images(const fs::path& folder) {
  ImageList list;
  std::vector<fs::path> open{folder};
  while (!open.empty()) {
    const fs::path at = std::move(open.back());
    open.pop_back();
    std::error_code error;
    fs::directory_iterator entries(at, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      const fs::path& path = entries->path();
      const bool hidden = path.filename().native().front() == '.';
      // Each test has its own error code: an entry that vanishes is a skipped entry, not the end.
      std::error_code ignored;
      const fs::file_type own = entries->symlink_status(ignored).type();
      const fs::file_type target = entries->status(ignored).type();
      if (target == fs::file_type::directory) {
        if (hidden || own == fs::file_type::symlink)
          ++list.skipped;
        else
          open.push_back(path);
      } else if (is_image_name(path)) {
        if (hidden || target != fs::file_type::regular)
          ++list.skipped;
        else
          list.paths.push_back(path);
      }
    }
    if (error) {
      const bool absent = error == std::errc::no_such_file_or_directory;
      fail(absent ? ErrorCode::not_found : ErrorCode::io, "{}: folder cannot be read: {}",
           path_text(at), error.message());
    }
  }
  std::sort(list.paths.begin(), list.paths.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return list;
}

}  // namespace whence
