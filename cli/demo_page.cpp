#include <fmt/format.h>

#include "cli/demo.h"
#include "cli/text.h"

namespace whence::cli {
namespace {

constexpr const char* style = R"(
:root { --ink:#1c1c1f; --soft:#63636b; --line:#dedbd3; --paper:#fbfaf7; --accent:#9a3412; }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
       font:17px/1.55 "Iowan Old Style","Palatino Linotype",Palatino,Georgia,serif }
main { max-width:1180px; margin:0 auto; padding:3.5rem 1.5rem 5rem }
h1 { font-size:2.6rem; font-weight:500; letter-spacing:-.02em; margin:0 0 .4rem }
h2 { font-size:1.5rem; font-weight:500; margin:0 0 .3rem }
h3 { font-size:1.05rem; font-weight:600; margin:0 0 .5rem }
p { max-width:44rem; margin:.4rem 0 1rem }
.soft, figcaption, .bar, th { color:var(--soft) }
.scene { display:grid; grid-template-columns:232px minmax(0,1fr); gap:2.2rem;
         border-top:1px solid var(--line); padding:2rem 0 2.2rem }
.scene > div:first-child img { width:232px; border-radius:3px }
.why + .why { margin-top:1.4rem }
.why h3 span { font-weight:400; color:var(--soft) }
.tiles { display:grid; grid-template-columns:repeat(auto-fill,minmax(138px,1fr)); gap:.9rem }
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

std::string probability_bars(const DemoReport& report, const DemoScene& scene) {
  std::string html;
  for (const ClassScore& score : scene.top) {
    bool present = false;
    for (const DemoClass& one : scene.classes) present |= one.label == score.index;
    html += fmt::format(
        "<div class=\"bar{}\"><span>{}</span><i style=\"width:{:.1f}%\"></i>"
        "<b>{:.3f}</b></div>\n",
        present ? " in" : "", html_escaped(report.labels[size_t(score.index)]),
        std::max(score.probability * 100, 0.6), score.probability);
  }
  return html;
}

std::string joined_names(const DemoScene& scene) {
  std::string text;
  for (size_t i = 0; i < scene.classes.size(); ++i)
    text += (i == 0 ? "" : i + 1 == scene.classes.size() ? " and " : ", ") + scene.classes[i].name;
  return text;
}

std::string scene_html(const DemoReport& report, const DemoScene& scene) {
  const std::string names = joined_names(scene);
  std::string html =
      fmt::format("<article class=\"scene\">\n<div>{}\n<h2>{}</h2>\n{}</div>\n<div>\n",
                  picture(scene.picture, "scene with " + names), html_escaped(names),
                  probability_bars(report, scene));
  for (const DemoClass& one : scene.classes) {
    html += fmt::format(
        "<div class=\"why\">\n<h3>Where is the {}? <span>probability "
        "{:.3f}</span></h3>\n<div class=\"tiles\">\n",
        html_escaped(one.name), one.probability);
    for (size_t m = 0; m < one.overlays.size(); ++m)
      html += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n",
                          picture(one.overlays[m], report.methods[m].id + " for " + one.name),
                          html_escaped(report.methods[m].id));
    html += "</div>\n</div>\n";
  }
  return html + "</div>\n</article>\n";
}

std::string method_table(const DemoReport& report) {
  std::string html = "<table><tr><th>method</th><th>what it shows</th><th>source</th></tr>\n";
  for (const MethodInfo& method : report.methods)
    html += fmt::format("<tr><td>{}</td><td>{}</td><td class=\"soft\">{}</td></tr>\n",
                        html_escaped(method.id), html_escaped(method.summary),
                        html_escaped(method.paper));
  return html + "</table>\n";
}

}  // namespace

std::string demo_page(const DemoReport& report) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
      "<title>whence: where predictions come from</title>\n<style>{}</style>\n</head>\n<body>\n"
      "<main>\n<h1>Where does a prediction come from?</h1>\n"
      "<p>{} is a small model ({}) that tells {} kinds of things apart. Each scene below "
      "holds "
      "one or more of them. For every thing in a scene, every method answers the same question: "
      "which "
      "pixels speak for <em>this</em> class?</p>\n"
      "<p class=\"soft\">Colours run from the least to the most relevant place of each map. A "
      "method "
      "that sees the class moves when the question changes; one that only follows attention, like "
      "rollout, shows the same map for every class.</p>\n<div class=\"legend\"></div>\n"
      "<p class=\"soft\">low &nbsp;to&nbsp; high</p>\n",
      style, html_escaped(report.model), html_escaped(report.architecture), report.labels.size());
  for (const DemoScene& scene : report.scenes) html += scene_html(report, scene);
  html += "<section>\n<h2>The methods</h2>\n" + method_table(report) + "</section>\n";
  html +=
      "<section>\n<h2>Explain your own</h2>\n<p>Any image, any class of the model, any of the "
      "methods "
      "above; a model is a folder with <code>config.json</code> and "
      "<code>model.safetensors</code>, "
      "or a single <code>.safetensors</code> file.</p>\n"
      "<pre><code>whence explain -m demo-vit --method tam photo.png\n"
      "whence explain -m path/to/model --method integrated-gradients -t tabby photos/\n"
      "whence explain -m path/to/model --method gradient -t tabby-tiger photo.jpg   # a contrast\n"
      "whence methods                                                # options of every method"
      "</code></pre>\n</section>\n</main>\n</body>\n</html>\n";
  return html;
}

}  // namespace whence::cli
