// Tensors with a place: on the host or a device, over memory of their own or of somebody else; and
// how plans take and give them.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "tests/unit/devices.h"
#include "tests/unit/message_of.h"
#include "tests/unit/random_tensors.h"
#include "whence/ops.h"
#include "whence/plan.h"

namespace whence {
namespace {

TEST(Tensor, over_foreign_memory_shares_it_and_calls_its_owner_once) {
  int released = 0;
  std::array<real, 6> foreign{1, 2, 3, 4, 5, 6};
  {
    Tensor part;
    {
      const Tensor whole(Type{{3, 2}}, std::shared_ptr<void>(foreign.data(), [&](void* p) {
                           EXPECT_EQ(p, foreign.data());
                           ++released;
                         }));
      part = whole.slice(1, 3).reshaped({4});
      EXPECT_EQ(whole.to({}).data(), foreign.data()) << "it is on the host: no copy";
      EXPECT_NE(whole.clone().data(), foreign.data());
    }
    EXPECT_EQ(released, 0) << "a part keeps the whole alive";
    part.reals()[0] = 30;
    EXPECT_EQ(foreign[2], 30);
  }
  EXPECT_EQ(released, 1);
}

class TensorOn : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Devices, TensorOn, testing::ValuesIn(device_names()),
                         [](const auto& name) { return name.param; });

TEST_P(TensorOn, goes_there_and_back) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const Tensor x = random_tensor({5, 3}, 1);
  const Tensor there = x.to(on);
  EXPECT_EQ(there.device(), on);
  EXPECT_EQ(there.to(on).data(), there.data()) << "no copy where it is already";
  expect_same_bits(there.to({}), x);
  expect_same_bits(there.slice(1, 4).to({}), x.slice(1, 4));
  const Tensor again = there.clone();
  EXPECT_EQ(again.device(), on);
  EXPECT_NE(again.data(), there.data());
  expect_same_bits(again.to({}), x);
  expect_same_bits(Tensor(Type{{0, 3}}).to(on).to({}), Tensor(Type{{0, 3}}));
  EXPECT_FALSE(Tensor().to(on));
}

TEST_P(TensorOn, is_not_read_on_the_host_while_it_is_elsewhere) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  if (on.kind == Device::cpu) return;
  Tensor there = random_tensor({2}, 1).to(on);
  EXPECT_EQ(message([&] { there.reals(); }),
            "a tensor on " + to_string(on) + " was read on the host; bring it there with to()");
  const std::array<int32_t, 2> two{1, 2};
  const Tensor ints = Tensor::of({2}, two).to(on);
  EXPECT_NE(message([&] { ints.ints(); }), "accepted");
}

// y = 2 x + s, x in the data stage and s in the seed stage.
struct Doubled {
  Graph graph;
  Value x, s, y;
  Doubled() {
    x = graph.input("x", {{2, 40}});
    s = graph.input("s", {{2, 40}}, Stage::seed);
    y = add(scale(x, 2), s);
  }
  static Tensor of(const Tensor& x, const Tensor& s) {
    Tensor y = x.clone();
    for (size_t i = 0; i < y.reals().size(); ++i) y.reals()[i] = 2 * x.reals()[i] + s.reals()[i];
    return y;
  }
};

TEST_P(TensorOn, plans_take_tensors_of_either_side_and_give_them) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const Doubled g;
  const Tensor x = random_tensor({2, 40}, 1), s = random_tensor({2, 40}, 2);
  const Tensor want = Doubled::of(x, s);
  for (const Device plans : {Device{}, on})
    for (const Device xs : {Device{}, on})
      for (const Device ss : {Device{}, on}) {
        Plan p({g.y, g.x}, {.threads = 1, .device = plans});
        p.set(g.x, x.to(xs));
        p.set(g.s, s.to(ss));
        expect_same_bits(p.get(g.x), x);
        p.forward();
        p.backward();
        expect_same_bits(p.get(g.y), want);
        for (const Device to : {Device{}, on}) {
          const Tensor y = p.get(g.y, to);
          EXPECT_EQ(y.device(), to);
          expect_same_bits(y.to({}), want);
        }
      }
}

TEST_P(TensorOn, what_a_plan_shares_is_its_own_memory) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const Doubled g;
  const Tensor x = random_tensor({2, 40}, 1), s = random_tensor({2, 40}, 2);
  Tensor y, input;
  {
    Plan p({g.y, g.x}, {.threads = 1, .device = on});
    p.set(g.x, x);
    input = p.share(g.x);
    expect_same_bits(input.to({}), x);
    p.set(g.s, s);
    p.forward();
    p.backward();
    y = p.share(g.y);
    EXPECT_EQ(y.device(), on);
    EXPECT_EQ(p.share(g.y).data(), y.data());
    expect_same_bits(y.to({}), Doubled::of(x, s));
    p.set(g.s, x);
    p.backward();
    expect_same_bits(y.to({}), Doubled::of(x, x));
  }
  expect_same_bits(y.to({}), Doubled::of(x, x));  // alive without its plan
}

