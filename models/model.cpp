#include "whence/model.h"

#include <fmt/core.h>

#include "models/load.h"
#include "runtime/check.h"

namespace whence {
namespace {

// "weights/demo-vit/" and "vit.safetensors" become "demo-vit" and "vit".
std::string stem(const std::filesystem::path& path) {
  auto p = std::filesystem::absolute(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.extension() == ".safetensors" ? p.stem().string() : p.filename().string();
}

}  // namespace

std::string Tower::place(int64_t block, std::string_view part) const {
  return fmt::format("{}blocks.{}.{}", prefix, block, part);
}

const Shape& Model::image_shape() const {
  for (const Port& port : ports)
    if (port.role == Port::Role::picture) return port.item.shape;
  fail(ErrorCode::unsupported, "'{}' takes no image", name);
}

Model load_model(const std::filesystem::path& path, const LoadOptions& options) {
  Model model = load_checkpoint(Checkpoint::open(path), options).model;
  model.name = stem(path);
  return model;
}

}  // namespace whence
