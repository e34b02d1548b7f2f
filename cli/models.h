// From what `-m` names to a loaded model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"

namespace whence::cli {

// A bundled name gives the folder it is in; anything else is a path, which must exist: otherwise a
// not_found error.
std::filesystem::path find_model(const std::string& name);
// Failures are of Phase::model.
std::shared_ptr<const Model> open_model(const Options& options);
// Models named in a list with commas, loaded with the same options but without `--arch`.
std::vector<std::shared_ptr<const Model>> open_models(const std::string& list,
                                                      const Options& options);

}  // namespace whence::cli
