// `whence methods`: the catalogue of the library, as tables or JSON lines.
#include <fmt/core.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/console.h"
#include "jobs/results.h"
#include "whence/explain.h"

namespace whence::cli {
namespace {

void print_json(const MethodInfo& method) {
  jobs::Record record;
  record["id"] = method.id;
  record["summary"] = method.summary;
  record["models"] = method.models;
  record["paper"] = method.paper;
  record["takes_layer"] = method.takes_layer;
  record["options"] = jobs::Record::array();
  for (const OptionInfo& option : method.options) {
    jobs::Record one;
    one["name"] = option.name;
    one["default"] = option.fallback;
    one["meaning"] = option.meaning;
    record["options"].push_back(std::move(one));
  }
  print(jobs::line_of(record) + "\n");
}

void print_details(const MethodInfo& method) {
  print(fmt::format("{}: {}\nmodels: {}\npaper: {}\n", method.id, method.summary, method.models,
                    method.paper));
  if (method.takes_layer)
    print(
        "layer: --layer NAME, a feature map or the tokens of a block (default features.last, in "
        "transformers blocks.N.norm1 of the last block)\n");
  if (method.options.empty()) {
    print("options: none\n");
    return;
  }
  print("\n");
  size_t name = 0, fallback = 0;
  for (const OptionInfo& option : method.options) {
    name = std::max(name, option.name.size());
    fallback = std::max(fallback, option.fallback.size());
  }
  Table table({{"option", name}, {"default", fallback}, {"meaning"}});
  for (const OptionInfo& option : method.options)
    table.row({option.name, option.fallback, option.meaning});
  print(fmt::format("\nExample: whence explain -m {} --method {} -p {}={} cat.jpg\n",
                    method.models == "convolutional" ? "demo-resnet" : "demo-vit", method.id,
                    method.options[0].name, method.options[0].fallback));
}

}  // namespace

ExitCode run_methods(const Options& options) {
  if (!options.method.empty()) {
    const MethodInfo& one = method(options.method);
    options.json ? print_json(one) : print_details(one);
    return ExitCode::done;
  }
  if (options.json) {
    for (const MethodInfo& one : methods()) print_json(one);
    return ExitCode::done;
  }
  std::vector<std::vector<std::string>> rows;
  size_t id = 0, models = 0, texts = 0;
  for (const MethodInfo& one : methods()) {
    std::string text;
    for (const OptionInfo& option : one.options)
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", option.name, option.fallback);
    rows.push_back({one.id, one.models, text.empty() ? "-" : text, one.paper});
    id = std::max(id, one.id.size());
    models = std::max(models, one.models.size());
    texts = std::max(texts, rows.back()[2].size());
  }
  Table table({{"method", id}, {"models", models}, {"options and defaults", texts}, {"paper"}});
  for (const auto& row : rows) table.row(row);
  return ExitCode::done;
}

}  // namespace whence::cli
