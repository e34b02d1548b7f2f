// consensus: one method on a committee of models, whose maps vote. Li et al. 2021, "Cross-model
// consensus of explanations and beyond for image classification models" (arXiv 2109.00707).
//   map = mean over models of v(E_m)
// with v(E) = sum_c |E| (mean-abs), |E| after min-max to [0, 1] (minmax: the paper's), sum_c |E| by
// its total (l1), or mean_c E^2 (mean-square); or all maps as they are (stack). Maps of other sizes
// are resized to the first model's input: all models are taken to see the same part of a picture. A
// member's agreement is the cosine of its v(E_m) and the map.
#include <algorithm>
#include <cmath>
#include <map>

#include "explain/plans.h"
#include "runtime/check.h"
#include "runtime/text.h"
#include "whence/picture.h"

namespace whence::catalogue {
namespace {

enum class Mode : uint8_t { mean_abs, minmax, l1, mean_square, stack };
const std::vector<std::string>& modes() {  // in that order
  static const std::vector<std::string> names{"mean-abs", "minmax", "l1", "mean-square", "stack"};
  return names;
}
enum class Labels : uint8_t { own, first, majority };

// "name=value,name=value"
std::map<std::string, std::string> parse_options(const std::string& text) {
  std::map<std::string, std::string> options;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string one = text.substr(at, end - at);
    const size_t equals = one.find('=');
    if (equals == one.npos || equals == 0)
      fail_usage("option options of method consensus: '{}' is not NAME=VALUE", printable(one));
    options[one.substr(0, equals)] = one.substr(equals + 1);
    at = end + 1;
  }
  return options;
}

// The inputs of one model as another one wants them: pixels normalised by its own mean and
// deviation.
Tensor renormalised(const Tensor& inputs, const Preprocess& from, const Preprocess& to) {
  if (from.mean == to.mean && from.std == to.std) return inputs;
  const Shape& s = inputs.shape();
  if (size_t(s[1]) != from.mean.size())
    fail(ErrorCode::unsupported,
         "consensus: the models normalise in different ways, which are known for pictures of {} "
         "channels, not {}",
         from.mean.size(), s[1]);
  Tensor out = inputs.clone();
  const int64_t area = s[2] * s[3];
  for (int64_t plane = 0; plane < s[0] * s[1]; ++plane) {
    const auto c = size_t(plane % s[1]);
    const double factor = from.std[c] / to.std[c], shift = (from.mean[c] - to.mean[c]) / to.std[c];
    for (real& x : out.reals().subspan(size_t(plane * area), size_t(area)))
      x = real(double(x) * factor + shift);
  }
  return out;
}

// v(E), [H, W].
Tensor vote(const Tensor& e, Mode mode, const Shape& input) {
  const Shape& s = e.shape();
  if (s.rank() < 2 || s.rank() > 3)
    fail(ErrorCode::unsupported,
         "consensus: an attribution of shape {} is no map; mode=stack keeps it", to_string(s));
  const bool planes = s.rank() == 3;
  const int64_t channels = planes ? s[0] : 1, h = s[-2], w = s[-1];
  Tensor map(Type{{h, w}});
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = 0; p < h * w; ++p) {
      const real v = e.reals()[size_t(c * h * w + p)];
      map.reals()[size_t(p)] += mode == Mode::mean_square ? v * v / real(channels) : std::abs(v);
    }
  if (h != input[1] || w != input[2]) map = resize_bilinear(map, input[1], input[2]);
  if (mode == Mode::minmax) return min_max(map);
  if (mode == Mode::l1) {
    double total = 0;
    for (real v : map.reals()) total += double(v);
    for (real& v : map.reals()) v = total > 0 ? real(double(v) / total) : real(0);
  }
  return map;
}

