// From a checkpoint to a model: one loader for all families.
#pragma once

#include <memory>

#include "models/family.h"

namespace whence {

struct Loaded {
  Model model;      // but for its name
  Account account;  // what became of every tensor, and what was assumed
  std::shared_ptr<const Network> network;
};

// What a network decides of a model: all but its weights and what stands beside a checkpoint.
Model model_of(std::shared_ptr<const Network> network);

// Reads what stands beside the checkpoint, if it is that of a folder.
Loaded load_checkpoint(Checkpoint checkpoint, const LoadOptions& options = {});

}  // namespace whence
