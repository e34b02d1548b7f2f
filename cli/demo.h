// What `whence demo` found out, and the two things it makes of that.
#pragma once

#include <string>
#include <vector>

#include "jobs/records.h"
#include "whence/image.h"

namespace whence::cli {

struct DemoScene {
  std::string file;
  Image picture;                    // enlarged, as the overlays are
  std::vector<std::string> things;  // names of the classes that are in the scene
};

// What a model says about one class that is in a scene.
struct DemoClass {
  int64_t label = 0;
  double probability = 0;
  std::vector<Image> overlays;  // one for each of the model's methods
};

// What a model says about a scene; a class for each of the scene's things.
struct DemoAnswer {
  std::vector<jobs::ClassScore> top;
  std::vector<DemoClass> classes;
};

struct DemoModel {
  std::string name, architecture;
  std::vector<std::string> labels;
  std::vector<MethodInfo> methods;  // that apply to it
  std::vector<DemoAnswer> answers;  // one for each scene
};

struct DemoReport {
  std::vector<DemoScene> scenes;
  std::vector<DemoModel> models;
};

// One HTML page with its pictures inside: no other file, no network, no script.
std::string demo_page(const DemoReport& report);
// All overlays on one picture, a part for each model: a row for each scene and class, a column for
// each method.
Image demo_gallery(const DemoReport& report);

}  // namespace whence::cli
