// Model: what a checkpoint on disk becomes. Methods know nothing about its family: they meet it
// through the ports and places given here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "whence/graph.h"
#include "whence/image.h"
#include "whence/weights.h"

namespace whence {

// A named input of the graph: one tensor for each batch. Its role says what makes its values.
struct Port {
  enum class Role : uint8_t {
    picture,    // [C, H, W]: an image, by Model::preprocess
    token_ids,  // [S], integers: the caller, who has the tokenizer
    values,     // anything else: the caller
  };
  std::string name;  // of the graph's input
  Type item;         // of one item, without the axis of the batch
  Role role = Role::values;
};

// What the values that a model answers with mean, and with it what a probability is.
enum class Outputs : uint8_t {
  single_label,  // one of two or more classes: softmax
  multi_label,   // each class by itself: sigmoid
  values,        // no classes: none
};

// A stack of blocks with attention over one sequence of tokens. Every block I of it has these
// places, whatever it normalises before or behind its branches (`prefix` stands before the names):
//   blocks.I.attn.in   what queries, keys and values are made of
//   blocks.I.attn.{context, probs, probs_mean}   of the attention (ops.h)
//   blocks.I.mid       what leaves the half with the attention and enters the other one
//   blocks.I.out       what leaves the block
struct Tower {
  std::string prefix;  // "" where a model has one tower
  int64_t blocks = 0;
  int64_t prefix_tokens = 0;      // before those that lie on the grid, such as a class token
  int64_t rows = 0, columns = 0;  // of the grid; a sequence is one row
  // The tokens whose mean the head reads; empty: the mean of all that lie on the grid.
  std::vector<int64_t> readout;

  int64_t tokens() const { return prefix_tokens + rows * columns; }
  std::string place(int64_t block, std::string_view part) const;  // (3, "attn.in")
};

// Where methods find things in a model's graph. They spell no other names.
struct Places {
  std::string entry = "image";  // what attributions to the input are of: [B, ...]
  std::string features;         // the last feature map [B, H, W, C] of a convolutional network
  std::vector<Tower> towers;    // none without attention
};

struct Model {
  std::vector<Port> ports;
  Places places;
  Outputs outputs = Outputs::single_label;
  std::string name;          // the folder's or file's stem, or the bundled name
  std::string architecture;  // in words: family, sizes, classes
  std::string layout;        // of the checkpoint: "timm", "hub", "torchvision"
  int64_t classes = 0;
  std::function<Value(Graph&, int64_t batch)> build;  // returns the logits [batch, classes]
  Weights weights;
  Preprocess preprocess;            // of the port that is a picture
  std::vector<std::string> labels;  // one for each class
  struct Account {
    std::vector<std::string> bound;                            // checkpoint names
    std::vector<std::pair<std::string, std::string>> skipped;  // checkpoint name, reason
  } account;
  std::vector<std::string> notes;  // decisions worth showing, such as a resized position embedding

  const Shape& image_shape() const;  // [C, H, W]; throws unsupported where no port is a picture
};

struct ImageSize {
  int64_t height = 0, width = 0;
};
struct LoadOptions {
  std::string arch;  // a named architecture, where shapes and config.json do not decide
  std::optional<ImageSize> image_size;  // of the input; resamples a position embedding
  std::filesystem::path labels;         // a file of class names; empty: those of the model
  bool allow_unexpected = false;  // tensors inside known layers that are not used are tolerated
  bool allow_nonfinite = false;   // weights may hold NaN and infinities (for study)
};

// A folder of the model hub, a .safetensors file, or the folder of a bundled model.
// Throws file, name, shape or unsupported errors that name the file and list every problem of a
// kind.
Model load_model(const std::filesystem::path& path, const LoadOptions& options = {});

}  // namespace whence
