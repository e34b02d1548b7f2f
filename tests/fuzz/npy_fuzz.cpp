// NumPy arrays: any bytes end in an array or an error; what was read is the same when written and
// read again.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "io/npy.h"
#include "whence/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  whence::Tensor first;
  try {
    first = whence::decode_npy({data, size}, "fuzz");
  } catch (const whence::Error& e) {
    require(e.kind() == whence::ErrorKind::file || e.kind() == whence::ErrorKind::unsupported);
    return 0;
  }
  require(first.type().bytes() <= size * sizeof(double));
  const whence::Tensor second = whence::decode_npy(whence::encode_npy(first), "again");
  require(second.type() == first.type());
  // The double-precision build narrows while it writes; otherwise every bit is kept.
  if (sizeof(whence::real) == sizeof(float))
    require(first.type().bytes() == 0 ||
            std::memcmp(first.data(), second.data(), first.type().bytes()) == 0);
  return 0;
}
