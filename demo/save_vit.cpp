#include "demo/save_vit.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "demo/scenes.h"
#include "io/files.h"
#include "models/vit_layouts.h"
#include "runtime/check.h"
#include "weights/name_map.h"
#include "weights/safetensors.h"

namespace whence::demo {
namespace {

// The stored tensor is the rows of its parts, one after the other (query, key and value are one
// matrix in this layout), or the canonical tensor under another shape.
Tensor stored_tensor(const std::vector<Tensor>& parts, const Shape& shape) {
  Tensor whole(Type{shape});
  auto at = whole.reals().begin();
  for (const Tensor& part : parts) at = std::copy_n(part.reals().begin(), part.reals().size(), at);
  return whole;
}

std::vector<uint8_t> serialize_timm(const ViTConfig& config, const Weights& weights) {
  const NameMap map = vit_name_map({}, config, "the model");
  std::map<std::string, std::vector<Tensor>> parts;
  std::map<std::string, Shape> shapes;
  for (const auto& [name, tensor] : weights.tensors) {
    const RuleFor found = rule_for(map, name);
    if (!found.rule) {
      fail(ErrorKind::name, ErrorCode::keys, "weight '{}' has no name in this layout", name);
    }
    auto& list = parts[found.stored];
    list.resize(size_t(found.rule->parts));
    list[size_t(found.rule->part)] = tensor;
    shapes[found.stored] = stored_shape(*found.rule, tensor.shape());
  }
  std::vector<OutputTensor> tensors;
  for (const auto& [name, list] : parts) {
    tensors.push_back(output_tensor(name, stored_tensor(list, shapes[name]), StoredDtype::f16));
  }
  return serialize_safetensors(tensors, {{"format", "pt"}});
}

std::string timm_config(const ViTConfig& c) {
  nlohmann::ordered_json json;
  json["architecture"] = "vit_tiny_patch16_224";  // whose sizes model_args replaces
  json["num_classes"] = c.classes;
  json["num_features"] = c.width;
  json["global_pool"] = "token";
  json["model_args"] = {
      {"img_size", c.image_height}, {"patch_size", c.patch},
      {"embed_dim", c.width},       {"depth", c.depth},
      {"num_heads", c.heads},       {"mlp_ratio", double(c.mlp) / double(c.width)}};
  json["label_names"] = class_names();
  auto& pretrained = json["pretrained_cfg"];
  pretrained["input_size"] = {c.channels, c.image_height, c.image_width};
  pretrained["fixed_input_size"] = true;
  pretrained["interpolation"] = "bicubic";
  pretrained["crop_pct"] = 1.0;
  pretrained["crop_mode"] = "center";
  pretrained["mean"] = {0.5, 0.5, 0.5};
  pretrained["std"] = {0.5, 0.5, 0.5};
  pretrained["num_classes"] = c.classes;
  pretrained["pool_size"] = nullptr;
  pretrained["first_conv"] = "patch_embed.proj";
  pretrained["classifier"] = "head";
  return json.dump(2) + "\n";
}

}  // namespace

void save_demo_vit(const std::filesystem::path& folder, const ViTConfig& config,
                   const Weights& weights) {
  const std::vector<uint8_t> tensors = serialize_timm(config, weights);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    fail(ErrorKind::file, ErrorCode::io, "{}: cannot make this folder: {}", path_text(folder),
         error.message());
  }
  AtomicWriter writer;
  writer.add(folder / "model.safetensors", tensors);
  writer.add(folder / "config.json", std::string_view(timm_config(config)));
  writer.commit();
}

}  // namespace whence::demo
