#include "models/vit_layouts.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/check.h"

namespace whence {
namespace {

struct Signature {
  const char* pattern;
  const char* family;  // null: a layout that is read
  ViTNames names = ViTNames::timm;
  const char* prefix = "";
};
// The first row that a key fits decides.
constexpr Signature signatures[] = {
    {"visual.transformer.resblocks.{i}.attn.in_proj_weight", "a CLIP model (OpenAI, open_clip)"},
    {"visual.attnpool.k_proj.weight", "a CLIP model with a convolutional tower"},
    {"vision_model.encoder.layers.{i}.self_attn.q_proj.weight", "a CLIP model (Hugging Face)"},
    {"encoder.layers.encoder_layer_{i}.self_attention.in_proj_weight", nullptr,
     ViTNames::torchvision},
    {"vit.encoder.layer.{i}.attention.attention.query.weight", nullptr, ViTNames::hf_v4, "vit."},
    {"vit.layers.{i}.attention.q_proj.weight", nullptr, ViTNames::hf_v5, "vit."},
    {"deit.encoder.layer.{i}.attention.attention.query.weight", nullptr, ViTNames::hf_v4, "deit."},
    {"deit.layers.{i}.attention.q_proj.weight", nullptr, ViTNames::hf_v5, "deit."},
    {"blocks.{i}.attn.qkv.weight", nullptr, ViTNames::timm},
    {"embeddings.patch_embeddings.projection.weight",
     "a Hugging Face vision transformer without a classifier"},
    {"roberta.{rest}", "a RoBERTa model"},
    {"distilbert.{rest}", "a DistilBERT model"},
    {"bert.{rest}", "a BERT model"},
    {"ernie.{rest}", "an ERNIE model"},
    {"electra.{rest}", "an ELECTRA model"},
    {"embeddings.word_embeddings.weight", "a BERT model without a classifier"},
    {"layer{i}.0.bn1.weight", "a ResNet"},
    {"resnet.embedder.embedder.convolution.weight", "a ResNet (Hugging Face)"},
    {"features.1.conv.0.0.weight", "a MobileNetV2"},
    {"blocks.0.0.conv_dw.weight", "a MobileNetV2 (timm)"},
    {"mobilenet_v2.{rest}", "a MobileNetV2 (Hugging Face)"},
    {"layers.{i}.blocks.0.attn.qkv.weight", "a Swin transformer"},
    {"swin.{rest}", "a Swin transformer"},
    {"beit.{rest}", "a BEiT model"},
    {"dinov2.{rest}", "a DINOv2 model (Hugging Face)"},
    {"convnext.{rest}", "a ConvNeXt model"},
};

constexpr int64_t max_registers = 65536;

constexpr std::array wrappers{"module.", "_orig_mod.", "timm_model.",
                              "model.",  "backbone.",  "encoder."};

const Signature* recognise(const Checkpoint& checkpoint) {
  for (const Signature& s : signatures)
    for (const CheckpointTensor& t : checkpoint.tensors())
      if (match_pattern(s.pattern, t.name)) return &s;
  return nullptr;
}

// What shapes say, with the checks that make the numbers safe to use.
class ShapeReader {
 public:
  ShapeReader(const Checkpoint& checkpoint, const NameMap& map)
      : checkpoint_(checkpoint), map_(map) {}

  const CheckpointTensor* find(const std::string& canonical) const {
    return checkpoint_.find(rule_for(map_, canonical, &checkpoint_).stored);
  }
  bool has(const std::string& canonical) const { return find(canonical) != nullptr; }
  const std::vector<int64_t>& shape(const std::string& canonical, size_t rank) const {
    const CheckpointTensor* t = find(canonical);
    const std::string stored = rule_for(map_, canonical, &checkpoint_).stored;
    if (!t)
      fail(ErrorKind::name, ErrorCode::keys, "{}: tensor '{}' is missing", checkpoint_.name(),
           stored);
    if (t->shape.size() != rank)
      fail_shape("{}: '{}' is {} in the checkpoint, {} dimensions are expected", checkpoint_.name(),
                 stored, shape_text(t->shape), rank);
    return t->shape;
  }

