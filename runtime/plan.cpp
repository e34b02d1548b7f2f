#include <algorithm>
#include <cfenv>
#include <cstring>
#include <utility>

#include "runtime/exclusive.h"
#include "runtime/plan_impl.h"
#include "runtime/text.h"

namespace whence {

namespace {

// Results must not depend on the caller's rounding mode.
class DefaultRounding {
 public:
  DefaultRounding() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultRounding() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_;
};

}  // namespace

Plan::Impl::Impl(const Values& keep, const Options& options) : asked(keep) {
  program = extract(keep, options.given);
  program = run_passes(std::move(program), options.precision, options.without, passes);
  stream = make_stream(options.device, options.threads);
  stream.set_precision(options.precision);
  place_key = fmt::format("{}/{}", to_string(options.device), to_string(options.precision));
  number_slots();
  find_carried(options.carried);
  place_slots();
  memory = allocate(stream, arena_bytes);
  if (!stream.on_host()) make_mirrors();
  const auto is_weight = [&](const Slot& s) { return s.buffer < 0 && node(s.value.node).weight; };
  if (std::none_of(slots.begin(), slots.end(), is_weight)) bind({});
}

void Plan::Impl::bind(const Weights& weights) {
  const DefaultRounding rounding;
  take_weights(weights);
  compute_weights(weights);
  drop_unread_weights();
  for (auto& [s, mirror] : mirrors)
    mirror.stale = mirror.stale || node(slots[size_t(s)].value.node).stage == Stage::weights;
  make_views();
  data_work.forget();
  seed_work.forget();
  bound = true;
}

void Plan::Impl::number_slots() {
  const Graph& g = *program.graph;
  const auto read = readers(program);
  for (int n = 0; n < g.size(); ++n) {
    const Node& nd = g.node(n);
    Step step{n, nd.stage, {}, {}, {}, {}};
    for (Value v : nd.in) step.in.push_back(slot(v));
    for (int o = 0; o < int(nd.out.size()); ++o) {
      const Value v{program.graph.get(), n, o};
      const bool used = read.contains(v) || !nd.op;
      step.out.push_back(used ? int(slots.size()) : -1);
      if (!used) continue;
      slots_of[v] = int(slots.size());
      slots.push_back({v, -1, 0, {}});
    }
    if (!nd.op) continue;
    if (std::all_of(step.out.begin(), step.out.end(), [](int s) { return s < 0; })) continue;
    (nd.stage == Stage::weights ? weight_steps : steps).push_back(std::move(step));
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const Step& a, const Step& b) { return a.stage < b.stage; });
  data_steps = int(std::count_if(steps.begin(), steps.end(),
                                 [](const Step& s) { return s.stage == Stage::data; }));
}

void* Plan::Impl::address(const Slot& s) const {
  if (s.buffer < 0) return const_cast<void*>(s.tensor.data());
  return static_cast<char*>(memory.get()) + buffers[size_t(s.buffer)].offset + s.offset;
}

void* Plan::Impl::scratch_address(const Step& step) const {
  if (step.scratch < 0) return nullptr;
  return static_cast<char*>(memory.get()) + buffers[size_t(step.scratch)].offset;
}

void Plan::Impl::find_carried(const std::vector<std::pair<Value, Value>>& pairs) {
  for (const auto& [input, value] : pairs) {
    const auto from = program.inputs.find(input);
    const int to = kept_slot(value), over = node(slots[size_t(to)].value.node).op->may_overwrite();
    if (from == program.inputs.end() || over < 0 ||
        node(slots[size_t(to)].value.node).in[size_t(over)] != from->second)
      fail_usage("the value of a carried pair must be an op that may take over the input's memory");
    carried[to] = slot(from->second);
  }
}

void Plan::Impl::make_views() {
  const auto view = [&](int s) {
    return s < 0 ? View{} : View{address(slots[size_t(s)]), slots[size_t(s)].value.type()};
  };
  for (Step& step : steps) {
    step.in_views.clear();
    step.out_views.clear();
    for (int s : step.in) step.in_views.push_back(view(s));
    for (size_t o = 0; o < step.out.size(); ++o) {
      View v = view(step.out[o]);
      if (!v.data) v.type = node(step.node).out[o];
      step.out_views.push_back(v);
    }
  }
}

// What the weights stage computed is told apart by where and how.
std::string Plan::Impl::key(Value v) const { return fmt::format("{} {}", place_key, recipe(v)); }

std::string Plan::Impl::recipe(Value v) const {
  const Node& nd = node(v.node);
  if (!nd.op) return nd.name;
  std::string text = fmt::format("{}({}){}[", nd.op->kind(), nd.op->detail(), to_string(v.shape()));
  for (Value in : nd.in) text += recipe(in) + ",";
  return text + "]";
}

