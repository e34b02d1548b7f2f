#include "bench/device_time.h"

#include <chrono>
#include <stdexcept>

#ifdef WHENCE_HAVE_CUDA
#include <cuda_runtime.h>
#endif

namespace whence::bench {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

#ifdef WHENCE_HAVE_CUDA
namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("timing the device: ") + cudaGetErrorString(error));
}

}  // namespace

struct DeviceTimer::Events {
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaStream_t stream;
  explicit Events(const cuda::Stream& s) : stream(static_cast<cudaStream_t>(s.native())) {
    check(cudaEventCreate(&begin));
    check(cudaEventCreate(&end));
  }
  ~Events() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
};
#else
struct DeviceTimer::Events {};
#endif

DeviceTimer::DeviceTimer(Stream& s) : stream_(s) {
#ifdef WHENCE_HAVE_CUDA
  if (const auto* gpu = std::get_if<cuda::Stream>(&s.backend))
    events_ = std::make_unique<Events>(*gpu);
#endif
}
DeviceTimer::~DeviceTimer() = default;

void DeviceTimer::start() {
#ifdef WHENCE_HAVE_CUDA
  if (events_) return check(cudaEventRecord(events_->begin, events_->stream));
#endif
  began_ = now();
}

double DeviceTimer::stop() {
#ifdef WHENCE_HAVE_CUDA
  if (events_) {
    float ms = 0;
    check(cudaEventRecord(events_->end, events_->stream));
    wait(stream_);
    check(cudaEventElapsedTime(&ms, events_->begin, events_->end));
    return double(ms) / 1e3;
  }
#endif
  wait(stream_);
  return now() - began_;
}

size_t beyond_cache([[maybe_unused]] const Device& device) {
#ifdef WHENCE_HAVE_CUDA
  if (device.kind == Device::cuda) {
    int l2 = 0;
    check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device.index));
    return 4 * size_t(l2);
  }
#endif
  return size_t{1} << 26;
}

}  // namespace whence::bench
