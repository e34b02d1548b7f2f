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

#include "explain/engine/layer.h"
#include "explain/engine/samples.h"
#include "runtime/check.h"
#include "whence/image.h"

namespace whence::catalogue {
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

// x [B, C, H, W] times the min-max of small maps [B, h, w] at its size.
Value times_map(Graph& g, Value x, const Layer& layer) {
  const int64_t rows = x.shape()[0], height = x.shape()[2], width = x.shape()[3];
  const Value map = g.input("cam.map", Type{{rows, layer.height, layer.width}});
  const Value varies = g.input("cam.varies", Type{{rows, 1, 1}});
  const Value down = g.input("cam.rows", Type{{height, layer.height}});
  const Value across = g.input("cam.columns", Type{{width, layer.width}});
  const Value u = einsum(einsum(map, down, "bij,yi->byj"), across, "byj,xj->byx");
  return mul(x, reshape(min_max_rows(u, varies), {rows, 1, height, width}));
}

bool is_zero(std::span<const real> map) {
  return std::ranges::none_of(map, [](real f) { return f != 0; });
}

const Setup& with_pictures(const Setup& setup) {
  if (only_port(setup.model(), setup.options.method()).role != Port::Role::picture)
    fail(ErrorCode::unsupported, "{}: masks pictures, '{}' takes none", setup.options.method(),
         setup.model().name);
  return setup;
}

class ScoreCam final : public Worker {
 public:
  explicit ScoreCam(const Setup& setup)
      : options_(with_pictures(setup).options),
        layer_(layer_of(Scene(setup.model(), 1), options_)),
        masked_(setup, layer_.channels,
                [this](Graph& g, Value x) { return times_map(g, x, layer_); }) {
    const Shape& input = masked_.pass().scene().entry.shape();
    const Graph& g = masked_.pass().scene().graph;
    masked_.pass().plan().set(g.at("cam.rows"), resize_matrix(input[2], layer_.height));
    masked_.pass().plan().set(g.at("cam.columns"), resize_matrix(input[3], layer_.width));
  }

  std::vector<const Pass*> passes() const override { return {&masked_.pass()}; }

  Results run(Batch batch) override {
    const size_t targets = batch.request.targets.size();
    std::vector<Tensor> channels;  // [C, h, w] of each item
    for (auto& of_item : batch.maps.tensors) channels.push_back(std::move(of_item[0]));
    const auto scores = score_all(batch.inputs, channels, batch.clean);
    for (size_t i = 0; i < channels.size(); ++i) {
      batch.maps.tensors[i].clear();
      batch.maps.gaps[i].assign(targets, std::nullopt);
      for (size_t t = 0; t < targets; ++t)
        batch.maps.tensors[i].push_back(weighted(channels[i], scores[i][t]));
    }
    return results_of(batch.clean, options_, std::move(batch.maps));
  }

 private:
  using Scores = std::vector<std::vector<std::vector<double>>>;  // [item][target][channel]
  static constexpr int64_t zeros = -1;                           // the sample that shows nothing

  // Every mask that is not zero; the channels that are share one sample.
  std::vector<Samples::Sample> masks(const std::vector<Tensor>& channels) const {
    std::vector<Samples::Sample> list;
    bool nothing = options_.flag("subtract_baseline");
    for (size_t i = 0; i < channels.size(); ++i)
      for (int64_t c = 0; c < layer_.channels; ++c) {
        if (!is_zero(item_of(channels[i], c)))
          list.push_back({int64_t(i), c});
        else  // its score takes part, though its map adds nothing
          nothing |= options_.flag("softmax_over_channels");
      }
    if (nothing) list.push_back({0, zeros});
    return list;
  }

