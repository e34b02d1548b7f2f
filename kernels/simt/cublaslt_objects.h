// What stands behind the handles of the twin of cuBLASLt, and what tests want of it.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "kernels/simt/cublaslt.h"

namespace whence::simt::lt {

struct Context {};
struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transposed_a = CUBLAS_OP_N, transposed_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct Layout {
  cudaDataType_t type;
  uint64_t rows, cols;
  int64_t ld;
  bool operator==(const Layout&) const = default;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::array<uint32_t, 4> alignment{256, 256, 256, 256};
};

// Handles are numbers that never come again, so that a destroyed one is known as such.
class Library {
 public:
  template <class Handle, class Object>
  void add(Handle* handle, const Object& object) {
    const std::lock_guard lock(mutex_);
    const uintptr_t key = next_ += 16;
    objects_.emplace(key, object);
    *handle = reinterpret_cast<Handle>(key);
  }
  template <class Object>
  bool remove(const void* handle) {
    const std::lock_guard lock(mutex_);
    const auto it = objects_.find(reinterpret_cast<uintptr_t>(handle));
    if (it == objects_.end() || !std::holds_alternative<Object>(it->second)) return false;
    objects_.erase(it);
    return true;
  }
  // A copy, or nothing where the handle is not of such an object.
  template <class Object>
  std::optional<Object> find(const void* handle) {
    const std::lock_guard lock(mutex_);
    const auto it = objects_.find(reinterpret_cast<uintptr_t>(handle));
    if (it == objects_.end() || !std::holds_alternative<Object>(it->second)) return {};
    return std::get<Object>(it->second);
  }
  template <class Object, class F>
  cublasStatus_t change(const void* handle, F f) {
    const std::lock_guard lock(mutex_);
    const auto it = objects_.find(reinterpret_cast<uintptr_t>(handle));
    if (it == objects_.end() || !std::holds_alternative<Object>(it->second))
      return CUBLAS_STATUS_INVALID_VALUE;
    return f(std::get<Object>(it->second));
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return objects_.size();
  }

  void offer(std::vector<Offer> algorithms) {
    const std::lock_guard lock(mutex_);
    offers_ = std::move(algorithms);
  }
  std::vector<Offer> offers() {
    const std::lock_guard lock(mutex_);
    return offers_;
  }
  void fail(const char* function, cublasStatus_t status) {
    const std::lock_guard lock(mutex_);
    failures_[function] = status;
  }
  // The failure that a test wants of this call.
  std::optional<cublasStatus_t> failure(const char* function) {
    const std::lock_guard lock(mutex_);
    const auto it = failures_.find(function);
    if (it == failures_.end()) return {};
    const cublasStatus_t status = it->second;
    failures_.erase(it);
    return status;
  }

  std::atomic<uint64_t> queued{0};

 private:
  std::mutex mutex_;
  uintptr_t next_ = 0xb1a50000;
  std::map<uintptr_t, std::variant<Context, Operation, Layout, Preference>> objects_;
  std::vector<Offer> offers_ = usual_offers();
  std::map<std::string, cublasStatus_t> failures_;
};

Library& library();

// Returns the failure that a test wants of the function around it.
#define WHENCE_INJECTED() \
  if (const auto status = library().failure(__func__)) return *status

}  // namespace whence::simt::lt
