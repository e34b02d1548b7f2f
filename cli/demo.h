// What `whence demo` found out, and the two things it makes of that.
#pragma once

#include <string>
#include <vector>

#include "cli/records.h"
#include "whence/image.h"

namespace whence::cli {

struct DemoClass {
  int64_t label = 0;
  std::string name;
  double probability = 0;
  std::vector<Image> overlays;  // one for each method
};

struct DemoScene {
  std::string file;
  Image picture;  // enlarged, as the overlays are
  std::vector<ClassScore> top;
  std::vector<DemoClass> classes;  // that are in the scene
};

struct DemoReport {
  std::string model, architecture;
  std::vector<std::string> labels;
  std::vector<MethodInfo> methods;
  std::vector<DemoScene> scenes;
};

// One HTML page with its pictures inside: no other file, no network, no script.
std::string demo_page(const DemoReport& report);
// All overlays on one picture: a row for each scene and class, a column for each method.
Image demo_gallery(const DemoReport& report);

}  // namespace whence::cli
