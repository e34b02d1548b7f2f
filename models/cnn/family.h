// Convolutional classifiers as a family (models/family.h).
#pragma once

#include "models/cnn/config.h"
#include "models/family.h"

namespace whence {

class CnnNetwork final : public Network {
 public:
  CnnNetwork(const Source& source, CnnLayout layout);
  explicit CnnNetwork(CnnConfig config) : config_(std::move(config)) {}  // of no checkpoint

  const CnnConfig& config() const { return config_; }

  Value build(Graph& graph, int64_t batch) const override;
  void describe(Model& model) const override;
  std::string layout() const override { return whence::describe(layout_); }
  NameMap names() const override;
  std::optional<ImageSize> image() const override;
  Preprocess usual_preprocess(std::string_view architecture) const override;
  void offer_image(ImageSize given) override;

 private:
  CnnLayout layout_{};
  CnnConfig config_;
  std::string source_;  // of the sizes, for messages
  std::string checkpoint_;
  bool image_known_ = true;
};

}  // namespace whence
