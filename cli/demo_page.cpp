#include <fmt/core.h>

#include <algorithm>

#include "cli/demo.h"
#include "cli/text.h"

namespace whence::cli {
namespace {

constexpr int tile = 144;  // pixels of an overlay

constexpr const char* style = R"(
:root { --ink:#1c1c1f; --soft:#63636b; --line:#dedbd3; --paper:#fbfaf7; --accent:#9a3412; }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
       font:17px/1.55 "Iowan Old Style","Palatino Linotype",Palatino,Georgia,serif }
main { max-width:1180px; margin:0 auto; padding:3.5rem 1.5rem 5rem }
h1 { font-size:2.6rem; font-weight:500; letter-spacing:-.02em; margin:0 0 .4rem }
h2 { font-size:1.5rem; font-weight:500; margin:0 0 .3rem }
h3 { font-size:1.05rem; font-weight:600; margin:0 0 .5rem }
.model { font-size:.95rem; margin:1.1rem 0 .5rem } .model span { font-weight:400; color:var(--soft) }
p { max-width:44rem; margin:.4rem 0 1rem }
.soft, figcaption, .bar, th { color:var(--soft) }
.scene { display:grid; grid-template-columns:232px minmax(0,1fr); gap:2.2rem;
         border-top:1px solid var(--line); padding:2rem 0 2.2rem }
.scene > div:first-child img { width:232px; border-radius:3px }
.why h2 { font-size:1.25rem }
.why + .why { margin-top:2.2rem }
.tiles { display:grid; grid-template-columns:repeat(auto-fill,minmax(130px,144px)); gap:.9rem }
figure { margin:0 }
img { display:block; width:100%; height:auto; border-radius:3px }
figcaption, .bar, code, th, td { font:13px/1.4 ui-monospace,"SF Mono",Menlo,Consolas,monospace }
figcaption { margin-top:.3rem; font-size:12px; overflow-wrap:anywhere }
.bar { display:grid; grid-template-columns:6.2rem 1fr 3rem; gap:.5rem; align-items:center;
       margin-top:.35rem }
.bar i { display:block; height:7px; border-radius:2px; background:#c9c4b8 }
.bar.in { color:var(--ink) } .bar.in i { background:var(--accent) }
.bar b { font-weight:400; text-align:right }
pre { background:#f1eee6; border-radius:4px; padding:1rem 1.2rem; overflow-x:auto }
table { border-collapse:collapse; width:100%; margin-top:.6rem }
th, td { text-align:left; vertical-align:top; padding:.45rem 1rem .45rem 0;
         border-top:1px solid var(--line) }
td:nth-child(2) { font-family:inherit; font-size:15px }
.models { width:auto; margin:0 0 1rem } td:first-child { white-space:nowrap }
.legend { height:10px; width:232px; border-radius:2px; margin:.2rem 0;
  background:linear-gradient(90deg,#000080,#0000ff 12%,#00ffff 37%,#80ff80 50%,
                             #ffff00 63%,#ff0000 88%,#800000) }
section { border-top:1px solid var(--line); padding-top:1.6rem; margin-top:.4rem }
@media (max-width:720px) { .scene { grid-template-columns:1fr } }
@media print { .scene { break-inside:avoid } }
)";

std::string picture(const Image& image, const std::string& description) {
  return fmt::format("<img alt=\"{}\" width=\"{}\" height=\"{}\" src=\"data:image/png;base64,{}\">",
                     html_escaped(description), image.width, image.height,
                     base64(encode_png(image)));
}

// What the scene's model says it is, its things marked.
std::string probability_bars(const DemoModel& model, const DemoAnswer& answer) {
  std::string html = fmt::format("<h3 class=\"model\">{}</h3>\n", html_escaped(model.name));
  for (const jobs::ClassScore& score : answer.top) {
    bool present = false;
    for (const DemoClass& one : answer.classes) present |= one.label == score.index;
    html += fmt::format(
        "<div class=\"bar{}\"><span>{}</span><i style=\"width:{:.1f}%\"></i>"
        "<b>{:.3f}</b></div>\n",
        present ? " in" : "", html_escaped(model.labels[size_t(score.index)]),
        std::max(score.probability.value_or(0) * 100, 0.6), score.probability.value_or(0));
  }
  return html;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

// Every method of every model on one thing of a scene.
std::string thing_html(const DemoReport& report, size_t scene, size_t thing) {
  const std::string& name = report.scenes[scene].things[thing];
  std::string html =
      fmt::format("<div class=\"why\">\n<h2>Where is the {}?</h2>\n", html_escaped(name));
  for (const DemoModel& model : report.models) {
    const DemoClass& one = model.answers[scene].classes[thing];
    html += fmt::format(
        "<h3 class=\"model\">{} <span>probability {:.3f}</span></h3>\n<div class=\"tiles\">\n",
        html_escaped(model.name), one.probability);
    for (size_t m = 0; m < one.overlays.size(); ++m) {
      const std::string& id = model.methods[m].id;
      html += fmt::format(
          "<figure>{}<figcaption>{}</figcaption></figure>\n",
          picture(resize(one.overlays[m], tile, tile, Resample::lanczos), id + " for " + name),
          html_escaped(id));
    }
    html += "</div>\n";
  }
  return html + "</div>\n";
}

std::string scene_html(const DemoReport& report, size_t index) {
  const DemoScene& scene = report.scenes[index];
  const std::string names = joined(scene.things);
  std::string html =
      fmt::format("<article class=\"scene\">\n<div>{}\n<h2>{}</h2>\n",
                  picture(scene.picture, "scene with " + names), html_escaped(names));
  for (const DemoModel& model : report.models)
    html += probability_bars(model, model.answers[index]);
  html += "</div>\n<div>\n";
  for (size_t t = 0; t < scene.things.size(); ++t) html += thing_html(report, index, t);
  return html + "</div>\n</article>\n";
}

// Of all models, in the catalogue's order.
std::string method_table(const DemoReport& report) {
  std::string html =
      "<table><tr><th>method</th><th>what it shows</th><th>models</th><th>source</th></tr>\n";
  for (const MethodInfo& method : methods()) {
    const bool shown = std::ranges::any_of(report.models, [&](const DemoModel& model) {
      return std::ranges::any_of(model.methods,
                                 [&](const MethodInfo& of) { return of.id == method.id; });
    });
    if (shown)
      html += fmt::format(
          "<tr><td>{}</td><td>{}</td><td class=\"soft\">{}</td><td class=\"soft\">{}</td></tr>\n",
          html_escaped(method.id), html_escaped(method.summary), html_escaped(method.models),
          html_escaped(method.paper));
  }
  return html + "</table>\n";
}

std::string model_table(const DemoReport& report) {
  std::string html = "<table class=\"models\">\n";
  for (const DemoModel& model : report.models)
    html += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", html_escaped(model.name),
                        html_escaped(model.architecture));
  return html + "</table>\n";
}

}  // namespace

std::string demo_page(const DemoReport& report) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<title>whence: where predictions come from</title>\n<style>{}</style>\n</head>\n<body>\n"
      "<main>\n<h1>Where does a prediction come from?</h1>\n"
      "<p>Small models that tell {} kinds of things apart look at scenes with one or more of them. "
      "For every thing in a scene, every method answers the same question: which pixels speak for "
      "<em>this</em> class?</p>\n{}"
      "<p class=\"soft\">Colours run from the least to the most relevant place of each map. A "
      "method that sees the class moves when the question changes; one that only follows "
      "attention, like rollout, shows the same map for every class.</p>\n"
      "<div class=\"legend\"></div>\n<p class=\"soft\">low &nbsp;to&nbsp; high</p>\n",
      style, report.models[0].labels.size(), model_table(report));
  for (size_t s = 0; s < report.scenes.size(); ++s) html += scene_html(report, s);
  html += "<section>\n<h2>The methods</h2>\n" + method_table(report) + "</section>\n";
  html +=
      "<section>\n<h2>Explain your own</h2>\n<p>Any image, any class of the model, any of the "
      "methods above; a model is a folder with <code>config.json</code> and "
      "<code>model.safetensors</code>, or a single <code>.safetensors</code> file.</p>\n"
      "<pre><code>whence explain -m demo-vit --method tam photo.png\n"
      "whence explain -m path/to/model --method integrated-gradients -t tabby photos/\n"
      "whence explain -m path/to/model --method gradient -t tabby-tiger photo.jpg   # a contrast\n"
      "whence methods                                                # options of every method"
      "</code></pre>\n</section>\n</main>\n</body>\n</html>\n";
  return html;
}

}  // namespace whence::cli
