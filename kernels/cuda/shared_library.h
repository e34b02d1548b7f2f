// A library of the CUDA toolkit, opened when a GPU needs it and not before: the libraries are
// hundreds of megabytes, and a program that explains on the CPU shall start without them. Where one
// is missing, the kernels of this folder do its work.
#pragma once

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <string>

#include "kernels/cuda/stream.h"
#include "kernels/libraries.h"

namespace whence::cuda {

class SharedLibrary {
 public:
  // `part`: a library that must be there too.
  explicit SharedLibrary(const std::string& name, const std::string& part = {})
      : handle_(open(name)) {
    if (!part.empty() && !open(part)) handle_ = nullptr;
  }
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  // Stays open: other threads and the library's own may be inside it when a program ends.

  bool found() const { return handle_ != nullptr; }
  // Sets `function` and tells whether the library has it.
  template <class F>
  bool get(F*& function, const char* name) const {
    function = handle_ ? reinterpret_cast<F*>(dlsym(handle_, name)) : nullptr;
    return function != nullptr;
  }

 private:
  // Looks where the loader looks, then in the folder of the toolkit that whence was built with.
  static void* open(const std::string& name) {
    void* handle = dlopen(name.c_str(), RTLD_NOW);
#ifdef WHENCE_CUDA_LIBRARY_DIR
    if (!handle) handle = dlopen((WHENCE_CUDA_LIBRARY_DIR "/" + name).c_str(), RTLD_NOW);
#endif
    return handle;
  }
  void* handle_;
};

// The stream for calls of a library, whose device becomes the current one.
inline cudaStream_t native(Stream& s, const char* name) {
  s.prepare_launch(nullptr, 0, name);
  return static_cast<cudaStream_t>(s.native());
}
// Throws what the device has to say about a call that failed.
inline void expect_alive(Stream& s, const char* name) { s.check_work(name); }

// In a namespace of the library's: functions(), a table of those that list(each) names, opened at
// first use with SharedLibrary(...); available(), whether it is to be used and all are there; and
// the two above. What the header declares is not linked: calls go through the table.
#define WHENCE_LIBRARY_POINTER(name) decltype(&::name) name = nullptr
#define WHENCE_LIBRARY_GET(name) complete = library.get(name, #name) && complete
#define WHENCE_LIBRARY(list, ...)                                           \
  struct Functions {                                                        \
    list(WHENCE_LIBRARY_POINTER);                                           \
    bool complete = true;                                                   \
    Functions() {                                                           \
      const SharedLibrary library(__VA_ARGS__);                             \
      list(WHENCE_LIBRARY_GET);                                             \
    }                                                                       \
  };                                                                        \
  inline const Functions& functions() {                                     \
    static const Functions all;                                             \
    return all;                                                             \
  }                                                                         \
  inline bool available() { return use_libraries && functions().complete; } \
  using cuda::expect_alive;                                                 \
  using cuda::native

}  // namespace whence::cuda
