// What is typed, the exit code, and the exact words of the answer.
#include <gtest/gtest.h>

#include "tests/cli/program.h"

namespace whence::cli_test {
namespace {

struct Call {
  const char* line;
  int code;
  const char* err;  // without "whence: " and the line's end; "*" at the end: anything may follow
};

void check(const Workplace& place, const Call& call) {
  SCOPED_TRACE(call.line);
  const Finished done = place.run(call.line);
  EXPECT_EQ(done.code, call.code) << done.err;
  std::string wanted = std::string("whence: ") + call.err, found = done.err;
  if (wanted.ends_with('*')) {
    wanted.pop_back();
    EXPECT_EQ(found.find('\n'), found.size() - 1) << "not one line: " << found;
    found = found.substr(0, wanted.size());
  } else {
    wanted += '\n';
  }
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(done.out, "") << "a failed call prints no results";
}

constexpr const char* tam_options =
    "tam has start_layer (auto), steps (20), with_integral (true), last_state_only (false), "
    "gradient_of (probability)";

TEST(CliMessages, commands_and_options_that_do_not_exist) {
  const Workplace place;
  const Call calls[] = {
      {"whence", 2,
       "a command is needed: explain, predict, methods, inspect, audit, demo (see whence --help)"},
      {"whence explian", 2,
       "there is no command 'explian'; commands are explain, predict, methods, inspect, audit, "
       "demo"},
      {"whence --verbose explain", 2,
       "unknown option '--verbose' before the command; commands are explain, predict, methods, "
       "inspect, audit, demo"},
      {"whence explain -m model --method tam --sed 4 a.png", 2,
       "unknown option '--sed' of whence explain; the nearest are '--seed', '--mem', '--help'"},
      {"whence methods tam rollout", 2, "whence methods: 'rollout' is one argument too many"},
      {"whence explain -m model --method tam --seed", 2,
       "whence explain: --seed: a value is missing"},
      {"whence explain --method tam a.png", 2,
       "a model is needed: -m FOLDER, -m FILE.safetensors or -m demo-vit"},
      {"whence explain -m model a.png", 2,
       "a method is needed: --method ID (whence methods lists them)"},
      {"whence explain -m model --method tam", 2,
       "an input is needed: images, folders or .npy files"},
      {"whence inspect -m model -p steps=3", 2,
       "-p: options belong to a method; name it with --plan METHOD"},
      {"whence inspect -m model --layer norm", 2,
       "--layer: options belong to a method; name it with --plan METHOD"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, values_out_of_range) {
  const Workplace place;
  const Call calls[] = {
      {"whence explain -m model --method tam --seed x a.png", 2,
       "--seed: 'x' is not a whole number of at least 0"},
      {"whence explain -m model --method tam --threads 0 a.png", 2,
       "--threads: '0' is not a whole number from 1 to 1024"},
      {"whence explain -m model --method tam --chunk 1.5 a.png", 2,
       "--chunk: '1.5' is not a whole number from 1 to 65536"},
      {"whence explain -m model --method tam --mem 12Q a.png", 2,
       "--mem: '12Q' is not a size in bytes; write 800M or 2G"},
      {"whence explain -m model --method tam --shard 3/2 a.png", 2,
       "--shard I/N: I: '3' is not a whole number from 1 to 2"},
      {"whence explain -m model --method tam --shard 3 a.png", 2,
       "--shard: '3' is not I/N, for example 1/4 for the first of four"},
      {"whence explain -m model --method tam --save png,gif a.png", 2,
       "--save: 'gif' is not one of 'png', 'npy', 'json', 'logits'"},
      {"whence explain -m model --method tam --save html a.png", 2,
       "--save html: pages of coloured words are for texts; inputs are images"},
#ifndef WHENCE_HAVE_CUDA
      {"whence explain -m model --method tam --device cuda:1 a.png", 4,
       "cuda:1: this build has no CUDA kernels: configure with the CUDA toolkit present"},
#endif
      {"whence explain -m model --method tam --device tpu a.png", 2,
       "device 'tpu' is not one of auto, cpu, simt, cuda, cuda:N"},
      {"whence explain -m model --method tam --precision bf16 a.png", 2,
       "--precision bf16: the cpu computes in f32"},
      {"whence explain -m model --method tam --image-size 3x4x5 a.png", 2,
       "--image-size: '3x4x5' is not SIDE or HEIGHTxWIDTH"},
      {"whence predict -m model --top 0 a.png", 2,
       "--top: '0' is not a whole number of at least 1"},
      {"whence explain -m model --method tam --mem 1K a.png", 5, "one item needs *"},
  };
  for (const Call& call : calls) check(place, call);
  EXPECT_FALSE(fs::exists(place / "whence-out")) << "made by a call that was refused";
}

TEST(CliMessages, methods_and_their_options) {
  const Workplace place;
  const std::string unknown = std::string("-p stepz: no such option; ") + tam_options;
  const std::string no_value = std::string("-p steps: NAME=VALUE is expected; ") + tam_options;
  const std::string neither = std::string("-p n_samples: no such option; ") + tam_options +
                              "; attention-last has no options";
  const Call calls[] = {
      {"whence explain -m model --method tamm a.png", 2,
       "there is no method 'tamm'; the nearest are 'tam',*"},
      {"whence methods tamm", 2, "there is no method 'tamm'; the nearest are 'tam',*"},
      {"whence inspect -m model --plan tamm", 2,
       "there is no method 'tamm'; the nearest are 'tam',*"},
      {"whence explain -m model --method tam --method tam a.png", 2, "--method tam: given twice"},
      {"whence explain -m model --method tam -p stepz=4 a.png", 2, unknown.c_str()},
      {"whence explain -m model --method tam -p steps a.png", 2, no_value.c_str()},
      {"whence explain -m model --method tam --method attention-last -p n_samples=4 a.png", 2,
       neither.c_str()},
      {"whence explain -m model --method tam -p steps=3 -p steps=4 a.png", 2,
       "-p steps: given twice"},
      {"whence explain -m model --method tam -p steps=-4 a.png", 2,
       "option steps of method tam is '-4', a whole number from 1 to 100000 is needed"},
      {"whence explain -m model --method tam -p gradient_of=sum a.png", 2,
       "option gradient_of of method tam is 'sum', one of 'probability', 'logit', 'loss' is "
       "needed"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, layers) {
  const Workplace place;
  const Call calls[] = {
      {"whence explain -m model --method grad-cam --method tam --layer norm a.png", 2,
       "--layer norm: method tam takes no layer; 'grad-cam', 'guided-grad-cam', 'grad-cam-pp', "
       "'layer-cam', 'score-cam', *"},
      {"whence explain -m model --method grad-cam --layer blocks.3.out a.png", 2,
       "method grad-cam: 'model' has no layer 'blocks.3.out'; the nearest are 'blocks.0.out',*"},
      {"whence explain -m model --method grad-cam --layer blocks.1.attn.probs a.png", 2,
       "method grad-cam: layer 'blocks.1.attn.probs' has shape *"},
      {"whence inspect -m model --plan rollout --layer norm", 2,
       "--layer norm: method rollout takes no layer; *"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, targets) {
  const Workplace place;
  const Call calls[] = {
      {"whence explain -m model --method tam -t 7 a.png", 2,
       "--target 7: out of range, the model has classes 0 to 6"},
      {"whence explain -m model --method tam -t 2-9 a.png", 2,
       "--target 2-9: out of range, the model has classes 0 to 6"},
      {"whence explain -m model --method tam -t 2-2 a.png", 2,
       "--target 2-2: a contrast of class 2 with itself"},
      {"whence explain -m model --method tam --labels labels.txt -t Eater a.png", 2,
       "--target Eater: this could be '4 ant-eater', '5 bee-eater'"},
      {"whence explain -m model --method tam --labels labels.txt -t ea a.png", 2,
       "--target ea: no such class; give an index from 0 to 6, a class name, A-B, or predicted; "
       "the nearest names are *"},
      {"whence explain -m model --method tam --labels labels.txt -t dog -t 3 a.png", 2,
       "--target 3: the same as --target dog"},
      {"whence explain -m model --method tam --labels labels.txt -t horse a.png", 2,
       "--target horse: no such class; give an index from 0 to 6, a class name, A-B, or "
       "predicted; the nearest names are *"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, models_that_cannot_be_loaded) {
  const Workplace place;
  place.write("pickle.safetensors", std::string("\x80\x02}q\0X\x05\0\0\0hello", 16));
  place.write("empty/readme", "");
  place.write("few.txt", "one\ntwo\n");
  place.write("broken/config.json", "{");
  fs::copy_file(place / "model/model.safetensors", place / "broken/model.safetensors");
  const Call calls[] = {
      {"whence predict -m nomodel a.png", 3,
       "nomodel: no such file or folder, nor a bundled model (bundled: demo-vit, demo-resnet)"},
      {"whence predict -m demo-bert a.png", 3,
       "demo-bert: this version does not bundle it; bundled: demo-vit, demo-resnet"},
      {"whence predict -m pickle.safetensors a.png", 3,
       "pickle.safetensors: this is a pickle checkpoint, not safetensors; *"},
      {"whence predict -m empty a.png", 3, "empty: there is no model.safetensors *"},
      {"whence predict -m a.png a.png", 3, "a.png: this is a PNG image, not safetensors; *"},
      {"whence predict -m broken a.png", 3, "broken/config.json: not valid JSON at byte *"},
      {"whence predict -m model/model.safetensors a.png", 3,
       "model/model.safetensors: the number of attention heads *"},
      {"whence predict -m model --labels few.txt a.png", 3,
       "few.txt: 2 labels, the model has 7 classes"},
      {"whence predict -m model --image-size 13 a.png", 3,
       "model: patches of 3 pixels do not divide the image of 13 x 13"},
      {"whence predict -m model --arch lenet a.png", 2, "architecture 'lenet' is not known; *"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, inputs) {
  const Workplace place;
  place.write("t.txt", "a text\n");
  place.write("one/a.png", place.read("a.png"));
  place.write("empty/notes.md", "");
  place.write("outer/inner/a.png", place.read("a.png"));
  const Call calls[] = {
      {"whence predict -m model t.txt", 2,
       "t.txt: texts are for language models, which this version does not have"},
      {"whence predict -m model x.jsonl", 2,
       "x.jsonl: texts are for language models, which this version does not have"},
      {"whence predict -m model a.png a.png", 2, "a.png and a.png would both be written as a.png"},
      {"whence predict -m model one/a.png one", 2,
       "one/a.png and one/a.png would both be written as one-a.png"},
      {"whence predict -m model nowhere.png", 1,
       "nowhere.png: no such file\nwhence: 1 of 1 inputs failed"},
      {"whence predict -m model fake.jpg", 1,
       "fake.jpg: not a JPEG, PNG or BMP image\nwhence: 1 of 1 inputs failed"},
      {"whence predict -m model empty", 1,
       "empty: no .jpg, .jpeg, .png or .bmp images in this folder\nwhence: 1 of 1 inputs failed"},
      {"whence predict -m model outer", 1,
       "outer: no .jpg, .jpeg, .png or .bmp images in this folder (1 in the folders inside: name "
       "those)\nwhence: 1 of 1 inputs failed"},
  };
  for (const Call& call : calls) check(place, call);
}

TEST(CliMessages, outputs_that_cannot_be_written) {
  const Workplace place;
  const Call calls[] = {
      {"whence explain -m model --method tam -o a.png b.jpg", 5,
       "a.png: the folder cannot be made: Not a directory"},
      {"whence explain -m model --method tam -o a.png/x b.jpg", 5,
       "a.png/x: the folder cannot be made: Not a directory"},
      {"whence methods > /dev/full", 5,
       "standard output: cannot be written: No space left on device"},
      {"whence predict -m model a.png > /dev/full", 5,
       "standard output: cannot be written: No space left on device"},
      {"whence methods >&-", 5, "standard output: cannot be written: Bad file descriptor"},
      {"whence predict -m model a.png >&-", 5,
       "standard output: cannot be written: Bad file descriptor"},
      {"whence explain -m model --method rollout -o closed a.png <&- >&-", 5,
       "standard output: cannot be written: Bad file descriptor"},
      {"(ulimit -f 1; whence explain -m model --method tam -o full b.jpg)", 5,
       "full/b.tam.png: cannot be written: File too large"},
  };
  for (const Call& call : calls) check(place, call);
  EXPECT_EQ(place.files("full"), std::vector<std::string>{}) << "half a result was left behind";
  // A reader that goes away, like `whence methods | head -1`.
  const Finished piped = place.run(
      "{ sleep 0.2; whence methods; echo $? > code; } 2>err | true; while [ ! -s code ]; do sleep "
      "0.02; done; cat code err");
  EXPECT_EQ(piped.out, "5\n");
  // What goes to files goes on.
  const Finished explained = place.run(
      "{ sleep 0.2; whence explain -m model --method rollout -o piped a.png b.jpg; echo $? > "
      "code2; "
      "} 2>err | true; while [ ! -s code2 ]; do sleep 0.02; done; cat code2 err");
  EXPECT_EQ(explained.out, "0\n");
  EXPECT_EQ(place.lines("piped/results.jsonl").size(), 2u);
  EXPECT_EQ(place.run("whence explain -m model --method rollout -o quiet a.png 2>&-").code, 0);
}

TEST(CliMessages, help_and_version) {
  const Workplace place;
  const Finished version = place.run("whence --version");
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out.substr(0, 7), "whence ");
  const Finished general = place.run("whence --help");
  EXPECT_EQ(general.code, 0);
  for (const char* command : {"explain", "predict", "methods", "inspect", "audit", "demo"}) {
    EXPECT_NE(general.out.find(command), std::string::npos);
    const Finished help = place.run(std::string("whence ") + command + " --help");
    EXPECT_EQ(help.code, 0);
    EXPECT_NE(help.out.find(std::string("Usage: whence ") + command), std::string::npos);
    EXPECT_NE(help.out.find("Example"), std::string::npos) << command;
    EXPECT_EQ(help.err, "");
  }
}

}  // namespace
}  // namespace whence::cli_test
