// How often a model names the things in scenes right.
#pragma once

#include <cstdint>

#include "whence/model.h"

namespace whence::demo {

// Seeds of scenes for measurements, which no training run uses.
inline constexpr uint64_t unseen_singles = 0x5eed0001, unseen_pairs = 0x5eed0002;

struct Accuracy {
  double single = 0;  // share of one-thing scenes whose thing has the largest logit
  double pairs = 0;   // share of two-thing scenes whose two things have the two largest logits
};
// On `count` scenes of each sort, none of which training sees.
Accuracy measure_accuracy(const Model& model, int64_t count);

}  // namespace whence::demo
