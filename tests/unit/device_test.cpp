// Plans on devices other than the host: every operator and every method, against the CPU; what
// happens when a device fails. The emulated device always takes part, a GPU where there is one.
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "tests/unit/devices.h"
#include "tests/unit/op_graph.h"
#include "tests/unit/tiny_model.h"
#ifdef WHENCE_HAVE_SIMT
#include "kernels/simt/stream.h"
#endif

namespace whence {
namespace {

class OnDevice : public testing::TestWithParam<std::string> {};

TEST_P(OnDevice, every_operator_and_gradient_equals_the_cpu) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  for (const OpCase& c : op_cases()) {
    SCOPED_TRACE(c.name);
    const OpGraph g(c);
    const auto want = run_case(c, g, g.results(), {{}, 1, {}, {}});
    const auto got = run_case(c, g, g.results(), {{}, 1, {}, on});
    for (size_t i = 0; i < want.size(); ++i)
      expect_near(got[i], want[i], i == 0 ? c.forward_bound : c.gradient_bound);
    // Memory is taken over where it may be.
    const OpGraph copied(c, true);
    const auto over = run_case(c, copied, copied.results(), {{}, 1, {}, on});
    for (size_t i = 0; i < want.size(); ++i) expect_near(over[i], got[i], 0);
  }
}

Explainer explainer_on(Device on, const std::shared_ptr<const Model>& m, int64_t chunk) {
  Explainer::Settings s;
  s.device = on;
  s.chunk = chunk;
  return Explainer(m, s);
}

void expect_methods_equal_the_cpu(Device on, const std::shared_ptr<const Model>& model) {
  const Tensor x = random_tensor({2, 3, 12, 20}, 21);
  for (const MethodInfo& info : methods()) {
    if (!applies(info, *model)) continue;
    SCOPED_TRACE(info.id);
    Request request = request_for(info.id);
    request.targets.pop_back();
    // Relevance is divided by sums that cancel, such as scores and residual sums: a rounding of the
    // sum is as many times larger in the quotient as the sum is smaller than its terms, and a few
    // in a hundred are a hundred times smaller.
    const bool relevance = std::any_of(info.options.begin(), info.options.end(),
                                       [](const OptionInfo& o) { return o.name == "rules"; });
    const double bound = sizeof(real) == 8 ? 1e-11 : relevance ? 1e-3 : 1e-5;
    for (const char* count : {"steps", "n_samples", "num_random_trials"})
      if (request.options.contains(count)) request.options[count] = "3";
    const auto want = explainer_on({}, model, 2).explain(x, request);
    const auto got = explainer_on(on, model, 2).explain(x, request);
    const auto other_chunk = explainer_on(on, model, 1).explain(x, request);
    for (size_t i = 0; i < want.size(); ++i)
      for (size_t t = 0; t < want[i].size(); ++t) {
        expect_near(got[i][t].attribution, want[i][t].attribution, bound);
        EXPECT_EQ(got[i][t].target, want[i][t].target);
        expect_same_bits(other_chunk[i][t].attribution, got[i][t].attribution);
      }
  }
}

TEST_P(OnDevice, every_method_equals_the_cpu) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  expect_methods_equal_the_cpu(on, tiny_model(2));
}

TEST_P(OnDevice, every_method_of_convolutional_networks_equals_the_cpu) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  expect_methods_equal_the_cpu(on, tiny_cnn());
}

// tiny_model with sums that tensor cores can do: of a multiple of 8 elements.
std::shared_ptr<const Model> model_for_rounding() {
  ViTConfig c;
  c.image_height = 12;
  c.image_width = 20;
  c.patch = 4;
  c.width = 24;
  c.depth = 2;
  c.heads = 3;
  c.mlp = 40;
  c.classes = 6;
  auto m = std::make_shared<Model>(random_model(c, 5));
  m->name = "tiny";
  return m;
}

