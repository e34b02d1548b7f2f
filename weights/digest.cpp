// A 64-bit fingerprint of bound weights. It identifies a model among others; it is no protection
// against somebody who wants two models to look the same.
#include <bit>
#include <cstring>

#include "runtime/check.h"
#include "weights/name_map.h"

namespace whence {
namespace {

// Four independent chains of multiply and rotate, so that the products of one round overlap.
class Fingerprint {
 public:
  void add(const void* data, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(data);
    size_t at = 0;
    for (; size - at >= 32; at += 32)
      for (size_t k = 0; k < 4; ++k) mix(lanes_[k], word(bytes + at + 8 * k, 8));
    for (size_t k = 0; at < size; ++k) {
      const size_t n = std::min<size_t>(8, size - at);
      mix(lanes_[k & 3], word(bytes + at, n));
      at += n;
    }
    mix(lanes_[0], size);  // so that pieces cannot be cut differently
  }
  uint64_t value() const {
    uint64_t h = 0x9E3779B97F4A7C15u;
    for (uint64_t lane : lanes_) mix(h, lane);
    return h ^ (h >> 29);
  }

 private:
  static uint64_t word(const uint8_t* p, size_t n) {
    uint64_t w = 0;
    std::memcpy(&w, p, n);
    return w;
  }
  static void mix(uint64_t& h, uint64_t w) {
    h = std::rotl((h ^ w) * 0xD6E8FEB86659FD93u, 31) + 0x2545F4914F6CDD1Du;
  }
  uint64_t lanes_[4] = {1, 2, 3, 4};
};

}  // namespace

std::string weights_digest(const std::map<std::string, Tensor>& tensors) {
  Fingerprint print;
  for (const auto& [name, tensor] : tensors) {
    print.add(name.data(), name.size());
    const Shape& shape = tensor.shape();
    print.add(shape.begin(), size_t(shape.rank()) * sizeof(int64_t));
    print.add(tensor.data(), tensor.type().bytes());
  }
  return fmt::format("{:016x}", print.value());
}

}  // namespace whence
