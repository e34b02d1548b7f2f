#include "explain/baselines.h"

#include "io/npy.h"
#include "kernels/random.h"
#include "runtime/check.h"

namespace whence {

Baselines::Baselines(const Model& model, std::string source, int64_t trials, bool several)
    : shape_(model.input), source_(std::move(source)) {
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
  const bool fits = one == shape_ && values_.type().dtype == Dtype::floating;
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
  if (request.draws) {
    const int64_t row = trial * request.draws.shape()[1] + request.first_item + item;
    return request.draws.reals().subspan(size_t(row) * n, n);
  }
  cpu::Stream one_thread;
  k::random_normal(one_thread, {request.seed, request.first_item + uint32_t(item), uint32_t(trial)},
                   int64_t(n), values_.reals().data());
  return values_.reals();
}

void Baselines::check_draws(const Request& request, int64_t items) const {
  if (source_ != "random" || !request.draws) return;
  const Shape& d = request.draws.shape();
  if (d.rank() != 5 || d[0] < count_ || d[1] < int64_t(request.first_item) + items ||
      d.count(2, 5) != shape_.count())
    fail_shape("the draws have shape {}, [{}, items, {}, {}, {}] is needed", to_string(d), count_,
               shape_[0], shape_[1], shape_[2]);
}

}  // namespace whence
