// gradient: Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks" (arXiv
// 1312.6034). input-x-gradient: Shrikumar et al. 2016, "Not just a black box" (arXiv 1605.01713).
//   g = d score / d x     E = g, |g| or x * g
#include <cmath>

#include "explain/method.h"

namespace whence {
namespace {

class GradientMethod final : public Method {
 public:
  explicit GradientMethod(const Job& job)
      : id_(job.info.id),
        absolute_(id_ == "gradient" && job.options.flag("abs")),
        loops_(job, score_kind(job.options)),
        pass_(chunked_pass(job.model, job.settings, score_kind(job.options), job.items,
                           [](Scored& s) { return s.gradient_by({s.image}); })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<std::vector<Tensor>> maps(size_t(inputs.shape()[0]));
    const Shape one = Shape(std::span(inputs.shape().begin() + 1, inputs.shape().end()));
    const auto clean = loops_.items(
        pass_, inputs, request.targets, nullptr, [&](int64_t item, size_t, int64_t row) {
          Tensor map = Tensor::of(one, pass_.wanted_row(0, row));
          const auto x = item_of(inputs, item);
          for (size_t i = 0; i < x.size(); ++i) {
            real& g = map.reals()[i];
            g = id_ == "input-x-gradient" ? x[i] * g : absolute_ ? std::abs(g) : g;
          }
          maps[size_t(item)].push_back(std::move(map));
        });
    return loops_.results(clean, std::move(maps), id_);
  }

 private:
  std::string id_;
  bool absolute_;
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_gradient(const Job& job) {
  return std::make_unique<GradientMethod>(job);
}

}  // namespace whence
