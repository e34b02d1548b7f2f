#include "models/load.h"

#include "models/model_folder.h"
#include "models/vit_config.h"
#include "runtime/check.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

std::optional<ViTFacts> known_facts(const Companions& companions, const std::string& arch) {
  if (!arch.empty()) return vit_facts_from_name(arch);
  if (const auto config = companions.config()) return vit_facts_from_config(*config);
  return {};
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, const ViTLayout& layout, const LoadOptions& options)
      : options_(options),
        checkpoint_(checkpoint),
        layout_(layout),
        companions_(checkpoint, options),
        facts_(known_facts(companions_, options.arch)) {}

  LoadedViT run() {
    sizes_ = resolve_vit_sizes(checkpoint_, layout_, facts_, options_.image_size);
    loaded_.config = sizes_.config;
    loaded_.layout = describe(layout_);
    note_assumptions();
    read_weights();
    read_preprocess();
    loaded_.labels = companions_.labels(loaded_.config.classes, loaded_.account.notes);
    return std::move(loaded_);
  }

 private:
  template <class... A>
  void note(fmt::format_string<A...> text, A&&... a) {
    loaded_.account.notes.push_back(fmt::format(text, std::forward<A>(a)...));
  }

  void note_assumptions() {
    const ViTConfig& c = sizes_.config;
    if (!checkpoint_.stripped().empty())
      note("prefix '{}' removed from every name", printable(checkpoint_.stripped()));
    if (!facts_)
      note(
          "no config.json and no architecture given: {} heads, norm epsilon {:g} and erf gelu are "
          "assumed, as usual for {} and width {}",
          c.heads, double(c.norm_epsilon), loaded_.layout, c.width);
    else if (!facts_->heads)
      note("{} does not state the number of heads: {} assumed, as usual for width {}",
           facts_->source, c.heads, c.width);
    if (c.position_skips_prefix &&
        !(facts_ && (facts_->position_skips_prefix || facts_->image_height)))
      note("the position embedding is taken to be that of {} x {} patches without other tokens",
           sizes_.stored.grid_height(), sizes_.stored.grid_width());
    if (c.pooling == ViTConfig::Pooling::mean && !(facts_ && facts_->pooling))
      note("mean pooling assumed from fc_norm");
  }

  void read_weights() {
    const ViTConfig& stored = sizes_.stored;
    const std::string source = facts_ ? facts_->source : "the other tensors";
    Account& account = loaded_.account;
    loaded_.weights = bind_weights(checkpoint_, required_vit_weights(stored),
                                   vit_name_map(layout_, stored, source),
                                   {options_.allow_unexpected, options_.allow_nonfinite}, account);
    const ViTConfig& c = loaded_.config;
    if (stored.image_height == c.image_height && stored.image_width == c.image_width) return;
    Tensor& positions = loaded_.weights.tensors["embed.pos"];
    const int64_t prefix = c.position_skips_prefix ? 0 : c.prefix_tokens();
    positions = resize_positions(positions, prefix, {stored.grid_height(), stored.grid_width()},
                                 {c.grid_height(), c.grid_width()}, position_kernel(layout_));
    loaded_.weights.digest = weights_digest(loaded_.weights.tensors);
    note("position embedding resampled from {} x {} to {} x {} patches", stored.grid_height(),
         stored.grid_width(), c.grid_height(), c.grid_width());
  }

  void read_preprocess() {
    const ImageSize size{loaded_.config.image_height, loaded_.config.image_width};
    const auto stated = companions_.preprocess(size);
    if (!stated)
      note("preprocessing is not stated: that of published {} models is assumed", loaded_.layout);
    loaded_.preprocess = stated ? *stated
                                : usual_preprocess(layout_, companions_.architecture(),
                                                   sizes_.config.distilled, size);
    if (options_.image_size) loaded_.preprocess = scaled(loaded_.preprocess, size);
    check_preprocess(loaded_.preprocess, size, checkpoint_.name());
  }

  const LoadOptions& options_;
  const Checkpoint& checkpoint_;
  const ViTLayout& layout_;
  Companions companions_;
  std::optional<ViTFacts> facts_;
  ViTSizes sizes_;
  LoadedViT loaded_;
};

}  // namespace

LoadedViT load_vit(const Checkpoint& checkpoint, const ViTLayout& layout,
                   const LoadOptions& options) {
  return Loader(checkpoint, layout, options).run();
}

LoadedViT load_vit(const fs::path& path, const LoadOptions& options) {
  Checkpoint checkpoint = Checkpoint::open(path);
  const ViTLayout layout = detect_vit_layout(checkpoint);
  return load_vit(checkpoint, layout, options);
}

}  // namespace whence
