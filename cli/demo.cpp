// `whence demo`: the bundled scenes, and what every method that applies says of each bundled model.
#include "cli/demo.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>

#include "cli/commands.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/models.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "io/files.h"
#include "io/json.h"
#include "jobs/inputs.h"
#include "jobs/targets.h"
#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/picture.h"

namespace whence::cli {
namespace {

namespace fs = std::filesystem;

// Pictures of things that all of them know; the scenes are the first one's.
constexpr const char* shown[] = {"demo-vit", "demo-resnet"};

struct SceneFile {
  fs::path path;
  std::vector<std::string> classes;  // as written
};

// scenes.json: {"scenes": [{"file": "NAME.png", "classes": ["ladybird", "kite"]}, ...]}, or the
// list alone; a class is a name or an index.
std::vector<SceneFile> read_scenes(const fs::path& folder) {
  const fs::path index = folder / "scenes.json";
  const std::string name = path_text(index);
  const Json document = read_json(index);
  const Json* list = document.is_object() ? JsonObject(document, name).find("scenes") : &document;
  if (!list || !list->is_array() || list->empty())
    fail(ErrorCode::format, "{}: 'scenes' is not a list of scenes", name);
  std::vector<SceneFile> scenes;
  for (const Json& entry : *list) {
    const JsonObject object(entry, name, "scenes[].");
    const auto file = object.text("file");
    const Json* classes = object.find("classes");
    if (!file || file->find('/') != file->npos || !classes || !classes->is_array())
      fail(ErrorCode::format, "{}: a scene lacks its 'file' or 'classes'", name);
    SceneFile scene{folder / *file, {}};
    for (const Json& label : *classes)
      scene.classes.push_back(label.is_string() ? label.get<std::string>() : label.dump());
    scenes.push_back(std::move(scene));
  }
  return scenes;
}

// Scenes are as small as the model's input; screens are not.
int enlargement(const Image& image) { return std::max(1, 192 / std::max(image.width, 1)); }

using Models = std::vector<std::shared_ptr<const Model>>;

// All that one model has to say; where several are asked together, the others join it.
class Speaker {
 public:
  Speaker(const Models& models, size_t speaking, const Options& options,
          const std::vector<SceneFile>& files, DemoReport& report);
  void answer();

 private:
  void predict(size_t scene);
  void explain(size_t scene, const MethodInfo& method);

