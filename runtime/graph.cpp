#include "whence/graph.h"

#include <algorithm>

#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/op.h"

namespace whence {

const Type& Value::type() const {
  if (!graph) fail_shape("an empty value has no type");
  return graph->node(node).out[size_t(output)];
}

Value Graph::append(Node node) {
  nodes_.push_back(std::move(node));
  return {this, int(nodes_.size()) - 1, 0};
}

Value Graph::input(std::string_view name_, Type type, Stage stage) {
  if (stage == Stage::weights)
    fail_usage(
        "input '{}': inputs change with the data or with the seed; what changes with the weights "
        "is a weight",
        printable(name_));
  if (type.dtype != Dtype::floating && type.dtype != Dtype::i32)
    fail(ErrorCode::dtype,
         "input '{}': graphs compute with reals and integers, not with {}; a plan converts them "
         "when the input is set",
         printable(name_), to_string(type.dtype));
  Node n;
  n.out = {type};
  n.stage = stage;
  n.name = name_;
  return name(append(std::move(n)), name_);
}

Value Graph::append_input(const Node& like) {
  Node n = like;
  n.op = nullptr;
  n.in.clear();
  const Value v = append(std::move(n));
  if (!like.name.empty() && !has(like.name)) names_.emplace(like.name, v);
  return v;
}

Value Graph::weight(std::string_view name_, Shape shape) {
  const std::string full = scope_ + std::string(name_);
  if (auto it = names_.find(full); it != names_.end()) {
    if (it->second.shape() != shape)
      fail_shape("weight '{}' is used as {} and as {}", printable(full),
                 to_string(it->second.shape()), to_string(shape));
    return it->second;
  }
  Node n;
  n.out = {Type{shape}};
  n.stage = weight_stage_;
  n.weight = true;
  n.name = full;
  return name(append(std::move(n)), name_);
}

Value Graph::add(std::shared_ptr<const Op> op, Values in) {
  Node n;
  std::vector<Type> types;
  for (const Value& v : in) {
    if (v.graph != this)
      fail_shape("{}: an operand is empty or belongs to another graph", op->kind());
    types.push_back(v.type());
    n.stage = std::max(n.stage, node(v).stage);
  }
  n.out = op->infer(types);
  n.op = std::move(op);
  n.in = std::move(in);
  return append(std::move(n));
}

Value Graph::name(Value value, std::string_view name_) {
  const std::string full = scope_ + std::string(name_);
  if (!names_.emplace(full, value).second)
    fail(ErrorCode::keys, "the graph has two values named '{}'", printable(full));
  Node& n = nodes_[size_t(value.node)];
  if (n.name.empty() && value.output == 0) n.name = full;
  return value;
}

Value Graph::at(std::string_view full_name) const {
  if (auto it = names_.find(full_name); it != names_.end()) return it->second;
  std::vector<std::string> known;
  for (const auto& [known_name, value] : names_) known.push_back(known_name);
  fail(ErrorCode::keys, "the model has no place named '{}'; the nearest are {}",
       printable(full_name), listing(nearest(full_name, known)));
}

Values Graph::match(std::string_view glob) const {
  Values found;
  for (const auto& [known_name, value] : names_)
    if (glob_match(glob, known_name)) found.push_back(value);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

std::vector<std::string> Graph::names_of(Value value) const {
  std::vector<std::string> found;
  for (const auto& [known_name, v] : names_)
    if (v == value) found.push_back(known_name);
  return found;
}

std::map<std::string, Shape> Graph::weights() const {
  std::map<std::string, Shape> found;
  for (const Node& n : nodes_)
    if (n.weight) found.emplace(n.name, n.out[0].shape);
  return found;
}

Graph::Scope::Scope(Graph& graph, std::string_view part)
    : graph_(graph), length_(graph.scope_.size()) {
  graph_.scope_ += part;
  graph_.scope_ += '.';
}

Graph::Scope Graph::scope(std::string_view part, int index) {
  return Scope(*this, index < 0 ? std::string(part) : fmt::format("{}.{}", part, index));
}

}  // namespace whence
