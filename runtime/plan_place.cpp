// Where a plan's values live: how long each must last, which must last longer than its readers, and
// which may share the memory of another.
#include <algorithm>

#include "runtime/plan_impl.h"

namespace whence {

// Lifetimes: by slot, the last step that reads it; -1: none does.
std::vector<int> Plan::Impl::last_readers() const {
  std::vector<int> last(slots.size(), -1);
  for (int i = 0; i < int(steps.size()); ++i)
    for (int s : steps[size_t(i)].in) last[size_t(s)] = i;
  return last;
}

// Pins: slots whose content must stay although no later step reads it: what the caller sets, what
// the caller reads, and what the seed stage reads of the data stage, because backward() may run
// again without forward().
std::vector<bool> Plan::Impl::pinned_slots() const {
  std::vector<bool> pinned(slots.size(), false);
  const auto stage = [&](int s) { return node(slots[size_t(s)].value.node).stage; };
  for (size_t s = 0; s < slots.size(); ++s)
    if (!node(slots[s].value.node).op && stage(int(s)) != Stage::weights) pinned[s] = true;
  for (Value v : program.kept) pinned[size_t(slot(v))] = true;
  for (size_t i = size_t(data_steps); i < steps.size(); ++i)
    for (int s : steps[i].in)
      if (stage(s) == Stage::data) pinned[size_t(s)] = true;
  return pinned;
}

std::vector<Type> Plan::Impl::types_read(const Step& step) const {
  std::vector<Type> types;
  for (int s : step.in) types.push_back(slots[size_t(s)].value.type());
  return types;
}

// Aliases: the element of the first operand at which output 0 begins, if it is a part of that
// operand in the arena; else -1.
int64_t Plan::Impl::alias_offset(const Step& step) const {
  const int64_t offset = node(step.node).op->alias_offset(types_read(step));
  return offset >= 0 && slots[size_t(step.in[0])].buffer >= 0 ? offset : -1;
}

// Overwriting: the operand whose memory output 0 of step `i` may take, which nothing reads later
// and no other operand is a part of; -1: none.
int Plan::Impl::overwritten(int i) const {
  const Step& step = steps[size_t(i)];
  const int over = node(step.node).op->may_overwrite();
  if (over < 0) return -1;
  const auto buffer_of = [&](int s) { return slots[size_t(s)].buffer; };
  const int from = step.in[size_t(over)], buffer = buffer_of(from);
  if (buffer < 0 || buffers[size_t(buffer)].last != i) return -1;
  if (slots[size_t(from)].value.type().bytes() != slots[size_t(step.out[0])].value.type().bytes())
    return -1;
  const auto same = [&](int s) { return buffer_of(s) == buffer; };
  return std::count_if(step.in.begin(), step.in.end(), same) == 1 ? over : -1;
}

size_t scratch_bytes(Stream& s, const Op& op, std::span<const View> in, std::span<const View> out) {
  s.loan->ask();
  op.run(s, in, out);
  const size_t bytes = s.loan->most();
  s.loan->end();
  return bytes;
}

// Scratch: asked for before there is memory. How an address is aligned may matter; a weight may be
// a part of a larger one.
size_t Plan::Impl::scratch_of(const Step& step) {
  const auto view = [&](const Slot& s) {
    const size_t from_line = s.buffer < 0 ? sizeof(real) : s.offset % Loan::alignment;
    return View{static_cast<char*>(Loan::nowhere()) + from_line, s.value.type()};
  };
  std::vector<View> in, out;
  for (int s : step.in) in.push_back(view(slots[size_t(s)]));
  for (size_t o = 0; o < step.out.size(); ++o) {
    const int s = step.out[o];
    out.push_back(s < 0 ? View{nullptr, node(step.node).out[o]} : view(slots[size_t(s)]));
  }
  return scratch_bytes(stream, *node(step.node).op, in, out);
}

void Plan::Impl::place_slots() {
  const int end = int(steps.size());
  const std::vector<int> last_read = last_readers();
  const std::vector<bool> pinned = pinned_slots();
  const auto new_buffer = [&](int s, int first, int last) {
    slots[size_t(s)].buffer = int(buffers.size());
    buffers.push_back({slots[size_t(s)].value.type().bytes(), first, last, 0});
  };
  const auto share = [&](int s, int source, size_t offset) {
    slots[size_t(s)].buffer = slots[size_t(source)].buffer;
    slots[size_t(s)].offset = slots[size_t(source)].offset + offset;
  };
  for (int s = 0; s < int(slots.size()); ++s) {
    const Node& nd = node(slots[size_t(s)].value.node);
    if (!nd.op && nd.stage != Stage::weights) new_buffer(s, -1, end);
  }
  for (int i = 0; i < end; ++i) {
    Step& step = steps[size_t(i)];
    for (size_t o = 0; o < step.out.size(); ++o) {
      const int s = step.out[o];
      if (s < 0) continue;
      const auto carry = carried.find(s);
      if (carry != carried.end()) {
        share(s, carry->second, 0);
        continue;
      }
      const int64_t alias = o == 0 ? alias_offset(step) : -1;
      const int over = o == 0 && alias < 0 ? overwritten(i) : -1;
      step.alias = step.alias || alias >= 0;
      if (alias >= 0)
        share(s, step.in[0], size_t(alias) * size_of(slots[size_t(s)].value.type().dtype));
      else if (over >= 0)
        share(s, step.in[size_t(over)], 0);
      else
        new_buffer(s, i, i);
      Lifetime& life = buffers[size_t(slots[size_t(s)].buffer)];
      life.last = std::max(life.last, pinned[size_t(s)] ? end : last_read[size_t(s)]);
    }
    step.scratch_bytes = step.alias ? 0 : scratch_of(step);
    if (step.scratch_bytes == 0) continue;
    step.scratch = int(buffers.size());
    buffers.push_back({step.scratch_bytes, i, i, 0, Loan::alignment});
  }
  arena_bytes = place(buffers);
}

}  // namespace whence
