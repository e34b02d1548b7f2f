#include "io/files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "tests/unit/io_cases.h"
#include "whence/image.h"

namespace whence::test {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test, removed at the end.
class Files : public ::testing::Test {
 protected:
  Files()
      : folder_(fs::path(::testing::TempDir()) / ("whence_files_" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~Files() override { fs::remove_all(folder_); }
  fs::path at(const std::string& name) const { return folder_ / name; }
  void put(const std::string& name, const std::string& text) const {
    fs::create_directories(at(name).parent_path());
    std::ofstream(at(name), std::ios::binary) << text;
  }
  std::string text_of(const std::string& name) const {
    const Bytes bytes = read_file(at(name), 1 << 20);
    return {bytes.begin(), bytes.end()};
  }
  size_t entries() const {
    return size_t(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  fs::path folder_;
};

TEST_F(Files, reads_all_bytes) {
  put("a.bin", std::string("one\0two", 7));
  EXPECT_EQ(read_file(at("a.bin"), 7), bytes_of(std::string_view("one\0two", 7)));
  put("empty", "");
  EXPECT_TRUE(read_file(at("empty"), 0).empty());
  fs::create_symlink("a.bin", at("link"));
  EXPECT_EQ(read_file(at("link"), 7).size(), 7u);
}

TEST_F(Files, reads_parts) {
  put("a.bin", "0123456789");
  const InputFile file(at("a.bin"));
  EXPECT_EQ(file.size(), 10);
  Bytes part(4);
  file.read(3, part);
  EXPECT_EQ(part, bytes_of("3456"));
  const Thrown thrown = thrown_by([&] { file.read(8, part); });
  EXPECT_EQ(thrown.message, at("a.bin").string() + ": ended at byte 10 of 10 while it was read");
  EXPECT_EQ(thrown.code, ErrorCode::io);
}

TEST_F(Files, inputs_that_are_not_files_are_refused_at_once) {
  const std::string folder = folder_.string();
  put("big", "12345");
  ASSERT_EQ(::mkfifo(at("pipe").c_str(), 0600), 0);
  const struct {
    std::string path, message;
    ErrorCode code;
  } cases[] = {
      {folder + "/none", folder + "/none: no such file", ErrorCode::not_found},
      {folder + "/big/none", folder + "/big/none: no such file", ErrorCode::not_found},
      {folder, folder + ": this is a folder, not a file", ErrorCode::io},
      {folder + "/pipe", folder + "/pipe: this is a pipe, not a file", ErrorCode::io},
      {"/dev/zero", "/dev/zero: this is a device, not a file", ErrorCode::io},
      {folder + "/big", folder + "/big: 5 bytes, the limit is 4", ErrorCode::limit},
      {folder + "/new\nline", folder + "/new\\x0Aline: no such file", ErrorCode::not_found},
      {folder + std::string("/a\0b", 4), folder + "/a\\x00b: the name contains a zero byte",
       ErrorCode::not_found},
  };
  for (const auto& c : cases) {
    const Thrown thrown = thrown_by([&] { read_file(c.path, 4); });
    EXPECT_EQ(thrown.message, c.message);
    EXPECT_EQ(thrown.kind, ErrorKind::file);
    EXPECT_EQ(thrown.code, c.code) << c.message;
  }
}

TEST_F(Files, descriptors_are_closed) {
  put("a", "text");
  const auto open_now = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = open_now();
  for (int i = 0; i < 20; ++i) {
    read_file(at("a"), 4);
    thrown_by([&] { read_file(folder_, 4); });
    thrown_by([&] { read_file(at("a"), 3); });
    write_file_atomically(at("b"), "text");
    thrown_by([&] { write_file_atomically(at("none/b"), "text"); });
  }
  EXPECT_EQ(open_now(), before);
}

TEST(FileKinds, are_told_apart_by_their_first_bytes) {
  using K = FileKind;
  const std::pair<Bytes, FileKind> cases[] = {
      {{}, K::empty},
      {bytes_of("hello"), K::unknown},
      {{0x80, 0x02, 0x8A, 0x0A}, K::pickle},
      {bytes_of("PK\x03\x04...."), K::zip},
      {bytes_of("\x89HDF\r\n\x1A\n"), K::hdf5},
      {bytes_of("GGUF\3"), K::gguf},
      {bytes_of("\x93NUMPY\1"), K::numpy},
      {{0x1F, 0x8B, 8}, K::gzip},
      {bytes_of("\xEF\xBB\xBF  <HTML lang"), K::html},
      {bytes_of("<?xml version"), K::html},
      {bytes_of("version https://git-lfs"), K::lfs_pointer},
      {png_signature, K::png},
      {{0xFF, 0xD8, 0xFF, 0xE0}, K::jpeg},
      {{0xFF, 0xD8}, K::unknown},
      {bytes_of("BM"), K::bmp},
      {joined({Bytes{64, 0, 0, 0, 0, 0, 0, 0}, bytes_of("{\"w\"")}), K::safetensors},
      {joined({Bytes{'B', 'M', 0, 0, 0, 0, 0, 0}, bytes_of(" {")}), K::safetensors},
      {joined({Bytes(8, 255), bytes_of("{\"w\"")}), K::unknown},
      {bytes_of("MM\0*"), K::unknown},  // cut at the zero byte by the literal
      {{'M', 'M', 0, '*'}, K::tiff},
  };
  for (const auto& [bytes, kind] : cases)
    EXPECT_EQ(file_kind(bytes), kind) << std::string(bytes.begin(), bytes.end());
  EXPECT_EQ(describe(K::lfs_pointer), "a git-lfs pointer");
}

TEST_F(Files, images_of_a_folder_sorted_by_bytes) {
  for (const char* name : {"b.JPG", "a.png", "B.jpeg", "sub/c.bmp", "sub/deep/d.png",
                           "z\xC3\xBC.jpg", "notes.txt", ".hidden.png", ".git/e.png", "png"})
    put(name, "x");
  put("elsewhere/not_images.txt", "x");
  fs::create_directory_symlink("sub", at("linked"));
  fs::create_symlink("a.png", at("same.png"));
  fs::create_symlink("nowhere", at("broken.png"));
  ASSERT_EQ(::mkfifo(at("pipe.png").c_str(), 0600), 0);
  const ImageList list = list_images(folder_);
  std::vector<std::string> names;
  for (const fs::path& path : list.paths)
    names.push_back(path.lexically_relative(folder_).string());
  EXPECT_EQ(names, (std::vector<std::string>{"B.jpeg", "a.png", "b.JPG", "same.png", "sub/c.bmp",
                                             "sub/deep/d.png", "z\xC3\xBC.jpg"}));
  EXPECT_EQ(list.skipped, 5);  // .hidden.png, .git, linked, broken.png, pipe.png
}

TEST_F(Files, a_folder_that_cannot_be_listed_is_an_error) {
  const Thrown thrown = thrown_by([&] { list_images(at("none")); });
  EXPECT_EQ(thrown.message,
            at("none").string() + ": folder cannot be read: No such file or directory");
  EXPECT_EQ(thrown.code, ErrorCode::not_found);
}

TEST_F(Files, written_files_are_complete_and_nothing_else_remains) {
  put("old", "previous content");
  write_file_atomically(at("old"), "new");
  EXPECT_EQ(text_of("old"), "new");
  write_file_atomically(at("empty"), "");
  EXPECT_EQ(text_of("empty"), "");
  EXPECT_EQ(entries(), 2u);
}

TEST_F(Files, a_group_appears_only_when_committed) {
  put("a", "old a");
  fs::create_directory(at("sub"));
  {
    AtomicWriter writer;
    writer.add(at("a"), "new a");
    writer.add(at("sub/b"), "new b");
    EXPECT_EQ(text_of("a"), "old a");
    EXPECT_FALSE(fs::exists(at("sub/b")));
    writer.commit();
    EXPECT_EQ(text_of("a"), "new a");
    EXPECT_EQ(text_of("sub/b"), "new b");
    writer.add(at("a"), "never");
  }
  EXPECT_EQ(text_of("a"), "new a");
  EXPECT_EQ(entries(), 2u);
  EXPECT_EQ(std::distance(fs::directory_iterator(at("sub")), fs::directory_iterator()), 1);
}

TEST_F(Files, groups_of_many_files) {
  AtomicWriter writer;
  for (int i = 0; i < 130; ++i) writer.add(at(std::to_string(i)), std::to_string(i * i));
  writer.commit();
  EXPECT_EQ(entries(), 130u);
  EXPECT_EQ(text_of("129"), "16641");
}

TEST_F(Files, outputs_that_fail_name_the_file_and_the_reason) {
  fs::create_directory(at("folder"));
  put("file", "x");
  const std::string longest(255, 'n');
  write_file_atomically(at(longest), "fits");  // the temporary name must not be longer
  EXPECT_EQ(text_of(longest), "fits");
  const std::pair<std::string, std::string> cases[] = {
      {"none/x", "none/x: cannot be written: No such file or directory"},
      {"file/x", "file/x: cannot be written: Not a directory"},
      {"folder", "folder: cannot be written: Is a directory"},
      {"folder/", "folder/: not the name of a file"},
  };
  for (const auto& [name, message] : cases) {
    const Thrown thrown = thrown_by([&, file = at(name)] { write_file_atomically(file, "x"); });
    EXPECT_EQ(thrown.message, folder_.string() + "/" + message);
    EXPECT_EQ(thrown.kind, ErrorKind::file);
    EXPECT_EQ(thrown.code, ErrorCode::output);
  }
  EXPECT_EQ(entries(), 3u);
}

TEST(FullDisk, is_reported) {
  // A limit on file sizes stands in for a full disk; with the signal ignored, writing fails with
  // EFBIG.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const fs::path folder =
        fs::path(::testing::TempDir()) / ("whence_full_" + std::to_string(::getpid()));
    fs::create_directories(folder);
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit most{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &most) != 0) ::_exit(3);
    const Thrown thrown =
        thrown_by([&] { write_file_atomically(folder / "x", std::string(5000, 'x')); });
    const bool clean = fs::is_empty(folder);
    fs::remove_all(folder);
    const bool said =
        thrown.message == (folder / "x").string() + ": cannot be written: File too large";
    ::_exit(said && clean ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(Files, temporaries_of_dead_processes_are_removed) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);  // its number is free now
  const std::string dead = ".whence-" + std::to_string(child) + "-0.tmp";
  const std::string alive = ".whence-" + std::to_string(::getpid()) + "-999.tmp";
  for (const std::string& name :
       {dead, alive, std::string(".whence-x.tmp"), std::string("whence-1-1.tmp")})
    put(name, "x");
  EXPECT_EQ(remove_stale_temporaries(folder_), 1);
  EXPECT_FALSE(fs::exists(at(dead)));
  EXPECT_EQ(entries(), 3u);
}

}  // namespace
}  // namespace whence::test
