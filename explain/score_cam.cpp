// score-cam: Wang et al. 2020, "Score-CAM: score-weighted visual explanations for convolutional
// neural networks" (arXiv 1910.01279).
//   u_c = channel c of the layer, resized to the input     m_c = min-max of u_c, u_c if it is flat
//   s_c = score(x * m_c)     E = sum_c s_c u_c
// By default as InterpretDL's ScoreCAMCV computes it; the paper has options for the rest of its
// algorithm 1: s_c less the score of zeros, softmax over channels, max(E, 0). No gradient is
// needed: one forward pass for the channels, one for each channel that is not zero everywhere.
// Masks are made where the model runs, from the small maps.
#include <algorithm>
#include <cmath>
#include <utility>

#include "explain/layer.h"
#include "explain/method.h"
#include "whence/image.h"

namespace whence {
namespace {

// [out, in]: a bilinear resize along one axis is a product with this matrix.
Tensor resize_matrix(int64_t out, int64_t in) {
  Tensor one(Type{{in, in}});
  for (int64_t i = 0; i < in; ++i) one.reals()[size_t(i * in + i)] = 1;
  return resize_bilinear(one, out, in);
}

// Min-max of each row of u [rows, H, W]; rows whose `varies` [rows, 1, 1] is 0, and rows of one
// value, stay as they are.
Value min_max_rows(Value u, Value varies) {
  const Shape scalars{u.shape()[0], 1, 1};
  const Value high = reshape(largest(u), scalars);
  const Value low = scale(reshape(largest(scale(u, -1)), scalars), -1);
  const Value range = mul(sub(high, low), varies);
  const Value scaled = where_positive(range, constant(*u.graph, scalars, {1}));  // 1, or 0 if flat
  return div(sub(u, mul(low, scaled)), add(range, affine(scaled, -1, 1)));
}

Value masked_image(Graph& g, const Shape& item, int64_t rows, const Layer& layer) {
  const int64_t height = item[1], width = item[2];
  const Value x = g.input("cam.item", Type{{rows, item[0], height, width}});
  const Value map = g.input("cam.map", Type{{rows, layer.height, layer.width}});
  const Value varies = g.input("cam.varies", Type{{rows, 1, 1}});
  const Value down = g.input("cam.rows", Type{{height, layer.height}});
  const Value across = g.input("cam.columns", Type{{width, layer.width}});
  const Value u = einsum(einsum(map, down, "bij,yi->byj"), across, "byj,xj->byx");
  return mul(x, reshape(min_max_rows(u, varies), {rows, 1, height, width}));
}

class ScoreCam final : public Method {
 public:
  explicit ScoreCam(const Job& job)
      : model_(job.model),
        relu_(job.options.flag("relu")),
        softmax_(job.options.flag("softmax_over_channels")),
        subtract_(job.options.flag("subtract_baseline")),
        loops_(job, score_kind(job.options)),
        clean_(chunked_pass(job.model, job.settings, ScoreKind::logit, job.items,
                            [&](Scored& s) {
                              layer_ = layer_of(s, job.info.id, job.request.layer);
                              return Values{layer_.positions(layer_.value)};
                            })),
        masked_(chunked_pass(
            job.model, job.settings, ScoreKind::logit, job.items * layer_.channels,
            [](Scored&) { return Values{}; },
            [&](Graph& g, int64_t rows) { return masked_image(g, model_.input, rows, layer_); })) {
    const Graph& g = masked_.scored().graph;
    masked_.plan().set(g.at("cam.rows"), resize_matrix(model_.input[1], layer_.height));
    masked_.plan().set(g.at("cam.columns"), resize_matrix(model_.input[2], layer_.width));
  }

  std::vector<const Pass*> passes() const override { return {&clean_, &masked_}; }

  std::vector<std::vector<Result>> run(const Tensor& inputs, const Request& request) override {
    std::vector<Tensor> channels(size_t(inputs.shape()[0]));
    const auto clean = loops_.items(
        clean_, inputs, request.targets,
        [&](int64_t item, int64_t row) {
          channels[size_t(item)] = layer_channels(layer_, clean_.wanted_row(0, row));
        },
        nullptr);
    const auto scores = score_all(inputs, channels, clean);
    std::vector<std::vector<Tensor>> maps(channels.size());
    for (size_t i = 0; i < maps.size(); ++i)
      for (size_t t = 0; t < request.targets.size(); ++t)
        maps[i].push_back(weighted(channels[i], scores[i][t]));
    return loops_.results(clean, std::move(maps), "score-cam");
  }

 private:
  using Scores = std::vector<std::vector<std::vector<double>>>;  // [item][target][channel]
  struct Masked {
    int64_t item, channel;  // channel -1: zeros
  };

  std::span<const real> plane(const Tensor& channels, int64_t channel) const {
    const size_t n = size_t(layer_.height * layer_.width);
    return channels.reals().subspan(size_t(channel) * n, n);
  }

