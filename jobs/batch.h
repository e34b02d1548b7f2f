// Inputs in groups: read together, computed together, but failing alone.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "jobs/inputs.h"
#include "whence/error.h"
#include "whence/explain.h"

namespace whence::jobs {

// Results of so many inputs are computed together and become durable together.
inline constexpr size_t group_size = 8;

struct Entry {
  size_t item = 0;  // its place among all inputs of the job
  Picture picture;
  int64_t row = -1;   // of the group's batch; -1: it could not be read
  std::string error;  // why not
};

struct Group {
  std::vector<Entry> entries;  // by ascending items
  Tensor batch;                // [N, C, H, W], the inputs that could be read
};

// Reads the next inputs of `which` (ascending), from `next` on: at most group_size, and fewer where
// their pictures are large. Where a group ends does not depend on what was computed before.
Group read_group(InputReader& reader, const std::vector<Item>& items,
                 const std::vector<size_t>& which, size_t& next);
// Places of the entries that could be read.
std::vector<size_t> readable(const Group& group);

// The message of an error about one input, without its number in a batch and with its name in
// front.
std::string item_message(const Item& item, const Error& error);
// Whether an error is about one input, not about the whole job.
bool is_about_item(const Error& error);

template <class T>
struct Outcome {
  std::optional<T> value;
  std::string error;  // where there is no value
  double milliseconds = 0;
};

// One outcome for each of the entries at `places` (ascending, readable). `compute(batch, first)`
// gets runs of consecutive items of the job as [N, C, H, W], with the place of the first among all
// inputs, and returns N values. Where it throws about one of them, they are computed again one by
// one.
template <class T, class Compute>
std::vector<Outcome<T>> compute_each(const Group& group, const std::vector<size_t>& places,
                                     const std::vector<Item>& items, Compute&& compute) {
  std::vector<Outcome<T>> outcomes;
  const auto entry = [&](size_t i) -> const Entry& { return group.entries[places[i]]; };
  const auto run = [&](size_t begin, size_t end) {
    const auto start = std::chrono::steady_clock::now();
    // Nothing lies between the rows of consecutive items.
    std::vector<T> results =
        compute(group.batch.slice(entry(begin).row, entry(end - 1).row + 1), entry(begin).item);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    for (T& result : results)
      outcomes.push_back({std::move(result), {}, took.count() / double(results.size())});
  };
  for (size_t begin = 0, end; begin < places.size(); begin = end) {
    for (end = begin + 1; end < places.size() && entry(end).item == entry(end - 1).item + 1;
         ++end) {
    }
    try {
      run(begin, end);
      continue;
    } catch (const Error& error) {
      if (!is_about_item(error)) throw;
    }
    for (size_t i = begin; i < end; ++i) try {
        run(i, i + 1);
      } catch (const Error& error) {
        if (!is_about_item(error)) throw;
        outcomes.push_back({{}, item_message(items[entry(i).item], error), 0});
      }
  }
  return outcomes;
}

// [K] of each item, of [N, K]; they share the memory.
std::vector<Tensor> rows_of(const Tensor& logits);

// show(item, value) or fail(item, message) for every entry of the group in turn; `outcomes` are of
// the readable ones.
template <class T, class Show, class Fail>
void each_in_turn(const Group& group, const std::vector<Item>& items,
                  const std::vector<Outcome<T>>& outcomes, Show&& show, Fail&& fail) {
  auto outcome = outcomes.begin();
  for (const Entry& entry : group.entries) {
    const Item& item = items[entry.item];
    if (entry.row < 0)
      fail(item, entry.error);
    else if (outcome->value)
      show(item, *outcome++->value);
    else
      fail(item, outcome++->error);
  }
}

}  // namespace whence::jobs
