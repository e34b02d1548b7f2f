// Name maps: how the tensors of a checkpoint become the weights of a graph. A map is a table;
// binding accounts for every tensor on both sides and reports everything that does not fit in one
// message.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/checkpoint.h"
#include "whence/weights.h"

namespace whence {

// Patterns hold at most one `{i}` (a number without leading zeros) and one `{rest}` (any text, not
// empty); the canonical name may repeat them.
struct NameRule {
  std::string pattern = {};    // name in the checkpoint
  std::string canonical = {};  // the graph's name; empty for a tensor that is skipped
  std::string skip = {};       // why it is skipped
  // The canonical tensor is part `part` of `parts` equal parts of the stored one's rows.
  int part = 0, parts = 1;
  // The shape in the checkpoint where it is not the canonical one (times `parts`): same elements in
  // the same order.
  std::optional<Shape> stored = {};
};

struct NameMap {
  std::vector<NameRule> rules;  // of several patterns that match, the first counts
  // A tensor without a rule lies inside the model if its name begins with one of these.
  std::vector<std::string> layers;
  // Whose sizes the required shapes are, for messages: "config.json".
  std::string source;
};

struct Account {
  struct Bound {
    std::string canonical, stored;
    StoredDtype dtype = StoredDtype::f32;
    std::vector<int64_t> shape;  // in the checkpoint
  };
  struct Skipped {
    std::string stored, reason;
  };
  std::string checkpoint;        // its path
  std::vector<Bound> bound;      // by canonical name
  std::vector<Skipped> skipped;  // by stored name
  std::vector<std::string> notes;
  int64_t parameters = 0;  // elements of all bound weights
};

struct BindOptions {
  bool allow_unexpected = false;  // tensors inside layers of the model may be left unused
  bool allow_nonfinite = false;
};

// Binds every tensor of `required` exactly once; every tensor of the checkpoint is bound or skipped
// with a reason. Shapes are compared before any tensor is read.
Weights bind_weights(const Checkpoint& checkpoint, const std::map<std::string, Shape>& required,
                     const NameMap& map, const BindOptions& options, Account& account);

// 16 hex digits that depend on every name, shape and bit.
std::string weights_digest(const std::map<std::string, Tensor>& tensors);

// --- pieces, for the maps' own use and for writing checkpoints
// ------------------------------------

struct Captured {
  std::string i, rest;
};
// Whether the whole of `name` fits `pattern`.
std::optional<Captured> match_pattern(std::string_view pattern, std::string_view name);
std::string fill_pattern(std::string_view pattern, const Captured& captured);
// The rule that gives `canonical`, with what its pattern captures; null if no rule does. The rule
// whose stored name `exists` says yes to is preferred.
struct RuleFor {
  const NameRule* rule = nullptr;
  std::string stored;
};
RuleFor rule_for(const NameMap& map, const std::string& canonical,
                 const Checkpoint* checkpoint = nullptr);
// The shape that a tensor bound by `rule` has in the checkpoint.
Shape stored_shape(const NameRule& rule, const Shape& canonical);

}  // namespace whence
