// Devices by name, and their memory behind one interface.
#include "whence/device.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/device_error.h"
#include "runtime/check.h"
#include "runtime/stream.h"
#include "runtime/text.h"

namespace whence {
namespace {

using k::DeviceError;

[[noreturn]] void fail_missing(const Device& device, std::string_view why) {
  fail(ErrorCode::device_missing, "{}: {}", to_string(device), why);
}

#ifdef WHENCE_HAVE_CUDA
// Whether the GPU can be used; `why` says what is in the way.
bool usable(int index, std::string& why) {
  try {
    const cuda::DeviceInfo info = cuda::device_info(index);
    why = fmt::format("{}, compute capability {}.{}, {} MiB", info.name, info.major, info.minor,
                      info.memory_bytes >> 20);
    return true;
  } catch (const DeviceError& e) {
    why = e.what();
    return false;
  }
}
#endif

void expect_present([[maybe_unused]] const Device& device) {
#ifndef WHENCE_HAVE_SIMT
  if (device.kind == Device::simt) fail_missing(device, "this build has no emulated device");
#endif
  if (device.kind != Device::cuda) return;
#ifdef WHENCE_HAVE_CUDA
  if (std::string why; !usable(device.index, why)) fail_missing(device, why);
#else
  fail_missing(device, "this build has no CUDA kernels: configure with the CUDA toolkit present");
#endif
}

}  // namespace

std::string to_string(const Device& device) {
  switch (device.kind) {
    case Device::cpu:
      return "cpu";
    case Device::simt:
      return "simt";
    case Device::cuda:
      break;
  }
  return fmt::format("cuda:{}", device.index);
}

Device device(std::string_view name) {
  if (name == "cpu") return {};
  if (name == "auto") {
#ifdef WHENCE_HAVE_CUDA
    if (std::string why; usable(0, why)) return {Device::cuda, 0};
#endif
    return {};
  }
  Device found;
  if (name == "simt") {
    found.kind = Device::simt;
  } else if (name == "cuda") {
    found.kind = Device::cuda;
  } else if (name.starts_with("cuda:")) {
    found.kind = Device::cuda;
    const char* end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + 5, end, found.index);
    if (error != std::errc() || at != end || found.index < 0) found.index = -1;
  }
  if (found.kind == Device::cpu || found.index < 0)
    fail_usage("device '{}' is not one of auto, cpu, simt, cuda, cuda:N", printable(name));
  expect_present(found);
  return found;
}

Precision precision(std::string_view name) {
  for (const Precision p : {Precision::f32, Precision::tf32, Precision::bf16})
    if (name == to_string(p)) return p;
  fail_usage("precision '{}' is not one of f32, tf32, bf16", printable(name));
}

std::vector<std::string> devices() {
  std::vector<std::string> lines{"cpu"};
#ifdef WHENCE_HAVE_SIMT
  lines.emplace_back("simt: the CUDA kernels under an emulator, for tests");
#endif
#ifdef WHENCE_HAVE_CUDA
  std::string why;
  for (int i = 0; usable(i, why); ++i) lines.push_back(fmt::format("cuda:{}: {}", i, why));
  if (lines.back().rfind("cuda", 0) != 0) lines.push_back("no GPU: " + why);
#else
  lines.emplace_back("no GPU: this build has no CUDA kernels");
#endif
  return lines;
}

int default_threads() {
  if (const char* text = std::getenv("WHENCE_THREADS")) {
    int n = 0;
    const char* end = text + std::strlen(text);
    if (const auto [p, e] = std::from_chars(text, end, n); e == std::errc() && p == end && n > 0)
      return n;
    fail_usage("WHENCE_THREADS is '{}', a whole number of at least 1 is needed", printable(text));
  }
  cpu_set_t mine;  // the cores that this process may use
  return sched_getaffinity(0, sizeof mine, &mine) == 0 ? std::max(1, CPU_COUNT(&mine)) : 1;
}

Stream make_stream(Device device, int threads) {
  expect_present(device);
  Stream s{cpu::Stream{threads > 0 ? threads : default_threads()}, device};
#ifdef WHENCE_HAVE_SIMT
  if (device.kind == Device::simt) s.backend.emplace<simt::Stream>();
#endif
#ifdef WHENCE_HAVE_CUDA
  if (device.kind == Device::cuda) {
    try {
      s.backend.emplace<cuda::Stream>(device.index);
    } catch (...) {
      rethrow_device_error(device);
    }
  }
#endif
  std::visit([&](auto& q) { q.loan = s.loan.get(); }, s.backend);
  return s;
}

