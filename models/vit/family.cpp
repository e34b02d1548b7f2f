#include "models/vit/family.h"

#include <fmt/core.h>

#include "models/vit/position_embedding.h"

namespace whence {
namespace {

std::optional<ViTFacts> facts_of(const Source& source) {
  if (!source.options.arch.empty()) return vit_facts_from_name(source.options.arch);
  if (const auto config = source.companions.config()) return vit_facts_from_config(*config);
  return {};
}

std::string in_words(const ViTConfig& c) {
  std::string text = fmt::format(
      "vision transformer, {} blocks of width {}, {} heads, patch {}, {} x {} pixels, {} classes",
      c.depth, c.width, c.heads, c.patch, c.image_height, c.image_width, c.classes);
  if (c.distilled) text += ", distilled";
  if (c.pooling == ViTConfig::Pooling::mean) text += ", mean of the patches";
  if (c.registers > 0) text += fmt::format(", {} registers", c.registers);
  if (!c.block.empty()) text += fmt::format(", {} blocks", c.block);
  return text;
}

}  // namespace

// Names and shapes do not tell the kinds of blocks apart (blocks.h): the paper's are assumed unless
// the architecture's name says another.
ViTNetwork::ViTNetwork(const Source& source, const ViTLayout& layout) : layout_(layout) {
  const std::optional<ViTFacts> facts = facts_of(source);
  source_ = facts ? facts->source : "the other tensors";
  sizes_ = resolve_vit_sizes(source.checkpoint, layout, facts, source.options.image_size);
  note_assumptions(facts);
}

void ViTNetwork::note_assumptions(const std::optional<ViTFacts>& facts) {
  const ViTConfig& c = sizes_.config;
  if (!facts)
    notes.push_back(fmt::format(
        "no config.json and no architecture given: {} heads, norm epsilon {:g} and erf gelu are "
        "assumed, as usual for {} and width {}",
        c.heads, double(c.norm_epsilon), layout(), c.width));
  else if (!facts->heads)
    notes.push_back(
        fmt::format("{} does not state the number of heads: {} assumed, as usual for width {}",
                    facts->source, c.heads, c.width));
  if (c.position_skips_prefix && !(facts && (facts->position_skips_prefix || facts->image_height)))
    notes.push_back(fmt::format(
        "the position embedding is taken to be that of {} x {} patches without other tokens",
        sizes_.stored.grid_height(), sizes_.stored.grid_width()));
  if (c.pooling == ViTConfig::Pooling::mean && !(facts && facts->pooling))
    notes.emplace_back("mean pooling assumed from fc_norm");
}

Value ViTNetwork::build(Graph& graph, int64_t batch) const {
  return build_vit(graph, sizes_.config, batch);
}

void ViTNetwork::describe(Model& model) const {
  const ViTConfig& c = sizes_.config;
  model.architecture = in_words(c);
  model.classes = c.classes;
  model.ports = {{"image", Type{{c.channels, c.image_height, c.image_width}}, Port::Role::picture}};
  Tower tower;
  tower.blocks = c.depth;
  tower.prefix_tokens = c.prefix_tokens();
  tower.rows = c.grid_height();
  tower.columns = c.grid_width();
  if (c.pooling == ViTConfig::Pooling::token) tower.readout = {0};
  if (c.distilled) tower.readout.push_back(1);
  model.places.towers = {tower};
}

NameMap ViTNetwork::names() const { return vit_name_map(layout_, sizes_.stored, source_); }

std::map<std::string, Shape> ViTNetwork::weights() const {
  Graph graph;
  build_vit(graph, sizes_.stored, 1);
  return graph.weights();
}

void ViTNetwork::fit(Weights& weights, std::vector<std::string>& said) const {
  const ViTConfig &stored = sizes_.stored, &c = sizes_.config;
  if (stored.image_height == c.image_height && stored.image_width == c.image_width) return;
  Tensor& positions = weights.tensors["embed.pos"];
  const int64_t prefix = c.position_skips_prefix ? 0 : c.prefix_tokens();
  positions = resize_positions(positions, prefix, {stored.grid_height(), stored.grid_width()},
                               {c.grid_height(), c.grid_width()}, position_kernel(layout_));
  weights.digest = weights_digest(weights.tensors);
  said.push_back(fmt::format("position embedding resampled from {} x {} to {} x {} patches",
                             stored.grid_height(), stored.grid_width(), c.grid_height(),
                             c.grid_width()));
}

std::optional<ImageSize> ViTNetwork::image() const {
  return ImageSize{sizes_.config.image_height, sizes_.config.image_width};
}

Preprocess ViTNetwork::usual_preprocess(std::string_view architecture) const {
  return whence::usual_preprocess(layout_, architecture, sizes_.config.distilled, *image());
}

Preprocess usual_preprocess(const ViTLayout& layout, std::string_view architecture, bool distilled,
                            ImageSize size) {
  Preprocess p;
  const bool deit = layout.prefix == "deit." || distilled || architecture.starts_with("deit");
  const bool clip = architecture.find("_clip_") != architecture.npos;
  p.mean = clip ? clip_mean : deit ? imagenet_mean : half;
  p.std = clip ? clip_std : deit ? imagenet_std : half;
  double kept = 1;  // the share of the resized side that the crop keeps
  switch (layout.names) {
    case ViTNames::torchvision:
      // The published weights: 256 (vit_l_16: 242) for 224; larger inputs are not cropped.
      if (size.height <= 224) kept = 224.0 / (architecture.starts_with("vit_l_16") ? 242.0 : 256.0);
      p.filter = size.height <= 224 ? Resample::bilinear : Resample::bicubic;
      p.mean = imagenet_mean, p.std = imagenet_std;
      break;
    case ViTNames::timm:
      if (size.height < 384) kept = 0.9;
      p.filter = Resample::bicubic;
      break;
    default:
      p.crop_rounding = Preprocess::CropRounding::floor;
      p.filter = deit ? Resample::bicubic : Resample::bilinear;
      if (deit) kept = 224.0 / 256.0;
  }
  const bool hub = layout.names == ViTNames::hf_v4 || layout.names == ViTNames::hf_v5;
  const bool squash = hub || size.height != size.width;
  set_resize(p, squash ? Preprocess::Fit::exact : Preprocess::Fit::short_side,
             {enlarged(size.height, kept), enlarged(size.width, kept)});
  p.crop = deit || !hub;
  if (p.crop) set_crop(p, size);
  return p;
}

Family vit_family() {
  const auto as = [](ViTNames names, const char* prefix = "") {
    return [layout = ViTLayout{names, prefix}](const Source& source) {
      return std::make_unique<ViTNetwork>(source, layout);
    };
  };
  return {.supported = "ViT and DeiT as saved by timm, Hugging Face and torchvision",
          .signatures = {
              {.pattern = "encoder.layers.encoder_layer_{i}.self_attention.in_proj_weight",
               .open = as(ViTNames::torchvision)},
              {.pattern = "vit.encoder.layer.{i}.attention.attention.query.weight",
               .open = as(ViTNames::hf_v4, "vit.")},
              {.pattern = "vit.layers.{i}.attention.q_proj.weight",
               .open = as(ViTNames::hf_v5, "vit.")},
              {.pattern = "deit.encoder.layer.{i}.attention.attention.query.weight",
               .open = as(ViTNames::hf_v4, "deit.")},
              {.pattern = "deit.layers.{i}.attention.q_proj.weight",
               .open = as(ViTNames::hf_v5, "deit.")},
              {.pattern = "blocks.{i}.attn.qkv.weight", .open = as(ViTNames::timm)},
              {.pattern = "embeddings.patch_embeddings.projection.weight",
               .refused = "a Hugging Face vision transformer without a classifier"},
          }};
}

}  // namespace whence
