// Fills a name map, tensor by tensor and layer by layer.
#pragma once

#include <string>

#include "weights/name_map.h"

namespace whence {

class MapWriter {
 public:
  explicit MapWriter(NameMap& map) : map_(map) {}
  void tensor(const std::string& pattern, const std::string& canonical) {
    map_.rules.push_back({.pattern = pattern, .canonical = canonical});
  }
  void layer(const std::string& pattern, const std::string& canonical) {
    tensor(pattern + ".weight", canonical + ".weight");
    tensor(pattern + ".bias", canonical + ".bias");
  }
  void batch_norm(const std::string& pattern, const std::string& canonical) {
    layer(pattern, canonical);
    tensor(pattern + ".running_mean", canonical + ".mean");
    tensor(pattern + ".running_var", canonical + ".variance");
  }
  void rule(NameRule r) { map_.rules.push_back(std::move(r)); }
  void skip(const std::string& pattern, const std::string& reason) {
    map_.rules.push_back({.pattern = pattern, .skip = reason});
  }

 private:
  NameMap& map_;
};

}  // namespace whence
