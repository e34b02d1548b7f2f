// Values of options that have a small language of their own.
#include <algorithm>

#include "cli/options.h"
#include "cli/text.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::cli {

jobs::Save read_save_list(Command command, const std::string& list) {
  const std::vector<std::string> known =
      command == Command::predict ? std::vector<std::string>{"logits"}
                                  : std::vector<std::string>{"png", "npy", "json", "logits"};
  jobs::Save save;
  for (const std::string& part : split(list, ',')) {
    if (part == "html" && command == Command::explain)
      fail_usage("--save html: pages of coloured words are for texts; inputs are images");
    if (std::find(known.begin(), known.end(), part) == known.end())
      fail_usage("--save: '{}' is not one of {}", printable(part), listing(known));
    save.png |= part == "png";
    save.npy |= part == "npy";
    save.logits |= part == "logits";
  }
  return save;
}

ImageSize read_image_size(const std::string& text) {
  constexpr int64_t most = 16384;
  const std::vector<std::string> sides = split(text, 'x');
  const int64_t height = whole_number("--image-size", sides[0], 1, most);
  if (sides.size() == 1) return {height, height};
  if (sides.size() != 2)
    fail_usage("--image-size: '{}' is not SIDE or HEIGHTxWIDTH", printable(text));
  return {height, whole_number("--image-size", sides[1], 1, most)};
}

jobs::Shard read_shard(const std::string& text) {
  const std::vector<std::string> parts = split(text, '/');
  if (parts.size() != 2)
    fail_usage("--shard: '{}' is not I/N, for example 1/4 for the first of four", printable(text));
  const int64_t count = whole_number("--shard I/N: N", parts[1], 1, 1'000'000);
  return {whole_number("--shard I/N: I", parts[0], 1, count) - 1, count};
}

}  // namespace whence::cli
