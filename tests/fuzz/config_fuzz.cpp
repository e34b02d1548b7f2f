// Text as config.json and as the files beside it. Whatever is accepted leads to finite sizes.
#include <cmath>
#include <cstring>

#include "models/companions.h"
#include "models/vit/config.h"
#include "tests/checkpoints/checkpoints.h"
#include "whence/error.h"

namespace {

using namespace whence;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

template <class F>
void attempt(F f) {
  try {
    f();
  } catch (const Error& e) {
    require(std::strchr(e.what(), '\n') == nullptr);
  }
}

// A checkpoint whose sizes the configuration may contradict.
const std::vector<uint8_t>& tiny_checkpoint() {
  static const std::vector<uint8_t> bytes = [] {
    ViTConfig c;
    c.image_height = c.image_width = 8;
    c.patch = 4, c.width = 8, c.depth = 1, c.heads = 2, c.mlp = 8, c.classes = 3;
    const ViTLayout layout{ViTNames::timm, ""};
    return serialize_safetensors(vit_checkpoint_tensors(c, random_vit_weights(c, 1), layout));
  }();
  return bytes;
}

void check_sizes(const ViTFacts& facts) {
  Checkpoint checkpoint = Checkpoint::of(SafetensorsFile::from_bytes(tiny_checkpoint(), "tiny"));
  const ViTLayout layout{ViTNames::timm, ""};
  const ViTConfig c = resolve_vit_sizes(checkpoint, layout, facts, {}).config;
  Graph graph;  // refuses sizes that no tensor could have
  build_vit(graph, c, 1);
  int64_t parameters = 0;
  for (const auto& [name, shape] : graph.weights()) parameters += shape.count();
  require(parameters > 0 && parameters <= int64_t(1) << 41);
  require(c.width % c.heads == 0 && c.image_height % c.patch == 0 && c.tokens() > 0);
  require(c.norm_epsilon > 0 && c.norm_epsilon < 1);
}

void check_recipe(const Preprocess& p) {
  for (int side : {p.resize_height, p.resize_width, p.crop_height, p.crop_width})
    require(side >= 1 && side <= 1'700'000);
  for (size_t k = 0; k < 3; ++k) require(std::isfinite(p.mean[k]) && p.std[k] > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  attempt([&] {
    const Json document = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    const JsonObject config(document, "fuzz");
    attempt([&] { check_sizes(vit_facts_from_config(config)); });
    attempt([&] { check_recipe(preprocess_from_hugging_face(config)); });
    attempt([&] { check_recipe(preprocess_from_timm(config, {224, 224})); });
    attempt([&] {
      const auto labels = labels_from_config(config, 3);
      require(!labels || labels->size() == 3);
    });
  });
  return 0;
}
