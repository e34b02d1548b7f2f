// Kernels with a planted fault, and the same kernels mended.
#pragma once

#include <cstring>
#include <vector>

#include "kernels/cuda/gpu.cuh"

namespace whence::simt_test {

// What can find a fault: schedules, by a Fault or a wrong value; schedules, by bits that depend on
// the order; the address and undefined behaviour sanitizers; the thread sanitizer.
enum Finder : unsigned { by_schedules = 1, by_bits = 2, by_asan = 4, by_tsan = 8 };

struct Planted {
  const char* name;
  const char* what;
  unsigned found;    // sum of Finder: these find it and the others do not
  const char* says;  // part of what by_schedules reports
  std::vector<float> (*run)(simt::Stream& s, bool mended);
  std::vector<float> want;
  float tolerance = 0;
};

std::vector<Planted> barrier_faults();
std::vector<Planted> warp_faults();
std::vector<Planted> memory_faults();
std::vector<Planted> grid_faults();
std::vector<Planted> copy_faults();
inline std::vector<Planted> planted_faults() {
  std::vector<Planted> table;
  for (const auto& part :
       {barrier_faults(), warp_faults(), memory_faults(), grid_faults(), copy_faults()})
    table.insert(table.end(), part.begin(), part.end());
  return table;
}

// 0, 1, 2, ... times `step`, plus `first`
inline std::vector<float> ramp(size_t n, float first = 0, float step = 1) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = first + step * float(i);
  return x;
}

// An array in device memory.
class OnDevice {
 public:
  OnDevice(simt::Stream& s, std::vector<float> values)
      : stream_(s), host_(std::move(values)), memory_(s.allocate(host_.size() * sizeof(float))) {
    stream_.copy_in(memory_.get(), host_.data(), host_.size() * sizeof(float));
    stream_.synchronize();
  }
  float* data() { return static_cast<float*>(memory_.get()); }
  void release() { memory_.reset(); }
  std::vector<float> values() {
    stream_.copy_out(host_.data(), memory_.get(), host_.size() * sizeof(float));
    stream_.synchronize();
    return host_;
  }

 private:
  simt::Stream& stream_;
  std::vector<float> host_;
  std::shared_ptr<void> memory_;
};

// A result in host memory, which the emulated device can reach as well.
template <class Launch>
std::vector<float> result_of(simt::Stream& s, size_t n, Launch launch) {
  std::vector<float> y(n, 0);
  launch(y.data());
  s.synchronize();
  return y;
}

}  // namespace whence::simt_test
