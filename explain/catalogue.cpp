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

OptionInfo keep_positive(std::string fallback) {
  return {"relu", std::move(fallback), "true: negative values of the map become 0"};
}

OptionInfo rules(std::string fallback) {
  return {"rules", std::move(fallback),
          "relevance rules: chefer-stable (sums shared by mass, joint denominators), "
          "chefer-classic, attn-lrp, or a .json file"};
}

OptionInfo rescaled_score() {
  return {"gradient_of", "logit",
          "the score that is shared out: logit or probability of the target"};
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
      {"deeplift",
       "differences from a baseline handed back through activations and max-pools in proportion "
       "(Rescale); other functions have their gradient, and the gap is what that leaves out",
       "Shrikumar et al. 2017, arXiv 1704.02685",
       "any",
       {{"baselines", "zero", "zero, or a .npy file of one input"},
        {"multiply_by_inputs", "true", "false: the multipliers of the differences alone"},
        rescaled_score()}},
      {"deeplift-shap",
       "deeplift averaged over baselines",
       "Lundberg and Lee 2017, arXiv 1705.07874",
       "any",
       {{"baselines", "random",
         "random (normal, others for each input), or a .npy file of two inputs or more"},
        {"num_random_trials", "10", "random baselines to average over"},
        {"multiply_by_inputs", "true", "false: the mean multipliers of the differences alone"},
        rescaled_score()}},
      {"guided-backprop",
       "gradient by the input with rectifiers that hand on positive gradients where they were open",
       "Springenberg et al. 2015, arXiv 1412.6806",
       "convolutional",
       {gradient_of("logit")}},
      {"deconvolution",
       "gradient by the input with rectifiers that hand on positive gradients everywhere",
       "Zeiler and Fergus 2014, arXiv 1311.2901",
       "convolutional",
       {gradient_of("logit")}},
      {"grad-cam",
       "channels of a layer weighted by their mean gradient",
       "Selvaraju et al. 2017, arXiv 1610.02391",
       "any",
       {{"reduce", "sum", "over channels: sum (Captum), mean (InterpretDL), none"},
        {"relu", "true", "true (InterpretDL): negative values of the map become 0; false (Captum)"},
        gradient_of("logit")},
       true},
      {"guided-grad-cam",
       "guided-backprop times the positive part of grad-cam",
       "Selvaraju et al. 2017, arXiv 1610.02391",
       "convolutional",
       {{"interpolate_mode", "nearest", "how the map is resized: nearest or bilinear"},
        gradient_of("logit")},
       true},
      {"grad-cam-pp",
       "channels of a layer weighted by sums of positive gradients, each by its share",
       "Chattopadhay et al. 2018, arXiv 1710.11063",
       "any",
       {keep_positive("true"), gradient_of("logit")},
       true},
      {"layer-cam",
       "values of a layer weighted by their positive gradients",
       "Jiang et al. 2021, doi 10.1109/TIP.2021.3089943",
       "any",
       {keep_positive("true"), gradient_of("logit")},
       true},
      {"score-cam",
       "channels of a layer weighted by the score of the input masked with them",
       "Wang et al. 2020, arXiv 1910.01279",
       "any",
       {keep_positive("false"),
        {"softmax_over_channels", "false", "true: the weights are a softmax of the scores"},
        {"subtract_baseline", "false", "true: scores count from that of an input of zeros"},
        {"gradient_of", "probability",
         "what is scored: probability, logit or loss of the target (no gradient is taken)"}},
       true},
      {"layer-activation", "values of a layer as they are", "-", "any", {}, true},
      {"lrp",
       "relevance of every input value, handed back from layer to layer",
       "Bach et al. 2015, doi 10.1371/journal.pone.0130140",
       "any",
       {{"rules", "auto",
         "interpretdl, captum, epsilon-plus, epsilon-plus-flat, epsilon-alpha2-beta1, "
         "epsilon-alpha2-beta1-flat, epsilon-gamma-box, attn-lrp, cp-lrp, chefer-stable, "
         "chefer-classic, or a .json file; auto: interpretdl, in transformers attn-lrp"},
        {"seed", "logit", "relevance of the explained class: logit, one-hot (1) or probability"},
        {"reduce", "sum", "over channels: sum, or none"}}},
      {"consensus",
       "one method on several models, whose maps vote",
       "Li et al. 2021, arXiv 2109.00707",
       "any",
       {{"models", "", "the models beside --model, separated by commas"},
        {"method", "integrated-gradients", "the method that every model is explained with"},
        {"options", "", "its options: NAME=VALUE, separated by commas"},
        {"mode", "mean-abs",
         "of the models' maps: mean-abs (InterpretDL's advice), minmax (the paper's), l1, "
         "mean-square, or stack: all of them"},
        {"labels", "own",
         "what is explained where the target is the predicted class: own (each model's), first or "
         "majority"}},
       true,
       true},
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

bool applies(const MethodInfo& method, const Model& model) {
  return method.models == "any" || (method.models == "transformers") == (model.blocks > 0);
}

}  // namespace whence
