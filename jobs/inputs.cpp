#include "jobs/inputs.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "io/files.h"
#include "io/npy.h"
#include "jobs/names.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::jobs {
namespace {

namespace fs = std::filesystem;

std::string lower_extension(const fs::path& path) {
  std::string text = path.extension().native();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c | 0x20) : c; });
  return text;
}

bool is_array(const fs::path& path) { return lower_extension(path) == ".npy"; }

// [N, C, H, W] of an array of model inputs, or an error that says which shapes would do.
Shape batch_of(const Type& array, const fs::path& path, const Shape& input) {
  const Shape& s = array.shape;
  if (array.dtype != Dtype::floating)
    fail(ErrorCode::item,
         "{}: integers, token ids for a language model; this model takes floating-point images",
         path_text(path));
  const bool one = s == input;
  const bool many = s.rank() == input.rank() + 1 && s[0] > 0 &&
                    std::equal(input.begin(), input.end(), s.begin() + 1);
  if (!one && !many)
    fail(ErrorCode::item, "{}: shape {}, the model takes [{}, {}, {}] or [N, {}, {}, {}] as it is",
         path_text(path), to_string(s), input[0], input[1], input[2], input[0], input[1], input[2]);
  return many ? s : Shape{1, input[0], input[1], input[2]};
}

struct Listing {
  std::vector<NamedFile> files;
  std::vector<std::string> errors;  // one for each file, empty where there is none
  std::vector<std::string> notes;
};

void list_file(const fs::path& path, const Shape& input, Listing& list) {
  NamedFile file{path};
  std::string error;
  if (is_array(path)) try {
      const Type array = npy_type(path);
      file.count = batch_of(array, path, input)[0];
      file.numbered = array.shape.rank() > input.rank();  // a single [C, H, W] has no number
    } catch (const Error& e) {
      error = e.what();
    }
  list.files.push_back(std::move(file));
  list.errors.push_back(std::move(error));
}

void list_folder(const fs::path& folder, Listing& list) {
  std::string error;
  size_t found = 0, deeper = 0;
  try {
    const ImageList images = list_images(folder);
    for (const fs::path& path : images.paths) {
      if (path.parent_path() != (folder.has_filename() ? folder : folder.parent_path())) {
        ++deeper;
        continue;
      }
      ++found;
      list.files.push_back({path});
      list.errors.emplace_back();
    }
    if (images.skipped)
      list.notes.push_back(fmt::format("{}: left out {}: hidden, linked folders, or no files",
                                       path_text(folder), images.skipped));
    if (found && deeper)
      list.notes.push_back(fmt::format("{}: left out {} of {} images: they are in folders inside",
                                       path_text(folder), deeper, found + deeper));
    if (!found)
      error = fmt::format(
          "{}: no .jpg, .jpeg, .png or .bmp images in this folder{}", path_text(folder),
          deeper ? fmt::format(" ({} in the folders inside: name those)", deeper) : std::string());
  } catch (const Error& e) {
    error = e.what();
  }
  if (error.empty()) return;
  list.files.push_back({folder.has_filename() ? folder : folder.parent_path()});
  list.errors.push_back(error);
}

void identify(Item& item) {
  struct stat status {};
  if (::stat(item.path.c_str(), &status) != 0) return;
  item.bytes = status.st_size;
  item.modified = int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

// What the values looked like before normalisation, as far as 8 bits can show it: of more than
// three channels the first three, of fewer the first in grey.
Image denormalised(std::span<const real> values, const Shape& shape, const Preprocess& preprocess) {
  const int64_t channels = shape[0], height = shape[1], width = shape[2], plane = height * width;
  Image image{int(width), int(height), std::vector<uint8_t>(size_t(plane) * 3)};
  for (size_t shown = 0; shown < 3; ++shown) {
    const size_t c = channels < 3 ? 0 : shown;
    for (int64_t i = 0; i < plane; ++i) {
      const double value =
          double(values[c * size_t(plane) + size_t(i)]) * preprocess.std[c] + preprocess.mean[c];
      image.rgb[size_t(i) * 3 + shown] = uint8_t(std::lround(std::clamp(value, 0.0, 1.0) * 255));
    }
  }
  return image;
}

}  // namespace

InputList list_inputs(const std::vector<std::string>& arguments, const Shape& model_input) {
  Listing list;
  for (const std::string& argument : arguments) {
    const fs::path path = argument;
    const std::string extension = lower_extension(path);
    std::error_code ignored;
    if (fs::is_directory(path, ignored))
      list_folder(path, list);
    else if (extension == ".txt" || extension == ".jsonl")
      fail_usage("{}: texts are for language models, which this version does not have",
                 path_text(path));
    else
      list_file(path, model_input, list);
  }
  const auto names = output_names(list.files);
  InputList inputs;
  inputs.notes = std::move(list.notes);
  for (size_t f = 0; f < list.files.size(); ++f)
    for (int64_t i = 0; i < list.files[f].count; ++i) {
      Item item;
      item.id = names[f][size_t(i)];
      item.path = list.files[f].path;
      item.input = to_utf8(item.path.native());
      item.error = list.errors[f];
      if (is_array(item.path) && item.error.empty()) {
        item.sample = i;
        item.samples = list.files[f].count;
      }
      identify(item);
      inputs.items.push_back(std::move(item));
    }
  return inputs;
}

void InputReader::open_array(const fs::path& path) {
  if (array_path_ != path) {
    array_path_ = path;
    array_ = Tensor();  // two at once would take twice the memory
    array_error_.reset();
    try {
      const Tensor array = read_npy(path);
      array_ = array.reshaped(batch_of(array.type(), path, model_.image_shape()));
    } catch (const Error& error) {
      array_error_ = error;
    }
  }
  if (array_error_) throw *array_error_;
}

Picture InputReader::from_array(const Item& item, std::span<real> values) {
  open_array(item.path);
  if (array_.shape()[0] != item.samples)
    fail(ErrorCode::io, "{}: changed from {} to {} samples during the job", path_text(item.path),
         item.samples, array_.shape()[0]);
  const Tensor one = array_.slice(item.sample, item.sample + 1).reshaped(model_.image_shape());
  check_finite(one, fmt::format("{} [{}]", path_text(item.path), item.sample));
  std::ranges::copy(one.reals(), values.begin());
  Picture picture;
  picture.image = denormalised(values, model_.image_shape(), model_.preprocess);
  picture.region = {0, 0, double(picture.image.width), double(picture.image.height)};
  return picture;
}

Picture InputReader::read(const Item& item, std::span<real> values) {
  if (!item.error.empty()) throw Error(ErrorCode::item, item.error);
  if (item.sample >= 0) return from_array(item, values);
  Picture picture;
  picture.image = read_image(item.path);
  const Tensor made = model_.preprocess(picture.image);
  if (made.shape() != model_.image_shape())
    fail(ErrorCode::item, "{}: becomes {}, the model takes {}", path_text(item.path),
         to_string(made.shape()), to_string(model_.image_shape()));
  std::ranges::copy(made.reals(), values.begin());
  picture.region = model_.preprocess.region(picture.image);
  return picture;
}

Tensor stacked(const std::vector<Tensor>& items) {
  WHENCE_ASSERT(!items.empty());
  const Shape& one = items[0].shape();
  Tensor all(Type{Shape{int64_t(items.size()), one[0], one[1], one[2]}});
  auto to = all.reals().begin();
  for (const Tensor& item : items) to = std::ranges::copy(item.reals(), to).out;
  return all;
}

}  // namespace whence::jobs
