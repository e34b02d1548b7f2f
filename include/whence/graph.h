// Graph: a computation written down. A forward value, a gradient and a relevance are all nodes of
// one graph; a rule does not compute, it adds nodes. Nothing runs until a Plan is made (plan.h).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "whence/tensor.h"

namespace whence {

class Graph;
struct Op;

// A handle on a tensor that does not exist yet: output `output` of node `node` of `graph`.
struct Value {
  Graph* graph = nullptr;
  int node = -1;
  int output = 0;
  explicit operator bool() const { return graph != nullptr; }
  const Type& type() const;
  const Shape& shape() const { return type().shape; }
  bool operator==(const Value&) const = default;
  auto operator<=>(const Value& other) const {
    return node != other.node ? node <=> other.node : output <=> other.output;
  }
};
using Values = std::vector<Value>;

// When a value may change: with the weights, with the input data, or with the target of a backward
// pass. A node belongs to the latest stage of what it reads.
enum class Stage : uint8_t { weights, data, seed };

struct Node {
  std::shared_ptr<const Op> op;  // null for inputs and weights
  Values in;
  std::vector<Type> out;
  Stage stage = Stage::weights;
  bool weight = false;  // an input that `Plan::bind` fills
  std::string name;     // first name given to output 0, or the input's own name
};

// Append-only, so creation order is a topological order. Not copyable: Values point at it.
class Graph {
 public:
  // Weights are constants of a plan (Stage::weights) unless a training program wants to change them
  // with every step (Stage::data).
  explicit Graph(Stage weight_stage = Stage::weights) : weight_stage_(weight_stage) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // Of reals or 32-bit integers; throws dtype for others.
  Value input(std::string_view name, Type type, Stage stage = Stage::data);
  Value weight(std::string_view name,
               Shape shape);  // named under the current scope; one node a name
  Value add(std::shared_ptr<const Op> op, Values in);  // output 0; shapes are checked here
  Value append_input(
      const Node& like);  // an input or weight with the type, stage and name of `like`

  // Names are the interface between models and methods. A value may have several, a name belongs to
  // one value. Names are put under the current scope ("blocks.3." + "attn.out").
  Value name(Value value, std::string_view name);
  Value at(std::string_view full_name) const;  // throws name, listing the nearest names
  bool has(std::string_view full_name) const { return names_.contains(std::string(full_name)); }
  Values match(std::string_view glob) const;  // '*' and '?'; in graph order
  std::vector<std::string> names_of(Value value) const;
  const std::map<std::string, Value, std::less<>>& names() const { return names_; }
  std::map<std::string, Shape> weights() const;  // of all weights: what `Plan::bind` needs

  class Scope {
   public:
    Scope(Graph& graph, std::string_view part);
    ~Scope() { graph_.scope_.resize(length_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Graph& graph_;
    size_t length_;
  };
  [[nodiscard]] Scope scope(std::string_view part, int index = -1);

  int size() const { return int(nodes_.size()); }
  const Node& node(int id) const { return nodes_[size_t(id)]; }
  const Node& node(Value v) const { return nodes_[size_t(v.node)]; }
  Stage weight_stage() const { return weight_stage_; }

 private:
  Value append(Node node);
  std::deque<Node> nodes_;  // references survive growth: rules read a node while they add others
  std::map<std::string, Value, std::less<>> names_;
  std::string scope_;
  Stage weight_stage_;
};

// d of / d wrt, contracted with `seed` (the shape of `of`): for each w, sum over of * seed
// differentiated by w, in the shape of w. Only nodes on a path from `of` to a wanted value are
// added; a weight has a gradient only if it is named in `wrt`. `wrt` may name an attention's
// probabilities. Throws name if `of` does not depend on a wanted value, unless `unused` is zero.
enum class Unused : uint8_t { error, zero };
Values gradient(Value of, Value seed, const Values& wrt, Unused unused = Unused::error);

}  // namespace whence
