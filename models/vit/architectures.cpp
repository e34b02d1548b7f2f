// Architectures by the names that timm and torchvision give them, and the meeting of such facts
// with the shapes of a checkpoint.
#include <algorithm>
#include <charconv>
#include <vector>

#include "models/vit/blocks.h"
#include "models/vit/config.h"
#include "runtime/check.h"

namespace whence {
namespace {

struct Size {
  std::string_view name;
  char letter;  // of torchvision
  int64_t width, depth, heads, mlp;
};
constexpr Size named_sizes[] = {
    {"tiny", 't', 192, 12, 3, 768},     {"small", 's', 384, 12, 6, 1536},
    {"medium", 'm', 512, 12, 8, 2048},  {"base", 'b', 768, 12, 12, 3072},
    {"large", 'l', 1024, 24, 16, 4096}, {"huge", 'h', 1280, 32, 16, 5120},
};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

std::optional<int64_t> number(std::string_view text) {
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || n < 1) return {};
  return n;
}

std::optional<int64_t> number_after(std::string_view text, std::string_view word) {
  return text.starts_with(word) ? number(text.substr(word.size())) : std::nullopt;
}

[[noreturn]] void unknown(std::string_view name, std::string_view because) {
  fail(ErrorCode::usage,
       "architecture '{}' is not known{}; known are vit_, deit_ and deit3_ with tiny, small, "
       "medium, "
       "base, large or huge and a patch size (vit_base_patch16_224, deit_tiny_patch16_224), and "
       "torchvision's vit_b_16, vit_b_32, vit_l_16, vit_l_32, vit_h_14",
       printable(name), because);
}

void set_size(const Size& size, ViTFacts& facts) {
  facts.width = size.width;
  facts.depth = size.depth;
  facts.heads = size.heads;
  facts.mlp = size.mlp;
}

// One word of a timm name after the family and the size.
bool read_word(std::string_view word, ViTFacts& facts, bool& clip) {
  if (const auto patch = number_after(word, "patch")) {
    facts.patch = patch;
  } else if (const auto registers = number_after(word, "reg")) {
    facts.registers = registers;
  } else if (const auto side = number(word)) {
    facts.image_height = facts.image_width = side;
  } else if (word == "clip") {
    clip = true;
  } else if (word == "quickgelu") {
    facts.activation = "gelu_quick";
  } else if (word == "gap") {
    facts.pooling = ViTConfig::Pooling::mean;
  } else if (const ViTBlock* block = word.empty() ? nullptr : find_vit_block(word)) {
    facts.block = block->word;
  } else {
    return word == "distilled" || word == "dinov2" || word == "in21k";
  }
  return true;
}

// Widths whose number of heads is a convention that the published models share.
std::optional<int64_t> usual_heads(int64_t width) {
  for (const Size& size : named_sizes)
    if (size.width == width) return size.heads;
  return {};
}

void apply(const ViTFacts& facts, ViTConfig& c) {
  const auto set = [](auto& field, const auto& fact) {
    if (fact) field = static_cast<std::decay_t<decltype(field)>>(*fact);
  };
  set(c.patch, facts.patch);
  set(c.channels, facts.channels);
  set(c.width, facts.width);
  set(c.depth, facts.depth);
  set(c.heads, facts.heads);
  set(c.mlp, facts.mlp);
  set(c.classes, facts.classes);
  set(c.registers, facts.registers);
  set(c.norm_epsilon, facts.norm_epsilon);
  set(c.activation, facts.activation);
  set(c.block, facts.block);
}

int64_t positions_of(const Checkpoint& checkpoint, const ViTLayout& layout, const ViTConfig& c) {
  const NameMap map = vit_name_map(layout, c, "");
  const CheckpointTensor* t = checkpoint.find(rule_for(map, "embed.pos", &checkpoint).stored);
  return t && t->shape.size() == 3 ? t->shape[1] : 0;
}

// The grid of the stored position embedding. Sizes that a source states come first, where they fit;
// then the square that `c` already holds. timm resamples while loading, so its stated size may
// differ from the stored grid; elsewhere the difference is left for binding to report.
void place_grid(const Checkpoint& checkpoint, const ViTLayout& layout, const ViTFacts& facts,
                ViTConfig& c) {
  const int64_t rows = positions_of(checkpoint, layout, c);
  if (facts.image_height && facts.image_width && c.patch > 0) {
    const int64_t grid = (*facts.image_height / c.patch) * (*facts.image_width / c.patch);
    const bool whole = rows == grid + c.prefix_tokens(), patches_only = rows == grid;
    if (whole || patches_only || layout.names != ViTNames::timm || c.image_height == 0) {
      c.image_height = *facts.image_height;
      c.image_width = *facts.image_width;
      c.position_skips_prefix = !whole && patches_only && c.prefix_tokens() > 0;
    }
  }
  if (facts.position_skips_prefix && c.prefix_tokens() > 0)
    c.position_skips_prefix = *facts.position_skips_prefix;
  if (c.image_height == 0)
    fail(ErrorCode::shape,
         "{}: the position embedding has {} rows, which is no square of patches with {} more "
         "tokens; give a config.json that states the image size",
         checkpoint.name(), rows, c.prefix_tokens());
}

void settle_heads(const Checkpoint& checkpoint, const ViTFacts& facts, ViTConfig& c) {
  if (facts.heads) return;
  const auto heads = usual_heads(c.width);
  if (!heads)
    fail(
        ErrorCode::usage,
        "{}: the number of attention heads is not in the tensors, and a width of {} is not a usual "
        "one; give --arch NAME or a config.json with num_attention_heads",
        checkpoint.name(), c.width);
  c.heads = *heads;
}

void settle_pooling(const Checkpoint& checkpoint, const ViTFacts& facts, ViTConfig& c) {
  if (!facts.pooling || *facts.pooling == c.pooling) return;
  if (*facts.pooling == ViTConfig::Pooling::mean)
    fail(ErrorCode::unsupported,
         "{}: {} asks for mean pooling, but the checkpoint has no fc_norm; a norm before the mean "
         "is not supported",
         checkpoint.name(), facts.source);
  c.pooling = *facts.pooling;
}

}  // namespace

