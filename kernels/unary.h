// Functions of one element: activations and a few others, each a struct, all in one list.
//
// To add one, write its struct and enter it into Functions: kernels, epilogues, ops, the rules that
// speak of activations and the tests follow from the list. A value and a slope are written for any
// number type T of scalar.h.
#pragma once

#include <array>
#include <type_traits>

#include "kernels/scalar.h"

namespace whence::k {

// What a function is called, and what those must know of it who do not call it.
struct Facts {
  const char* name;
  bool activation = true;  // a layer of networks; false: a helper of formulas
  // x cut to a range: slope 1 inside, 0 at its ends and outside. So f'(f(x)) = f'(x), and the
  // argument need not stay for the gradient.
  bool rectifier = false;
  bool non_negative = false;  // f(x) >= 0 for every x
  bool keeps_zero = true;     // f(0) = 0: rows of zeros stay rows of zeros
};

struct Identity {
  static constexpr Facts facts{.name = "identity", .activation = false};
  template <class T>
  WHENCE_HD static T value(T x) {
    return x;
  }
  template <class T>
  WHENCE_HD static T slope(T x) {
    return x - x + Math<T>::constant(1);
  }
};

// max(x, 0); derivative 0 at 0
struct Relu {
  static constexpr Facts facts{.name = "relu", .rectifier = true, .non_negative = true};
  template <class T>
  WHENCE_HD static T value(T x) {
    return Math<T>::positive(x);
  }
  template <class T>
  WHENCE_HD static T slope(T x) {
    return Math<T>::one_where_positive(x);
  }
};

// min(max(x, 0), 6); derivative 0 at 0 and at 6
struct Relu6 {
  static constexpr Facts facts{.name = "relu6", .rectifier = true, .non_negative = true};
  template <class T>
  WHENCE_HD static T value(T x) {
    return Math<T>::clamp(Math<T>::positive(x), 6);
  }
  template <class T>
  WHENCE_HD static T slope(T x) {
    using M = Math<T>;
    return M::one_where_positive(x) * M::one_where_positive(M::constant(6) - x);
  }
};

// x Phi(x) with the error function (Hendrycks and Gimpel 2016)
struct Gelu {
  static constexpr Facts facts{.name = "gelu"};
  template <class T>
  WHENCE_HD static T value(T x) {
    return x * Math<T>::normal(x).below;
  }
  template <class T>
  WHENCE_HD static T slope(T x) {  // Phi(x) + x phi(x)
    const Normal<T> n = Math<T>::normal(x);
    return n.below + x * n.density;
  }
};

// Its tanh approximation, same paper: x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).
// Beyond 10, where tanh u is 1 in any precision, u stays what it is at 10, so that huge x do not
// overflow.
struct GeluTanh {
  static constexpr Facts facts{.name = "gelu_tanh"};
  static constexpr double sqrt_2_over_pi = 0.79788456080286535588;
  template <class T>
  WHENCE_HD static T argument(T x) {
    const T c = Math<T>::clamp(x, 10);
    return Math<T>::constant(sqrt_2_over_pi) * (c + Math<T>::constant(0.044715) * c * c * c);
  }
  template <class T>
  WHENCE_HD static T value(T x) {
    using M = Math<T>;
    return M::constant(0.5) * x * (M::constant(1) + M::tanh(argument(x)));
  }
  template <class T>
  WHENCE_HD static T slope(T x) {  // (1 + t)/2 + x (1 - t^2)/2 u'
    using M = Math<T>;
    const T one = M::constant(1), t = M::tanh(argument(x)), c = M::clamp(x, 10);
    const T du = M::constant(sqrt_2_over_pi) * (one + M::constant(0.134145) * c * c);
    return M::constant(0.5) * ((one + t) + c * (one - t * t) * du);
  }
};

// x sigmoid(1.702 x), same paper; the activation of CLIP's published weights
struct GeluQuick {
  static constexpr Facts facts{.name = "gelu_quick"};
  template <class T>
  WHENCE_HD static T value(T x) {
    return x * sigmoid(Math<T>::constant(1.702) * x);
  }
  template <class T>
  WHENCE_HD static T slope(T x) {  // s + 1.702 x s (1 - s)
    using M = Math<T>;
    const T s = sigmoid(M::constant(1.702) * x);
    return s + x * (s * (M::constant(1) - s)) * M::constant(1.702);
  }
};

struct Tanh {
  static constexpr Facts facts{.name = "tanh"};
  template <class T>
  WHENCE_HD static T value(T x) {
    return Math<T>::tanh(x);
  }
  template <class T>
  WHENCE_HD static T slope(T x) {
    const T t = Math<T>::tanh(x);
    return Math<T>::constant(1) - t * t;
  }
};

// |x|; derivative 0 at 0
struct Abs {
  static constexpr Facts facts{.name = "abs", .activation = false, .non_negative = true};
  template <class T>
  WHENCE_HD static T value(T x) {
    return Math<T>::abs(x);
  }
  template <class T>
  WHENCE_HD static T slope(T x) {
    return Math<T>::one_where_positive(x) - Math<T>::one_where_positive(-x);
  }
};

template <class... F>
struct List {
  static constexpr uint8_t size = sizeof...(F);
  template <class One>  // size: not in the list
  static constexpr uint8_t place_of() {
    uint8_t at = 0;
    (void)((std::is_same_v<One, F> || (++at, false)) || ...);
    return at;
  }
};
using Functions = List<Identity, Relu, Relu6, Gelu, GeluTanh, GeluQuick, Tanh, Abs>;

// One of the functions, chosen while the program runs: Unary f = Relu{}.
struct Unary {
  template <class F>
  requires(Functions::place_of<F>() < Functions::size) WHENCE_HD constexpr Unary(F)
      : place(Functions::place_of<F>()) {}
  WHENCE_HD friend constexpr bool operator==(Unary a, Unary b) { return a.place == b.place; }
  uint8_t place;  // in the list
};

template <class... F>
constexpr std::array<Unary, sizeof...(F)> each_of(List<F...>) {
  return {F{}...};
}
inline constexpr auto every_unary = each_of(Functions{});

// Calls g with the function's struct.
template <class G, class... F>
void with(Unary f, G&& g, List<F...>) {
  (void)((f == Unary(F{}) && (g(F{}), true)) || ...);
}
template <class G>
void with(Unary f, G&& g) {
  with(f, g, Functions{});
}

inline Facts facts_of(Unary f) {
  Facts facts{};
  with(f, [&](auto function) { facts = decltype(function)::facts; });
  return facts;
}

}  // namespace whence::k
