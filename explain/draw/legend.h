// The colour bar under an overlay.
#pragma once

#include "whence/image.h"

namespace whence {

// Extends `image` downwards by a bar of all colours with `low` and `high` at its ends. Labels
// shrink with the image: numbers with words, numbers alone, and below 84 pixels of width the bar
// alone.
void append_legend(Image& image, double low, double high);

}  // namespace whence
