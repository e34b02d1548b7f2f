// A folder that is empty at the start of a test and gone after it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "io/files.h"

namespace whence {

class Folder {
 public:
  explicit Folder(const std::string& name)
      : path(std::filesystem::path(testing::TempDir()) /
             ("whence_" + name + std::to_string(getpid()))) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void text(const std::string& file, const std::string& content) const {
    write_file_atomically(path / file, content);
  }

  const std::filesystem::path path;
};

}  // namespace whence
