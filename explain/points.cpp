#include "explain/points.h"

#include <algorithm>

#include "runtime/check.h"

namespace whence {
namespace {

constexpr int64_t most_slots = 64;  // of sums on the device: 38 MB of 3 x 224 x 224 gradients

Value make_image(Graph& g, const Shape& item, int64_t rows, Points::Other other) {
  const Type image{{rows, item[0], item[1], item[2]}}, number{{rows}};
  const Value to = g.input("points.to", number), x = g.input("points.item", image);
  if (other == Points::Other::none) return interpolate(to, x);
  const Value y = other == Points::Other::given ? g.input("points.other", image)
                                                : g.input("points.keys", {{rows, 4}, Dtype::i32});
  return interpolate(to, x, g.input("points.from", number), y);
}

// The sum of each wanted value, carried from run to run.
Values make_sums(Scored& s, const Values& wanted, int64_t slots) {
  Graph& g = s.graph;
  const Value weight = g.input("points.weight", Type{{s.rows()}}, Stage::seed);
  const Value slot = g.input("points.slot", {{s.rows()}, Dtype::i32}, Stage::seed);
  Values sums;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Type type{wanted[i].shape().with(0, slots)};
    const Value state = g.input(fmt::format("points.sum.{}", i), type, Stage::seed);
    sums.push_back(accumulate(state, wanted[i], weight, slot));
    s.carried.emplace_back(state, sums.back());
  }
  return sums;
}

}  // namespace

Points::Points(const Job& job, ScoreKind kind, Other other, int64_t steps,
               const Pass::Wanted& wanted)
    : other_(other),
      steps_(steps),
      targets_(int64_t(job.request.targets.size())),
      slots_(std::min(std::max(most_slots, targets_), job.items * targets_)),
      pass_(chunked_pass(
          job.model, job.settings, kind, job.items * steps,
          [&](Scored& s) {
            const Values values = wanted(s);
            sums_ = values.size();
            return make_sums(s, values, slots_);
          },
          [&](Graph& g, int64_t rows) { return make_image(g, job.model.input, rows, other); })) {}

struct Points::Work {
  const Tensor& inputs;
  const Request& request;
  const Clean& clean;
  const At& at;
  const std::function<Given(int64_t, int64_t)>& given;
  int64_t first_item = 0;                 // of the group
  std::vector<int64_t> held, held_other;  // what each row of the pass holds
};

// Points [begin, end) of the group, at most as many as the pass has rows; the last one is repeated
// in rows that are left over, and not counted.
void Points::run_chunk(Work& work, int64_t begin, int64_t end) {
  Plan& plan = pass_.plan();
  const Graph& g = pass_.scored().graph;
  const auto row_of = [&](const char* name, int64_t r) {
    const Value v = g.at(name);
    const size_t n = size_t(v.shape().count() / pass_.rows());
    return plan.input(v).subspan(size_t(r) * n, n);
  };
  const auto item_at = [&](int64_t r) {
    return work.first_item + std::min(begin + r, end - 1) / steps_;
  };
  const auto step_at = [&](int64_t r) { return std::min(begin + r, end - 1) % steps_; };
  const auto put = [&](const char* name, int64_t r, std::span<const real> values, int64_t id,
                       std::vector<int64_t>& held) {
    if (std::exchange(held[size_t(r)], id) == id) return;
    std::copy(values.begin(), values.end(), row_of(name, r).begin());
  };
  Tensor keys(Type{{pass_.rows(), 4}, Dtype::i32});
  for (int64_t r = 0; r < pass_.rows(); ++r) {
    const int64_t item = item_at(r), step = step_at(r);
    const Point p = work.at(item, step);
    put("points.item", r, item_of(work.inputs, item), item, work.held);
    row_of("points.to", r)[0] = p.to;
    if (other_ == Other::none) continue;
    row_of("points.from", r)[0] = p.from;
    if (other_ == Other::given) {
      const Given other = work.given(item, step);
      put("points.other", r, other.values, other.id, work.held_other);
    } else {
      const int32_t key[4] = {
          int32_t(uint32_t(work.request.seed)), int32_t(uint32_t(work.request.seed >> 32)),
          int32_t(work.request.first_item + uint32_t(item)), int32_t(uint32_t(step))};
      std::copy(key, key + 4, keys.ints().begin() + 4 * r);
    }
  }
  if (other_ == Other::normal) plan.set(g.at("points.keys"), keys);
  plan.forward();
  Tensor slots(Type{{pass_.rows()}, Dtype::i32});
  for (int64_t t = 0; t < targets_; ++t) {
    for (int64_t r = 0; r < pass_.rows(); ++r) {
      const Chosen c = work.clean.chosen[size_t(item_at(r))][size_t(t)];
      pass_.select(r, c.of, c.against);
      row_of("points.weight", r)[0] = work.at(item_at(r), step_at(r)).weight;
      slots.ints()[size_t(r)] =
          begin + r < end ? int32_t((item_at(r) - work.first_item) * targets_ + t) : -1;
    }
    plan.set(g.at("points.slot"), slots);
    plan.backward();
  }
}

std::vector<Tensor> Points::run(const Tensor& inputs, const Request& request, const Clean& clean,
                                const Loops& loops, const At& at,
                                const std::function<Given(int64_t, int64_t)>& given) {
  const int64_t items = inputs.shape()[0];
  const auto rows = size_t(pass_.rows());
  Work work{inputs,
            request,
            clean,
            at,
            given,
            0,
            std::vector<int64_t>(rows, -1),
            std::vector<int64_t>(rows, -1)};
  const Graph& g = pass_.scored().graph;
  std::vector<Tensor> results;
  for (size_t i = 0; i < sums_; ++i) {
    const Shape& s = g.at(fmt::format("points.sum.{}", i)).shape();
    results.emplace_back(Type{s.with(0, items * targets_)});
  }
  for (int64_t first = 0; first < items; first += group()) {
    work.first_item = first;
    const int64_t count = std::min(group(), items - first), points = count * steps_;
    for (size_t i = 0; i < sums_; ++i)
      std::ranges::fill(pass_.plan().input(g.at(fmt::format("points.sum.{}", i))), real(0));
    for (int64_t begin = 0; begin < points; begin += pass_.rows()) {
      const int64_t end = std::min(begin + pass_.rows(), points);
      run_chunk(work, begin, end);
      loops.advance(double(first * steps_ + end) / double(items * steps_));
    }
    for (size_t i = 0; i < sums_; ++i) {
      const auto sums = pass_.wanted(i);
      const size_t n = sums.size() / size_t(slots_);
      std::copy_n(sums.begin(), size_t(count * targets_) * n,
                  results[i].reals().begin() + int64_t(size_t(first * targets_) * n));
    }
  }
  return results;
}

}  // namespace whence
