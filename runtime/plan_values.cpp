// What goes into a plan and what comes out: by the host, or on the plan's device.
#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/plan_impl.h"
#include "runtime/text.h"

namespace whence {

void Plan::Impl::make_mirrors() {
  const auto mirror = [&](int s) {
    const Type type = slots[size_t(s)].value.type();
    const auto host = allocate_host(stream, type.bytes());
    std::memset(host.get(), 0, type.bytes());
    mirrors[s].host = Tensor(type, host);
  };
  for (const auto& [asked_for, input] : program.inputs)
    if (node(input.node).stage != Stage::weights) {
      mirror(slot(input));
      mirrors[slot(input)].changed = true;  // inputs start as zeros
    }
  for (Value v : program.kept)
    if (!mirrors.contains(slot(v))) mirror(slot(v));
}

void* Plan::Impl::host_address(int s) {
  const auto at = mirrors.find(s);
  if (at == mirrors.end()) return address(slots[size_t(s)]);
  Mirror& mirror = at->second;
  if (mirror.stale) {
    copy_out(stream, mirror.host.data(), address(slots[size_t(s)]), mirror.host.type().bytes());
    wait(stream);
    mirror.stale = false;
  }
  return mirror.host.data();
}

Tensor Plan::Impl::on_device(int s) {
  const Slot& at = slots[size_t(s)];
  if (at.buffer < 0) return at.tensor;
  const auto mirror = mirrors.find(s);
  if (mirror != mirrors.end() && std::exchange(mirror->second.changed, false)) {
    copy_in(stream, address(at), mirror->second.host.data(), at.value.type().bytes());
    wait(stream);
  }
  return Tensor(at.value.type(), std::shared_ptr<void>(memory, address(at)), stream.device);
}

int Plan::Impl::input_slot(Value input) const {
  const auto it = program.inputs.find(input);
  if (it == program.inputs.end())
    fail(ErrorCode::keys, "nothing that the plan keeps depends on the input '{}'",
         input ? input.graph->node(input).name : "");
  const int s = slot(it->second);
  if (slots[size_t(s)].buffer < 0)
    fail_usage("'{}' is a weight: it is set by bind", node(it->second.node).name);
  return s;
}

std::span<real> Plan::input(Value input) {
  const int s = impl_->input_slot(input);
  void* const host = impl_->host_address(s);
  if (const auto mirror = impl_->mirrors.find(s); mirror != impl_->mirrors.end())
    mirror->second.changed = true;
  return {static_cast<real*>(host), size_t(impl_->slots[size_t(s)].value.shape().count())};
}

namespace {

// The value in the element type that its input computes with.
Tensor converted(Value at, const Tensor& value) {
  const Dtype from = value.type().dtype, to = at.type().dtype;
  if (from == to) return value;
  const std::string& name = at.graph->node(at).name;
  const Tensor host = value.to({});
  Tensor result(at.type());
  if (from == Dtype::u8 && to == Dtype::floating) {
    std::ranges::copy(host.values<uint8_t>(), result.reals().begin());
  } else if (from == Dtype::i64 && to == Dtype::i32) {
    const auto wide = host.values<int64_t>();
    for (size_t i = 0; i < wide.size(); ++i) {
      if (!std::in_range<int32_t>(wide[i]))
        fail(ErrorCode::item, "'{}': {} at {} is beyond int32", name, wide[i],
             index_text(int64_t(i), value.shape()));
      result.ints()[i] = int32_t(wide[i]);
    }
  } else {
    fail(ErrorCode::dtype, "'{}' takes {}, a tensor of {} was given", name, to_string(to),
         to_string(from));
  }
  return result;
}

}  // namespace

void Plan::set(Value at, const Tensor& given) {
  if (given.shape() != at.shape())
    fail_shape("'{}' has shape {}, a tensor of shape {} was given", at.graph->node(at).name,
               to_string(at.shape()), to_string(given.shape()));
  const Tensor value = converted(at, given);
  const size_t bytes = value.type().bytes();
  const int s = impl_->input_slot(at);
  const auto mirror = impl_->mirrors.find(s);
  if (mirror == impl_->mirrors.end() || value.device() != impl_->stream.device) {
    const Tensor host = value.to({});
    if (bytes > 0) std::memcpy(input(at).data(), host.data(), bytes);
    return;
  }
  copy_between(impl_->stream, impl_->address(impl_->slots[size_t(s)]), value.device(), value.data(),
               value.device(), bytes);
  wait(impl_->stream);
  mirror->second.changed = false;
  mirror->second.stale = true;
}

std::span<const real> Plan::view(Value kept) const {
  const int index = impl_->kept_slot(kept);
  return {static_cast<const real*>(impl_->host_address(index)),
          size_t(impl_->slots[size_t(index)].value.shape().count())};
}

Tensor Plan::get(Value kept) const {
  const void* const host = impl_->host_address(impl_->kept_slot(kept));
  Tensor copy(kept.type());
  if (kept.type().bytes() > 0) std::memcpy(copy.data(), host, kept.type().bytes());
  return copy;
}

Tensor Plan::get(Value kept, Device device) const {
  if (device.kind == Device::cpu) return get(kept);
  const Tensor there = share(kept);
  if (there.device() != device) return there.to(device);
  const Type type = there.type();
  Tensor copy(type, allocate(impl_->stream, type.bytes()), device);
  copy_between(impl_->stream, copy.data(), device, there.data(), device, type.bytes());
  wait(impl_->stream);
  return copy;
}

Tensor Plan::share(Value kept) const { return impl_->on_device(impl_->kept_slot(kept)); }

}  // namespace whence
