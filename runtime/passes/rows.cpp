// Two analyses over the rows (axis 1) of every value, each a range [begin, end):
//   nonzero: rows that may differ from zero (forwards; a padded slice's gradient is zero outside
//   it); demand:  rows that somebody reads (backwards).
// A row-wise op computes demand * nonzero; a sum over rows runs over the non-zero ones. Values keep
// only those rows ("compact"); a reader that needs more gets zeros around them. Exact: nothing but
// zeros is left out.
#include <algorithm>
#include <tuple>

#include "runtime/ops/shape.h"
#include "runtime/passes/passes.h"

namespace whence {
namespace {

struct Range {
  int64_t begin = 0, end = 0;
  bool empty() const { return end <= begin; }
  bool operator==(const Range&) const = default;
};
Range hull(Range a, Range b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}
Range meet(Range a, Range b) { return {std::max(a.begin, b.begin), std::min(a.end, b.end)}; }
Range whole(const Shape& s) { return {0, s.rank() >= 2 ? s[1] : 1}; }

class RowPass {
 public:
  explicit RowPass(const Program& p) : program_(p), graph_(*p.graph), rewrite_(p) {}

  Program run() {
    for (int n = 0; n < graph_.size(); ++n) find_nonzero(n);
    for (Value v : program_.kept) demand_[v] = whole(v.shape());
    for (int n = graph_.size() - 1; n >= 0; --n) find_demand(n);
    for (int n = 0; n < graph_.size(); ++n) rebuild(n);
    return finish();
  }

 private:
  Value output(int n, int o = 0) const { return {program_.graph.get(), n, o}; }
  Range nonzero(Value v) const {
    auto it = nonzero_.find(v);
    return it == nonzero_.end() ? whole(v.shape()) : it->second;
  }
  Range demand(Value v) const {
    auto it = demand_.find(v);
    return it == demand_.end() ? Range{} : it->second;
  }
  void need(Value v, Range rows) { demand_[v] = hull(demand(v), rows); }

  RowFlow flow(int n) const {
    const Node& node = graph_.node(n);
    if (!node.op) return {};
    std::vector<Type> types;
    for (Value v : node.in) types.push_back(v.type());
    return node.op->row_flow(types);
  }

  // The range of the inputs that decide which rows vanish.
  Range zero_range(const Node& node, const RowFlow& f) const {
    Range r;
    bool first = true;
    for (size_t i = 0; i < node.in.size(); ++i) {
      if (!(f.zero >> i & 1)) continue;
      const Range in = nonzero(node.in[i]);
      r = first ? in : f.any_zero ? meet(r, in) : hull(r, in);
      first = false;
    }
    return r;
  }

  void find_nonzero(int n) {
    const Node& node = graph_.node(n);
    if (!node.op) return;
    const Op* op = node.op.get();
    if (const auto* p = dynamic_cast<const Pad*>(op); p && p->axis == 1) {
      nonzero_[output(n)] = {p->begin, p->begin + node.in[0].shape()[1]};
    } else if (const auto* u = dynamic_cast<const UnitRow*>(op)) {
      nonzero_[output(n)] = {u->index, u->index + 1};
    } else if (const RowFlow f = flow(n); f.kind != RowFlow::none && f.zero != 0) {
      const Range r = zero_range(node, f);
      if (!r.empty()) nonzero_[output(n)] = r;
    }
  }

  void find_demand(int n) {
    const Node& node = graph_.node(n);
    Range asked;
    unsigned used = 0;
    for (int o = 0; o < int(node.out.size()); ++o)
      if (const Range d = demand(output(n, o)); !d.empty()) {
        used |= 1u << o;
        asked = hull(asked, d);
      }
    if (!used) return;
    if (!node.op) return;
    if (const auto* s = dynamic_cast<const Slice*>(node.op.get()); s && s->axis == 1)
      return need(node.in[0], {s->begin, s->end});
    const RowFlow f = flow(n);
    Range rows;  // empty: the op is computed whole
    if (f.kind == RowFlow::by_row && (used & ~f.aligned_outputs) == 0) {
      rows = meet(asked, nonzero(output(n)));
      if (rows.empty()) rows = nonzero(output(n));
    } else if (f.kind == RowFlow::contract &&
               (used & ~(f.aligned_outputs | f.whole_outputs)) == 0) {
      rows = zero_range(node, f);
    }
    int64_t count = 0;
    for (size_t i = 0; i < node.in.size(); ++i)
      if (f.rows >> i & 1) count = node.in[i].shape()[1];
    if (!rows.empty() && rows != Range{0, count}) compact_[n] = rows;
    for (size_t i = 0; i < node.in.size(); ++i) {
      const bool by_row = compact_.contains(n) && (f.rows >> i & 1);
      need(node.in[i], by_row ? rows : whole(node.in[i].shape()));
    }
  }

  // The rows that the rewritten value holds.
  Range held(Value v) const {
    if (auto it = compact_.find(v.node);
        it != compact_.end() && (flow(v.node).aligned_outputs >> v.output & 1))
      return it->second;
    return whole(v.shape());
  }

  // Readers that need the same rows of a value share one node, so that later passes see them as
  // equal.
  Value fetch(Value v, Range rows) {
    const Range have = held(v);
    if (have == rows) return rewrite_(v);
    auto [it, fresh] = fetched_.emplace(std::tuple{v, rows.begin, rows.end}, Value{});
    if (!fresh) return it->second;
    Value now;
    if (rows == whole(v.shape()))
      now = pad(rewrite_(v), 1, have.begin, v.shape()[1]);
    else if (rows.begin >= have.begin && rows.end <= have.end)
      now = slice(rewrite_(v), 1, rows.begin - have.begin, rows.end - have.begin);
    else
      now = slice(fetch(v, whole(v.shape())), 1, rows.begin, rows.end);
    return it->second = now;
  }

  void rebuild(int n) {
    const Node& node = graph_.node(n);
    const bool used = !node.op || std::any_of(node.out.begin(), node.out.end(), [&](const Type& t) {
      return !demand(output(n, int(&t - node.out.data()))).empty();
    });
    if (!used) return;
    if (!node.op) return rewrite_.copy(n);
    const auto compact = compact_.find(n);
    const RowFlow f = flow(n);
    Values in;
    for (size_t i = 0; i < node.in.size(); ++i) {
      const bool by_row = compact != compact_.end() && (f.rows >> i & 1);
      in.push_back(fetch(node.in[i], by_row ? compact->second : whole(node.in[i].shape())));
    }
    const Value now = rewrite_.graph().add(node.op, std::move(in));
    for (int o = 0; o < int(node.out.size()); ++o)
      rewrite_.put(output(n, o), {now.graph, now.node, o});
  }

  Program finish() {
    for (Value v : program_.kept)
      if (held(v) != whole(v.shape())) rewrite_.put(v, fetch(v, whole(v.shape())));
    return rewrite_.finish();
  }

  const Program& program_;
  const Graph& graph_;
  Rewriter rewrite_;
  std::map<Value, Range> nonzero_, demand_;
  std::map<int, Range> compact_;
  std::map<std::tuple<Value, int64_t, int64_t>, Value> fetched_;
};

}  // namespace

Program restrict_rows(Program program) { return RowPass(program).run(); }

}  // namespace whence
