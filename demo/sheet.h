// A contact sheet: many scenes on one picture, to look at.
#pragma once

#include <cstdint>

#include "whence/image.h"

namespace whence::demo {

// Eight scenes a row, enlarged `zoom` times: two rows of single things (a class a column), two of
// pairs, one of triples, and the first pairs once more with the outlines of their masks in white.
Image contact_sheet(uint64_t seed, int size, int zoom);

}  // namespace whence::demo
