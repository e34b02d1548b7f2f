// A family: one kind of network and all that is known about it, in a folder of its own: how its
// checkpoints are recognised, what sizes they show, what their tensors are called, how the network
// is built, and where methods find things in it. One loader (load.h) reads all families; the list
// of them is in families.cpp.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/companions.h"
#include "weights/checkpoint.h"
#include "weights/name_map.h"
#include "whence/graph.h"
#include "whence/image.h"
#include "whence/model.h"

namespace whence {

// What a family may ask about a model: its tensors, the files beside them, what the caller said.
struct Source {
  const Checkpoint& checkpoint;
  const Companions& companions;
  const LoadOptions& options;
};

// One network of a family, every size of which is known.
class Network {
 public:
  virtual ~Network() = default;

  virtual Value build(Graph& graph, int64_t batch) const = 0;  // returns the logits
  // Fills what the family decides of a model: architecture, classes, ports and places.
  virtual void describe(Model& model) const = 0;

  // The checkpoint: who saved what, in words ("timm ViT"); what its tensors are called; and the
  // weights that must be in it, which are those of the graph unless `fit` makes them so.
  virtual std::string layout() const = 0;
  virtual NameMap names() const = 0;
  virtual std::map<std::string, Shape> weights() const;
  virtual void fit(Weights&, std::vector<std::string>& /*notes*/) const {}

  // The picture, for networks that read one: its size; the recipe of published models of this
  // layout, where none is stated; and what becomes of the size that a recipe gives: a network that
  // takes pictures of any size, and was not told which, takes that.
  virtual std::optional<ImageSize> image() const { return {}; }
  virtual Preprocess usual_preprocess(std::string_view /*architecture*/) const { return {}; }
  virtual void offer_image(ImageSize) {}

  std::vector<std::string> notes;  // what had to be assumed
};

// A key by which checkpoints are recognised. Names that two networks share do not tell them apart:
// `open` then decides by what is stated (config.json, the architecture's name), and notes what it
// assumes where nothing is.
struct Signature {
  const char* pattern;            // of the key (weights/name_map.h)
  const char* also = nullptr;     // of a second key that must be there
  const char* refused = nullptr;  // what it is, where it cannot be read: "a Swin transformer"
  std::function<std::unique_ptr<Network>(const Source&)> open = {};  // where it can
};

struct Family {
  const char* supported = nullptr;  // in words, for messages; null where nothing of it can be read
  std::vector<Signature> signatures;
};

// All families, in the order in which a checkpoint is compared with them: the first signature
// decides.
const std::vector<Family>& families();

// Where no signature fits, a wrapper prefix that every key has is removed and the keys are tried
// again. Checkpoints of other architectures are unsupported errors that name them.
const Signature& recognise(Checkpoint& checkpoint);

}  // namespace whence