  Scores score_all(const Inputs& inputs, const std::vector<Tensor>& channels, const Clean& clean) {
    Scores scores(channels.size());
    for (size_t i = 0; i < scores.size(); ++i)
      scores[i].assign(clean.chosen[i].size(), std::vector<double>(size_t(layer_.channels), 0));
    const auto fill = [&](const Samples::Sample& sample, int64_t row) {
      const auto map = masked_.pass().input_row("cam.map", row);
      if (sample.id == zeros)
        std::ranges::fill(map, real(0));
      else
        std::ranges::copy(item_of(channels[size_t(sample.item)], sample.id), map.begin());
      // Interpolation rounds: a map of one value would become noise, and the noise a mask.
      const auto [low, high] = std::ranges::minmax_element(map);
      masked_.pass().input_row("cam.varies", row)[0] = *low < *high ? real(1) : real(0);
    };
    std::vector<real> of_zeros;
    masked_.run(inputs, masks(channels), fill,
                [&](const Samples::Sample& sample, std::span<const real> logits) {
                  if (sample.id == zeros) {
                    of_zeros.assign(logits.begin(), logits.end());
                    return;
                  }
                  const auto& chosen = clean.chosen[size_t(sample.item)];
                  for (size_t t = 0; t < chosen.size(); ++t)
                    scores[size_t(sample.item)][t][size_t(sample.id)] =
                        score_of(options_.score(), logits, chosen[t]);
                });
    if (!of_zeros.empty()) against_zeros(scores, channels, clean, of_zeros);
    return scores;
  }

  void against_zeros(Scores& scores, const std::vector<Tensor>& channels, const Clean& clean,
                     std::span<const real> logits) const {
    for (size_t i = 0; i < scores.size(); ++i)
      for (size_t t = 0; t < scores[i].size(); ++t) {
        const double of_zeros = score_of(options_.score(), logits, clean.chosen[i][t]);
        for (int64_t c = 0; c < layer_.channels; ++c) {
          double& s = scores[i][t][size_t(c)];
          if (is_zero(item_of(channels[i], c))) s = of_zeros;
          if (options_.flag("subtract_baseline")) s -= of_zeros;
        }
      }
  }

  // A sum of resized maps is the resized sum.
  Tensor weighted(const Tensor& channels, std::vector<double> weights) const {
    if (options_.flag("softmax_over_channels")) {
      const double top = *std::ranges::max_element(weights);
      double sum = 0;
      for (double& w : weights) sum += w = std::exp(w - top);
      for (double& w : weights) w /= sum;
    }
    std::vector<double> sum(size_t(layer_.height * layer_.width), 0);
    for (int64_t c = 0; c < layer_.channels; ++c) {
      const auto f = item_of(channels, c);
      for (size_t p = 0; p < sum.size(); ++p) sum[p] += weights[size_t(c)] * double(f[p]);
    }
    const std::vector<real> rounded(sum.begin(), sum.end());
    const Shape& input = masked_.pass().scene().entry.shape();
    Tensor map =
        resize_bilinear(Tensor::of({layer_.height, layer_.width}, rounded), input[2], input[3]);
    if (options_.flag("relu"))
      for (real& e : map.reals()) e = std::max(e, real(0));
    return map;
  }

  Options options_;
  Layer layer_;
  Samples masked_;
};

}  // namespace

Method score_cam() {
  return {.info = {.id = "score-cam",
                   .summary = "channels of a layer weighted by the score of the input masked with "
                              "them",
                   .paper = "Wang et al. 2020, arXiv 1910.01279",
                   .models = "any",
                   .options = {flag("relu", false, "true: negative values of the map become 0"),
                               flag("softmax_over_channels", false,
                                    "true: the weights are a softmax of the scores"),
                               flag("subtract_baseline", false,
                                    "true: scores count from that of an input of zeros"),
                               gradient_of(
                                   "probability", {"probability", "logit", "loss"},
                                   "what is scored: probability, logit or loss of the target (no "
                                   "gradient is taken)")},
                   .takes_layer = true},
          .map =
              [](Scene& s, const Options& o) {
                const Layer layer = layer_of(s, o);
                return layer_channels(layer, layer.positions(layer.value(s)));
              },
          .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
            return std::make_unique<ScoreCam>(setup);
          }};
}

}  // namespace whence::catalogue