  const std::vector<SceneFile>& files_;
  DemoReport& report_;
  std::shared_ptr<const Model> model_;
  Models others_;
  std::unique_ptr<Explainer> explainer_;
  Painter painter_;
  std::vector<Tensor> inputs_;
  std::vector<std::vector<Tensor>> inputs_of_others_;
  std::vector<Preprocess::Region> regions_;  // of the enlarged pictures
  DemoModel said_;
  ProgressLine progress_;
  std::string progress_text_;
};

Speaker::Speaker(const Models& models, size_t speaking, const Options& options,
                 const std::vector<SceneFile>& files, DemoReport& report)
    : files_(files),
      report_(report),
      model_(models[speaking]),
      others_(models),
      painter_(options.settings.device, options.settings.threads) {
  others_.erase(others_.begin() + int64_t(speaking));
  Explainer::Settings settings = options.settings;
  settings.progress = [this](double) {
    progress_.show(progress_text_);
    return signal_caught() == 0;
  };
  explainer_ = std::make_unique<Explainer>(model_, std::move(settings));
  said_.name = shown[speaking];
  said_.architecture = model_->architecture;
  said_.labels = model_->labels;
  for (const MethodInfo& method : methods())
    if (applies(method, *model_)) said_.methods.push_back(method);
}

void Speaker::answer() {
  for (size_t s = 0; s < files_.size(); ++s) predict(s);
  for (const MethodInfo& method : said_.methods)
    for (size_t s = 0; s < files_.size(); ++s) {
      progress_text_ =
          fmt::format("{} of {} by {}", method.id, files_[s].path.filename().string(), said_.name);
      explain(s, method);
    }
  progress_.clear();
  report_.models.push_back(std::move(said_));
}

void Speaker::predict(size_t scene) {
  const Image image = during(Phase::model, [&] { return read_image(files_[scene].path); });
  const Preprocess::Region region = model_->preprocess.region(image);
  const double k = double(report_.scenes[scene].picture.width) / image.width;
  regions_.push_back({region.left * k, region.top * k, region.width * k, region.height * k});
  inputs_.push_back(model_->preprocess(image));
  inputs_of_others_.emplace_back();
  for (const auto& other : others_) {
    const Tensor input = other->preprocess(image);
    inputs_of_others_.back().push_back(jobs::stacked({input}));
  }
  const Tensor logits = explainer_->logits(jobs::stacked({inputs_.back()}));
  const auto all = jobs::top_classes(logits.reals(), model_->outputs, model_->classes);
  DemoAnswer answer;
  answer.top.assign(all.begin(), all.begin() + std::min<int64_t>(4, model_->classes));
  for (const std::string& text : files_[scene].classes) {
    DemoClass one;
    one.label = jobs::read_target(text, model_->labels).target.of;
    for (const jobs::ClassScore& c : all)
      if (c.index == one.label) one.probability = c.probability.value_or(0);
    answer.classes.push_back(std::move(one));
  }
  said_.answers.push_back(std::move(answer));
}

void Speaker::explain(size_t scene, const MethodInfo& method) {
  Request request;
  request.method = method.id;
  request.targets.clear();
  if (method.takes_models) {
    request.models = others_;
    request.model_inputs = inputs_of_others_[scene];
  }
  DemoAnswer& answer = said_.answers[scene];
  for (const DemoClass& one : answer.classes) request.targets.push_back({one.label, -1});
  const auto results = explainer_->explain(jobs::stacked({inputs_[scene]}), request);
  std::vector<Painter::Drawing> drawings;
  for (const Result& result : results[0])
    drawings.push_back({&report_.scenes[scene].picture, &result.attribution, regions_[scene]});
  std::vector<Image> overlays = painter_.overlay(drawings, {.opacity = 0.55, .legend = false});
  for (size_t t = 0; t < overlays.size(); ++t)
    answer.classes[t].overlays.push_back(std::move(overlays[t]));
}

DemoReport explained(const Options& options) {
  const auto files =
      during(Phase::model, [&] { return read_scenes(find_model(shown[0]) / "scenes"); });
  DemoReport report;
  for (const SceneFile& file : files) {
    const Image image = during(Phase::model, [&] { return read_image(file.path); });
    const int k = enlargement(image);
    report.scenes.push_back({to_utf8(file.path.filename().native()),
                             resize(image, image.width * k, image.height * k, Resample::bicubic),
                             {}});
  }
  Models models;
  for (const char* name : shown) {
    Options bundled = options;
    bundled.model = name;
    models.push_back(open_model(bundled));
  }
  for (size_t i = 0; i < models.size(); ++i) Speaker(models, i, options, files, report).answer();
  const DemoModel& first = report.models[0];
  for (size_t s = 0; s < files.size(); ++s)
    for (const DemoClass& one : first.answers[s].classes)
      report.scenes[s].things.push_back(first.labels[size_t(one.label)]);
  return report;
}

void print_table(const DemoReport& report) {
  size_t file = 0, label = 0;
  for (const DemoScene& scene : report.scenes) file = std::max(file, columns(scene.file));
  for (const DemoModel& model : report.models)
    for (const std::string& name : model.labels) label = std::max(label, columns(name));
  std::vector<Table::Column> titles{{"scene", file}, {"in it", label}};
  for (const DemoModel& model : report.models) {
    titles.push_back({model.name, 0, true});
    titles.push_back({"predicted", label});
  }
  Table table(titles);
  for (size_t s = 0; s < report.scenes.size(); ++s) {
    const DemoScene& scene = report.scenes[s];
    for (size_t t = 0; t < scene.things.size(); ++t) {
      std::vector<std::string> cells{t == 0 ? scene.file : "", scene.things[t]};
      for (const DemoModel& model : report.models) {
        const DemoAnswer& answer = model.answers[s];
        cells.push_back(fmt::format("{:.4f}", answer.classes[t].probability));
        cells.push_back(t == 0 ? model.labels[size_t(answer.top[0].index)] : "");
      }
      table.row(cells);
    }
  }
}

void print_json(const DemoReport& report, const fs::path& page, const fs::path& gallery) {
  jobs::Record record;
  record["page"] = to_utf8(page.native());
  record["gallery"] = to_utf8(gallery.native());
  record["scenes"] = jobs::Record::array();
  for (size_t s = 0; s < report.scenes.size(); ++s) {
    jobs::Record one;
    one["file"] = report.scenes[s].file;
    one["classes"] = report.scenes[s].things;
    for (const DemoModel& model : report.models)
      one["top"][model.name] = jobs::top_record(model.answers[s].top, model.labels);
    record["scenes"].push_back(std::move(one));
  }
  print(jobs::line_of(record) + "\n");
}

}  // namespace

ExitCode run_demo(const Options& options) {
  const DemoReport report = explained(options);
  const fs::path folder = options.job.folder / "demo";
  const fs::path page = folder / "index.html", gallery = folder / "gallery.png";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    fail(ErrorCode::output, "{}: the folder cannot be made: {}", path_text(folder),
         error.message());
  AtomicWriter files;
  files.add(page, demo_page(report));
  files.add(gallery, encode_png(demo_gallery(report)));
  files.commit();
  if (options.json) {
    print_json(report, page, gallery);
  } else {
    print_table(report);
    print(fmt::format("\nlook at {}\n     or {}\n", path_text(page), path_text(gallery)));
  }
  return ExitCode::done;
}

}  // namespace whence::cli
