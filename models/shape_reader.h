// What the shapes of a checkpoint's tensors say, asked by canonical names, with the checks that
// make the numbers safe to use.
#pragma once

#include <string>
#include <vector>

#include "runtime/check.h"
#include "weights/checkpoint.h"
#include "weights/name_map.h"

namespace whence {

class ShapeReader {
 public:
  ShapeReader(const Checkpoint& checkpoint, const NameMap& map)
      : checkpoint_(checkpoint), map_(map) {}

  const CheckpointTensor* find(const std::string& canonical) const {
    return checkpoint_.find(rule_for(map_, canonical, &checkpoint_).stored);
  }
  bool has(const std::string& canonical) const { return find(canonical) != nullptr; }

  // Throws unless the tensor is there and has `rank` dimensions.
  const std::vector<int64_t>& shape(const std::string& canonical, size_t rank) const {
    const CheckpointTensor* t = find(canonical);
    const std::string stored = rule_for(map_, canonical, &checkpoint_).stored;
    if (!t) fail(ErrorCode::keys, "{}: tensor '{}' is missing", checkpoint_.name(), stored);
    if (t->shape.size() != rank)
      fail_shape("{}: '{}' is {} in the checkpoint, {} dimensions are expected", checkpoint_.name(),
                 stored, shape_text(t->shape), rank);
    return t->shape;
  }

  // One more than the largest {i} of the tensors whose canonical pattern begins with `prefix`,
  // which ends in "{i}."; 0 without any.
  int64_t count(const std::string& prefix) const {
    int64_t n = 0;
    for (const NameRule& rule : map_.rules) {
      if (!rule.canonical.starts_with(prefix)) continue;
      for (const CheckpointTensor& t : checkpoint_.tensors())
        if (const auto m = match_pattern(rule.pattern, t.name))
          n = std::max<int64_t>(n, std::stoll(m->i) + 1);
    }
    constexpr int64_t most = 1000;
    if (n > most)
      fail(ErrorCode::limit, "{}: {} layers, the limit is {}", checkpoint_.name(), n, most);
    return n;
  }

 private:
  const Checkpoint& checkpoint_;
  const NameMap& map_;
};

}  // namespace whence
