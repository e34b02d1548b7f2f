#include "models/load.h"

#include "io/files.h"
#include "models/model_folder.h"
#include "runtime/check.h"

namespace whence {

namespace fs = std::filesystem;

namespace {

// A companion of the checkpoint, or nothing where the folder lacks it.
std::optional<Json> companion(const Checkpoint& checkpoint, const char* name) {
  std::error_code error;
  if (!checkpoint.folder() || !fs::exists(*checkpoint.folder() / name, error)) return {};
  return read_json(*checkpoint.folder() / name);
}
std::string companion_path(const Checkpoint& checkpoint, const char* name) {
  return path_text(*checkpoint.folder() / name);
}

std::optional<ViTFacts> known_facts(const Checkpoint& checkpoint, const std::optional<Json>& config,
                                    const std::string& arch) {
  if (!arch.empty()) return vit_facts_from_name(arch);
  if (!config) return {};
  return vit_facts_from_config(JsonObject(*config, companion_path(checkpoint, "config.json")));
}

class Loader {
 public:
  Loader(const fs::path& path, const LoadOptions& options)
      : options_(options), checkpoint_(Checkpoint::open(path)) {}

  LoadedViT run() {
    layout_ = detect_vit_layout(checkpoint_);
    config_ = companion(checkpoint_, "config.json");
    facts_ = known_facts(checkpoint_, config_, options_.arch);
    sizes_ = resolve_vit_sizes(checkpoint_, layout_, facts_, options_.image_size);
    loaded_.config = sizes_.config;
    loaded_.layout = describe(layout_);
    note_assumptions();
    read_weights();
    read_preprocess();
    read_class_names();
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
    loaded_.preprocess = stated_preprocess(size);
    if (options_.image_size) loaded_.preprocess = scaled(loaded_.preprocess, size);
    const auto given = output_size(loaded_.preprocess);
    if (given && (given->height != size.height || given->width != size.width))
      fail_shape("{}: preprocessing gives images of {} x {}, the model takes {} x {}",
                 checkpoint_.name(), given->height, given->width, size.height, size.width);
  }

  Preprocess stated_preprocess(ImageSize size) {
    for (const char* name : {"preprocessor_config.json", "processor_config.json"}) {
      const auto stated = companion(checkpoint_, name);
      if (!stated) continue;
      const JsonObject top(*stated, companion_path(checkpoint_, name));
      return preprocess_from_hugging_face(top.object("image_processor").value_or(top));
    }
    std::string architecture = options_.arch;
    if (config_) {
      const JsonObject top(*config_, companion_path(checkpoint_, "config.json"));
      if (architecture.empty()) architecture = top.text("architecture").value_or("");
      // Older files have the keys of pretrained_cfg at the top.
      const auto pretrained = top.object("pretrained_cfg");
      if (pretrained || (top.has("architecture") && top.has("mean")))
        return preprocess_from_timm(pretrained.value_or(top), size);
    }
    const Preprocess usual = usual_preprocess(layout_, architecture, sizes_.config.distilled, size);
    note("preprocessing is not stated: that of published {} models is assumed", loaded_.layout);
    return usual;
  }

  void read_class_names() {
    const int64_t classes = loaded_.config.classes;
    if (!options_.labels.empty()) {
      loaded_.labels = read_labels(options_.labels, classes);
      return;
    }
    std::optional<std::vector<std::string>> labels;
    if (config_)
      labels = labels_from_config(JsonObject(*config_, companion_path(checkpoint_, "config.json")),
                                  classes);
    if (!labels) note("class names are not stated: classes are called by their index");
    loaded_.labels = labels ? std::move(*labels) : numbered_labels(classes);
  }

  const LoadOptions& options_;
  Checkpoint checkpoint_;
  ViTLayout layout_;
  std::optional<Json> config_;
  std::optional<ViTFacts> facts_;
  ViTSizes sizes_;
  LoadedViT loaded_;
};

}  // namespace

LoadedViT load_vit(const fs::path& path, const LoadOptions& options) {
  return Loader(path, options).run();
}

}  // namespace whence
