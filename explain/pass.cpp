#include "explain/pass.h"

#include <algorithm>
#include <cmath>

#include "runtime/check.h"

namespace whence {

Scored::Scored(const Model& m, ScoreKind kind, int64_t rows, const ImageOf& image_of) : model(m) {
  if (image_of) graph.name(image_of(graph, rows), "image");
  logits = m.build(graph, rows);
  image = graph.at("image");
  outputs = kind == ScoreKind::probability ? softmax(logits)
            : kind == ScoreKind::logit     ? logits
                                           : scale(log_softmax(logits), -1);
  selector = graph.input("selector", logits.type(), Stage::seed);
}

Attention Scored::attention(int64_t block) const {
  const auto at = [&](const char* part) {
    return graph.at(fmt::format("blocks.{}.attn.{}", block, part));
  };
  return {at("context"), at("probs"), at("probs_mean")};
}

std::vector<int64_t> Scored::readout_tokens(std::string_view method) const {
  if (!model.token_readout)
    fail(ErrorCode::unsupported,
         "{}: the head of '{}' reads the mean of the patches, {} needs a class token", method,
         model.name, method);
  if (graph.has("head_dist.weight")) return {0, 1};
  return {0};
}

Value Scored::readout() {
  const int64_t b = rows(), s = tokens();
  if (model.token_readout) {
    const auto read = readout_tokens("");
    Value sum = unit_row(graph, b, s, read[0]);
    for (size_t i = 1; i < read.size(); ++i) sum = add(sum, unit_row(graph, b, s, read[i]));
    return read.size() == 1 ? sum : scale(sum, real(1) / real(read.size()));
  }
  const int64_t patches = s - model.prefix_tokens;
  const Value ones = affine(scale(unit_row(graph, b, patches, 0), 0), 1, real(1) / real(patches));
  return model.prefix_tokens ? pad(ones, 1, model.prefix_tokens, s) : ones;
}

Value Scored::readout_of_probs(int64_t block) {
  const Attention a = attention(block);
  if (!model.token_readout) return einsum(readout(), a.probs_mean, "bi,bij->bj");
  const auto read = readout_tokens("");
  Value sum;
  for (int64_t token : read) {
    const Value row = mean(attention_row(a, token), {1});
    sum = sum ? add(sum, row) : row;
  }
  return read.size() == 1 ? sum : scale(sum, real(1) / real(read.size()));
}

namespace {

Values with_logits(Values wanted, Value logits) {
  wanted.push_back(logits);
  return wanted;
}

}  // namespace

Pass::Pass(const Model& model, ScoreKind kind, int64_t rows, const Explainer::Settings& settings,
           const Wanted& wanted, const Scored::ImageOf& image_of)
    : scored_(std::make_unique<Scored>(model, kind, rows, image_of)),
      wanted_(wanted(*scored_)),
      plan_(with_logits(wanted_, scored_->logits),
            {{}, settings.threads, false, settings.device, settings.precision, scored_->carried}) {}

std::span<real> Pass::image_row(int64_t row) {
  const size_t n = size_t(scored_->image.shape().count() / rows());
  return plan_.input(scored_->image).subspan(size_t(row) * n, n);
}

void Pass::select(int64_t row, int64_t of, int64_t against) {
  const size_t k = size_t(scored_->model.classes);
  const auto weights = plan_.input(scored_->selector).subspan(size_t(row) * k, k);
  std::fill(weights.begin(), weights.end(), real(0));
  weights[size_t(of)] = 1;
  if (against >= 0) weights[size_t(against)] -= 1;
}

std::span<const real> Pass::logits_row(int64_t row) const {
  const size_t k = size_t(scored_->model.classes);
  return plan_.view(scored_->logits).subspan(size_t(row) * k, k);
}

std::span<const real> Pass::wanted_row(size_t i, int64_t row) const {
  const auto all = plan_.view(wanted_[i]);
  const size_t n = all.size() / size_t(rows());
  return all.subspan(size_t(row) * n, n);
}

std::vector<double> Pass::outputs_of(ScoreKind kind, std::span<const real> logits) {
  std::vector<double> y(logits.begin(), logits.end());
  if (kind == ScoreKind::logit) return y;
  const double top = *std::max_element(y.begin(), y.end());
  double sum = 0;
  for (double v : y) sum += std::exp(v - top);
  for (double& v : y)
    v = kind == ScoreKind::probability ? std::exp(v - top) / sum : -(v - top - std::log(sum));
  return y;
}

size_t activation_budget(const Explainer::Settings& settings) {
  return settings.memory ? settings.memory : size_t(1) << 30;
}

Pass chunked_pass(const Model& model, const Explainer::Settings& settings, ScoreKind kind,
                  int64_t total, const Pass::Wanted& wanted, const Scored::ImageOf& image_of,
                  int64_t together, int64_t beside) {
  // Beyond a few samples a chunk has rows enough to fill the processor; more would only cost
  // memory.
  constexpr int64_t enough = 8;
  // Counted in rows that stay together from here on.
  total = (total + together - 1) / together;
  int64_t most = settings.chunk;
  if (most <= 0) {
    const size_t budget = activation_budget(settings);
    const size_t one =
        Pass(model, kind, together + beside, settings, wanted, image_of).plan().bytes();
    if (one > budget)
      fail(ErrorCode::no_memory,
           "one item needs {} bytes of activations, the budget is {}: raise it with --mem", one,
           budget);
    most = std::min(int64_t(budget / std::max<size_t>(one, 1)), enough / together);
  } else {
    most = (most - beside) / together;
  }
  most = std::clamp<int64_t>(most, 1, std::max<int64_t>(total, 1));
  int64_t rows = most;
  if (settings.chunk <= 0)  // the chunk that pads the least, the largest of equals
    for (int64_t r = most - 1; r >= 1; --r) {
      const auto padded = [&](int64_t c) { return (total + c - 1) / c * c; };
      if (padded(r) < padded(rows) && 2 * r >= most) rows = r;
    }
  for (;;) {
    try {
      Pass pass(model, kind, rows * together + beside, settings, wanted, image_of);
      pass.plan().bind(model.weights);
      return pass;
    } catch (const Error& error) {
      // A chunk of half the size, while there is one; results do not depend on it.
      if (error.code() != ErrorCode::device_memory || rows == 1) throw;
      rows /= 2;
    }
  }
}

}  // namespace whence
