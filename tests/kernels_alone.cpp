// The kernels without the library around them: that this program links is the test.
#include "kernels/elementwise.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif

namespace {

template <class Stream>
bool rectifies(Stream& s, whence::real* memory) {
  memory[0] = -1, memory[1] = 2;
  whence::k::unary(s, whence::k::Relu{}, memory, 2, memory);
#ifdef WHENCE_HAVE_SIMT
  if constexpr (std::is_same_v<Stream, whence::simt::Stream>) s.synchronize();
#endif
  return memory[0] == 0 && memory[1] == 2;
}

}  // namespace

int main() {
  whence::real memory[2];
  whence::cpu::Stream cpu;
  bool right = rectifies(cpu, memory);
#ifdef WHENCE_HAVE_SIMT
  whence::simt::Stream simt;
  right = rectifies(simt, memory) && right;
#endif
  return right ? 0 : 1;
}
