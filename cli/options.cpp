#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <map>

#include "cli/text.h"
#include "runtime/check.h"
#include "runtime/text.h"

namespace whence::cli {
namespace {

struct CommandInfo {
  Command command;
  const char *name, *summary, *example;
};
constexpr CommandInfo commands[] = {
    {Command::explain, "explain", "Where in each input a prediction comes from",
     "Examples:\n"
     "  whence explain -m demo-vit --method tam cat.jpg\n"
     "  whence explain -m model/ --method integrated-gradients -p steps=100 -t tabby -t 207 \\\n"
     "      --save png,npy -o out photos/"},
    {Command::predict, "predict", "Top classes of every input",
     "Example:\n  whence predict -m demo-vit --top 3 cat.jpg photos/"},
    {Command::methods, "methods", "Every method, or the options of one",
     "Examples:\n  whence methods\n  whence methods integrated-gradients"},
    {Command::inspect, "inspect", "What a model is made of: architecture, checkpoint, names",
     "Examples:\n  whence inspect -m demo-vit\n  whence inspect -m demo-vit --plan tam"},
    {Command::audit, "audit", "Where relevance is lost between the output and the input",
     "Examples:\n"
     "  whence audit -m demo-vit cat.jpg\n"
     "  whence audit -m demo-resnet -p rules=epsilon-plus -t tabby --json cat.jpg"},
    {Command::demo, "demo", "Explain the bundled scenes and write a page to look at",
     "Example:\n  whence demo && xdg-open whence-out/demo/index.html"},
};

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const CommandInfo& info : commands) names.emplace_back(info.name);
  return names;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

// As typed; the parser only takes options and values apart.
struct Typed {
  std::string device = "auto", precision = "f32", threads, memory, chunk, image_size, top, seed,
              save, shard, out, draws, labels;
};

void add_model(CLI::App& app, Options& o, Typed& t) {
  app.add_option("-m,--model", o.model, "Folder, .safetensors file, demo-vit or demo-resnet")
      ->type_name("MODEL");
  app.add_option("--arch", o.load.arch, "Named architecture, where shapes do not decide")
      ->type_name("NAME");
  app.add_option("--labels", t.labels, "File of class names: a line each, JSON list or map")
      ->type_name("FILE");
  app.add_option("--image-size", t.image_size,
                 "SIDE or HEIGHTxWIDTH of the model's input, if not the checkpoint's")
      ->type_name("SIZE");
  app.add_flag("--allow-unexpected", o.load.allow_unexpected,
               "Leave tensors unused that lie inside layers of the model");
}

void add_running(CLI::App& app, Typed& t) {
  app.add_option(
         "--device", t.device,
         "auto (the first GPU, else the CPU), cpu, cuda, cuda:N, or simt (the emulator, for tests)")
      ->type_name("NAME");
  app.add_option("--precision", t.precision, "f32 (default), tf32 or bf16 (not on the CPU)")
      ->type_name("NAME");
  app.add_option("--threads", t.threads, "Threads (default: WHENCE_THREADS, else one a core)")
      ->type_name("N");
  app.add_option("--mem", t.memory, "Bytes for activations, suffix K, M or G (default 1G)")
      ->type_name("BYTES");
  app.add_option("--chunk", t.chunk, "Rows computed at once (default: chosen to fit --mem)")
      ->type_name("N");
}

void add_layer(CLI::App& app, Options& o) {
  app.add_option("--layer", o.layer, "Layer that the method reads (whence inspect lists names)")
      ->type_name("NAME");
}

void add_output(CLI::App& app, Typed& t, const std::string& folder) {
  app.add_option("-o,--out", t.out, "Output folder (default " + folder + ")")->type_name("FOLDER");
}

void add_inputs(CLI::App& app, Options& o) {
  app.add_option("INPUT", o.job.inputs, "Images, folders of images, .npy model inputs")
      ->type_name("");
}

void add_targets(CLI::App& app, Options& o) {
  app.add_option("-t,--target", o.job.targets,
                 "Class index, class name, A-B for a contrast, or predicted; repeatable")
      ->type_name("TARGET")
      ->allow_extra_args(false);
  app.add_option("-p", o.parameters, "An option of the method; repeatable")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
}

void add_explain(CLI::App& app, Options& o, Typed& t) {
  app.add_option("--method", o.methods, "Method id, repeatable (see whence methods)")
      ->type_name("ID")
      ->allow_extra_args(false);
  add_targets(app, o);
  add_layer(app, o);
  app.add_option("--seed", t.seed, "Seed of random methods (default 0)")->type_name("N");
  app.add_option("--draws", t.draws, ".npy of standard variates used instead of the generator")
      ->type_name("FILE");
  app.add_option("--save", t.save, "Any of png,npy,json,logits (default png,json)")
      ->type_name("LIST");
  app.add_flag("--resume", o.job.resume, "Skip what results.jsonl already has");
  app.add_option("--shard", t.shard, "The I-th (from 1) of N parts of the inputs: every N-th")
      ->type_name("I/N");
}

void add_options(CLI::App& app, Options& o, Typed& t) {
  app.set_help_flag("-h,--help", "This text");
  app.allow_extras();  // reported below, with the nearest names
  switch (o.command) {
    case Command::explain:
      add_inputs(app, o);
      add_model(app, o, t);
      add_explain(app, o, t);
      add_output(app, t, "whence-out");
      add_running(app, t);
      break;
    case Command::predict:
      add_inputs(app, o);
      add_model(app, o, t);
      app.add_option("--top", t.top, "Classes to list (default 5)")->type_name("N");
      app.add_option("--save", t.save, "logits: NAME.logits.npy in the output folder")
          ->type_name("LIST");
      add_output(app, t, "whence-out");
      add_running(app, t);
      break;
    case Command::methods:
      app.add_option("ID", o.method, "A method")->type_name("");
      break;
    case Command::inspect:
      add_model(app, o, t);
      app.add_option("--plan", o.method, "Method whose every step is listed, with its memory")
          ->type_name("METHOD");
      app.add_option("-p", o.parameters, "An option of that method; repeatable")
          ->type_name("NAME=VALUE")
          ->allow_extra_args(false);
      add_layer(app, o);
      add_running(app, t);
      break;
    case Command::audit:
      add_inputs(app, o);
      add_model(app, o, t);
      app.add_option("--method", o.method,
                     "lrp (default), full-lrp, transformer-attribution or partial-lrp")
          ->type_name("ID");
      add_targets(app, o);
      add_running(app, t);
      break;
    case Command::demo:
      add_output(app, t, "whence-out");
      add_running(app, t);
      break;
  }
  app.add_flag("--json", o.json, "JSON lines instead of a table");
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    if (!option->get_positional() && !option->get_group().empty())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

void check_extras(const CLI::App& app) {
  std::vector<std::string> extras = app.remaining();
  std::erase(extras, "--");  // what follows it are inputs
  if (extras.empty()) return;
  const std::string name = extras[0].substr(0, extras[0].find('='));
  if (name.starts_with('-'))
    fail_usage("unknown option '{}' of whence {}; the nearest are {}", printable(name),
               app.get_name(), listing(nearest(name, option_names(app))));
  fail_usage("whence {}: '{}' is one argument too many", app.get_name(), printable(extras[0]));
}

// The fields of `o` that are not plain texts.
void read_values(Options& o, const Typed& t) {
  o.settings.precision = precision(t.precision);
  o.settings.device = device(t.device);
  if (o.settings.device.kind == Device::cpu && o.settings.precision != Precision::f32)
    fail_usage("--precision {}: the cpu computes in f32", t.precision);
  constexpr int64_t any = std::numeric_limits<int64_t>::max();
  if (!t.threads.empty()) o.settings.threads = int(whole_number("--threads", t.threads, 1, 1024));
  if (!t.memory.empty()) o.settings.memory = byte_count("--mem", t.memory);
  if (!t.chunk.empty()) o.settings.chunk = whole_number("--chunk", t.chunk, 1, 65536);
  if (!t.image_size.empty()) o.load.image_size = read_image_size(t.image_size);
  if (!t.top.empty()) o.top = whole_number("--top", t.top, 1, any);
  if (!t.seed.empty()) o.job.seed = uint64_t(whole_number("--seed", t.seed, 0, any));
  if (!t.shard.empty()) o.job.shard = read_shard(t.shard);
  o.load.labels = t.labels;
  o.job.draws = t.draws;
  o.job.folder = t.out.empty() ? "whence-out" : t.out;
  if (!t.save.empty())
    o.job.save = read_save_list(o.command, t.save);
  else
    o.job.save.png = o.command == Command::explain;
}

void check_required(const Options& o) {
  const bool on_inputs =
      o.command == Command::explain || o.command == Command::predict || o.command == Command::audit;
  if ((on_inputs || o.command == Command::inspect) && o.model.empty())
    fail_usage("a model is needed: -m FOLDER, -m FILE.safetensors or -m demo-vit");
  if (o.command == Command::explain && o.methods.empty())
    fail_usage("a method is needed: --method ID (whence methods lists them)");
  if (on_inputs && o.job.inputs.empty())
    fail_usage("an input is needed: images, folders or .npy files");
  if (o.command == Command::inspect && o.method.empty() &&
      !(o.parameters.empty() && o.layer.empty()))
    fail_usage("{}: options belong to a method; name it with --plan METHOD",
               o.parameters.empty() ? "--layer" : "-p");
}

// The parser takes "[a,b]" for a list, but it may be the name of a folder: a byte that no argument
// can hold keeps it whole.
std::string shielded(std::string argument) {
  if (argument.starts_with('[') && argument.ends_with(']')) argument += '\0';
  return argument;
}
void unshield(std::string& value) {
  if (value.ends_with('\0')) value.pop_back();
}

std::string general_help() {
  std::string text = "whence: where a prediction came from\n\nUsage: whence COMMAND [OPTIONS]\n\n";
  for (const CommandInfo& info : commands)
    text += fmt::format("  {:<9}{}\n", info.name, info.summary);
  return text +
         "\n  whence COMMAND --help    options and examples of a command\n"
         "  whence --version\n\nExample:\n  whence explain -m demo-vit --method tam cat.jpg\n";
}

const CommandInfo& find_command(const std::string& name) {
  for (const CommandInfo& info : commands)
    if (name == info.name) return info;
  if (name.starts_with('-'))
    fail_usage("unknown option '{}' before the command; commands are {}", printable(name),
               joined(command_names()));
  fail_usage("there is no command '{}'; commands are {}", printable(name), joined(command_names()));
}

}  // namespace

std::optional<Options> read_command_line(int argc, const char* const* argv, std::string& text) {
  if (argc < 2) fail_usage("a command is needed: {} (see whence --help)", joined(command_names()));
  const std::string first = argv[1];
  if (first == "--help" || first == "-h" || first == "help") {
    text = general_help();
    return {};
  }
  if (first == "--version") {
    text = "whence " WHENCE_VERSION "\n";
    return {};
  }
  const CommandInfo& info = find_command(first);
  Options options;
  options.command = info.command;
  Typed typed;
  CLI::App app(info.summary, info.name);
  app.footer(info.example);
  add_options(app, options, typed);
  // The parser takes arguments from the back.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i >= 2; --i) arguments.push_back(shielded(argv[i]));
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    text = app.help("whence");
    return {};
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what();
    if (what.ends_with("missing"))
      fail_usage("whence {}: {}: a value is missing", info.name,
                 printable(what.substr(0, what.find(':'))));
    fail_usage("whence {}: {}", info.name, printable(what));
  } catch (const CLI::ParseError& error) {
    check_extras(app);
    fail_usage("whence {}: {}", info.name, printable(error.what()));
  }
  check_extras(app);
  for (std::string* text_value :
       {&options.model, &options.method, &options.layer, &typed.out, &typed.labels, &typed.draws})
    unshield(*text_value);
  for (auto* list : {&options.job.inputs, &options.job.targets, &options.parameters})
    for (std::string& value : *list) unshield(value);
  read_values(options, typed);
  check_required(options);
  return options;
}

}  // namespace whence::cli
