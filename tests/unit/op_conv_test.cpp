// What convolutions, pooling and batch norm refuse, by the words of the message.
#include <gtest/gtest.h>

#include "whence/error.h"
#include "whence/ops.h"

namespace whence {
namespace {

template <class F>
void expect_refusal(F&& build, const std::string& part) {
  try {
    build();
    ADD_FAILURE() << "nothing was refused; expected: " << part;
  } catch (const Error& e) {
    EXPECT_NE(e.kind(), ErrorKind::internal) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

struct Operands {
  Graph g;
  int made = 0;
  Value operator()(Shape s) { return g.input("x" + std::to_string(made++), Type{s}); }
};

TEST(OpConv, sizes_that_do_not_fit_are_named) {
  Operands x;
  const auto conv = [&](Shape image, Shape weight, Window z = {}) {
    return [&x, image, weight, z] { conv2d(x(image), x(weight), {}, z); };
  };
  expect_refusal(conv({2, 5, 5, 3}, {4, 2, 3, 3}), "[2, 5, 5, 3]");
  expect_refusal(conv({2, 5, 5, 3}, {4, 3, 3}), "[4, 3, 3]");
  expect_refusal(conv({2, 5, 5}, {4, 5, 3, 3}), "do not fit");
  expect_refusal(conv({2, 5, 5, 4}, {3, 2, 3, 3}), "3 outputs do not divide into 2 groups");
  expect_refusal(conv({2, 2, 5, 3}, {4, 3, 3, 3}), "a 3x3 kernel with stride=1 pad=0 dilation=1");
  expect_refusal(conv({2, 5, 5, 3}, {4, 3, 3, 3}, {1, 0, 3}), "does not fit into 5x5");
  expect_refusal(conv({2, 5, 5, 3}, {4, 3, 3, 3}, {0, 0, 1}), "stride=0");
  expect_refusal(conv({2, 5, 5, 3}, {4, 3, 3, 3}, {1, -1, 1}), "pad=-1");
  expect_refusal(
      [&] {
        conv2d(x({2, 5, 5, 3}), x({4, 3, 3, 3}), x({3}));
      },
      "the bias has shape [3], [4] is needed");
  expect_refusal([&] { channels_last(x({2, 3, 5})); }, "[2, 3, 5] does not have four axes");
}

TEST(OpConv, windows_of_pools_are_checked) {
  Operands x;
  expect_refusal([&] { max_pool(x({2, 5, 3}), {2, 2}); }, "max_pool: [2, 5, 3]");
  expect_refusal([&] { max_pool(x({2, 5, 5, 3}), {2, 2, 2}); }, "at most half a window");
  expect_refusal([&] { max_pool(x({2, 5, 5, 3}), {2, 0}); }, "stride=0");
  expect_refusal([&] { average_pool(x({2, 5, 2, 3}), {3, 2}); }, "do not fit into 5x2");
  EXPECT_EQ(max_pool(x({2, 6, 5, 3}), {3, 2, 0, true}).shape(), (Shape{2, 3, 2, 3}));
  EXPECT_EQ(max_pool(x({2, 6, 5, 3}), {3, 2, 0, false}).shape(), (Shape{2, 2, 2, 3}));
}

TEST(OpConv, batch_norm_has_parameters_for_every_channel) {
  Operands x;
  const Value in = x({2, 3, 4}), w = x({4}), b = x({4}), mean = x({4}), variance = x({4});
  expect_refusal([&] { batch_norm(in, w, b, mean, x({3}), 1); }, "variance [3] for 4 channels");
  const Value y = batch_norm(in, w, b, mean, variance, 1), seed = x(y.shape());
  const Values d = gradient(y, seed, {in, w, b, mean, variance});
  EXPECT_EQ(d[0].shape(), in.shape());
  for (size_t i = 1; i < 5; ++i) EXPECT_EQ(d[i].shape(), w.shape());
}

}  // namespace
}  // namespace whence
