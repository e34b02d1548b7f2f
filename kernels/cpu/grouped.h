// Convolutions of groups of few channels.
#pragma once

#include "kernels/cpu/gather.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

// Whether a gather, not depthwise, is one for grouped(): groups of more channels fill the tiles of
// a product.
bool many_groups(const Gather& g);

// Reals in the packed weights of some taps; those of a phase follow those of all earlier ones.
int64_t grouped_count(const Gather& g, int64_t taps);

void pack_grouped(const Stream& s, const Gather& g, const real* weight, real* packed);
void grouped(const Stream& s, const Gather& g, const real* source, const real* packed,
             const k::Epilogue& epilogue, real* result);

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
