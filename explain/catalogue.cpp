// Every method with its options: what `whence methods` prints, what options are checked against,
// what tests iterate.
#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/explain.h"

namespace whence {
namespace {

OptionInfo gradient_of(std::string fallback) {
  return {"gradient_of", std::move(fallback),
          "what is differentiated: probability, logit or loss of the target"};
}

OptionInfo rules(std::string fallback) {
  return {"rules", std::move(fallback),
          "relevance rules: chefer-stable (sums shared by mass, joint denominators) or "
          "chefer-classic"};
}

std::vector<MethodInfo> build() {
  return {
      {"gradient",
       "derivative of the score by each input value",
       "Simonyan et al. 2014, arXiv 1312.6034",
       "any",
       {gradient_of("logit"), {"abs", "false", "true: magnitudes instead of signed values"}}},
      {"input-x-gradient",
       "input times its derivative",
       "Shrikumar et al. 2016, arXiv 1605.01713",
       "any",
       {gradient_of("logit")}},
      {"integrated-gradients",
       "gradient integrated along a line from a baseline to the input, times their difference",
       "Sundararajan et al. 2017, arXiv 1703.01365",
       "any",
       {{"steps", "50", "points on the line"},
        {"rule", "endpoint_mean",
         "quadrature: endpoint_mean (InterpretDL), gausslegendre (Captum), riemann_left, "
         "riemann_right, riemann_middle, riemann_trapezoid, trapezoid, midpoint, gauss"},
        {"baselines", "zero", "zero, random, or a .npy file of one input"},
        {"num_random_trials", "10", "random baselines to average over"},
        {"multiply_by_inputs", "true", "false: the mean gradient alone"},
        gradient_of("probability")}},
      {"smoothgrad",
       "gradient averaged over noisy copies of the input",
       "Smilkov et al. 2017, arXiv 1706.03825",
       "any",
       {{"n_samples", "50", "noisy copies"},
        {"noise_amount", "0.1",
         "standard deviation of the noise, as a fraction of the input's range"},
        gradient_of("probability")}},
      {"transformer-attribution",
       "relevance of every attention times its gradient, multiplied through the blocks",
       "Chefer et al. 2021, arXiv 2012.09838",
       "transformers",
       {{"start_layer", "0", "first block that is used"}, rules("chefer-stable")}},
      {"full-lrp",
       "relevance of every pixel, through all blocks and the patch embedding",
       "Bach et al. 2015 with the rules of Chefer et al. 2021, arXiv 2012.09838",
       "transformers",
       {rules("chefer-classic")}},
      {"attention-last",
       "attention of the readout in the last block, mean over heads",
       "baseline of Chefer et al. 2021, arXiv 2012.09838",
       "transformers",
       {}},
      {"attention-grad-cam",
       "last block's attention weighted by its mean gradient for each head",
       "baseline of Chefer et al. 2021, arXiv 2012.09838",
       "transformers",
       {gradient_of("logit"), {"normalise", "true", "min-max of the map to [0, 1]"}}},
      {"partial-lrp",
       "relevance of the last block's attention",
       "Voita et al. 2019, arXiv 1905.09418, as a baseline of arXiv 2012.09838",
       "transformers",
       {rules("chefer-classic")}},
      {"rollout",
       "attention multiplied through the blocks, half of each step kept in place",
       "Abnar and Zuidema 2020, arXiv 2005.00928",
       "transformers",
       {{"start_layer", "0", "first block that is used"}}},
      {"generic-attention",
       "gradient-weighted attention accumulated through the blocks",
       "Chefer et al. 2021, arXiv 2103.15679",
       "transformers",
       {{"start_layer", "auto",
         "first block that is used; auto: 3, in models under 12 blocks a quarter of them"},
        {"rule", "interpretdl",
         "interpretdl: heads are averaged before product and clamp; paper: after them"},
        gradient_of("probability")}},
      {"tam",
       "attention states of a Markov chain, weighted by the integrated gradient of the last "
       "attention",
       "Yuan et al. 2021, \"Explaining information flow inside vision transformers using Markov "
       "chain\"",
       "transformers",
       {{"start_layer", "auto",
         "first block of the chain; auto: 4, in models under 12 blocks a third of them"},
        {"steps", "20", "points on the line from zero to the input"},
        {"with_integral", "true", "false: the gradient at the input alone"},
        {"last_state_only", "false", "true: the last block's attention instead of the chain"},
        gradient_of("probability")}},
  };
}

}  // namespace

const std::vector<MethodInfo>& methods() {
  static const std::vector<MethodInfo> all = build();
  return all;
}

const MethodInfo& method(std::string_view id) {
  std::vector<std::string> ids;
  for (const MethodInfo& m : methods()) {
    if (m.id == id) return m;
    ids.push_back(m.id);
  }
  fail_usage("there is no method '{}'; the nearest are {} (`whence methods` lists all)",
             printable(id), listing(nearest(id, ids)));
}

}  // namespace whence
