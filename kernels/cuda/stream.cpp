// The CUDA runtime behind the interface of kernels/cuda/stream.h: every call is checked here, and
// what it reports is sorted into out of memory, refused (a bug of ours) and lost (the context is
// dead; from then on no call is made on that device, not even to free its memory).
#include "kernels/cuda/stream.h"

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "kernels/device_error.h"

namespace whence::cuda {
namespace {

using k::DeviceError;

constexpr int max_devices = 64;
std::array<std::atomic<bool>, max_devices> lost_devices{};

bool is_lost(int device) { return lost_devices[size_t(device)].load(); }

void expect_alive(int device) {
  if (is_lost(device))
    throw DeviceError(DeviceError::lost, "the device was lost by an earlier fault");
}

DeviceError::Kind kind_of(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return DeviceError::out_of_memory;
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
      return DeviceError::refused;
    default:
      return DeviceError::lost;
  }
}

void check(cudaError_t error, int device, const char* what) {
  if (error == cudaSuccess) return;
  const DeviceError::Kind kind = kind_of(error);
  if (kind == DeviceError::lost)
    lost_devices[size_t(device)] = true;
  else
    cudaGetLastError();  // the error is reported once
  throw DeviceError(kind, std::string(what) + ": " + cudaGetErrorString(error));
}

void choose(int device) { check(cudaSetDevice(device), device, "choosing the device"); }

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

DeviceInfo device_info(int index) {
  const auto missing = [](const std::string& why) { return DeviceError(DeviceError::lost, why); };
  int count = 0, driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) throw missing("no NVIDIA driver was found");
  if (driver / 1000 < CUDART_VERSION / 1000)
    throw missing("the NVIDIA driver supports CUDA " + version(driver) + ", this build needs " +
                  version(CUDART_VERSION));
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();
    throw missing(cudaGetErrorString(error));
  }
  if (index < 0 || index >= count || index >= max_devices)
    throw missing(count == 0 ? "no GPU was found"
                             : "there are " + std::to_string(count) + " GPUs, numbered from 0");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), index, "reading the device's properties");
  if (properties.major < 8)
    throw missing(std::string(properties.name) + " has compute capability " +
                  std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                  ", at least 8.0 is needed");
  return {properties.name, properties.major, properties.minor,
          driver,          CUDART_VERSION,   properties.totalGlobalMem};
}

struct Stream::State {
  int device = 0;
  cudaStream_t stream = nullptr;
  // scratch; the last one is in use, earlier ones stay for the recordings that know them
  std::vector<std::shared_ptr<void>> rooms;
  size_t room_bytes = 0;

  ~State() {
    if (stream && !is_lost(device)) cudaStreamDestroy(stream);
  }
};

Stream::Stream(int device) : state_(std::make_unique<State>()) {
  state_->device = device;
  expect_alive(device);
  choose(device);
  check(cudaStreamCreateWithFlags(&state_->stream, cudaStreamNonBlocking), device,
        "making a stream");
}
Stream::~Stream() {
  if (!state_) return;
  if (is_lost(state_->device)) {
    retained.abandon();
  } else {
    cudaSetDevice(state_->device);
    retained.clear();
  }
}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(precision, other.precision);
  std::swap(loan, other.loan);
  std::swap(state_, other.state_);
  std::swap(retained, other.retained);
  return *this;
}

void* Stream::native() const { return state_->stream; }

std::shared_ptr<void> Stream::allocate(size_t bytes) {
  const int device = state_->device;
  expect_alive(device);
  choose(device);
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, device, "allocating device memory");
  return {memory, [device](void* p) {
            if (!is_lost(device)) cudaFree(p);
          }};
}

std::shared_ptr<void> Stream::allocate_host(size_t bytes) {
  const int device = state_->device;
  expect_alive(device);
  choose(device);
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return {memory, [device](void* p) {
            if (!is_lost(device)) cudaFreeHost(p);
          }};
}

void Stream::copy_in(void* to, const void* from, size_t bytes) {
  expect_alive(state_->device);
  choose(state_->device);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, state_->stream), state_->device,
        "copying to the device");
}

void Stream::copy_out(void* to, const void* from, size_t bytes) {
  expect_alive(state_->device);
  choose(state_->device);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, state_->stream), state_->device,
        "copying from the device");
}

void Stream::copy_within(void* to, const void* from, size_t bytes) {
  expect_alive(state_->device);
  choose(state_->device);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, state_->stream), state_->device,
        "copying on the device");
}

void Stream::synchronize() {
  expect_alive(state_->device);
  choose(state_->device);
  check(cudaStreamSynchronize(state_->stream), state_->device, "waiting for the device");
}

void* Stream::scratch(size_t bytes) {
  if (loan && (loan->asking() || loan->lent())) return loan->take_for_queue(bytes);
  State& s = *state_;
  if (bytes > s.room_bytes || s.rooms.empty()) {
    auto room = allocate(bytes);
    if (!room)
      throw DeviceError(DeviceError::out_of_memory,
                        std::to_string(bytes) + " bytes of scratch memory were not to be had");
    s.rooms.push_back(std::move(room));
    s.room_bytes = bytes;
  }
  return s.rooms.back().get();
}

void Stream::prepare_launch(const void* kernel, size_t shared_bytes, const char* name) {
  expect_alive(state_->device);
  choose(state_->device);
  if (shared_bytes <= size_t{48} << 10) return;
  check(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
      state_->device, name);
}

void Stream::check_work(const char* name) {
  check_launch(name);
  cudaStreamCaptureStatus recording = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(state_->stream, &recording), state_->device, name);
  if (recording != cudaStreamCaptureStatusNone) return;
  const cudaError_t error = cudaStreamQuery(state_->stream);
  if (error == cudaErrorNotReady)
    cudaGetLastError();
  else
    check(error, state_->device, name);
}

void Stream::check_launch(const char* name) { check(cudaGetLastError(), state_->device, name); }

Graph::~Graph() {
  if (executable_ && !is_lost(device_))
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::run(Stream& s, const std::function<void()>& work) {
  const auto stream = static_cast<cudaStream_t>(s.native());
  device_ = s.state_->device;
  if (runs_ == 0) {
    work();
    runs_ = 1;  // not if it threw: what a first run makes may not be made while recording
    return;
  }
  expect_alive(device_);
  choose(device_);
  if (!executable_) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), device_,
          "recording a stream");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(stream, &graph), device_, "recording a stream");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(error, device_, "making a graph");
    executable_ = executable;
  }
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), stream), device_,
        "launching a graph");
}

}  // namespace whence::cuda
