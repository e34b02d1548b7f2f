// The ways to join a block's branches: a declaration and a row for each.
#include "models/vit/blocks.h"

#include <algorithm>

namespace whence {

Value block_of_the_paper(const ViTLayers& layers, Value x);  // vit.cpp

std::span<const ViTBlock> vit_blocks() {
  static constexpr ViTBlock list[] = {
      {"", block_of_the_paper},
  };
  return list;
}

const ViTBlock* find_vit_block(std::string_view word) {
  const auto all = vit_blocks();
  const auto found = std::ranges::find(all, word, &ViTBlock::word);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace whence
