// Which program wrote a checkpoint of which architecture, by the names of its tensors.
#pragma once

#include <variant>

#include "models/cnn_layouts.h"
#include "models/vit_layouts.h"

namespace whence {

using ModelLayout = std::variant<ViTLayout, CnnLayout>;

// Where no layout fits, a wrapper prefix that every key has is removed and the keys are tried
// again. Checkpoints of other architectures are unsupported errors that name them.
ModelLayout detect_layout(Checkpoint& checkpoint);

}  // namespace whence