void Plan::Impl::take_weights(const Weights& weights) {
  std::vector<std::string> missing, misshapen;
  for (Slot& s : slots) {
    const Node& nd = node(s.value.node);
    if (nd.op || !nd.weight || nd.stage != Stage::weights) continue;
    auto it = weights.tensors.find(nd.name);
    if (it == weights.tensors.end())
      missing.push_back(nd.name);
    else if (it->second.type() != s.value.type())
      misshapen.push_back(fmt::format("{} is {}, {} is needed", nd.name,
                                      to_string(it->second.shape()), to_string(s.value.shape())));
    else
      s.tensor = it->second;
  }
  if (!missing.empty() || !misshapen.empty())
    fail(ErrorCode::keys,
         "the weights do not fit the model: {} missing{}{}; {} of another shape{}{}",
         missing.size(), missing.empty() ? "" : " ", listing(missing), misshapen.size(),
         misshapen.empty() ? "" : " ", listing(misshapen));
  for (Slot& s : slots)
    if (s.tensor && !node(s.value.node).op) {
      if (s.tensor.device() == stream.device) continue;
      const Type type = s.tensor.type();
      s.tensor = s.tensor.to({});
      if (stream.on_host()) continue;
      s.tensor = weights.derived->get(key(s.value), type, stream.device, [&] {
        const auto copy = allocate(stream, type.bytes());
        copy_in(stream, copy.get(), s.tensor.data(), type.bytes());
        wait(stream);
        return copy;
      });
    }
}

void Plan::Impl::compute_weights(const Weights& weights) {
  for (const Step& step : weight_steps) {
    // Every op that runs in this stage has one output.
    Slot& out = slots[size_t(step.out[0])];
    const Op& op = *node(step.node).op;
    std::vector<View> in;
    std::vector<Type> types;
    for (int s : step.in) {
      in.push_back({address(slots[size_t(s)]), slots[size_t(s)].value.type()});
      types.push_back(in.back().type);
    }
    out.tensor = weights.derived->get(key(out.value), out.value.type(), stream.device, [&] {
      if (const int64_t offset = op.alias_offset(types); offset >= 0) {
        const auto& whole = slots[size_t(step.in[0])].tensor.share();
        return std::shared_ptr<void>(whole, static_cast<real*>(whole.get()) + offset);
      }
      const auto fresh = allocate(stream, out.value.type().bytes());
      const View to{fresh.get(), out.value.type()};
      const size_t needed = scratch_bytes(stream, op, in, {&to, 1});
      const auto scratch = allocate(stream, needed);
      stream.loan->lend(scratch.get(), needed);
      op.run(stream, in, {&to, 1});
      wait(stream);
      return fresh;
    });
  }
}

// Copies on the device whose only reader was the weights stage.
void Plan::Impl::drop_unread_weights() {
  std::vector<bool> read(slots.size(), false);
  for (const Step& step : steps)
    for (int s : step.in) read[size_t(s)] = true;
  for (Value v : program.kept) read[size_t(slot(v))] = true;
  for (size_t s = 0; s < slots.size(); ++s)
    if (slots[s].buffer < 0 && !read[s]) slots[s].tensor = {};
}

void Plan::Impl::run(Stage stage) {
  const Exclusive turn(running, "the plan");
  if (!bound) fail_usage("the plan has weights but none are bound: call bind first");
  const DefaultRounding rounding;
  const int from = stage == Stage::data ? 0 : data_steps;
  const int to = stage == Stage::data ? data_steps : int(steps.size());
  for (auto& [s, mirror] : mirrors) {
    const Node& nd = node(slots[size_t(s)].value.node);
    if (nd.op) {
      mirror.stale = mirror.stale || nd.stage == stage;
    } else if (nd.stage == stage && std::exchange(mirror.changed, false)) {
      copy_in(stream, address(slots[size_t(s)]), mirror.host.data(), mirror.host.type().bytes());
    }
  }
  const auto queue = [&] {
    for (int i = from; i < to; ++i) {
      const Step& step = steps[size_t(i)];
      if (step.alias) continue;
      stream.loan->lend(scratch_address(step), step.scratch_bytes);
      node(step.node).op->run(stream, step.in_views, step.out_views);
    }
  };
  if (stream.on_host()) return queue();
  (stage == Stage::data ? data_work : seed_work).run(stream, queue);
  wait(stream);
}

std::shared_ptr<DerivedCache> make_derived_cache() { return std::make_shared<DerivedCache>(); }

Plan::Plan(const Values& keep, Options options) : impl_(std::make_unique<Impl>(keep, options)) {}
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
Plan::~Plan() = default;

void Plan::bind(const Weights& weights) {
  const Exclusive turn(impl_->running, "the plan");
  impl_->bind(weights);
}

void Plan::forward() { impl_->run(Stage::data); }
void Plan::backward() { impl_->run(Stage::seed); }

size_t Plan::bytes() const { return impl_->arena_bytes; }

size_t Plan::derived_bytes() const {
  size_t n = 0;
  for (const Slot& s : impl_->slots)
    if (s.buffer < 0 && s.tensor && impl_->node(s.value.node).op) n += s.value.type().bytes();
  return n;
}

int Plan::steps(Stage stage) const {
  if (stage == Stage::weights) return int(impl_->weight_steps.size());
  const int total = int(impl_->steps.size());
  return stage == Stage::data ? impl_->data_steps : total - impl_->data_steps;
}

int Plan::steps(std::string_view kind) const {
  return int(std::count_if(impl_->steps.begin(), impl_->steps.end(),
                           [&](const Step& s) { return impl_->node(s.node).op->kind() == kind; }));
}

}  // namespace whence
