// Scene: a model's graph for a number of rows, and what formulas ask of it: scores, gradients of
// scores, attentions, the tokens that the head reads. Formulas name no places; they come from
// Model::places.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "explain/options.h"
#include "whence/graph.h"
#include "whence/model.h"
#include "whence/ops.h"

namespace whence {

// The values by which scores are differentiated, told apart as nodes and outputs: those of a model
// are the same in every graph of it.
using Derivatives = std::map<ScoreKind, std::set<std::pair<int, int>>>;

class Scene {
 public:
  // Makes the value at the entry, where it is not to be an input.
  using EntryOf = std::function<Value(Graph&, int64_t rows)>;
  // `expected`: derivatives that several formulas will ask for, so that one walk finds them all.
  Scene(const Model& m, int64_t rows, const EntryOf& entry_of = nullptr, Derivatives expected = {});

  const Model& model;
  Graph graph;
  // Attributions are of `entry` [rows, ...]. `selector` [rows, K] is what a score of the logits is
  // multiplied by: it belongs to the seed stage, so another target is another backward pass, not
  // another forward pass.
  Value entry, logits, selector;
  std::vector<std::pair<Value, Value>> carried;  // Plan::Options::carried

  int64_t rows() const { return logits.shape()[0]; }
  // f(logits) [rows, K]: f = softmax, identity or -log softmax; sigmoid or -log sigmoid of a kind
  // that is a class's own.
  Value outputs(ScoreKind kind);
  // Of the sum over k of selector[b, k] * outputs[b, k].
  Values gradient(ScoreKind kind, const Values& wrt);
  const Derivatives& asked() const { return asked_; }
  int channel_axis() const;  // of the entry: 1 of a picture, else the last

  const Tower& tower() const { return model.places.towers.back(); }  // of a model that has one
  int64_t blocks() const { return tower().blocks; }
  int64_t tokens() const { return tower().tokens(); }
  Value place(int64_t block, std::string_view part) const;
  Attention attention(int64_t block) const;
  Attention last_attention() const { return attention(blocks() - 1); }
  // [rows, S]: the weight of each token's row in the readout: the class token, the mean of class
  // and distillation token, or the mean of the patches.
  Value readout();
  // [rows, S]: the readout's weights times the head mean of the block's probabilities, from single
  // rows where the readout has few.
  Value readout_of_probs(int64_t block);
  // The tokens that the readout averages; throws unsupported for a mean over patches.
  std::vector<int64_t> readout_tokens(std::string_view method) const;

 private:
  std::map<ScoreKind, Value> outputs_;
  std::map<ScoreKind, std::map<Value, Value>> gradients_;
  Derivatives expected_, asked_;
};

// The mean of what `of` makes of each token.
template <class F>
Value mean_over(const std::vector<int64_t>& tokens, F&& of) {
  Value sum;
  for (const int64_t token : tokens) sum = sum ? add(sum, of(token)) : of(token);
  return tokens.size() == 1 ? sum : scale(sum, real(1) / real(tokens.size()));
}

}  // namespace whence