// Also where a library does the products: it must not compute a row in another way because of the
// rows beside it.
TEST_P(OnDevice, the_size_of_a_chunk_changes_no_bit) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const Tensor x = random_tensor({5, 3, 12, 20}, 8);
  for (const Precision precision : {Precision::f32, Precision::tf32, Precision::bf16}) {
    const bool rounds = precision != Precision::f32;
    if (rounds && (on.kind == Device::cpu || sizeof(real) != sizeof(float))) continue;
    for (const auto& model : {model_for_rounding(), std::shared_ptr<const Model>(tiny_cnn())}) {
      SCOPED_TRACE(model->name + " in " + to_string(precision));
      const auto explained = [&](int64_t chunk) {
        Explainer::Settings s;
        s.device = on;
        s.chunk = chunk;
        s.precision = precision;
        Request request = request_for("input-x-gradient");
        request.targets = {Target{2, -1}};
        return Explainer(model, s).explain(x, request);
      };
      const auto one = explained(1), all = explained(5);
      for (size_t i = 0; i < one.size(); ++i)
        expect_same_bits(all[i][0].attribution, one[i][0].attribution);
    }
  }
}

TEST_P(OnDevice, a_second_seed_and_a_second_run_equal_fresh_ones) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  Graph g;
  const Value x = g.input("x", Type{{2, 5}}), seed = g.input("seed", Type{{2, 5}}, Stage::seed);
  const Value y = softmax(gelu(x));
  const Value dx = gradient(y, seed, {x})[0];
  const auto fresh = [&](uint64_t in, uint64_t of) {
    Plan plan({y, dx}, {{}, 1, {}, on});
    plan.set(x, random_tensor({2, 5}, in));
    plan.set(seed, random_tensor({2, 5}, of));
    plan.forward();
    plan.backward();
    return plan.get(dx);
  };
  Plan plan({y, dx}, {{}, 1, {}, on});
  for (uint64_t in : {1u, 2u, 3u}) {  // the third run replays a recording where the device has them
    plan.set(x, random_tensor({2, 5}, in));
    plan.forward();
    for (uint64_t of : {7u, 8u, 9u}) {
      plan.set(seed, random_tensor({2, 5}, of));
      plan.backward();
      expect_same_bits(plan.get(dx), fresh(in, of));
    }
  }
}

// The weights of before are gone, and with them what a recording would read.
TEST_P(OnDevice, other_weights_may_be_bound_after_any_number_of_runs) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  Graph g;
  const Value x = g.input("x", Type{{3, 40}}), seed = g.input("seed", Type{{3, 24}}, Stage::seed);
  const Value y = linear(x, g.weight("w", {24, 40}));
  const Value dx = gradient(y, seed, {x})[0];
  const auto bind = [](Plan& plan, uint64_t weights) {
    Weights w;
    w.tensors["w"] = random_tensor({24, 40}, weights);
    plan.bind(w);
  };
  const auto run = [&](Plan& plan) {
    plan.set(x, random_tensor({3, 40}, 4));
    plan.set(seed, random_tensor({3, 24}, 6));
    plan.forward();
    plan.backward();
  };
  Plan fresh({y, dx}, {{}, 1, {}, on});
  bind(fresh, 5);
  run(fresh);
  for (const int runs : {1, 2, 3}) {
    SCOPED_TRACE(runs);
    Plan plan({y, dx}, {{}, 1, {}, on});
    bind(plan, 3);
    for (int i = 0; i < runs; ++i) run(plan);
    bind(plan, 5);
    run(plan);
    expect_same_bits(plan.get(y), fresh.get(y));
    expect_same_bits(plan.get(dx), fresh.get(dx));
  }
}