double cosine(const Tensor& a, const Tensor& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.reals().size(); ++i) {
    const double x = double(a.reals()[i]), y = double(b.reals()[i]);
    ab += x * y, aa += x * x, bb += y * y;
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

class Consensus final : public Worker {
 public:
  explicit Consensus(const Setup& setup)
      : setup_(setup), mode_(mode_of(setup.options)), labels_(labels_of(setup.options)) {
    inner_.method = setup.options.text("method");
    if (inner_.method == "consensus")
      fail_usage("consensus: of consensus; option method names another one");
    inner_.options = parse_options(setup.options.text("options"));
    inner_.layer = setup.request.layer;
    inner_.targets = setup.request.targets;
    predict_.method = "predict";
    add(setup.model());
    for (const auto& model : setup.request.models) add(*model);
    if (members_.size() < 2)
      fail_usage("consensus: of one model, '{}'; name others in option models", setup.model().name);
  }

  std::vector<const Pass*> passes() const override {
    std::vector<const Pass*> all;
    for (const Member& m : members_)
      for (const Plans* one : {m.method.get(), m.predict.get()})
        if (one)
          for (const Pass* pass : one->passes()) all.push_back(pass);
    return all;
  }

  Results run(Batch batch) override {
    const Request& request = batch.request;
    const int64_t items = batch.inputs.items();
    std::vector<Tensor> own;
    for (size_t m = 0; m < members_.size(); ++m) own.push_back(input_of(m, batch));
    const auto targets = chosen(own, request.targets);
    std::vector<Results> of(members_.size());
    for (size_t m = 0; m < members_.size(); ++m) {
      inner_.seed = request.seed + m;  // members draw numbers of their own
      if (labels_ == Labels::own) {
        inner_.targets = request.targets;
        inner_.first_item = request.first_item;
        of[m] = answer(*members_[m].method, own[m], inner_);
        continue;
      }
      for (int64_t i = 0; i < items; ++i) {  // every item has targets of its own
        inner_.targets = targets[size_t(i)];
        inner_.first_item = request.first_item + uint32_t(i);
        of[m].push_back(answer(*members_[m].method, own[m].slice(i, i + 1), inner_)[0]);
      }
    }
    Results results(static_cast<size_t>(items));
    for (size_t i = 0; i < results.size(); ++i)
      for (size_t t = 0; t < request.targets.size(); ++t) {
        std::vector<Result> votes;
        for (auto& member : of) votes.push_back(std::move(member[i][t]));
        results[i].push_back(joined(std::move(votes), int64_t(i)));
      }
    return results;
  }

 private:
  struct Member {
    const Model* model;
    std::unique_ptr<Plans> method, predict;
  };

  static Results answer(Plans& plans, const Inputs& inputs, const Request& request) {
    return std::move(plans.run(inputs, {&request, 1})[0]);
  }

  static Mode mode_of(const Options& options) {
    const auto at = std::find(modes().begin(), modes().end(), options.text("mode"));
    return Mode(at - modes().begin());
  }
  static Labels labels_of(const Options& options) {
    return options.is("labels", "own")     ? Labels::own
           : options.is("labels", "first") ? Labels::first
                                           : Labels::majority;
  }

  void add(const Model& model) {
    const Model& first = setup_.model();
    if (model.classes != first.classes)
      fail_usage("consensus: '{}' has {} classes, '{}' has {}", first.name, first.classes,
                 model.name, model.classes);
    only_port(model, "consensus");
    const bool own = labels_ == Labels::own;
    const Machine machine{model, setup_.machine.settings, setup_.machine.runs};
    const auto plans = [&](const Request& request, int64_t items) {
      return std::make_unique<Plans>(machine, std::span(&request, 1), items);
    };
    members_.push_back({&model, plans(inner_, own ? setup_.items : 1),
                        own ? nullptr : plans(predict_, setup_.items)});
  }

  static const Shape& shape_of(const Model& model) { return model.ports[0].item.shape; }

  Tensor input_of(size_t member, const Batch& batch) const {
    const Model &first = *members_[0].model, &model = *members_[member].model;
    const Tensor& inputs = batch.inputs.port(0);
    const auto& given = batch.request.model_inputs;
    if (member == 0) return inputs;
    if (given.empty()) {
      if (shape_of(model) != shape_of(first))
        fail_usage("consensus: '{}' takes inputs of {}, '{}' of {}: each needs its own", first.name,
                   to_string(shape_of(first)), model.name, to_string(shape_of(model)));
      return renormalised(inputs, first.preprocess, model.preprocess);
    }
    if (given.size() + 1 != members_.size())
      fail_usage("consensus: inputs for {} of {} models", given.size(), members_.size() - 1);
    const Tensor& own = given[member - 1];
    check_inputs(model, own);
    if (own.shape()[0] != inputs.shape()[0])
      fail_shape("consensus: {} inputs for '{}', {} for '{}'", inputs.shape()[0], first.name,
                 own.shape()[0], model.name);
    return own;
  }

  // For each item the targets with `predicted` replaced by the first model's class, or by the class
  // that most models predict (of equals the one that comes first).
  std::vector<std::vector<Target>> chosen(const std::vector<Tensor>& inputs,
                                          const std::vector<Target>& targets) const {
    std::vector<std::vector<Target>> all(static_cast<size_t>(inputs[0].shape()[0]), targets);
    if (labels_ == Labels::own) return all;
    std::vector<std::vector<int64_t>> classes(all.size());
    const size_t voters = labels_ == Labels::first ? 1 : members_.size();
    for (size_t m = 0; m < voters; ++m) {
      const auto answers = answer(*members_[m].predict, inputs[m], predict_);
      for (size_t i = 0; i < all.size(); ++i) classes[i].push_back(answers[i][0].target);
    }
    for (size_t i = 0; i < all.size(); ++i) {
      const auto most =
          std::max_element(classes[i].begin(), classes[i].end(), [&](int64_t a, int64_t b) {
            return std::count(classes[i].begin(), classes[i].end(), a) <
                   std::count(classes[i].begin(), classes[i].end(), b);
          });
      for (Target& t : all[i])
        if (t.of < 0) t.of = *most;
    }
    return all;
  }

  Result joined(std::vector<Result> votes, int64_t item) const {
    Result r = votes[0];
    r.gap.reset();
    Tensor map;
    std::vector<std::optional<double>> agreement;
    if (mode_ == Mode::stack) {
      agreement.resize(votes.size());
      Shape s = votes[0].attribution.shape();
      const int64_t one = s.count();
      std::vector<int64_t> sizes{int64_t(votes.size())};
      sizes.insert(sizes.end(), s.begin(), s.end());
      map = Tensor(Type{Shape(sizes)});
      for (size_t m = 0; m < votes.size(); ++m) {
        if (votes[m].attribution.shape() != s)
          fail_usage("consensus: maps of shapes {} and {} do not stack; another mode resizes them",
                     to_string(s), to_string(votes[m].attribution.shape()));
        std::ranges::copy(votes[m].attribution.reals(), map.reals().begin() + int64_t(m) * one);
      }
    } else {
      std::vector<Tensor> maps;
      for (const Result& vote_of : votes)
        maps.push_back(vote(vote_of.attribution, mode_, shape_of(setup_.model())));
      map = Tensor(maps[0].type());
      for (const Tensor& one : maps)
        for (size_t p = 0; p < map.reals().size(); ++p)
          map.reals()[p] += one.reals()[p] / real(maps.size());
      for (const Tensor& one : maps) agreement.emplace_back(cosine(one, map));
    }
    r.members.clear();
    for (size_t m = 0; m < votes.size(); ++m)
      r.members.push_back(
          {members_[m].model->name, votes[m].target, votes[m].probability, agreement[m]});
    finish(r, std::move(map), "consensus", item);
    return r;
  }

  Setup setup_;  // holds the other models
  Mode mode_;
  Labels labels_;
  Request inner_, predict_;
  std::vector<Member> members_;
};

}  // namespace

Method consensus() {
  return {
      .info = {.id = "consensus",
               .summary = "one method on several models, whose maps vote",
               .paper = "Li et al. 2021, arXiv 2109.00707",
               .models = "any",
               .options = {text("models", "", "the models beside --model, separated by commas"),
                           text("method", "integrated-gradients",
                                "the method that every model is explained with"),
                           text("options", "", "its options: NAME=VALUE, separated by commas"),
                           one_of(
                               "mode", "mean-abs", modes(),
                               "of the models' maps: mean-abs (InterpretDL's advice), minmax (the "
                               "paper's), l1, mean-square, or stack: all of them"),
                           one_of("labels", "own", {"own", "first", "majority"},
                                  "what is explained where the target is the predicted class: own "
                                  "(each model's), first or majority")},
               .takes_layer = true,
               .takes_models = true},
      .prepare = [](const Setup& setup) -> std::unique_ptr<Worker> {
        return std::make_unique<Consensus>(setup);
      },
      .clean_pass = false};
}

}  // namespace whence::catalogue
