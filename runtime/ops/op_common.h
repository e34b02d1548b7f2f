// What the operator files share.
#pragma once

#include <fmt/core.h>

#include "runtime/check.h"
#include "runtime/stream.h"
#include "whence/op.h"
#include "whence/ops.h"

namespace whence {

template <class T, class... A>
Value emit(Values in, A&&... options) {
  if (in.empty() || !in[0]) fail_shape("an operand is empty");
  Graph& g = *in[0].graph;
  return g.add(std::make_shared<T>(std::forward<A>(options)...), std::move(in));
}

// A fresh 0 everywhere would be a wrong answer for a value of another type; ops on reals say so
// early.
inline void expect_real(std::string_view kind, std::span<const Type> in) {
  for (const Type& t : in)
    if (t.dtype != Dtype::floating)
      fail(ErrorCode::dtype, "{}: an operand holds integers, reals are needed", kind);
}

inline int64_t last(const Shape& s) { return s.rank() ? s[-1] : 1; }
inline int64_t rows(const Shape& s) { return s.rank() ? s.count(0, s.rank() - 1) : 1; }
inline bool has_rows(const Shape& s) { return s.rank() >= 2; }

}  // namespace whence
