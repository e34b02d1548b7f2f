#include "explain/engine/points.h"

#include <algorithm>
#include <utility>

#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t most_slots = 64;  // of sums on the device: 38 MB of 3 x 224 x 224 gradients

Value make_image(Graph& g, const Shape& item, int64_t rows, Points::Other other) {
  std::vector<int64_t> sizes{rows};
  sizes.insert(sizes.end(), item.begin(), item.end());
  const Type image{Shape(sizes)}, number{{rows}};
  const Value to = g.input("points.to", number), x = g.input("points.item", image);
  if (other == Points::Other::none) return interpolate(to, x);
  const Value y = other == Points::Other::given ? g.input("points.other", image)
                                                : g.input("points.keys", {{rows, 4}, Dtype::i32});
  return interpolate(to, x, g.input("points.from", number), y);
}

std::string sum_name(size_t i) { return fmt::format("points.sum.{}", i); }

// The sum of each wanted value, carried from run to run.
Values make_sums(Scene& s, const Values& wanted, int64_t slots) {
  Graph& g = s.graph;
  const Value weight = g.input("points.weight", Type{{s.rows()}}, Stage::seed);
  const Value slot = g.input("points.slot", {{s.rows()}, Dtype::i32}, Stage::seed);
  Values sums;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Type type{wanted[i].shape().with(0, slots)};
    const Value state = g.input(sum_name(i), type, Stage::seed);
    sums.push_back(accumulate(state, wanted[i], weight, slot));
    s.carried.emplace_back(state, sums.back());
  }
  return sums;
}

}  // namespace

Points::Points(const Setup& setup, Other other, int64_t steps, const Wanted& wanted)
    : machine_(setup.machine),
      other_(other),
      steps_(steps),
      targets_(setup.targets()),
      slots_(std::min(std::max(most_slots, targets_), setup.items * targets_)),
      pass_(chunked_pass(
          machine_, {setup.items * steps},
          [&](Scene& s) {
            return std::vector<Map>{{make_sums(s, wanted(s), slots_), nullptr}};
          },
          [&, port = only_port(setup.model(), setup.options.method())](Graph& g, int64_t rows) {
            return make_image(g, port.item.shape, rows, other);
          })) {}

std::span<real> Points::sum(size_t i) {
  return pass_.plan().input(pass_.scene().graph.at(sum_name(i)));
}

struct Points::Work {
  const Batch& batch;
  const At& at;
  const std::function<Given(int64_t, int64_t)>& given;
  int64_t first_item = 0;                 // of the group
  std::vector<int64_t> held, held_other;  // what each row of the pass holds
};

// Points [begin, end) of the group, at most as many as the pass has rows; the last one is repeated
// in rows that are left over, and not counted.
void Points::run_chunk(Work& work, int64_t begin, int64_t end) {
  Plan& plan = pass_.plan();
  const Graph& g = pass_.scene().graph;
  const Request& request = work.batch.request;
  const auto item_at = [&](int64_t r) {
    return work.first_item + std::min(begin + r, end - 1) / steps_;
  };
  const auto step_at = [&](int64_t r) { return std::min(begin + r, end - 1) % steps_; };
  const auto put = [&](const char* name, int64_t r, std::span<const real> values, int64_t id,
                       std::vector<int64_t>& held) {
    if (std::exchange(held[size_t(r)], id) == id) return;
    std::copy(values.begin(), values.end(), pass_.input_row(name, r).begin());
  };
  Tensor keys(Type{{pass_.rows(), 4}, Dtype::i32});
  for (int64_t r = 0; r < pass_.rows(); ++r) {
    const int64_t item = item_at(r), step = step_at(r);
    const Point p = work.at(item, step);
    put("points.item", r, item_of(work.batch.inputs.port(0), item), item, work.held);
    pass_.input_row("points.to", r)[0] = p.to;
    if (other_ == Other::none) continue;
    pass_.input_row("points.from", r)[0] = p.from;
    if (other_ == Other::given) {
      const Given other = work.given(item, step);
      put("points.other", r, other.values, other.id, work.held_other);
    } else {
      const int32_t key[4] = {
          int32_t(uint32_t(request.seed)), int32_t(uint32_t(request.seed >> 32)),
          int32_t(request.first_item + uint32_t(item)), int32_t(uint32_t(step))};
      std::copy(key, key + 4, keys.ints().begin() + 4 * r);
    }
  }
  if (other_ == Other::normal) plan.set(g.at("points.keys"), keys);
  pass_.forward();
  Tensor slots(Type{{pass_.rows()}, Dtype::i32});
  for (int64_t t = 0; t < targets_; ++t) {
    for (int64_t r = 0; r < pass_.rows(); ++r) {
      pass_.select(r, work.batch.clean.chosen[size_t(item_at(r))][size_t(t)]);
      pass_.input_row("points.weight", r)[0] = work.at(item_at(r), step_at(r)).weight;
      slots.ints()[size_t(r)] =
          begin + r < end ? int32_t((item_at(r) - work.first_item) * targets_ + t) : -1;
    }
    plan.set(g.at("points.slot"), slots);
    pass_.backward();
  }
}

std::vector<Tensor> Points::run(const Batch& batch, const At& at,
                                const std::function<Given(int64_t, int64_t)>& given) {
  const int64_t items = batch.inputs.items();
  const auto rows = size_t(pass_.rows());
  Work work{batch, at, given, 0, std::vector<int64_t>(rows, -1), std::vector<int64_t>(rows, -1)};
  const Values& sums = pass_.maps()[0].values;
  std::vector<Tensor> results;
  for (Value v : sums) results.emplace_back(Type{v.shape().with(0, items * targets_)});
  for (int64_t first = 0; first < items; first += group()) {
    work.first_item = first;
    const int64_t count = std::min(group(), items - first), points = count * steps_;
    for (size_t i = 0; i < sums.size(); ++i) std::ranges::fill(sum(i), real(0));
    for (int64_t begin = 0; begin < points; begin += pass_.rows()) {
      const int64_t end = std::min(begin + pass_.rows(), points);
      run_chunk(work, begin, end);
      advance(machine_, double(first * steps_ + end) / double(items * steps_));
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      const auto found = pass_.plan().view(sums[i]);
      const size_t n = found.size() / size_t(slots_);
      std::copy_n(found.begin(), size_t(count * targets_) * n,
                  results[i].reals().begin() + int64_t(size_t(first * targets_) * n));
    }
  }
  return results;
}

}  // namespace whence
