// The backward direction of convolutions with few input channels, such as the first of a network:
// they would leave most columns of a panel empty. Here the product is dy times all taps' weights,
// [pixels of dy] x [tap, channel], a strip of rows at a time, and the taps' parts are then added
// up: for each row of dx tap row by tap row, along each of them in ascending position of dy.
#pragma once

#include "kernels/conv.h"
#include "kernels/cpu/vec.h"

namespace whence::cpu {
inline namespace WHENCE_ISA {

bool narrow(const k::ConvSize& z);  // whether a convolution is one of these

// Panels whose columns are (tap, channel) and whose sums are outputs.
void pack_narrow(const real* weight, const k::ConvSize& z, real* packed);
void conv_bwd_narrow(const Stream& s, const real* dy, const real* packed, const k::ConvSize& z,
                     const k::Epilogue& epilogue, real* dx);

}  // namespace WHENCE_ISA
}  // namespace whence::cpu