TEST_P(OnDevice, sums_are_carried_from_run_to_run) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  Graph g;
  const Value x = g.input("x", Type{{3, 2, 4}}), weight = g.input("weight", Type{{3}});
  const Value slot = g.input("slot", {{3}, Dtype::i32});
  const Value state = g.input("state", Type{{2, 2, 4}}), sum = accumulate(state, x, weight, slot);
  Plan plan({sum}, {{}, 1, {}, on, Precision::f32, {{state, sum}}});
  plan.set(state, random_tensor({2, 2, 4}, 1));
  plan.set(weight, Tensor::of({3}, {1, 2, -1}));
  plan.set(slot, Tensor::of({3}, std::span<const int32_t>(std::array<int32_t, 3>{1, -1, 1})));
  Tensor want = random_tensor({2, 2, 4}, 1);
  for (uint64_t run = 0; run < 4; ++run) {
    const Tensor rows = random_tensor({3, 2, 4}, 10 + run);
    plan.set(x, rows);
    plan.forward();
    for (size_t i = 0; i < 8; ++i) {
      want.reals()[8 + i] += rows.reals()[i];
      want.reals()[8 + i] -= rows.reals()[16 + i];
    }
    if (run % 2) expect_same_bits(plan.get(sum), want);
  }
  plan.set(state, random_tensor({2, 2, 4}, 2));  // the input can be set again
  plan.set(weight, Tensor::of({3}, {0, 0, 0}));
  plan.forward();
  expect_same_bits(plan.get(sum), random_tensor({2, 2, 4}, 2));
  EXPECT_THROW(Plan({sum}, {{}, 1, {}, on, Precision::f32, {{x, sum}}}), Error);
}

TEST_P(OnDevice, plans_on_two_threads_do_not_meet) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 5);
  const Request request = request_for("generic-attention");
  const auto want = explainer_on(on, model, 2).explain(x, request);
  std::vector<std::vector<std::vector<Result>>> got(2);
  std::vector<std::thread> threads;
  for (auto& result : got)
    threads.emplace_back([&] { result = explainer_on(on, model, 2).explain(x, request); });
  for (auto& t : threads) t.join();
  for (const auto& result : got)
    for (size_t i = 0; i < 2; ++i)
      expect_same_bits(result[i][0].attribution, want[i][0].attribution);
}

TEST_P(OnDevice, precision_rounds_the_factors_of_products_and_nothing_else) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  if (on.kind == Device::cpu) return;  // see the_cpu_refuses_rounded_products
  if (sizeof(real) != sizeof(float)) GTEST_SKIP() << "double precision has no tensor cores";
  Graph g;
  const Value x = g.input("x", Type{{3, 2, 40}}), w = g.weight("w", {24, 40});
  const Value y = linear(x, w), z = softmax(y);
  Weights weights;
  weights.tensors["w"] = random_tensor({24, 40}, 3);
  const auto run = [&](Precision precision) {
    Plan plan({y, z}, {{}, 1, {}, on, precision});
    plan.bind(weights);
    plan.set(x, random_tensor({3, 2, 40}, 4));
    plan.forward();
    return std::pair(plan.get(y), plan.get(z));
  };
  const auto exact = run(Precision::f32), again = run(Precision::f32);
  expect_same_bits(exact.first, again.first);
  // Factors are off by at most 2^-12 and 2^-9 of themselves; signs are mixed, 40 terms a sum.
  for (const auto& [precision, bound] :
       {std::pair(Precision::tf32, 1e-3), std::pair(Precision::bf16, 1e-2)}) {
    const auto rounded = run(precision);
    expect_near(rounded.first, exact.first, bound);
    EXPECT_NE(rounded.first.reals()[0], exact.first.reals()[0]);
    Graph alone;
    const Value in = alone.input("in", y.type());
    const Value out = softmax(in);
    Plan plan({out}, {{}, 1, {}, on, precision});
    plan.set(in, rounded.first);
    plan.forward();
    expect_same_bits(plan.get(out), rounded.second);
  }
}

INSTANTIATE_TEST_SUITE_P(Each, OnDevice, testing::ValuesIn(device_names()),
                         [](const auto& p) { return p.param; });