void Stream::set_precision(Precision precision) {
  if (precision == Precision::f32) return;
  if (on_host() || sizeof(real) != sizeof(float))
    fail_usage("precision {}: {} computes in f32", to_string(precision),
               on_host() ? "the cpu" : "the double-precision build");
#ifdef WHENCE_HAVE_SIMT
  if (auto* q = std::get_if<simt::Stream>(&backend)) q->precision = precision;
#endif
#ifdef WHENCE_HAVE_CUDA
  if (auto* q = std::get_if<cuda::Stream>(&backend)) q->precision = precision;
#endif
}

void rethrow_device_error(const Device& device) {
  try {
    throw;
  } catch (const DeviceError& e) {
    switch (e.kind) {
      case DeviceError::out_of_memory:
        fail(ErrorCode::device_memory, "{}: {}; use a smaller chunk (--chunk), or --device cpu",
             to_string(device), e.what());
      case DeviceError::refused:
        fail(ErrorCode::internal, "{}: {}; please report it", to_string(device), e.what());
      case DeviceError::lost:
        fail(ErrorCode::device_lost, "{}: {}", to_string(device), e.what());
    }
    throw;
  }
}

std::shared_ptr<void> allocate(Stream& s, size_t bytes) {
  bytes = std::max<size_t>(bytes, 1);
  std::shared_ptr<void> memory;
  if (s.on_host())
    return Tensor(Type{{int64_t((bytes + sizeof(real) - 1) / sizeof(real))}}).share();
  on(s, [&](auto& q) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(q)>, cpu::Stream>)
      memory = q.allocate(bytes);
  });
  if (!memory)
    fail(ErrorCode::device_memory,
         "{}: {} bytes could not be allocated; use a smaller chunk (--chunk), or --device cpu",
         to_string(s.device), bytes);
  return memory;
}

std::shared_ptr<void> allocate_host([[maybe_unused]] Stream& s, size_t bytes) {
#ifdef WHENCE_HAVE_CUDA
  if (auto* q = std::get_if<cuda::Stream>(&s.backend))
    if (auto memory = q->allocate_host(std::max<size_t>(bytes, 1))) return memory;
#endif
  return Tensor(Type{{int64_t((bytes + sizeof(real) - 1) / sizeof(real))}}).share();
}

void copy_in(Stream& s, void* to_device, const void* from_host, size_t bytes) {
  on(s, [&](auto& q) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(q)>, cpu::Stream>)
      q.copy_in(to_device, from_host, bytes);
  });
}

void copy_out(Stream& s, void* to_host, const void* from_device, size_t bytes) {
  on(s, [&](auto& q) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(q)>, cpu::Stream>)
      q.copy_out(to_host, from_device, bytes);
  });
}

void copy_between(Stream& s, void* to, Device to_device, const void* from, Device from_device,
                  size_t bytes) {
  const bool to_host = to_device.kind == Device::cpu, from_host = from_device.kind == Device::cpu;
  WHENCE_ASSERT((to_host || to_device == s.device) && (from_host || from_device == s.device));
  if (bytes == 0) return;
  if (to_host && from_host) return void(std::memcpy(to, from, bytes));
  if (to_host) return copy_out(s, to, from, bytes);
  if (from_host) return copy_in(s, to, from, bytes);
  on(s, [&](auto& q) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(q)>, cpu::Stream>)
      q.copy_within(to, from, bytes);
  });
}

void wait(Stream& s) {
  on(s, [&](auto& q) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(q)>, cpu::Stream>) q.synchronize();
  });
}

struct Recording::State {
#ifdef WHENCE_HAVE_CUDA
  cuda::Graph graph;
#endif
};

Recording::Recording() : state_(std::make_unique<State>()) {}
Recording::~Recording() = default;
void Recording::forget() { state_ = std::make_unique<State>(); }

void Recording::run([[maybe_unused]] Stream& s, const std::function<void()>& work) {
#ifdef WHENCE_HAVE_CUDA
  if (auto* q = std::get_if<cuda::Stream>(&s.backend)) {
    try {
      return state_->graph.run(*q, work);
    } catch (const DeviceError&) {
      rethrow_device_error(s.device);
    }
  }
#endif
  work();
}

}  // namespace whence
