#include "models/detect.h"

#include <algorithm>
#include <array>

#include "runtime/check.h"

namespace whence {
namespace {

struct Signature {
  const char* pattern;
  const char* family;  // null: a layout that is read
  ModelLayout layout = ViTLayout{};
  const char* also = nullptr;  // a second key that must be there
};

ModelLayout vit(ViTNames names, const char* prefix = "") { return ViTLayout{names, prefix}; }

// The first row that the keys fit decides.
const std::vector<Signature>& signatures() {
  static const std::vector<Signature> table{
      {"visual.transformer.resblocks.{i}.attn.in_proj_weight", "a CLIP model (OpenAI, open_clip)"},
      {"visual.attnpool.k_proj.weight", "a CLIP model with a convolutional tower"},
      {"vision_model.encoder.layers.{i}.self_attn.q_proj.weight", "a CLIP model (Hugging Face)"},
      {"encoder.layers.encoder_layer_{i}.self_attention.in_proj_weight", nullptr,
       vit(ViTNames::torchvision)},
      {"vit.encoder.layer.{i}.attention.attention.query.weight", nullptr,
       vit(ViTNames::hf_v4, "vit.")},
      {"vit.layers.{i}.attention.q_proj.weight", nullptr, vit(ViTNames::hf_v5, "vit.")},
      {"deit.encoder.layer.{i}.attention.attention.query.weight", nullptr,
       vit(ViTNames::hf_v4, "deit.")},
      {"deit.layers.{i}.attention.q_proj.weight", nullptr, vit(ViTNames::hf_v5, "deit.")},
      {"blocks.{i}.attn.qkv.weight", nullptr, vit(ViTNames::timm)},
      {"embeddings.patch_embeddings.projection.weight",
       "a Hugging Face vision transformer without a classifier"},
      {"roberta.{rest}", "a RoBERTa model"},
      {"distilbert.{rest}", "a DistilBERT model"},
      {"bert.{rest}", "a BERT model"},
      {"ernie.{rest}", "an ERNIE model"},
      {"electra.{rest}", "an ELECTRA model"},
      {"embeddings.word_embeddings.weight", "a BERT model without a classifier"},
      {"layer{i}.0.bn1.weight",
       "a ResNet with several convolutions before its first layer (timm's c, d, s and t variants)",
       {},
       "conv1.0.weight"},
      {"layer{i}.0.bn1.weight", nullptr, CnnLayout::resnet},
      {"resnet.embedder.embedder.convolution.weight", nullptr, CnnLayout::resnet_hub},
      {"embedder.embedder.convolution.weight", "a Hugging Face ResNet without a classifier"},
      {"features.1.conv.0.0.weight", nullptr, CnnLayout::mobilenet_torchvision},
      {"blocks.0.0.conv_dw.weight",
       "an EfficientNet or MobileNetV3 (timm)",
       {},
       "blocks.{i}.{rest}.se.conv_reduce.weight"},
      {"blocks.0.0.conv_dw.weight", nullptr, CnnLayout::mobilenet_timm},
      {"mobilenet_v2.{rest}",
       "a Hugging Face MobileNetV2, which is another network than the MobileNetV2 of torchvision "
       "and timm: it pads images on two sides only and has another norm epsilon"},
      {"features.0.weight", nullptr, CnnLayout::vgg, "classifier.3.weight"},
      {"pre_logits.fc1.weight", "a VGG with timm's names"},
      {"layers.{i}.blocks.0.attn.qkv.weight", "a Swin transformer"},
      {"swin.{rest}", "a Swin transformer"},
      {"beit.{rest}", "a BEiT model"},
      {"dinov2.{rest}", "a DINOv2 model (Hugging Face)"},
      {"convnext.{rest}", "a ConvNeXt model"},
  };
  return table;
}

constexpr std::array wrappers{"module.", "_orig_mod.", "timm_model.",
                              "model.",  "backbone.",  "encoder."};

bool any_fits(const Checkpoint& checkpoint, const char* pattern) {
  return std::any_of(
      checkpoint.tensors().begin(), checkpoint.tensors().end(),
      [&](const CheckpointTensor& t) { return match_pattern(pattern, t.name).has_value(); });
}

const Signature* recognise(const Checkpoint& checkpoint) {
  for (const Signature& s : signatures())
    if (any_fits(checkpoint, s.pattern) && (!s.also || any_fits(checkpoint, s.also))) return &s;
  return nullptr;
}

constexpr const char* supported =
    "supported are classifiers: ViT and DeiT as saved by timm, Hugging Face and torchvision; "
    "ResNet, wide ResNet and ResNeXt as saved by the same; MobileNetV2 of torchvision and timm; "
    "VGG of torchvision";

}  // namespace

ModelLayout detect_layout(Checkpoint& checkpoint) {
  const Signature* found = recognise(checkpoint);
  for (int depth = 0; !found && depth < 4; ++depth) {
    if (std::none_of(wrappers.begin(), wrappers.end(),
                     [&](const char* prefix) { return checkpoint.strip(prefix); }))
      break;
    found = recognise(checkpoint);
  }
  if (!found)
    fail(ErrorCode::unsupported, "{}: the names of its {} tensors fit no known architecture; {}",
         checkpoint.name(), checkpoint.tensors().size(), supported);
  if (found->family)
    fail(ErrorCode::unsupported, "{}: this is {}; {}", checkpoint.name(), found->family, supported);
  return found->layout;
}

ViTLayout detect_vit_layout(Checkpoint& checkpoint) {
  const ModelLayout layout = detect_layout(checkpoint);
  if (const auto* cnn = std::get_if<CnnLayout>(&layout))
    fail(ErrorCode::unsupported, "{}: this is a {}, not a vision transformer", checkpoint.name(),
         describe(*cnn));
  return std::get<ViTLayout>(layout);
}

}  // namespace whence
