// From what `-m` names to a loaded model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/options.h"

namespace whence::cli {

// A bundled name gives the folder it is in; anything else is a path, which must exist.
std::filesystem::path find_model(const std::string& name);
// Every failure ends the command: the model cannot be loaded.
std::shared_ptr<const Model> open_model(const Options& options);

}  // namespace whence::cli
