// Relevance through convolutional networks: InterpretDL's numbers, and samples that do not depend
// on each other.
#include "tests/unit/golden_file.h"
#include "tests/unit/random_tensors.h"
#include "tests/unit/relevance_of_op.h"

namespace whence {
namespace {

// InterpretDL computed in float32, and divides by what may nearly cancel.
constexpr double golden_bound = 2e-5;

// One op of InterpretDL's model, explained by the table that reproduces it.
void expect_golden(const nlohmann::json& all, const std::string& name, bool image, bool first,
                   const std::vector<Tensor>& parameters, const BuildOp& build) {
  const auto& one = all.at(name);
  const auto layout = [&](const Tensor& t) {
    return image && t.shape().rank() == 4 ? channels_last_of(t) : t;
  };
  const double alpha = one.value("alpha", 1.0);
  RuleTable table = interpretdl_cnn(alpha);
  if (!first) table.rows.erase(table.rows.begin());
  std::vector<Tensor> x{layout(json_tensor(one.at("X")))};
  x.insert(x.end(), parameters.begin(), parameters.end());
  const Tensor want = layout(json_tensor(one.at("R_in")));
  const Tensor got = explain_op(x, 1, layout(json_tensor(one.at("R_out"))), table, build)[0];
  expect_close(got.reals(), want.reals(), golden_bound, name);
}

TEST(Lrp, rules_have_the_numbers_of_interpretdl) {
  const nlohmann::json all = golden_json("interpreters_lrp.json").at("lrp_rules");
  for (const std::string name : {"linear_alpha1", "linear_alpha2", "linear_relu_input"})
    expect_golden(all, name, false, false, {transposed(json_tensor(all.at(name).at("W")))},
                  [](const Values& in) { return linear(in[0], in[1]); });
  for (const std::string name : {"conv_alpha1", "conv_alpha2", "conv_zB_first_layer"})
    expect_golden(
        all, name, true, name == "conv_zB_first_layer", {json_tensor(all.at(name).at("W"))},
        [](const Values& in) { return conv2d(in[0], in[1], {}, {.stride = 2, .pad = 1}); });
  const auto& norm = all.at("batchnorm");
  // Its scale has the square of the variance, which cancels but for the stabiliser.
  const Tensor zero(Type{{3}});
  expect_golden(
      all, "batchnorm", true, false,
      {json_tensor(norm.at("gamma")), zero, zero, json_tensor(norm.at("running_var"))},
      [](const Values& in) { return batch_norm(in[0], in[1], in[2], in[3], in[4], real(1e-5)); });
  expect_golden(all, "maxpool2x2", true, false, {},
                [](const Values& in) { return max_pool(in[0], {.size = 2, .stride = 2}); });
  expect_golden(all, "global_avgpool", true, false, {}, [](const Values& in) {
    return reshape(mean(in[0], {1, 2}), {in[0].shape()[0], 1, 1, in[0].shape()[3]});
  });
  const auto& sum = all.at("add");
  const auto parts = explain_op({json_tensor(sum.at("X1")), json_tensor(sum.at("X2"))}, 2,
                                json_tensor(sum.at("R_out")), interpretdl_cnn(),
                                [](const Values& in) { return add(in[0], in[1]); });
  expect_close(parts[0].reals(), json_tensor(sum.at("R1")).reals(), golden_bound, "add, first");
  expect_close(parts[1].reals(), json_tensor(sum.at("R2")).reals(), golden_bound, "add, second");
}

// InterpretDL's network of two bottlenecks, of its parameters.
class GoldenNet {
 public:
  GoldenNet(const nlohmann::json& net, int64_t batch) : net_(net) {
    image = graph.input("image", Type{{batch, 3, 16, 16}});
    Value x = relu(norm("bn1", conv("conv1", channels_last(image), 2, 1)));
    x = max_pool(x, {.size = 3, .stride = 2, .pad = 1});
    x = block(x, "b1", 2, true);
    x = block(x, "b2", 1, false);
    const Tensor fc = transposed(json_tensor(net.at("params").at("fc.weight")));
    logits = linear(mean(x, {1, 2}), weight("fc.weight", fc),
                    weight("fc.bias", json_tensor(net.at("params").at("fc.bias"))));
  }
  Graph graph;
  Weights weights;
  Value image, logits;

