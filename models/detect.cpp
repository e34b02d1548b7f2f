// Which family a checkpoint belongs to, by the names of its tensors.
#include <algorithm>
#include <array>

#include "models/family.h"
#include "runtime/check.h"

namespace whence {
namespace {

constexpr std::array wrappers{"module.", "_orig_mod.", "timm_model.",
                              "model.",  "backbone.",  "encoder."};

bool any_fits(const Checkpoint& checkpoint, const char* pattern) {
  return std::any_of(
      checkpoint.tensors().begin(), checkpoint.tensors().end(),
      [&](const CheckpointTensor& t) { return match_pattern(pattern, t.name).has_value(); });
}

const Signature* first_that_fits(const Checkpoint& checkpoint) {
  for (const Family& family : families())
    for (const Signature& s : family.signatures)
      if (any_fits(checkpoint, s.pattern) && (!s.also || any_fits(checkpoint, s.also))) return &s;
  return nullptr;
}

std::string supported() {
  std::string text = "supported are classifiers: ";
  for (bool first = true; const Family& family : families()) {
    if (!family.supported) continue;
    text += std::string(first ? "" : "; ") + family.supported;
    first = false;
  }
  return text;
}

}  // namespace

const Signature& recognise(Checkpoint& checkpoint) {
  const Signature* found = first_that_fits(checkpoint);
  for (int depth = 0; !found && depth < 4; ++depth) {
    if (std::none_of(wrappers.begin(), wrappers.end(),
                     [&](const char* prefix) { return checkpoint.strip(prefix); }))
      break;
    found = first_that_fits(checkpoint);
  }
  if (!found)
    fail(ErrorCode::unsupported, "{}: the names of its {} tensors fit no known architecture; {}",
         checkpoint.name(), checkpoint.tensors().size(), supported());
  if (found->refused)
    fail(ErrorCode::unsupported, "{}: this is {}; {}", checkpoint.name(), found->refused,
         supported());
  return *found;
}

}  // namespace whence
