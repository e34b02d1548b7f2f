// Device: the processor that plans run on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "whence/precision.h"

namespace whence {

struct Device {
  enum Kind : uint8_t {
    cpu,
    simt,  // the CUDA kernels, executed by an emulator on the host: for tests, thousands of times
           // slower
    cuda,  // an NVIDIA GPU
  } kind = cpu;
  int index = 0;  // of the GPU
  bool operator==(const Device&) const = default;
};

std::string to_string(const Device& device);  // "cpu", "simt", "cuda:0"

Precision precision(std::string_view name);  // of "f32", "tf32", "bf16"; throws usage for others

// "cpu", "simt", "cuda", "cuda:1", or "auto": the first GPU if there is one, else the CPU. Throws
// usage for other names and device (missing) for a device that this build or machine does not have.
Device device(std::string_view name);

// One line for each device this build can use here, and for each kind it cannot, why.
std::vector<std::string> devices();

}  // namespace whence
