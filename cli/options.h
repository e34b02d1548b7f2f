// What was typed, checked: names, numbers, ranges and combinations. Whether files exist and what a
// model knows is found out by the commands.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/settings.h"
#include "whence/explain.h"
#include "whence/model.h"

namespace whence::cli {

enum class Command { predict, explain, methods, inspect, audit, demo };

struct Options {
  Command command = Command::explain;
  bool json = false;

  std::string model;
  LoadOptions load;
  Explainer::Settings settings;
  int64_t top = 5;

  std::vector<std::string> methods, parameters;
  std::string layer;   // empty: the method's own
  jobs::Settings job;  // but for its methods, which are looked up by the command

  std::string method;  // `methods ID`, `inspect --plan METHOD`, `audit --method METHOD`
};

// The whole command line. Nothing when only a text was asked for (--help, --version), which is then
// in `text`. Everything that is wrong with it is a usage error.
std::optional<Options> read_command_line(int argc, const char* const* argv, std::string& text);

jobs::Save read_save_list(Command command, const std::string& list);
ImageSize read_image_size(const std::string& text);  // "224" or "224x192", height first
jobs::Shard read_shard(const std::string& text);

}  // namespace whence::cli
