// A small random Vision Transformer and a convolutional network for the same images, which are not
// square, and requests that run every method on them quickly.
#pragma once

#include <memory>

#include "models/cnn/cnn.h"
#include "models/vit/vit.h"
#include "tests/checkpoints/checkpoints.h"
#include "whence/explain.h"

namespace whence {

inline std::shared_ptr<const Model> tiny_model(int depth = 5) {
  ViTConfig c;
  c.image_height = 12;
  c.image_width = 20;
  c.patch = 4;
  c.width = 18;
  c.depth = depth;
  c.heads = 3;
  c.mlp = 28;
  c.classes = 6;
  auto m = std::make_shared<Model>(random_model(c, 5));
  m->name = "tiny";
  return m;
}

// features.last is [6, 10, 6].
inline std::shared_ptr<Model> tiny_cnn() {
  VggConfig c;
  c.image_height = 12;
  c.image_width = 20;
  c.classes = 6;
  c.layers = {{4}, {5, 6}};
  c.batch_norm = true;
  c.pooled = 2;
  c.hidden = {8, 8};
  auto m = std::make_shared<Model>(random_model(c, 5));
  m->name = "tiny-cnn";
  return m;
}

// Few steps, where a method has them.
inline Request request_for(const std::string& id) {
  Request r;
  r.method = id;
  for (const OptionInfo& o : method(id).options) {
    if (o.name == "steps") r.options["steps"] = "6";
    if (o.name == "n_samples") r.options["n_samples"] = "7";
    if (o.name == "num_random_trials") r.options["num_random_trials"] = "3";
  }
  if (method(id).takes_models) {
    r.models = {tiny_cnn()};
    r.options["method"] = "grad-cam";
  }
  r.targets = {Target{}, Target{2, -1}, Target{1, 4}};
  r.seed = 9;
  return r;
}

}  // namespace whence
