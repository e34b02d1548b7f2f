// What stands beside a checkpoint: how images become inputs, and what the classes are called.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "models/vit_config.h"
#include "whence/image.h"

namespace whence {

// preprocessor_config.json of Hugging Face image processors: ViT, DeiT, CLIP, BiT and ConvNeXt
// conventions. Values that would change the pixels and are not supported are unsupported errors.
Preprocess preprocess_from_hugging_face(const JsonObject& config);
// pretrained_cfg of timm, for images of this size.
Preprocess preprocess_from_timm(const JsonObject& pretrained_cfg, ImageSize size);
// What the published models of a layout use, where nothing is stated. `architecture` may be empty.
Preprocess usual_preprocess(const ViTLayout& layout, std::string_view architecture, bool distilled,
                            ImageSize size);
// The same recipe for another size of the model's input: the border that a crop removes keeps its
// share.
Preprocess scaled(Preprocess recipe, ImageSize size);
// Size of what a recipe gives; nothing where it depends on the image.
std::optional<ImageSize> output_size(const Preprocess& recipe);

// id2label of Hugging Face, label_names (or labels) with label_descriptions of timm; nothing where
// the configuration has none. Throws unless there is one name for each of `classes`.
std::optional<std::vector<std::string>> labels_from_config(const JsonObject& config,
                                                           int64_t classes);
// One name a line, or a JSON list, or a JSON object from index to name.
std::vector<std::string> read_labels(const std::filesystem::path& path, int64_t classes);
// "0", "1", ...
std::vector<std::string> numbered_labels(int64_t classes);

}  // namespace whence
