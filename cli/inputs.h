// Inputs: from arguments to a list of things to explain, and from each of those to what the model
// takes.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "whence/image.h"
#include "whence/model.h"

namespace whence::cli {

struct Item {
  std::string id;     // unique among the inputs; its outputs are named by it
  std::string input;  // the path, as results show it
  std::filesystem::path path;
  int64_t sample = -1;   // of an array file; -1: an image
  int64_t samples = 0;   // that the array had when it was listed
  int64_t bytes = -1;    // of the file
  int64_t modified = 0;  // nanoseconds since 1970
  std::string error;     // why it cannot be read, where listing found out
};

struct InputList {
  std::vector<Item> items;
  std::vector<std::string> notes;  // what was left out
};

// Images, folders (their images, sorted by bytes; not those of folders inside), .npy files. Reads
// arrays once, to count what they hold. Files that cannot be read become items with an error; texts
// and equal output names are usage failures.
InputList list_inputs(const std::vector<std::string>& arguments, const Shape& model_input);

struct Input {
  Tensor values;              // [C, H, W], finite
  Image picture;              // what to draw over
  Preprocess::Region region;  // of the picture, that the model sees
};

class InputReader {
 public:
  explicit InputReader(const Model& model) : model_(model) {}
  // Throws library errors that name the file.
  Input read(const Item& item);

 private:
  Input from_array(const Item& item);
  const Model& model_;
  std::filesystem::path array_path_;  // of the array read last: its items come one after another
  Tensor array_;
};

// [N, C, H, W] of [C, H, W] each.
Tensor stacked(const std::vector<const Tensor*>& items);

}  // namespace whence::cli