// An input that came from the device may be changed in place on the host afterwards.
TEST_P(TensorOn, the_last_to_set_an_input_wins) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  const Doubled g;
  Tensor x = random_tensor({2, 40}, 1);
  const Tensor s = random_tensor({2, 40}, 2), other = random_tensor({2, 40}, 3);
  Plan p({g.y}, {.threads = 1, .device = on});
  p.set(g.s, s);
  p.set(g.x, other);
  p.set(g.x, x.to(on));
  p.input(g.x)[3] = x.reals()[3] = 7;
  p.forward();
  p.backward();
  expect_same_bits(p.get(g.y), Doubled::of(x, s));
  p.set(g.x, other);
  p.forward();
  p.backward();
  expect_same_bits(p.get(g.y), Doubled::of(other, s));
}

TEST_P(TensorOn, weights_may_lie_on_either_side) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  Graph g;
  const Value x = g.input("x", {{2, 5}});
  const Value y = linear(x, g.weight("w", {4, 5}), g.weight("b", {4}));
  const Weights host = random_weights(g, 3);
  Weights there;
  for (const auto& [name, tensor] : host.tensors) there.tensors[name] = tensor.to(on);
  const auto run = [&](const Weights& weights, Device device) {
    Plan p({y}, {.threads = 1, .device = device});
    p.bind(weights);
    p.set(x, random_tensor({2, 5}, 1));
    p.forward();
    return p.get(y);
  };
  expect_same_bits(run(there, {}), run(host, {}));
  expect_same_bits(run(there, on), run(host, on));
}

template <class T>
Tensor tensor_of(Shape shape, std::vector<T> values) {
  return Tensor::of(shape, std::span<const T>(values));
}

TEST_P(TensorOn, bytes_and_64_bit_integers_are_converted_where_they_come_in) {
  WHENCE_DEVICE_OR_SKIP(on, GetParam());
  Graph g;
  const Value x = g.input("x", {{2, 2}}), id = g.input("id", {{2}, Dtype::i32});
  const int64_t least = std::numeric_limits<int32_t>::min(), most = -(least + 1);
  for (const Device side : {Device{}, on}) {
    Plan p({x, id}, {.threads = 1, .device = on});
    p.set(x, tensor_of<uint8_t>({2, 2}, {0, 1, 128, 255}).to(side));
    expect_same_bits(p.get(x), Tensor::of({2, 2}, {0, 1, 128, 255}));
    p.set(id, tensor_of<int64_t>({2}, {least, most}).to(side));
    const Tensor ids = p.get(id);
    EXPECT_EQ(ids.ints()[0], least);
    EXPECT_EQ(ids.ints()[1], most);
    for (const int64_t beyond : {least - 1, most + 1})
      EXPECT_EQ(message([&] {
                  p.set(id, tensor_of<int64_t>({2}, {5, beyond}).to(side));
                }),
                "'id': " + std::to_string(beyond) + " at [1] is beyond int32");
    EXPECT_EQ(p.get(id).ints()[0], least) << "a refusal changes nothing";
  }
}

TEST(Tensor, other_types_are_refused_where_they_come_in) {
  Graph g;
  const Value x = g.input("x", {{2}}), id = g.input("id", {{2}, Dtype::i32});
  Plan p({x, id});
  EXPECT_EQ(message([&] {
              p.set(id, tensor_of<uint8_t>({2}, {1, 2}));
            }),
            "'id' takes integers, a tensor of bytes was given");
  EXPECT_EQ(message([&] {
              p.set(x, tensor_of<int64_t>({2}, {1, 2}));
            }),
            "'x' takes reals, a tensor of 64-bit integers was given");
  EXPECT_EQ(message([&] {
              p.set(x, tensor_of<int32_t>({2}, {1, 2}));
            }),
            "'x' takes reals, a tensor of integers was given");
  EXPECT_EQ(message([&] {
              p.set(x, tensor_of<uint8_t>({3}, {1, 2, 3}));
            }),
            "'x' has shape [2], a tensor of shape [3] was given");
  for (const Dtype d : {Dtype::u8, Dtype::i64})
    EXPECT_EQ(message([&] {
                g.input("pixels", {{2}, d});
              }),
              "input 'pixels': graphs compute with reals and integers, not with " + to_string(d) +
                  "; a plan converts them when the input is set");
  EXPECT_EQ(message([&] {
              tensor_of<uint8_t>({2}, {1, 2}).reals();
            }),
            "a tensor of bytes was read as reals");
  EXPECT_EQ(tensor_of<int64_t>({2}, {1, 2}).type().bytes(), 16u);
  EXPECT_EQ(tensor_of<uint8_t>({2, 3}, {1, 2, 3, 4, 5, 6}).slice(1, 2).values<uint8_t>()[0], 4);
}

}  // namespace
}  // namespace whence
