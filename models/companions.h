// What stands beside a checkpoint: how images become inputs, and what the classes are called.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "weights/checkpoint.h"
#include "whence/image.h"
#include "whence/model.h"

namespace whence {

// The files beside a checkpoint, each read once, and what the caller gave instead of them.
class Companions {
 public:
  Companions(const Checkpoint& checkpoint, const LoadOptions& options);
  std::optional<JsonObject> config() const;  // config.json
  std::string architecture() const;          // as the caller or timm's config.json names it
  // What a processor's file or timm's config.json states, for images of this size; nothing where
  // neither does.
  std::optional<Preprocess> preprocess(ImageSize size) const;
  // The caller's, else those of config.json, else numbers, which `notes` then says.
  std::vector<std::string> labels(int64_t classes, std::vector<std::string>& notes) const;
  // By problem_type; where that is not stated several outputs are one label. One output is a value
  // unless it is a label by itself: a softmax of one is always 1.
  Outputs outputs(int64_t classes, std::vector<std::string>& notes) const;

 private:
  std::optional<Json> read(const char* name) const;
  std::string path(const char* name) const;
  const Checkpoint& checkpoint_;
  const LoadOptions& options_;
  std::optional<Json> config_;
};
// Throws unless the recipe gives images of this size, where it gives a size.
void check_preprocess(const Preprocess& recipe, ImageSize size, const std::string& where);

// input_size of timm's config.json: channels, height, width.
std::optional<std::array<int64_t, 3>> timm_input_size(const JsonObject& config);
// Classes by id2label, else num_labels, of Hugging Face.
std::optional<int64_t> stated_classes(const JsonObject& config);
// A number for both sides, or a list of two: height, width.
std::optional<ImageSize> stated_sides(const JsonObject& config, const char* key, int64_t most);

// preprocessor_config.json of Hugging Face image processors: ViT, DeiT, CLIP, BiT and ConvNeXt
// conventions. Values that would change the pixels and are not supported are unsupported errors.
Preprocess preprocess_from_hugging_face(const JsonObject& config);
// pretrained_cfg of timm, for images of this size.
Preprocess preprocess_from_timm(const JsonObject& pretrained_cfg, ImageSize size);
// The same recipe for another size of the model's input: the border that a crop removes keeps its
// share.
Preprocess scaled(Preprocess recipe, ImageSize size);
// Size of what a recipe gives; nothing where it depends on the image.
std::optional<ImageSize> output_size(const Preprocess& recipe);

// Pieces of recipes.
using Triple = std::array<double, 3>;
inline constexpr Triple imagenet_mean{0.485, 0.456, 0.406}, imagenet_std{0.229, 0.224, 0.225};
inline constexpr Triple half{0.5, 0.5, 0.5};
inline constexpr Triple clip_mean{0.48145466, 0.4578275, 0.40821073};
inline constexpr Triple clip_std{0.26862954, 0.26130258, 0.27577711};
void set_resize(Preprocess& recipe, Preprocess::Fit fit, ImageSize size);
void set_crop(Preprocess& recipe, ImageSize size);
int64_t enlarged(int64_t side, double kept);  // the side to resize to, of which a crop keeps `kept`

// id2label of Hugging Face, label_names (or labels) with label_descriptions of timm; nothing where
// the configuration has none. Throws unless there is one name for each of `classes`.
std::optional<std::vector<std::string>> labels_from_config(const JsonObject& config,
                                                           int64_t classes);
// One name a line, or a JSON list, or a JSON object from index to name.
std::vector<std::string> read_labels(const std::filesystem::path& path, int64_t classes);
// "0", "1", ...
std::vector<std::string> numbered_labels(int64_t classes);

}  // namespace whence
