// Stream: where kernels run, and the call that picks the kernels of its processor.
#pragma once

#include <variant>

#include "kernels/kernel.h"

namespace whence {

struct Stream {
  std::variant<cpu::Stream> backend;
};

template <class F>
void on(Stream& s, F&& f) {
  std::visit(std::forward<F>(f), s.backend);
}

}  // namespace whence