 private:
  const Checkpoint& checkpoint_;
  const NameMap& map_;
};

int64_t depth_of(const Checkpoint& checkpoint, const NameMap& map) {
  int64_t depth = 0;
  for (const NameRule& rule : map.rules) {
    if (rule.canonical.rfind("blocks.{i}.", 0) != 0) continue;
    for (const CheckpointTensor& t : checkpoint.tensors())
      if (const auto m = match_pattern(rule.pattern, t.name))
        depth = std::max<int64_t>(depth, std::stoll(m->i) + 1);
  }
  constexpr int64_t most = 1000;
  if (depth > most)
    fail(ErrorKind::file, ErrorCode::limit, "{}: {} layers, the limit is {}", checkpoint.name(),
         depth, most);
  return depth;
}

int64_t root_of_square(int64_t n) {
  constexpr int64_t most = int64_t(1) << 40;  // far beyond any image, and exact in double
  if (n < 1 || n > most) return 0;
  const int64_t root = std::lround(std::sqrt(double(n)));
  return root * root == n ? root : 0;
}

}  // namespace

std::string describe(const ViTLayout& layout) {
  const char* model = layout.prefix == "deit." ? "DeiT" : "ViT";
  switch (layout.names) {
    case ViTNames::timm:
      return "timm ViT";
    case ViTNames::hf_v4:
      return fmt::format("Hugging Face {}, version 4 names", model);
    case ViTNames::hf_v5:
      return fmt::format("Hugging Face {}, version 5 names", model);
    case ViTNames::torchvision:
      return "torchvision ViT";
  }
  return "ViT";
}

ViTLayout detect_vit_layout(Checkpoint& checkpoint) {
  const Signature* found = recognise(checkpoint);
  for (int depth = 0; !found && depth < 4; ++depth) {
    if (std::none_of(wrappers.begin(), wrappers.end(),
                     [&](const char* prefix) { return checkpoint.strip(prefix); }))
      break;
    found = recognise(checkpoint);
  }
  constexpr const char* supported =
      "supported are ViT and DeiT classifiers as saved by timm, "
      "Hugging Face and torchvision";
  if (!found)
    fail(ErrorKind::unsupported, ErrorCode::unsupported,
         "{}: the names of its {} tensors fit no known architecture; {}", checkpoint.name(),
         checkpoint.tensors().size(), supported);
  if (found->family)
    fail(ErrorKind::unsupported, ErrorCode::unsupported, "{}: this is {}; {}", checkpoint.name(),
         found->family, supported);
  return {found->names, found->prefix};
}

ViTConfig vit_config_of_shapes(const Checkpoint& checkpoint, const ViTLayout& layout) {
  ViTConfig c;
  // Names do not depend on sizes; of the variants the second head must be known first.
  c.distilled = layout.names == ViTNames::timm
                    ? checkpoint.find("dist_token") && checkpoint.find("head_dist.weight")
                    : checkpoint.find("distillation_classifier.weight") != nullptr;
  if (layout.names == ViTNames::timm && checkpoint.find("fc_norm.weight") &&
      !checkpoint.find("norm.weight"))
    c.pooling = ViTConfig::Pooling::mean;
  const NameMap map = vit_name_map(layout, c, "");
  const ShapeReader r(checkpoint, map);

  const auto& patch = r.shape("embed.patch.weight", 4);
  c.width = patch[0], c.channels = patch[1], c.patch = patch[3];
  if (patch[2] != patch[3])
    fail(ErrorKind::unsupported, ErrorCode::unsupported,
         "{}: patches of {} x {} pixels; only square ones are supported", checkpoint.name(),
         patch[2], patch[3]);
  c.patch_bias = r.has("embed.patch.bias");
  c.depth = depth_of(checkpoint, map);
  c.mlp = r.shape("blocks.0.mlp.fc1.weight", 2)[0];
  c.classes = r.shape("head.weight", 2)[0];
  c.class_token = r.has("embed.cls");
  if (r.has("embed.registers")) c.registers = r.shape("embed.registers", 3)[1];
  if (c.registers > max_registers)
    fail(ErrorKind::file, ErrorCode::limit, "{}: {} registers, the limit is {}", checkpoint.name(),
         c.registers, max_registers);
  c.qkv_bias = false;
  for (int64_t i = 0; i < c.depth; ++i)  // one is enough: the others are then required
    for (const char* part : {"q", "k", "v"})
      c.qkv_bias = c.qkv_bias || r.has(fmt::format("blocks.{}.attn.{}.bias", i, part));
  c.pre_norm = r.has("norm_pre.weight");
  c.layer_scale = r.has("blocks.0.scale1");

  const int64_t positions = r.shape("embed.pos", 3)[1];
  int64_t side = root_of_square(positions - c.prefix_tokens());
  if (side == 0) {
    side = root_of_square(positions);
    c.position_skips_prefix = side > 0 && c.prefix_tokens() > 0;
  }
  constexpr int64_t largest = int64_t(1) << 20;  // keeps side * patch far from overflow
  c.image_height = c.image_width = side < largest && c.patch < largest ? side * c.patch : 0;
  return c;
}

int64_t vit_parameter_count(const ViTConfig& config) {
  // All blocks are alike.
  const auto count = [&](int64_t depth) {
    ViTConfig c = config;
    c.depth = depth;
    unsigned __int128 sum = 0;
    for (const auto& [name, shape] : required_vit_weights(c)) sum += uint64_t(shape.count());
    return sum;
  };
  const unsigned __int128 none = count(0);
  const unsigned __int128 sum = none + (count(1) - none) * uint64_t(config.depth);
  constexpr uint64_t limit = uint64_t(1) << 40;
  if (sum > limit)
    fail(ErrorKind::file, ErrorCode::limit,
         "a vision transformer of these sizes has more than {} parameters", limit);
  return int64_t(sum);
}

}  // namespace whence
