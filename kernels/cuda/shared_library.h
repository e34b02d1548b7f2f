// A library of the CUDA toolkit, opened when a GPU needs it and not before: the libraries are
// hundreds of megabytes, and a program that explains on the CPU shall start without them. Where one
// is missing, the kernels of this folder do its work.
#pragma once

#include <dlfcn.h>

#include <string>

namespace whence::cuda {

class SharedLibrary {
 public:
  // Looks where the loader looks, then in the folder of the toolkit that whence was built with.
  explicit SharedLibrary(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_NOW)) {
#ifdef WHENCE_CUDA_LIBRARY_DIR
    if (!handle_) handle_ = dlopen((WHENCE_CUDA_LIBRARY_DIR "/" + name).c_str(), RTLD_NOW);
#endif
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
  void* handle_;
};

}  // namespace whence::cuda