  // Every mask that is not zero; the channels that are share one row of zeros.
  std::vector<Masked> masks(const std::vector<Tensor>& channels) const {
    std::vector<Masked> list;
    bool zeros = subtract_;
    for (size_t i = 0; i < channels.size(); ++i)
      for (int64_t c = 0; c < layer_.channels; ++c) {
        if (std::ranges::any_of(plane(channels[i], c), [](real f) { return f != 0; }))
          list.push_back({int64_t(i), c});
        else
          zeros |= softmax_;  // its score takes part, though its map adds nothing
      }
    if (zeros) list.push_back({0, -1});
    return list;
  }

  Scores score_all(const Tensor& inputs, const std::vector<Tensor>& channels, const Clean& clean) {
    Scores scores(channels.size());
    for (size_t i = 0; i < scores.size(); ++i)
      scores[i].assign(clean.chosen[i].size(), std::vector<double>(size_t(layer_.channels), 0));
    const std::vector<Masked> list = masks(channels);
    std::vector<int64_t> held(size_t(masked_.rows()), -1);
    std::vector<real> zeros;  // the logits of an image of zeros
    for (size_t begin = 0; begin < list.size(); begin += held.size()) {
      const size_t end = std::min(begin + held.size(), list.size());
      for (size_t r = 0; r < held.size(); ++r)  // the last chunk repeats its last mask
        put(int64_t(r), list[std::min(begin + r, end - 1)], inputs, channels, held);
      masked_.plan().forward();
      for (size_t k = begin; k < end; ++k) {
        const Masked& m = list[k];
        const auto logits = masked_.logits_row(int64_t(k - begin));
        if (m.channel < 0)
          zeros.assign(logits.begin(), logits.end());
        else
          for (size_t t = 0; t < clean.chosen[size_t(m.item)].size(); ++t)
            scores[size_t(m.item)][t][size_t(m.channel)] =
                loops_.score(logits, clean.chosen[size_t(m.item)][t]);
      }
      loops_.advance(double(end) / double(list.size()));
    }
    if (!zeros.empty()) against_zeros(scores, channels, clean, zeros);
    return scores;
  }

  void put(int64_t row, const Masked& m, const Tensor& inputs, const std::vector<Tensor>& channels,
           std::vector<int64_t>& held) {
    const Graph& g = masked_.scored().graph;
    const auto at = [&](const char* name) {
      const Value v = g.at(name);
      const size_t n = size_t(v.shape().count() / masked_.rows());
      return masked_.plan().input(v).subspan(size_t(row) * n, n);
    };
    if (std::exchange(held[size_t(row)], m.item) != m.item)
      std::ranges::copy(item_of(inputs, m.item), at("cam.item").begin());
    const auto map = at("cam.map");
    if (m.channel < 0)
      std::ranges::fill(map, real(0));
    else
      std::ranges::copy(plane(channels[size_t(m.item)], m.channel), map.begin());
    // Interpolation rounds: a map of one value would become noise, and the noise a mask.
    const auto [low, high] = std::ranges::minmax_element(map);
    at("cam.varies")[0] = *low < *high ? real(1) : real(0);
  }

  void against_zeros(Scores& scores, const std::vector<Tensor>& channels, const Clean& clean,
                     std::span<const real> zeros) const {
    for (size_t i = 0; i < scores.size(); ++i)
      for (size_t t = 0; t < scores[i].size(); ++t) {
        const double of_zeros = loops_.score(zeros, clean.chosen[i][t]);
        for (int64_t c = 0; c < layer_.channels; ++c) {
          double& s = scores[i][t][size_t(c)];
          if (std::ranges::none_of(plane(channels[i], c), [](real f) { return f != 0; }))
            s = of_zeros;
          if (subtract_) s -= of_zeros;
        }
      }
  }

  // A sum of resized maps is the resized sum.
  Tensor weighted(const Tensor& channels, std::vector<double> weights) const {
    if (softmax_) {
      const double top = *std::ranges::max_element(weights);
      double sum = 0;
      for (double& w : weights) sum += w = std::exp(w - top);
      for (double& w : weights) w /= sum;
    }
    std::vector<double> sum(size_t(layer_.height * layer_.width), 0);
    for (int64_t c = 0; c < layer_.channels; ++c) {
      const auto f = plane(channels, c);
      for (size_t p = 0; p < sum.size(); ++p) sum[p] += weights[size_t(c)] * double(f[p]);
    }
    const std::vector<real> rounded(sum.begin(), sum.end());
    Tensor map = resize_bilinear(layer_map(layer_, rounded), model_.input[1], model_.input[2]);
    if (relu_)
      for (real& e : map.reals()) e = std::max(e, real(0));
    return map;
  }

  const Model& model_;
  bool relu_, softmax_, subtract_;
  Layer layer_;
  Loops loops_;
  Pass clean_, masked_;
};

}  // namespace

std::unique_ptr<Method> make_score_cam(const Job& job) { return std::make_unique<ScoreCam>(job); }

}  // namespace whence
