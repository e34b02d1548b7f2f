#include "explain/methods/baselines.h"

#include "io/npy.h"
#include "kernels/random.h"
#include "runtime/check.h"

namespace whence {

Baselines::Baselines(const Setup& setup, int64_t trials, bool several)
    : shape_(only_port(setup.model(), setup.options.method()).item.shape),
      source_(setup.options.text("baselines")) {
  if (source_ != "random" && (several || source_ != "zero")) {
    read(several);
  } else {
    count_ = source_ == "random" ? trials : 1;
    values_ = Tensor(Type{shape_});
  }
}

void Baselines::read(bool several) {
  values_ = read_npy(source_);
  const Shape s = values_.shape();
  const bool batch = s.rank() == shape_.rank() + 1;
  const Shape one = batch ? Shape(std::span(s.begin() + 1, s.end())) : s;
  count_ = batch ? s[0] : 1;
  if (const Dtype dtype = values_.type().dtype; dtype != Dtype::floating)
    fail(ErrorCode::dtype, "{}: {} are given, a baseline has reals", printable(source_),
         to_string(dtype));
  const bool fits = one == shape_;
  if (!several && (!fits || count_ != 1))
    fail_shape("{}: a baseline of shape {} was given, the model's input is {}", printable(source_),
               to_string(s), to_string(shape_));
  if (several && (!fits || count_ < 2))
    fail_shape(
        "{}: baselines of shape {} were given, two or more of the model's input {} are needed",
        printable(source_), to_string(s), to_string(shape_));
}

std::span<const real> Baselines::at(const Request& request, int64_t item, int64_t trial) {
  const size_t n = size_t(shape_.count());
  if (source_ == "zero") return values_.reals();
  if (source_ != "random") return values_.reals().subspan(size_t(trial) * n, n);
  if (request.draws) return draw_of(request, item, trial);
  cpu::Stream one_thread;
  k::random_normal(one_thread, {request.seed, request.first_item + uint32_t(item), uint32_t(trial)},
                   int64_t(n), values_.reals().data());
  return values_.reals();
}

void Baselines::check_draws(const Request& request, int64_t items) const {
  if (source_ == "random") whence::check_draws(request, items, count_, shape_);
}

void check_draws(const Request& request, int64_t items, int64_t count, const Shape& item) {
  if (!request.draws) return;
  const Shape& d = request.draws.shape();
  if (const Dtype dtype = request.draws.type().dtype; dtype != Dtype::floating)
    fail(ErrorCode::dtype, "the draws are {}, reals are needed", to_string(dtype));
  if (d.rank() == item.rank() + 2 && d[0] >= count && d[1] >= int64_t(request.first_item) + items &&
      d.count(2, d.rank()) == item.count())
    return;
  std::string needed = fmt::format("[{}, items", count);
  for (const int64_t size : item) needed += fmt::format(", {}", size);
  fail_shape("the draws have shape {}, {}] is needed", to_string(d), needed);
}

std::span<const real> draw_of(const Request& request, int64_t item, int64_t draw) {
  const Shape& d = request.draws.shape();
  const size_t n = size_t(d.count(2, d.rank()));
  return request.draws.reals().subspan(size_t(draw * d[1] + request.first_item + item) * n, n);
}

}  // namespace whence