ViTFacts vit_facts_from_name(std::string_view architecture) {
  ViTFacts facts;
  facts.source = printable(architecture);
  const std::string_view name = architecture.substr(0, architecture.find('.'));
  const std::vector<std::string_view> words = split(name, '_');
  const std::string_view family = words[0];
  if (words.size() < 2 || (family != "vit" && family != "deit" && family != "deit3"))
    unknown(architecture, "");
  const auto named = [&](const Size& s) {
    return words[1] == s.name || (words[1].size() == 1 && words[1][0] == s.letter);
  };
  const auto size = std::find_if(std::begin(named_sizes), std::end(named_sizes), named);
  if (size == std::end(named_sizes)) unknown(architecture, "");
  set_size(*size, facts);
  facts.norm_epsilon = 1e-6;
  facts.activation = "gelu";
  if (words[1].size() == 1) {  // torchvision: vit_b_16
    const auto patch = words.size() == 3 ? number(words[2]) : std::nullopt;
    if (!patch || family != "vit") unknown(architecture, "");
    facts.patch = patch;
    return facts;
  }
  bool clip = false;
  for (size_t i = 2; i < words.size(); ++i)
    if (!read_word(words[i], facts, clip))
      unknown(architecture, fmt::format(" ('{}' is not)", printable(words[i])));
  if (!facts.patch) unknown(architecture, " (it names no patch size)");
  if (clip) facts.norm_epsilon = 1e-5;
  return facts;
}

ViTSizes resolve_vit_sizes(const Checkpoint& checkpoint, const ViTLayout& layout,
                           const std::optional<ViTFacts>& known,
                           const std::optional<ImageSize>& image_size) {
  const ViTFacts facts = known.value_or(ViTFacts{});
  ViTConfig c = vit_config_of_shapes(checkpoint, layout);
  const bool hugging_face = layout.names == ViTNames::hf_v4 || layout.names == ViTNames::hf_v5;
  c.norm_epsilon = real(hugging_face ? 1e-12 : 1e-6);
  if (c.pre_norm && !facts.activation)
    fail(ErrorCode::usage,
         "{}: a CLIP-style transformer, whose activation and epsilon are not in the tensors; give "
         "--arch NAME (vit_base_patch16_clip_224, vit_base_patch16_clip_quickgelu_224) or a "
         "config.json",
         checkpoint.name());
  settle_heads(checkpoint, facts, c);
  settle_pooling(checkpoint, facts, c);
  apply(facts, c);
  place_grid(checkpoint, layout, facts, c);
  ViTSizes sizes{c, c};
  if (layout.names == ViTNames::timm && facts.image_height && facts.image_width) {
    sizes.config.image_height = *facts.image_height;
    sizes.config.image_width = *facts.image_width;
  }
  if (image_size) {
    sizes.config.image_height = image_size->height;
    sizes.config.image_width = image_size->width;
  }
  check_vit_config(sizes.stored, checkpoint.name());
  check_vit_config(sizes.config, checkpoint.name());
  return sizes;
}

}  // namespace whence
