// What kernels keep on a stream from call to call: handles of libraries and what was chosen there.
#pragma once

#include <memory>
#include <typeindex>
#include <unordered_map>
#include <utility>

namespace whence {

// One object of every type that is asked for, made by its default constructor the first time.
// As a stream, for one thread at a time; the objects live as long as the stream.
class Retained {
 public:
  template <class T>
  T& get() {
    std::shared_ptr<void>& object = objects_[std::type_index(typeid(T))];
    if (!object) object = std::make_shared<T>();
    return *static_cast<T*>(object.get());
  }

  void clear() { objects_.clear(); }
  // Leaves the objects as they are, never to be destroyed: what they stand for is lost.
  void abandon() { new auto(std::move(objects_)); }

 private:
  std::unordered_map<std::type_index, std::shared_ptr<void>> objects_;
};

}  // namespace whence
