// `whence demo`: the bundled scenes, explained by the bundled model with every method.
#include "cli/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "cli/targets.h"
#include "cli/text.h"
#include "io/files.h"
#include "io/json.h"
#include "runtime/check.h"

namespace whence::cli {
namespace {

namespace fs = std::filesystem;

struct SceneFile {
  fs::path path;
  std::vector<int64_t> classes;
};

// scenes.json: {"scenes": [{"file": "NAME.png", "classes": ["ladybird", "kite"]}, ...]}, or the
// list alone; a class is a name or an index.
std::vector<SceneFile> read_scenes(const fs::path& folder, const std::vector<std::string>& labels) {
  const fs::path index = folder / "scenes.json";
  const std::string name = path_text(index);
  const Json document = read_json(index);
  const Json* list = document.is_object() ? JsonObject(document, name).find("scenes") : &document;
  if (!list || !list->is_array() || list->empty())
    fail(ErrorKind::file, ErrorCode::format, "{}: 'scenes' is not a list of scenes", name);
  std::vector<SceneFile> scenes;
  for (const Json& entry : *list) {
    const JsonObject object(entry, name, "scenes[].");
    const auto file = object.text("file");
    const Json* classes = object.find("classes");
    if (!file || file->find('/') != file->npos || !classes || !classes->is_array())
      fail(ErrorKind::file, ErrorCode::format, "{}: a scene lacks its 'file' or 'classes'", name);
    SceneFile scene{folder / *file, {}};
    for (const Json& label : *classes)
      scene.classes.push_back(
          read_target(label.is_string() ? label.get<std::string>() : label.dump(), labels)
              .target.of);
    scenes.push_back(std::move(scene));
  }
  return scenes;
}

// Scenes are as small as the model's input; screens are not.
int enlargement(const Image& image) { return std::max(1, 192 / std::max(image.width, 1)); }

class Demo {
 public:
  explicit Demo(const Options& options);
  DemoReport run();

 private:
  void explain(size_t scene, const MethodInfo& method);

  std::shared_ptr<const Model> model_;
  std::vector<SceneFile> files_;
  std::vector<Tensor> inputs_;
  std::vector<Preprocess::Region> regions_;  // of the enlarged pictures
  std::unique_ptr<Explainer> explainer_;
  DemoReport report_;
  Progress progress_;
  std::string progress_text_;
};

Demo::Demo(const Options& options) {
  Options bundled = options;
  bundled.model = "demo-vit";
  model_ = open_model(bundled);
  files_ = or_quit(ExitCode::model, [&] {
    return read_scenes(find_model(bundled.model) / "scenes", model_->labels);
  });
  Explainer::Settings settings = options.settings;
  settings.progress = [this](double) {
    progress_.show(progress_text_);
    return signal_caught() == 0;
  };
  explainer_ = std::make_unique<Explainer>(model_, std::move(settings));
  report_.model = bundled.model;
  report_.architecture = model_->architecture;
  report_.labels = model_->labels;
  report_.methods = methods();
}

DemoReport Demo::run() {
  for (const SceneFile& file : files_) {
    const Image image = or_quit(ExitCode::model, [&] { return read_image(file.path); });
    const int k = enlargement(image);
    Preprocess::Region region = model_->preprocess.region(image);
    regions_.push_back({region.left * k, region.top * k, region.width * k, region.height * k});
    inputs_.push_back(model_->preprocess(image));
    DemoScene scene;
    scene.file = to_utf8(file.path.filename().native());
    scene.picture = resize(image, image.width * k, image.height * k, Resample::bicubic);
    const Tensor logits = explainer_->logits(stacked({&inputs_.back()}));
    const auto all = top_classes(logits.reals(), model_->classes);
    scene.top.assign(all.begin(), all.begin() + std::min<int64_t>(4, model_->classes));
    for (const int64_t label : file.classes) {
      DemoClass one{label, model_->labels[size_t(label)], 0, {}};
      for (const ClassScore& c : all)
        if (c.index == label) one.probability = c.probability;
      scene.classes.push_back(std::move(one));
    }
    report_.scenes.push_back(std::move(scene));
  }
  for (const MethodInfo& method : report_.methods)
    for (size_t s = 0; s < files_.size(); ++s) {
      progress_text_ = fmt::format("{} of {}", method.id, report_.scenes[s].file);
      explain(s, method);
    }
  progress_.clear();
  return std::move(report_);
}

void Demo::explain(size_t scene, const MethodInfo& method) {
  Request request;
  request.method = method.id;
  request.targets.clear();
  for (const int64_t label : files_[scene].classes) request.targets.push_back({label, -1});
  const auto results = explainer_->explain(stacked({&inputs_[scene]}), request);
  DemoScene& of = report_.scenes[scene];
  for (size_t t = 0; t < results[0].size(); ++t)
    of.classes[t].overlays.push_back(overlay(of.picture, results[0][t].attribution, regions_[scene],
                                             {.opacity = 0.55, .legend = false}));
}

void print_table(const DemoReport& report) {
  size_t file = 0, label = 0;
  for (const DemoScene& scene : report.scenes) {
    file = std::max(file, columns(scene.file));
    for (const std::string& name : report.labels) label = std::max(label, columns(name));
  }
  Table table({{"scene", file}, {"in it", label}, {"probability", 0, true}, {"predicted", label}});
  for (const DemoScene& scene : report.scenes)
    for (const DemoClass& one : scene.classes)
      table.row(
          {&one == &scene.classes[0] ? scene.file : std::string(), one.name,
           fmt::format("{:.4f}", one.probability),
           &one == &scene.classes[0] ? report.labels[size_t(scene.top[0].index)] : std::string()});
}

void print_json(const DemoReport& report, const fs::path& page, const fs::path& gallery) {
  Record record;
  record["page"] = to_utf8(page.native());
  record["gallery"] = to_utf8(gallery.native());
  record["scenes"] = Record::array();
  for (const DemoScene& scene : report.scenes) {
    Record one;
    one["file"] = scene.file;
    one["classes"] = Record::array();
    for (const DemoClass& c : scene.classes) one["classes"].push_back(c.name);
    one["top"] = top_record(scene.top, report.labels);
    record["scenes"].push_back(std::move(one));
  }
  print(line_of(record) + "\n");
}

}  // namespace

ExitCode run_demo(const Options& options) {
  const DemoReport report = Demo(options).run();
  const fs::path folder = options.out / "demo";
  const fs::path page = folder / "index.html", gallery = folder / "gallery.png";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    quit(ExitCode::output, "{}: the folder cannot be made: {}", path_text(folder), error.message());
  or_quit(ExitCode::output, [&] {
    AtomicWriter files;
    files.add(page, demo_page(report));
    files.add(gallery, encode_png(demo_gallery(report)));
    files.commit();
    return 0;
  });
  if (options.json) {
    print_json(report, page, gallery);
  } else {
    print_table(report);
    print(fmt::format("\nlook at {}\n     or {}\n", path_text(page), path_text(gallery)));
  }
  return ExitCode::done;
}

}  // namespace whence::cli
