// Random numbers and angle functions that give the same bits on every platform. Only operations
// that IEEE 754 rounds correctly are used (+ - * / sqrt floor), never the C library's sin or atan2,
// and no standard distribution, whose results the C++ standard leaves to the implementation.
#pragma once

#include <cmath>
#include <cstdint>

namespace whence::demo {

// Finaliser of splitmix64 (Steele, Lea and Flood 2014): a bijection of 64-bit words.
inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// splitmix64. Streams of different (seed, index) start at unrelated places, so item `index` of a
// series is made without making those before it.
class Stream {
 public:
  Stream(uint64_t seed, uint64_t index)
      : state_(mix(seed + 0x9e3779b97f4a7c15u) ^ mix(index * 0xd1342543de82ef95u + 1)) {}
  uint64_t bits() { return mix(state_ += 0x9e3779b97f4a7c15u); }
  double uniform() { return double(bits() >> 11) * 0x1p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int below(int count) { return int(uniform() * count); }  // 0 .. count - 1
  bool chance(double probability) { return uniform() < probability; }

 private:
  uint64_t state_;
};

// Angles are in turns: 1 is the full circle.
// Taylor series to x^13 on a quarter circle either way; the error is below 7e-10.
inline double sine(double turns) {
  double t = turns - std::floor(turns + 0.5);  // [-0.5, 0.5)
  if (t > 0.25) t = 0.5 - t;
  if (t < -0.25) t = -0.5 - t;
  const double x = t * 6.283185307179586;
  const double y = x * x;
  const double tail = 1.0 - y / 110.0 * (1.0 - y / 156.0);
  return x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0 * tail))));
}
inline double cosine(double turns) { return sine(turns + 0.25); }

// Direction of (x, y) in [-0.5, 0.5]. Odd polynomial of degree 11 for the arc tangent on [0, 1],
// error below 2e-6 radians: far less than a pixel.
inline double direction(double x, double y) {
  const double ax = std::fabs(x), ay = std::fabs(y);
  const double large = ax > ay ? ax : ay;
  if (large == 0) return 0;
  const double z = (ax > ay ? ay : ax) / large;
  const double s = z * z;
  double tail = 0.05265332 - s * 0.01172120;
  tail = -0.11643287 + s * tail;
  tail = 0.19354346 + s * tail;
  tail = -0.33262347 + s * tail;
  double angle = z * (0.99997726 + s * tail) / 6.283185307179586;
  if (ay > ax) angle = 0.25 - angle;
  if (x < 0) angle = 0.5 - angle;
  return y < 0 ? -angle : angle;
}

}  // namespace whence::demo
