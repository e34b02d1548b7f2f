// real: the type of all numbers that are computed.
#pragma once

namespace whence {

#ifdef WHENCE_F64
using real = double;  // the build that verifies formulas
#else
using real = float;
#endif

}  // namespace whence
