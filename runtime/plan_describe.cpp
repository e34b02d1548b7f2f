// What a plan will do, in words and numbers.
#include <fmt/format.h>

#include "runtime/plan_impl.h"

namespace whence {

double Plan::flops(Stage stage) const {
  double n = 0;
  for (const Step& step : impl_->steps) {
    const Node& nd = impl_->node(step.node);
    std::vector<Type> types;
    for (Value v : nd.in) types.push_back(v.type());
    if (step.stage == stage) n += nd.op->flops(types, nd.out);
  }
  return n;
}

std::string Plan::describe() const {
  std::string text = fmt::format(
      "{} activation bytes, {} derived weight bytes, passes {}\n{:>4} {:<5} {:<16} {:<20} {:<18} "
      "{:>12} {:>9} {:>10} {:>10} {:>8}  {}\n",
      bytes(), derived_bytes(), fmt::join(impl_->passes, " "), "step", "stage", "op", "options",
      "shape", "offset", "lifetime", "bytes", "scratch", "Mflop", "name");
  for (size_t i = 0; i < impl_->steps.size(); ++i) {
    const Step& step = impl_->steps[i];
    const Node& nd = impl_->node(step.node);
    std::vector<Type> types;
    for (Value v : nd.in) types.push_back(v.type());
    const double mflop = nd.op->flops(types, nd.out) / 1e6;
    for (int s : step.out) {
      if (s < 0) continue;
      const Slot& out = impl_->slots[size_t(s)];
      const Lifetime& life = impl_->buffers[size_t(out.buffer)];
      text += fmt::format(
          "{:>4} {:<5} {:<16} {:<20} {:<18} {:>12} {:>9} {:>10} {:>10} {:>8.1f}  {}\n", i,
          step.stage == Stage::data ? "data" : "seed", nd.op->kind(), nd.op->detail(),
          to_string(out.value.shape()), life.offset + out.offset,
          fmt::format("{}-{}", life.first, life.last), out.value.type().bytes(), step.scratch_bytes,
          mflop, out.value.output == 0 ? nd.name : fmt::format("output {}", out.value.output));
    }
  }
  return text;
}

}  // namespace whence