 private:
  Value weight(const std::string& name, const Tensor& t) {
    weights.tensors[name] = t;
    return graph.weight(name, t.shape());
  }
  Value conv(const std::string& name, Value x, int64_t stride, int64_t pad) {
    const Tensor w = json_tensor(net_.at("params").at(name + ".weight"));
    return conv2d(x, weight(name + ".weight", w), {}, {.stride = stride, .pad = pad});
  }
  Value norm(const std::string& name, Value x) {
    const auto& p = net_.at("params");
    const auto& b = net_.at("buffers");
    return batch_norm(x, weight(name + ".weight", json_tensor(p.at(name + ".weight"))),
                      weight(name + ".bias", json_tensor(p.at(name + ".bias"))),
                      weight(name + ".mean", json_tensor(b.at(name + "._mean"))),
                      weight(name + ".variance", json_tensor(b.at(name + "._variance"))),
                      real(1e-5));
  }
  Value block(Value x, const std::string& name, int64_t stride, bool shortcut) {
    Value y = relu(norm(name + ".bn1", conv(name + ".conv1", x, 1, 0)));
    y = relu(norm(name + ".bn2", conv(name + ".conv2", y, stride, 1)));
    y = norm(name + ".bn3", conv(name + ".conv3", y, 1, 0));
    if (shortcut) x = norm(name + ".downsample.1", conv(name + ".downsample.0", x, stride, 0));
    return relu(add(y, x));
  }
  const nlohmann::json& net_;
};

struct NetRun {
  Tensor logits, relevance;
};
NetRun run_net(const nlohmann::json& net, const RuleTable& table, const Tensor& images) {
  const int64_t batch = images.shape()[0];
  GoldenNet m(net, batch);
  const Value selector = m.graph.input("selector", m.logits.type(), Stage::seed);
  const Value r = relevance(m.logits, mul(selector, m.logits), {m.image}, table)[0];
  Plan plan({m.logits, r});
  plan.bind(m.weights);
  plan.set(m.image, images);
  plan.forward();
  NetRun run{plan.get(m.logits), {}};
  Tensor select(m.logits.type());
  for (int64_t b = 0; b < batch; ++b) {
    const auto row = run.logits.reals().subspan(size_t(3 * b), 3);
    const auto top = std::max_element(row.begin(), row.end()) - row.begin();
    select.reals()[size_t(3 * b + top)] = 1;
  }
  plan.set(selector, select);
  plan.backward();
  run.relevance = plan.get(r);
  return run;
}

Tensor golden_image(const nlohmann::json& net) {
  const std::vector<int> u8 = net.at("image_u8").at("data");
  const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
  Tensor x(Type{{1, 3, 16, 16}});
  for (size_t p = 0; p < 256; ++p)
    for (size_t c = 0; c < 3; ++c)
      x.reals()[c * 256 + p] = real((u8[3 * p + c] / 255.0 - mean[c]) / deviation[c]);
  return x;
}

// Image 0 is the golden one, the others are noise of several sizes.
Tensor with_others(const Tensor& image, int64_t batch) {
  Tensor all(Type{image.shape().with(0, batch)});
  for (int64_t b = 0; b < batch; ++b) {
    const Tensor other =
        b == 0 ? image : random_tensor(image.shape(), uint64_t(40 + b), 0.5 * double(b));
    std::copy(other.reals().begin(), other.reals().end(),
              all.reals().begin() + b * image.shape().count());
  }
  return all;
}

TEST(Lrp, a_network_of_bottlenecks_has_the_relevance_of_interpretdl) {
  const nlohmann::json net = golden_json("interpreters_lrp.json").at("lrp_net");
  const NetRun run = run_net(net, interpretdl_cnn(), with_others(golden_image(net), 2));
  expect_close(run.logits.slice(0, 1).reals(), json_tensor(net.at("logits")).reals(), 1e-5,
               "logits");
  const Tensor first = run.relevance.slice(0, 1);
  std::vector<real> map(256);
  for (size_t p = 0; p < 256; ++p)
    for (size_t c = 0; c < 3; ++c) map[p] += first.reals()[c * 256 + p];
  expect_close(map, json_tensor(net.at("relevance")).reals(), 1e-4, "relevance");
  double total = 0;
  for (real v : map) total += v;
  EXPECT_NEAR(total, net.at("relevance_sum").get<double>(), 1e-4 * total);
}

std::vector<RuleTable> cnn_tables() {
  return {interpretdl_cnn(),
          interpretdl_cnn(2),
          captum_default(),
          epsilon_plus(),
          epsilon_plus_flat(),
          epsilon_alpha2_beta1(),
          epsilon_alpha2_beta1_flat(),
          epsilon_gamma_box({-2, -2, -2}, {3, 3, 3})};
}

// Denominators that are 0 everywhere, and inputs of one sign.
TEST(Lrp, constant_and_negative_images_have_finite_relevance) {
  const nlohmann::json net = golden_json("interpreters_lrp.json").at("lrp_net");
  Tensor images(Type{{4, 3, 16, 16}});
  const real values[] = {0, 2, -2, real(-1e-20)};
  for (size_t b = 0; b < 4; ++b)
    std::fill_n(images.reals().begin() + long(b * 768), 768, values[b]);
  for (const RuleTable& table : cnn_tables()) {
    SCOPED_TRACE(table.name);
    const NetRun run = run_net(net, table, images);
    for (real v : run.relevance.reals()) ASSERT_TRUE(std::isfinite(v));
  }
}

TEST(Lrp, a_sample_does_not_depend_on_its_neighbours) {
  const nlohmann::json net = golden_json("interpreters_lrp.json").at("lrp_net");
  const Tensor images = with_others(golden_image(net), 5);
  for (const RuleTable& table : cnn_tables()) {
    SCOPED_TRACE(table.name);
    const NetRun all = run_net(net, table, images);
    for (int64_t b = 0; b < 5; ++b) {
      const NetRun alone = run_net(net, table, images.slice(b, b + 1).clone());
      expect_same_bits(all.relevance.slice(b, b + 1).clone(), alone.relevance);
    }
  }
}

}  // namespace
}  // namespace whence