TEST(DeviceNames, the_cpu_refuses_rounded_products) {
  Graph g;
  const Value y = relu(g.input("x", Type{{2, 3}}));
  try {
    Plan plan({y}, {{}, 1, {}, {}, Precision::bf16});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "precision bf16: the cpu computes in f32");
  }
  EXPECT_THROW(precision("f16"), Error);
  EXPECT_EQ(precision("tf32"), Precision::tf32);
}

TEST(DeviceNames, are_parsed_and_refused) {
  EXPECT_EQ(device("cpu"), Device{});
  EXPECT_EQ(to_string(Device{Device::cuda, 3}), "cuda:3");
  for (const char* wrong : {"", "gpu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999"})
    try {
      device(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::usage) << wrong;
    }
  try {
    device("cuda:63");
    GTEST_SKIP() << "this machine has 64 GPUs";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::device_missing);
    EXPECT_EQ(std::string(e.what()).rfind("cuda:63: ", 0), 0u) << e.what();
  }
}

#ifdef WHENCE_HAVE_SIMT

struct Injected {
  explicit Injected(simt::Injection injection) { simt::Stream::inject(injection); }
  ~Injected() { simt::Stream::inject({}); }
};

TEST(EmulatedDevice, results_are_the_same_bits_in_every_order_of_threads) {
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Request request = request_for("generic-attention");
  std::vector<std::vector<Result>> first;
  for (const simt::Schedule& schedule : {simt::Schedule{simt::Order::forward, 0},
                                         {simt::Order::reverse, 0},
                                         {simt::Order::random, 1},
                                         {simt::Order::priority, 2}}) {
    simt::Stream::set_schedule(schedule);
    const auto results = explainer_on({Device::simt, 0}, model, 2).explain(x, request);
    if (first.empty()) first = results;
    for (size_t i = 0; i < 2; ++i)
      expect_same_bits(results[i][0].attribution, first[i][0].attribution);
  }
  simt::Stream::set_schedule({});
}

TEST(EmulatedDevice, a_chunk_is_halved_when_device_memory_is_short) {
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({4, 3, 12, 20}, 3);
  const Request request = request_for("gradient");
  const Device on{Device::simt, 0};
  const auto want = explainer_on(on, model, 4).explain(x, request);
  const Injected short_of_memory({simt::Injection::allocation, 1, false});
  const auto got = explainer_on(on, model, 4).explain(x, request);
  for (size_t i = 0; i < 4; ++i) expect_same_bits(got[i][0].attribution, want[i][0].attribution);
}

TEST(EmulatedDevice, every_failure_is_an_error_and_the_process_goes_on) {
  const auto model = tiny_model(2);
  const Tensor x = random_tensor({2, 3, 12, 20}, 3);
  const Request request = request_for("attention-last");
  const Device on{Device::simt, 0};
  const auto want = explainer_on(on, model, 2).explain(x, request);
  using simt::Injection;
  int failures = 0;
  for (const auto kind :
       {Injection::allocation, Injection::copy, Injection::launch, Injection::synchronize})
    for (const bool sticky : {false, true})
      for (int nth = 1; nth < 100; nth = nth * 3 + 1) {
        {
          const Injected injected({kind, nth, sticky});
          try {
            explainer_on(on, model, 2).explain(x, request);
          } catch (const Error& e) {
            ++failures;
            EXPECT_TRUE(e.code() == ErrorCode::device_memory ||
                        e.code() == ErrorCode::device_lost || e.code() == ErrorCode::internal)
                << e.what();
            EXPECT_EQ(std::string(e.what()).rfind("simt: ", 0), 0u) << e.what();
          }
        }
        const auto after = explainer_on(on, model, 2).explain(x, request);
        expect_same_bits(after[1][0].attribution, want[1][0].attribution);
      }
  EXPECT_GT(failures, 15);
}

#endif

}  // namespace
}  // namespace whence
