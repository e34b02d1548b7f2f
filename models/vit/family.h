// Vision transformers as a family (models/family.h).
#pragma once

#include "models/family.h"
#include "models/vit/config.h"

namespace whence {

class ViTNetwork final : public Network {
 public:
  ViTNetwork(const Source& source, const ViTLayout& layout);
  explicit ViTNetwork(const ViTConfig& config) : sizes_{config, config} {}  // of no checkpoint

  const ViTConfig& config() const { return sizes_.config; }

  Value build(Graph& graph, int64_t batch) const override;
  void describe(Model& model) const override;
  std::string layout() const override { return whence::describe(layout_); }
  NameMap names() const override;
  std::map<std::string, Shape> weights() const override;
  void fit(Weights& weights, std::vector<std::string>& notes) const override;
  std::optional<ImageSize> image() const override;
  Preprocess usual_preprocess(std::string_view architecture) const override;

 private:
  void note_assumptions(const std::optional<ViTFacts>& facts);

  ViTLayout layout_;
  std::string source_;  // of the sizes, for messages
  ViTSizes sizes_;
};

}  // namespace whence
