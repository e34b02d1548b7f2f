// What a GPU is measured with.
#pragma once

#include "whence/device.h"

namespace whence::bench {

// Bytes read and written a second by a copy of 4 GiB inside the GPU's memory.
double device_copy_rate(int device);
// Operations a second of cuBLAS's product of [m, k] with the transpose of [n, k].
double device_product_rate(int device, Precision precision, int m, int n, int k);

}  // namespace whence::bench
