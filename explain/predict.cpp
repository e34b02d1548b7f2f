// The forward pass alone, as a method whose answer is the logits: what `Explainer::logits` runs.
#include "explain/method.h"

namespace whence {
namespace {

class Predict final : public Method {
 public:
  explicit Predict(const Job& job)
      : loops_(job, ScoreKind::logit),
        pass_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items,
                           [](Scored&) { return Values{}; })) {}

  std::vector<const Pass*> passes() const override { return {&pass_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    const auto clean = loops_.items(pass_, inputs, request.targets, nullptr, nullptr);
    std::vector<std::vector<Result>> results(clean.logits.size());
    for (size_t i = 0; i < results.size(); ++i)
      for (size_t t = 0; t < request.targets.size(); ++t) {
        results[i].push_back(loops_.result(clean, int64_t(i), t));
        results[i][t].attribution = Tensor::of({int64_t(clean.logits[i].size())}, clean.logits[i]);
      }
    return results;
  }

 private:
  Loops loops_;
  Pass pass_;
};

}  // namespace

std::unique_ptr<Method> make_predict(const Job& job) { return std::make_unique<Predict>(job); }

}  // namespace whence
