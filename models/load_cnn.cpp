// Loading convolutional classifiers: shapes decide nearly everything, a configuration confirms it.
#include "models/cnn_config.h"
#include "models/load.h"
#include "models/model_folder.h"
#include "runtime/check.h"

namespace whence {
namespace {

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, CnnLayout layout, const LoadOptions& options)
      : options_(options),
        checkpoint_(checkpoint),
        layout_(layout),
        companions_(checkpoint, options) {}

  LoadedCnn run() {
    if (!options_.arch.empty())
      facts_ = cnn_facts_from_name(options_.arch);
    else if (const auto config = companions_.config())
      facts_ = cnn_facts_from_config(*config);
    loaded_.config = resolve_cnn_config(checkpoint_, layout_, facts_, options_.image_size);
    loaded_.layout = describe(layout_);
    if (!checkpoint_.stripped().empty())
      note("prefix '{}' removed from every name", printable(checkpoint_.stripped()));
    if (layout_ == CnnLayout::resnet_hub && !(facts_ && facts_->resnet))
      note("where the layers stride is not stated: the usual places are assumed");
    read_preprocess();
    check_cnn_config(loaded_.config, checkpoint_.name());
    loaded_.weights = bind_weights(
        checkpoint_, required_cnn_weights(loaded_.config),
        cnn_name_map(layout_, loaded_.config, facts_ ? facts_->source : "the other tensors"),
        {options_.allow_unexpected, options_.allow_nonfinite}, loaded_.account);
    loaded_.labels = companions_.labels(sizes().classes, loaded_.account.notes);
    return std::move(loaded_);
  }

 private:
  template <class... A>
  void note(fmt::format_string<A...> text, A&&... a) {
    loaded_.account.notes.push_back(fmt::format(text, std::forward<A>(a)...));
  }

  CnnSizes& sizes() { return sizes_of(loaded_.config); }

  // The network takes images of any size: where nothing else states one, preprocessing does.
  void read_preprocess() {
    const bool size_known = options_.image_size || (facts_ && facts_->image_height);
    ImageSize size{sizes().image_height, sizes().image_width};
    const auto stated = companions_.preprocess(size);
    if (!stated)
      note("preprocessing is not stated: that of published {} models is assumed", loaded_.layout);
    loaded_.preprocess = stated ? *stated : usual_preprocess(layout_, size);
    if (options_.image_size) loaded_.preprocess = scaled(loaded_.preprocess, size);
    if (const auto given = output_size(loaded_.preprocess); given && !size_known) size = *given;
    sizes().image_height = size.height;
    sizes().image_width = size.width;
    check_preprocess(loaded_.preprocess, size, checkpoint_.name());
  }

  const LoadOptions& options_;
  const Checkpoint& checkpoint_;
  CnnLayout layout_;
  Companions companions_;
  std::optional<CnnFacts> facts_;
  LoadedCnn loaded_;
};

}  // namespace

LoadedCnn load_cnn(const Checkpoint& checkpoint, CnnLayout layout, const LoadOptions& options) {
  return Loader(checkpoint, layout, options).run();
}

LoadedCnn load_cnn(const std::filesystem::path& path, const LoadOptions& options) {
  Checkpoint checkpoint = Checkpoint::open(path);
  const ModelLayout layout = detect_layout(checkpoint);
  if (!std::holds_alternative<CnnLayout>(layout))
    fail(ErrorCode::unsupported, "{}: this is a vision transformer, not a convolutional network",
         checkpoint.name());
  return load_cnn(checkpoint, std::get<CnnLayout>(layout), options);
}

}  // namespace whence
