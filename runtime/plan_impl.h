// The inside of a Plan.
#pragma once

#include <atomic>
#include <map>
#include <mutex>

#include "runtime/arena.h"
#include "runtime/check.h"
#include "runtime/passes/passes.h"
#include "runtime/stream.h"
#include "whence/plan.h"

namespace whence {

// Tensors by a key that spells out how they were computed from named weights. Entries die with
// their last plan.
class DerivedCache {
 public:
  // `compute` returns the tensor's memory on the device.
  template <class Compute>
  Tensor get(const std::string& key, Type type, Device device, Compute compute) {
    const std::lock_guard lock(mutex_);
    std::weak_ptr<void>& slot = entries_[key];
    if (auto memory = slot.lock()) return Tensor(type, memory, device);
    const std::shared_ptr<void> fresh = compute();
    slot = fresh;
    return Tensor(type, fresh, device);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<void>> entries_;
};

struct Step {
  int node;
  Stage stage;
  std::vector<int> in, out;  // slots; -1: an output that nobody reads
  std::vector<View> in_views, out_views;
  bool alias = false;  // its output is its input's memory: nothing runs
  size_t scratch_bytes = 0;
  int scratch = -1;  // the buffer of its scratch memory
};

struct Slot {
  Value value;
  int buffer = -1;    // in the arena; -1: a tensor of the weights stage
  size_t offset = 0;  // inside the buffer
  Tensor tensor;      // weights stage
};

// Bytes of scratch memory that a run of `op` takes on `s`, on memory that need not exist.
size_t scratch_bytes(Stream& s, const Op& op, std::span<const View> in, std::span<const View> out);

struct Plan::Impl {
  Impl(const Values& keep, const Options& options);
  void number_slots();
  void place_slots();
  std::vector<int> last_readers() const;
  std::vector<bool> pinned_slots() const;
  int64_t alias_offset(const Step& step) const;
  int overwritten(int step) const;
  std::vector<Type> types_read(const Step& step) const;
  size_t scratch_of(const Step& step);
  void bind(const Weights& weights);
  void make_views();
  void run(Stage stage);
  std::string key(Value v) const;
  std::string recipe(Value v) const;
  void take_weights(const Weights& weights);
  void compute_weights(const Weights& weights);
  void drop_unread_weights();
  void find_carried(const std::vector<std::pair<Value, Value>>& pairs);
  void make_mirrors();
  void* host_address(int slot);  // for the caller to read
  Tensor on_device(int slot);    // the memory itself
  int input_slot(Value input) const;
  void* address(const Slot& s) const;
  void* scratch_address(const Step& step) const;

  const Node& node(int n) const { return program.graph->node(n); }
  int slot(Value v) const {
    auto it = slots_of.find(v);
    WHENCE_ASSERT(it != slots_of.end());
    return it->second;
  }
  int kept_slot(Value kept) const {
    for (size_t i = 0; i < asked.size(); ++i)
      if (asked[i] == kept) return slot(program.kept[i]);
    fail(ErrorCode::keys, "the plan was not asked to keep '{}'",
         kept ? kept.graph->node(kept).name : "");
  }

  Values asked;
  Program program;
  std::vector<std::string> passes;  // that made it
  Stream stream;
  std::string place_key;
  std::vector<Step> weight_steps, steps;  // steps: data stage, then seed stage
  int data_steps = 0;
  std::vector<Slot> slots;
  std::map<Value, int> slots_of;
  std::vector<Lifetime> buffers;
  std::shared_ptr<void> memory;  // the arena
  // Host copies of inputs and kept values by slot, where the arena is a device's.
  struct Mirror {
    Tensor host;
    bool changed = false;  // by the caller: to be copied in before the device's memory is read
    bool stale = false;    // the device's memory is newer: to be copied out before this is read
  };
  std::map<int, Mirror> mirrors;
  std::map<int, int> carried;  // slot of a value -> slot of the input whose memory it takes
  Recording data_work, seed_work;
  size_t arena_bytes = 0;
  bool bound = false;
  std::atomic_flag running = ATOMIC_FLAG_INIT;
};

}  // namespace whence
