// Inputs: from arguments to a list of things to explain, and from each of those to what the model
// takes.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "whence/error.h"
#include "whence/image.h"
#include "whence/model.h"

namespace whence::jobs {

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

// Images, folders (their images, sorted by bytes; not those of folders inside), .npy files. Of
// arrays the header is read, to count what they hold. Files that cannot be read become items with
// an error; texts and equal output names are usage errors.
InputList list_inputs(const std::vector<std::string>& arguments, const Shape& model_input);

struct Picture {
  Image image;                // what to draw over
  Preprocess::Region region;  // of the image, that the model sees
};

class InputReader {
 public:
  explicit InputReader(const Model& model) : model_(model) {}
  const Shape& shape() const { return model_.image_shape(); }  // of one item
  // Fills `values`, as many as the shape has, with finite numbers. Throws errors that name the
  // file.
  Picture read(const Item& item, std::span<real> values);

 private:
  void open_array(const std::filesystem::path& path);
  Picture from_array(const Item& item, std::span<real> values);
  const Model& model_;
  // The array read last, or why it could not be: its items come one after another.
  std::filesystem::path array_path_;
  Tensor array_;
  std::optional<Error> array_error_;
};

// [N, C, H, W] of [C, H, W] each.
Tensor stacked(const std::vector<Tensor>& items);

}  // namespace whence::jobs
